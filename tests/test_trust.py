"""What strangers publish: nothing of it runs, no pickle is opened, no path leads out, nobody is advised to do so."""

import ast
import io
import json
import sys
from pathlib import Path

import pytest
import torch
from small_models import with_code

from xllm.config import LLMConfig, ModelConfig, Recipe, VisionEncoderConfig
from xllm.errors import ConfigError
from xllm.llm.causal import CausalLM
from xllm.steps.filter import Filter
from xllm.trust import from_hub, inside, loading

ROOT = Path(__file__).parents[1]


def calls(name):
    """Calls of any `x.name(...)` in the package, and where."""
    for path in sorted([*(ROOT / "xllm").rglob("*.py"), *(ROOT / "xllm_cli").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def value(call, name):
    return next((word.value.value for word in call.keywords if word.arg == name), None)


def test_every_load_refuses_code():
    found = [
        (where, call)
        for name in ("from_pretrained", "from_config")
        for where, call in calls(name)
        if ast.unparse(call.func) != "XLLM.from_pretrained"
    ]
    assert len(found) > 10
    assert not [where for where, call in found if value(call, "trust_remote_code") is not False]


def test_every_pickle_is_of_tensors_only():
    found = [(where, call) for where, call in calls("load") if ast.unparse(call.func) == "torch.load"]
    found += [(where, call) for where, call in calls("from_pretrained") if "Model" in ast.unparse(call.func)]
    assert len(found) > 5
    assert not [where for where, call in found if value(call, "weights_only") is not True]


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A model with code, a stdin that would agree to run it, and a check that it did not."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\ny\nyes\n" * 9))
    yield str(with_code(tmp_path / "stranger", tmp_path / "ran"))
    assert not (tmp_path / "ran").exists()
    assert sys.stdin.read().count("\n") == 27, "nobody was asked"


def count(recipe):
    from xllm.training.survey import survey

    return survey(Recipe(name="r", model=recipe))


def translate(model):
    from xllm.mbart import ByMBart

    return list(ByMBart("zh", "en", None, model).translate(["天"]))


def speak(model):
    from xllm.steps.synthesize import Synthesize

    return Synthesize(model=model)([{"id": "a", "response": "天"}])


LOADS = {
    "llm": lambda model: CausalLM.build(LLMConfig(name=model), None),
    "a tokenizer": lambda model: CausalLM.build(LLMConfig(), Path(model)),
    "meta": lambda model: count(ModelConfig(llm=LLMConfig(name=model))),
    "meta by sizes": lambda model: count(
        ModelConfig(llm=LLMConfig(name="x", sizes=json.loads((Path(model) / "config.json").read_text())))
    ),
    "filter": lambda model: Filter(clip=model)._clip,
    "synthesize": speak,
    "translate": translate,
}


@pytest.mark.parametrize("load", LOADS)
def test_code_beside_a_model_never_runs(stranger, load):
    with pytest.raises(ConfigError) as told:
        LOADS[load](stranger)
    assert "\n" not in str(told.value) and "trust_remote_code" not in str(told.value)


@pytest.mark.parametrize("load", ["llm", "meta", "filter", "synthesize"])
def test_a_model_with_code_is_called_that(stranger, load):
    with pytest.raises(ConfigError, match="brings code of its own, which is never run"):
        LOADS[load](stranger)


def test_a_known_model_with_code_beside_it_is_loaded_without(stranger, tmp_path, small_tokenizer):
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(small_tokenizer)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(
        tmp_path / "llama"
    )
    tokenizer.save_pretrained(tmp_path / "llama")
    config = json.loads((tmp_path / "llama" / "config.json").read_text())
    code = json.loads((Path(stranger) / "config.json").read_text())["auto_map"]
    (tmp_path / "llama" / "config.json").write_text(json.dumps(config | {"auto_map": code}))
    (tmp_path / "llama" / "code.py").write_text((Path(stranger) / "code.py").read_text())
    assert CausalLM.build(LLMConfig(name=str(tmp_path / "llama")), None).width == 16


class Boom:
    """Unpickled, it calls `print`."""

    def __reduce__(self):
        return print, ("ran",)


def pickled_llm(folder):
    from transformers import LlamaConfig

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaConfig(vocab_size=64, **sizes).save_pretrained(folder)
    torch.save({"model.embed_tokens.weight": Boom()}, folder / "pytorch_model.bin")


def pickled_vit(folder):
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {}}))
    torch.save({"cls_token": Boom()}, folder / "pytorch_model.bin")


def test_a_pickle_is_refused_without_advice_to_open_it(tmp_path, capsys, small_tokenizer):
    from xllm.vision.encoder import VisionEncoder

    for name in ("llm", "vit"):
        (tmp_path / name).mkdir()
    pickled_llm(tmp_path / "llm"), pickled_vit(tmp_path / "vit")
    for file in small_tokenizer.iterdir():
        (tmp_path / "llm" / file.name).write_bytes(file.read_bytes())
    vision = VisionEncoderConfig(name=f"local-dir:{tmp_path / 'vit'}", pretrained=True)
    for load in (
        lambda: CausalLM.build(LLMConfig(name=str(tmp_path / "llm")), None),
        lambda: VisionEncoder(vision),
    ):
        with pytest.raises(ConfigError, match="a pickle of more than tensors, .*; give it with safetensors") as told:
            load()
        assert "weights_only" not in str(told.value) and told.value.__cause__ is None
    out, err = capsys.readouterr()
    assert "ran" not in out and "weights_only" not in out + err


def test_what_goes_wrong_is_one_line():
    with pytest.raises(ConfigError, match=r"^llm.name 'x' cannot be loaded \(KeyError\); give"):
        with loading("llm.name 'x'"):
            raise KeyError
    with pytest.raises(ConfigError, match=r"cannot be loaded \(first\); other"), loading("x", "other"):
        raise RuntimeError("first\nsecond")
    with pytest.raises(ConfigError, match=r"cannot be loaded \(a title: first\); other"), loading("x", "other"):
        raise RuntimeError("a title:\n\tfirst\nsecond")


def snapshot(cache, name, owner="models--somebody--small"):
    """A file of the hub's cache: a link to the repository's blob, and that one to the blobs that all share."""
    home = cache / owner / "snapshots" / "abc"
    for folder in (home, cache / owner / "blobs", cache / "blobs" / "12"):
        folder.mkdir(parents=True, exist_ok=True)
    (cache / "blobs" / "12" / "34").write_text("x")
    (cache / owner / "blobs" / "56").symlink_to("../../blobs/12/34")
    (home / name).symlink_to("../../blobs/56")
    return home


def test_paths_stay_inside(tmp_path):
    home, other = tmp_path / "home", tmp_path / "homeless"
    for folder in (home / "tokenizer", other):
        folder.mkdir(parents=True)
    (home / "link").symlink_to("../homeless"), (home / "own").symlink_to("tokenizer")
    (home / "round").symlink_to("round"), (tmp_path / "alias").symlink_to(home)
    for name in ("tokenizer", "tokenizer/../x", ".", "own/x", "nothing"):
        assert inside(home, name) == home / name and inside(tmp_path / "alias", name)
    for name in ("..", "../homeless", "tokenizer/../../x", str(other), "link", "link/x", "/etc/passwd"):
        with pytest.raises(ConfigError, match="leads out of its folder"):
            inside(home, name)
    for name in ("round/x", "a\0b"):
        with pytest.raises(ConfigError):
            inside(home, name)


def test_the_stores_of_the_hubs_cache_are_inside_its_snapshots_and_nothing_else_is(tmp_path):
    home = snapshot(tmp_path / "hub", "config.yaml")
    assert inside(home, "config.yaml").read_text() == "x"
    (home / "stray").symlink_to("../../../models--other--one/blobs/1"), (home / "up").symlink_to("../../refs/main")
    for name in ("stray", "up"):
        with pytest.raises(ConfigError, match="leads out"):
            inside(home, name)
    fake = tmp_path / "models--a--b" / "snapshots" / "c"  # a blobs folder that is a link itself
    fake.mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "models--a--b" / "blobs").symlink_to("../secret")
    (fake / "config.yaml").symlink_to("../../blobs/key")
    with pytest.raises(ConfigError, match="leads out"):
        inside(fake, "config.yaml")


def test_what_was_downloaded_is_known_as_such(tmp_path):
    assert from_hub(snapshot(tmp_path / "hub", "config.yaml"))
    (tmp_path / "local" / ".cache" / "huggingface").mkdir(parents=True)
    assert from_hub(tmp_path / "local") and not from_hub(tmp_path)
