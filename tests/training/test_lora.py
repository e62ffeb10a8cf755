"""LoRA beside the interfaces: only what is to move moves, it comes back as it was, and resumption is exact."""

import json
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config

from xllm import checkpoint
from xllm.config import LoRAConfig, load_recipe
from xllm.errors import ConfigError
from xllm.llm.lora import add_lora
from xllm.model import XLLM
from xllm.sharing import export
from xllm.training.loop import Trainer
from xllm.training.survey import survey

pytest.importorskip("peft")
LORA = ["lora.rank=2", "lora.dropout=0.2"]


class Interrupted(Exception):
    pass


def trainer(world, stage, modality, *overrides, stop=None, bundle=None):
    recipe = load_recipe(world / "recipe.yaml", list(overrides), stage, modality)

    def report(event, numbers):
        if event == "train" and numbers["step"] == stop:
            raise Interrupted

    return Trainer(recipe, recipe.stage(stage, modality), torch.device("cpu"), report, bundle)


@pytest.fixture
def heard(world):
    """A world whose language model and recogniser are trained."""
    trainer(world, 0, "text").run()
    trainer(world, 1, "speech").run()
    return world


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_only_the_interface_and_the_updates_move_and_both_are_found_again(heard):
    run = trainer(heard, 2, "speech", *LORA, bundle=heard / "bundle")
    model = run.model.model
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    run.run()
    moved = {name for name, value in model.named_parameters() if not torch.equal(before[name], value)}
    updates = {name for name in before if ".lora_" in name}
    assert updates and updates <= moved
    assert all(name.startswith("speech.") for name in moved - updates)
    out = heard / "run2"
    card, values = checkpoint.read_card(out), checkpoint.load_tensors(out / "model.safetensors")
    assert set(card.parts) == {"speech", "lora"} and card.lora == LoRAConfig(rank=2, dropout=0.2)
    assert not any(name.startswith("llm") for name in values)  # what is frozen is not saved
    waves = [torch.randn(16000), torch.randn(9000)]
    model.eval()
    loaded = XLLM.from_pretrained(out)
    assert loaded.transcribe(waves) == model.transcribe(waves)
    assert not any(value.requires_grad for value in loaded.parameters())
    embeds, mask = loaded.llm.embed([[5, 9, 20]]), torch.ones(1, 3, dtype=torch.bool)
    plain = XLLM.from_pretrained(heard / "run0")
    assert torch.equal(loaded.llm(embeds, mask)[0], model.llm(embeds, mask)[0])
    assert not torch.equal(loaded.llm(embeds, mask)[0], plain.llm(embeds, mask)[0])
    # The small LLM has no other home than these runs: a bundle and an export hold it under its own names.
    export(out, heard / "export", bits=32)
    for folder in (heard / "bundle", heard / "export"):
        llm = {n for n in checkpoint.load_tensors(folder / "model.safetensors") if n.startswith("llm.")}
        assert llm == {name for name, _ in plain.named_parameters()}
    assert XLLM.from_pretrained(heard / "export").transcribe(waves) == model.transcribe(waves)
    assert "lora" in dict(XLLM.from_pretrained(heard / "bundle").named_children())


def test_a_resumed_run_equals_an_uninterrupted_one(heard):
    trainer(heard, 2, "speech", *LORA, f"output={heard}/whole").run()
    cut = [*LORA, f"output={heard}/cut"]
    with pytest.raises(Interrupted):
        trainer(heard, 2, "speech", *cut, stop=5).run()
    place = max((heard / "cut" / "checkpoints").glob("step-*[0-9]")) / "place.json"
    assert json.loads(place.read_text())["step"] == 4
    trainer(heard, 2, "speech", *cut).run(resume=True)
    whole, resumed = (checkpoint.load_tensors(heard / name / "model.safetensors") for name in ("whole", "cut"))
    assert any(name.startswith("lora.") for name in whole) and same(whole, resumed)


def test_stage_three_goes_on_with_the_updates_of_stage_two(heard):
    trainer(heard, 0, "image").run()
    trainer(heard, 2, "image").run()
    trainer(heard, 2, "video").run()
    trainer(heard, 2, "speech", *LORA).run()
    taken = trainer(heard, 3, "all", *LORA).weights()
    kept = checkpoint.load_tensors(heard / "run2" / "model.safetensors")
    updates = {name for name in kept if name.startswith("lora.")}
    assert updates == {name for name in taken if name.startswith("lora.")}
    assert all(torch.equal(taken[name], kept[name]) for name in updates)
    for other in ([], ["lora.rank=3"]):  # an interface learned beside them makes no sense to another LLM
        with pytest.raises(ConfigError, match="same lora .rank=2"):
            trainer(heard, 3, "all", *other)
    trainer(heard, 3, "all", *LORA).run()
    assert set(checkpoint.read_card(heard / "run3").parts) == {"image", "video", "speech", "lora"}


def test_a_named_llm_in_half_precision_has_updates_in_full(heard, small_tokenizer):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(small_tokenizer)
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "head_dim": 8,
    }
    config = Qwen3Config(vocab_size=len(tokenizer), num_key_value_heads=1, pad_token_id=0, **sizes)
    AutoModelForCausalLM.from_config(config).save_pretrained(heard / "qwen3")
    tokenizer.save_pretrained(heard / "qwen3")
    named = [f"model.llm.name={heard}/qwen3", "model.llm.dtype=bfloat16", f"start_from=[{heard}/run1]"]
    run = trainer(heard, 2, "speech", *named, *LORA, "lora.targets=[q_proj, v_proj]", "epochs=1")
    names = {name for name, _ in run.model.model.named_parameters() if ".lora_" in name}
    assert len(names) == 2 * 2 * 2 and all("q_proj" in name or "v_proj" in name for name in names)
    run.run()
    model = run.model.model.eval()
    kinds = {(".lora_" in name, value.dtype) for name, value in model.llm.named_parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
    waves = [torch.randn(16000)]
    assert XLLM.from_pretrained(heard / "run2").transcribe(waves) == model.transcribe(waves)


def test_every_linear_layer_but_the_head_is_updated_and_begins_without_effect(small_system):
    llm, prompt = small_system.llm, small_system.llm.embed([[5, 9, 20]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    before = llm(prompt, mask)[0]
    add_lora(llm.model, LoRAConfig(rank=2))
    torch.testing.assert_close(llm(prompt, mask)[0], before, atol=0, rtol=0)
    updated = {name.split(".lora_")[0].split(".")[-1] for name, _ in llm.named_parameters() if ".lora_" in name}
    assert updated == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_what_cannot_be_is_one_line(world, small_system, monkeypatch):
    with pytest.raises(ConfigError, match="no linear layer w_proj$"):
        add_lora(small_system.llm.model, LoRAConfig(targets=("q_proj", "w_proj")))
    with pytest.raises(ConfigError, match="lora is for stages 2 and 3"):
        trainer(world, 1, "speech", *LORA)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"pip install 'xllm-cli\[lora\]'"):
        add_lora(small_system.llm.model, LoRAConfig())


def test_it_is_counted_without_weights():
    path = Path(__file__).parents[2] / "recipes" / "qwen3-4b.yaml"
    plain, with_lora = (survey(load_recipe(path, overrides, 3, "all")) for overrides in ([], ["lora.rank=8"]))
    assert plain[0] == with_lora[0]
    (joint, updated) = (next(s for s in stages if s.stage == 3) for _, stages in (plain, with_lora))
    width, heads, pairs, hidden = 2560, 32 * 128, 8 * 128, 9728
    ends = (width + heads) * 2 + (width + pairs) * 2 + (width + hidden) * 3
    assert updated.trained - joint.trained == 36 * 8 * ends
    assert updated.frozen == joint.frozen
