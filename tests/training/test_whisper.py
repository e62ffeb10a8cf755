"""A recogniser on a frozen Whisper: what is to move moves, and later nobody asks for Whisper again."""

import json
import shutil

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast, WhisperConfig, WhisperModel

from xllm.config import load_recipe
from xllm.errors import ConfigError
from xllm.features import seeded, speech_features
from xllm.media import load_audio
from xllm.model import XLLM
from xllm.training.loop import Trainer

from .conftest import SPOKEN, write_tones

TRAINED = "trains=[recognizer.cif,recognizer.decoder,recognizer.ctc]"
UPPER = (
    "trains=[recognizer.encoder.whisper.layers.1,recognizer.encoder.whisper.layer_norm,recognizer.cif,recognizer.ctc]"
)


@pytest.fixture
def encoder(world):
    """A recipe's encoder that begins from a Whisper with random weights."""
    torch.manual_seed(1)
    sizes = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    decoder = {"vocab_size": 8, "pad_token_id": 0, "decoder_layers": 1, "decoder_attention_heads": 2}
    WhisperModel(WhisperConfig(**sizes, **decoder)).save_pretrained(world / "whisper")
    sizes = f"pretrained: {world}/whisper, width: 16, ffn: 32, heads: 2, blocks: 2"
    return f"model.recognizer.encoder={{form: whisper, {sizes}}}"


def test_trains_around_whisper_and_needs_it_once(world, encoder):
    whisper = WhisperModel.from_pretrained(world / "whisper")

    def trainer(stage, modality, *overrides):
        recipe = load_recipe(world / "recipe.yaml", [encoder, *overrides], stage, modality)
        return Trainer(recipe, recipe.stage(stage, modality), torch.device("cpu"), lambda *_: None)

    with pytest.raises(ConfigError, match="flat_start"):
        trainer(1, "speech", "flat_start=1")
    run = trainer(1, "speech", "epochs=1", TRAINED)
    before = {name: value.detach().clone() for name, value in run.model.model.recognizer.named_parameters()}
    run.run()
    moved = {n for n, value in run.model.model.recognizer.named_parameters() if not torch.equal(before[n], value)}
    assert moved and not any(name.startswith("encoder.whisper.") for name in moved)
    assert {name.split(".")[0] for name in moved} == {"cif", "decoder", "ctc"}
    shutil.rmtree(world / "whisper")
    trainer(0, "text", "epochs=1").run()
    trainer(2, "speech", "epochs=1").run()
    loaded = XLLM.from_pretrained(world / "run2")
    own = loaded.recognizer.encoder.whisper.state_dict()
    assert all(torch.equal(own[name], value) for name, value in whisper.encoder.state_dict().items())
    assert len(loaded.transcribe([torch.randn(16000), torch.randn(9000)])) == 2


def test_cached_states_of_frozen_layers_change_nothing(world, encoder):
    """The same losses as from the sound itself, also where the upper layers train."""
    decoder = "model.recognizer.decoder={form: whisper, width: 16, ffn: 32, heads: 2, blocks: 1, dropout: 0.0"
    decoder += ", visual_blocks: [], linguistic_blocks: []}"
    for trains in (TRAINED, UPPER):
        changes = [encoder, f"cache={world}/cache", decoder, trains, "augment=false"]
        recipe = load_recipe(world / "recipe.yaml", changes, 1, "speech")
        run = Trainer(recipe, recipe.stage(1, "speech"), torch.device("cpu"), lambda *_: None)
        examples, model = run.training.examples, run.model.model
        assert examples.states.depth == (4 if trains == TRAINED else 2)
        items = list(range(min(3, len(examples))))
        cached = model.recognizer.losses(**examples.collate([examples.load(i, seeded(1)) for i in items]))
        features = [speech_features(load_audio(examples.speech[i]), model.recognizer.encoder.config) for i in items]
        batch = examples.collate([examples.load(i, None) for i in items]) | {"depth": 0}
        batch["features"] = pad_sequence(features, batch_first=True)
        batch["feature_lengths"] = torch.tensor([len(f) for f in features])
        plain = model.recognizer.losses(**batch)
        for name, value in plain.items():
            torch.testing.assert_close(cached[name], value, atol=2e-2, rtol=2e-2)  # states are kept in 16 bits


def test_stage_two_goes_on_from_the_states_that_stage_one_has_cached(world, encoder, monkeypatch):
    """Token vectors are those of the sound itself, and nothing of the lower layers is computed again."""
    cached = [encoder, f"cache={world}/cache"]

    def trainer(stage, modality, *overrides):
        recipe = load_recipe(world / "recipe.yaml", [*cached, *overrides], stage, modality)
        return Trainer(recipe, recipe.stage(stage, modality), torch.device("cpu"), lambda *_: None)

    trainer(1, "speech", UPPER[:-1] + ",recognizer.decoder]", "epochs=1", "views=2").run()
    trainer(0, "text", "epochs=1").run()
    plain = trainer(2, "speech", "views=2").training.examples
    with pytest.raises(ConfigError, match="depth is 5, Whisper's encoder has 4"):
        trainer(2, "speech", "depth=5")
    monkeypatch.setattr("xllm.training.states.load_audio", lambda path: pytest.fail(f"reads {path}"))
    examples = trainer(2, "speech", "views=2", "depth=2").training.examples
    items = [item for item in range(len(examples)) if not examples.unusable(item)]
    assert items
    for item in items:
        tokens, same = (e.load(item, None)["tokens"]["speech"][0] for e in (examples, plain))
        torch.testing.assert_close(tokens, same, atol=2e-2, rtol=2e-2)  # states are kept in 16 bits
    assert len(examples.views) == 2 and len(examples.states.versions) == 2


def test_beside_images_states_and_tokens_are_computed_once_and_only_attention_to_images_moves(world, encoder):
    decoder = "model.recognizer.decoder={form: whisper, width: 16, ffn: 32, heads: 2, blocks: 2, dropout: 0.0"
    decoder += ", visual_blocks: [1], visual_width: 16, linguistic_blocks: []}"
    rows = (world / "heard.jsonl").read_text(encoding="utf-8").splitlines()
    rows.append(json.dumps(json.loads(rows[0]) | {"id": "broken", "image": "recipe.yaml"}))
    (world / "heard.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (world / "tokenizer" / "syllables.txt").unlink()
    reports = []

    def trainer(stage, modality, *overrides):
        recipe = load_recipe(world / "recipe.yaml", [encoder, decoder, "epochs=1", *overrides], stage, modality)
        return Trainer(recipe, recipe.stage(stage, modality), torch.device("cpu"), lambda *what: reports.append(what))

    trainer(0, "image").run()
    trainer(1, "speech", TRAINED, f"train=[{world}/train.jsonl]").run()
    shutil.rmtree(world / "whisper")
    heard = [f"train=[{world}/heard.jsonl]", f"start_from=[{world}/run0i,{world}/run1]"]
    heard.append("trains=[recognizer.decoder.blocks.0.cross]")
    plain = trainer(1, "masr", *heard)
    cached = trainer(1, "masr", *heard, "augment=false", f"cache={world}/cache")
    examples, model = cached.training.examples, cached.model.model
    assert cached.training.dropped["broken"] and len(examples) == len(rows)
    torch.nn.init.normal_(model.recognizer.decoder.blocks[0].cross.attention.out_proj.weight)
    plain.model.model.recognizer.load_state_dict(model.recognizer.state_dict())
    items = cached.training.items[:3].tolist() + cached.training.items[-1:].tolist()  # the last has no image
    losses = [
        run.model({**run.training.examples.collate([run.training.examples.load(i, None) for i in items])})["ce"]
        for run in (plain, cached)
    ]
    torch.testing.assert_close(*losses, atol=2e-2, rtol=2e-2)  # both are kept in 16 bits
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    cached.run()
    for name, p in model.named_parameters():
        assert name.startswith("recognizer.decoder.blocks.0.cross.") != torch.equal(before[name], p), name
    reports.clear()
    trainer(1, "masr", *heard, "augment=false", f"cache={world}/cache", f"output={world}/again")
    assert not [what for what in reports if what[0] == "prepare"], "neither encoder runs again"


def test_sound_without_speech_teaches_to_write_nothing(world, encoder):
    """Also in a batch of nothing else; a row that lacks a response is still none."""
    rows = [{"id": f"n{i}", "speech": f"{i}.wav", "response": ""} for i in range(4)] + [{"id": "x", "speech": "5.wav"}]
    (world / "noises.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (world / "tokenizer" / "syllables.txt").unlink()
    changes = [encoder, TRAINED, "model.recognizer.decoder.syllables=false", f"train=[{world}/noises.jsonl]"]
    recipe = load_recipe(world / "recipe.yaml", changes, 1, "speech")
    run = Trainer(recipe, recipe.stage(1, "speech"), torch.device("cpu"), lambda *_: None)
    assert run.training.dropped == {"x": "the response has no characters"}
    batch = run.training.examples.collate([run.training.examples.load(i, None) for i in range(4)])
    losses = run.model.model.recognizer.losses(**batch)
    assert losses.keys() == {"loss", "quantity"} and losses["quantity"] > 0
    losses["loss"].backward()
    grads = [p.grad for p in run.model.parameters() if p.grad is not None]
    assert all(grad.isfinite().all() for grad in grads) and run.model.model.recognizer.cif.weight.weight.grad.any()


def test_versions_differ_and_are_drawn(world, encoder):
    recipe = load_recipe(world / "recipe.yaml", [encoder, f"cache={world}/cache", TRAINED, "views=3"], 1, "speech")
    examples = Trainer(recipe, recipe.stage(1, "speech"), torch.device("cpu"), lambda *_: None).training.examples
    plain = examples.load(0, None)["features"]
    drawn = [examples.load(0, seeded(number))["features"] for number in range(12)]
    assert torch.equal(plain, examples.states.versions[0][0])
    assert len({len(states) for states in drawn} | {len(plain)}) > 1, "another speed is another length"
    again = examples.load(0, seeded(3))["features"]
    assert torch.equal(again, drawn[3])


def test_what_upper_layers_cannot_attend_to_is_dropped_and_said(world, encoder, monkeypatch):
    """Whisper has positions for 30 s: longer utterances go through whole, in windows, or not at all."""
    rows = (world / "train.jsonl").read_text(encoding="utf-8").splitlines()
    for seconds in (31, 20):
        write_tones(world / f"{seconds}.wav", [1] * 5 * seconds)
        rows.append(json.dumps(json.loads(rows[0]) | {"id": f"long{seconds}", "speech": f"{seconds}.wav"}))
    (world / "train.jsonl").write_text("\n".join(rows), encoding="utf-8")
    monkeypatch.setattr("xllm.training.states.distort", lambda wave, generator: wave.repeat(2))

    def unusable(*overrides):
        recipe = load_recipe(world / "recipe.yaml", [encoder, f"cache={world}/cache", *overrides], 1, "speech")
        run = Trainer(recipe, recipe.stage(1, "speech"), torch.device("cpu"), lambda *_: None)
        return [run.training.examples.unusable(item) for item in range(len(rows))]

    assert not any(unusable(TRAINED, "views=2"))
    assert not any(unusable(UPPER)[:-2]) and "31.0 s, upper layers" in unusable(UPPER)[-2]
    assert "40.0 s at another speed, upper layers" in unusable(UPPER, "views=2")[-1]
    assert unusable(UPPER, "views=2", "augment=false")[-1] is None, "no other versions are drawn"


def test_rates_of_layers(world, encoder):
    scale = "lr_scale={recognizer.decoder: 0.5, recognizer.decoder.out: 0.25}"

    def trainer(*overrides):
        recipe = load_recipe(world / "recipe.yaml", [encoder, TRAINED, *overrides], 1, "speech")
        return Trainer(recipe, recipe.stage(1, "speech"), torch.device("cpu"), lambda *_: None)

    run = trainer(scale)
    scales = {id(p): group["scale"] for group in run.optimizer.param_groups for p in group["params"]}
    recognizer = run.model.model.recognizer
    assert scales[id(recognizer.cif.weight.weight)] == 1.0
    assert scales[id(recognizer.decoder.read.weight)] == 0.5 and scales[id(recognizer.decoder.out.bias)] == 0.25
    with pytest.raises(ConfigError, match="lr_scale: 'recognizer.encoder' is no layer"):
        trainer("lr_scale={recognizer.encoder: 0.1}")


def test_text_stands_in_for_speech_where_readings_are_known(world, encoder):
    """Stage 0 repairs misheard characters; stage 2 reads text as the probabilities that speech would have given."""
    readings = "qing3 zhong1 shi2 de5 shi2 bie2 yu3 yin1".split()
    known = SPOKEN | dict(zip("请忠实地识别语音", readings, strict=True)) | {"地": "di4"}
    units = (world / "tokenizer" / "units.txt").read_text(encoding="utf-8").split()
    lines = "".join(f"{known[unit]}\n" for unit in units)
    (world / "tokenizer" / "readings.txt").write_text(lines, encoding="utf-8")
    punctuation = {"id": "none", "response": "…"}
    (world / "text.jsonl").write_text((world / "text.jsonl").read_text() + json.dumps(punctuation), encoding="utf-8")
    decoder = f"model.recognizer.decoder={{form: whisper, pretrained: {world}/whisper, width: 16, ffn: 1536, heads: 2"
    decoder += ", blocks: 1, visual_blocks: [], linguistic_blocks: []}"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE({"<unk>": 0, "天": 1}, [], unk_token="<unk>")))
    tokenizer.save_pretrained(world / "whisper")

    def trainer(stage, modality, *overrides):
        recipe = load_recipe(world / "recipe.yaml", [encoder, decoder, *overrides], stage, modality)
        return Trainer(recipe, recipe.stage(stage, modality), torch.device("cpu"), lambda *_: None)

    both = f"train=[{world}/train.jsonl,{world}/text.jsonl]"
    run = trainer(1, "speech", TRAINED, "epochs=1", both)
    assert "learns nothing from text alone" in run.training.dropped["t0"]
    run.run()
    first = trainer(0, "text", "epochs=1")
    texts = first.training.examples
    row, prompt = texts.rows[0], texts.prompt
    exact = texts.load(1, None)["ids"]
    assert set(prompt.tokens(texts.rows[1]["response"])) <= set(exact), "as it is, where nothing is drawn"
    drawn = [texts.load(0, seeded(number))["ids"] for number in range(30)]
    assert any(len(ids) > len(prompt.tokens(row["response"])) + 4 for ids in drawn), "most are dictated"
    first.run()
    second = trainer(2, "speech", "epochs=1", both)
    assert second.training.dropped == {"none": "neither media nor reading"}
    examples = second.training.examples
    text = next(i for i in range(len(examples)) if not examples.rows[i]["speech"])
    tokens = examples.load(text, seeded(1))["tokens"]["speech"][0]
    assert tokens.shape == (len(examples.rows[text]["response"]), len(units) + 2)
    torch.testing.assert_close(tokens.sum(1), torch.ones(len(tokens)))
    second.run()
    system = XLLM.from_pretrained(world / "run2")
    assert len(system.transcribe([torch.randn(16000)])) == 1
