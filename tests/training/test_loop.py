"""The trainer: every stage runs, resumption is exact, and only what a stage names moves."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from small_models import small_bert, small_vit

from xllm import checkpoint
from xllm.config import load_recipe
from xllm.context import ContextReader
from xllm.errors import ConfigError, ManifestError
from xllm.instructions import INSTRUCTIONS
from xllm.modalities import MODALITIES
from xllm.model import XLLM
from xllm.prompt import fill
from xllm.training import loop
from xllm.training.loop import Trainer
from xllm.training.resume import differences
from xllm.training.state import optimizer_tensors

RUN = """
import sys, time, torch
from pathlib import Path
from xllm.config import load_recipe
from xllm.training.loop import Trainer
torch.set_num_threads(1)
recipe = load_recipe(Path(sys.argv[1]), sys.argv[4:], 1, "speech")
pause = float(sys.argv[2])
def report(event, numbers):
    if event == "train":
        print(numbers["step"], flush=True)
        time.sleep(pause)
Trainer(recipe, recipe.stage(1, "speech"), torch.device("cpu"), report).run(resume=sys.argv[3] == "resume")
"""


WHOLE = ((0, "text"), (0, "image"), (1, "speech"), (2, "speech"), (2, "image"), (2, "video"), (3, "all"))
DEFAULT = {0: "text", 1: "speech", 2: "speech", 3: "all"}


def trainer(world, stage, *overrides, modality=None, events=None, bundle=None):
    modality = modality or DEFAULT[stage]
    recipe = load_recipe(world / "recipe.yaml", list(overrides), stage, modality)
    report = (lambda *e: None) if events is None else (lambda *e: events.append(e))
    return Trainer(recipe, recipe.stage(stage, modality), torch.device("cpu"), report, bundle)


def test_all_stages_in_turn_make_a_system_with_eyes_and_ears(world):
    """And in each stage exactly the named parameters move: nothing else changes by a bit."""
    moving = {(0, "image"): ("vision.", "naming."), (3, "all"): tuple(f"{m}.adapter." for m in MODALITIES)}
    part = {(0, "text"): "llm.", (1, "speech"): "recognizer."}
    for stage, modality in WHOLE:
        run = trainer(world, stage, modality=modality, bundle=world / "bundle" if stage == 3 else None)
        before = {name: p.detach().clone() for name, p in run.model.model.named_parameters()}
        run.run()
        named = moving.get((stage, modality), part.get((stage, modality), f"{modality}."))
        for name, p in run.model.model.named_parameters():
            moved = not torch.equal(before[name], p)
            # Words never enter BERT, and where syllables are read, CIF's vectors are not read directly.
            idle = any(part in name for part in ("word_embeddings", "decoder.read."))
            assert moved == (name.startswith(named) and not idle), (stage, modality, name)
    out = world / "run3"
    assert set(checkpoint.read_card(out).parts) == set(MODALITIES)
    bundled, referring = XLLM.from_pretrained(world / "bundle"), XLLM.from_pretrained(out)
    assert not any(p.requires_grad for p in bundled.parameters())
    for name, value in referring.named_parameters():
        assert torch.equal(value.half().float(), dict(bundled.named_parameters())[name]), name
    for engine in ("cif", "xllm"):
        assert len(bundled.transcribe([torch.randn(16000), torch.randn(300)], engine=engine)) == 2


def test_a_recogniser_learns_to_look(world):
    wide = [f"model.recognizer.decoder.{f}" for f in ("blocks=2", "visual_blocks=[1]", "linguistic_blocks=[2]")]
    wide += [f"model.recognizer.decoder.{f}_width=16" for f in ("visual", "linguistic")]
    for stage, modality in ((0, "text"), (0, "image"), (1, "masr")):
        run = trainer(world, stage, *wide, modality=modality)
        before = {name: p.detach().clone() for name, p in run.model.model.named_parameters()}
        run.run()
    for name, p in run.model.model.named_parameters():
        assert "decoder.read." in name or name.startswith("recognizer.") != torch.equal(before[name], p), name
    # What stands in for published encoders is part of the run.
    read = ContextReader(XLLM.from_pretrained(world / "run1m"), "cif")
    assert read([world / "1.png"], "天地").visual.shape == (5, 16) and not read.unused
    with pytest.raises(ConfigError, match="vision"):
        trainer(world, 1, *wide, "start_from=[]", modality="masr")


def test_a_trained_recogniser_learns_to_look_and_nothing_else_of_it_moves(world):
    deaf = [f"model.recognizer.decoder.{f}" for f in ("blocks=2", "visual_blocks=[]", "linguistic_blocks=[]")]
    for stage, modality in ((0, "text"), (0, "image"), (1, "speech")):
        trainer(world, stage, *deaf, modality=modality).run()
    wide = [f"model.recognizer.decoder.{f}" for f in ("blocks=2", "visual_blocks=[1]", "linguistic_blocks=[2]")]
    wide += [f"model.recognizer.decoder.{f}_width=16" for f in ("visual", "linguistic")]
    wide += [f"start_from=[{world}/run0, {world}/run0i, {world}/run1]"]
    cross = [f"recognizer.decoder.blocks.{n}.cross" for n in (0, 1)]
    run = trainer(world, 1, *wide, f"trains={cross}", modality="masr")
    model, heard = run.model.model, [torch.randn(80, 80)]
    blind = XLLM.from_pretrained(world / "run1")
    vectors = model.recognizer.eval().hear(heard)[0]
    assert torch.equal(vectors, blind.recognizer.hear(heard)[0])  # a new layer begins without effect
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    run.run()
    for name, p in model.named_parameters():
        assert name.startswith(tuple(cross)) != torch.equal(before[name], p), name
    assert set(checkpoint.read_card(world / "run1m").parts) == {"recognizer"}
    with pytest.raises(ConfigError, match="does not train 'llm'"):
        trainer(world, 1, *wide, "trains=[llm]", modality="masr")
    with pytest.raises(ConfigError, match="no layer 'recognizer.nose'"):
        trainer(world, 1, *wide, "trains=[recognizer.nose]", modality="masr")
    with pytest.raises(ConfigError, match="no weights for recognizer.decoder.blocks.0.cross"):
        checkpoint.load_into(model, world / "run1")


def test_beside_published_encoders_a_recogniser_learns_to_attend_without_the_rest_of_the_system(world):
    """And only the layers that attend move; the run names its encoders, and uses them."""
    deaf = [f"model.recognizer.decoder.{f}" for f in ("blocks=2", "visual_blocks=[]", "linguistic_blocks=[]")]
    trainer(world, 1, *deaf).run()
    vit, bert = small_vit(world / "vit"), small_bert(world / "bert")
    wide = [f"model.recognizer.decoder.{f}" for f in ("blocks=2", "visual_blocks=[1]", "linguistic_blocks=[2]")]
    wide += [f"model.recognizer.decoder.{f}_width=16" for f in ("visual", "linguistic")]
    wide += [f"model.context.visual={vit}", f"model.context.linguistic.name={bert}", f"start_from=[{world}/run1]"]
    cross = [f"recognizer.decoder.blocks.{n}.cross" for n in (0, 1)]
    with pytest.raises(ConfigError, match="visual_width is 24, but model.context encodes images to 16"):
        trainer(world, 1, *wide, "model.recognizer.decoder.visual_width=24", modality="masr")
    with pytest.raises(ConfigError, match="visual_blocks or linguistic_blocks"):
        trainer(world, 1, *wide, *deaf, modality="masr")
    run = trainer(world, 1, *wide, f"trains={cross}", modality="masr")
    model = run.model.model
    assert {name for name, _ in model.named_children()} == {"recognizer", "context"}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    run.run()
    for name, p in model.named_parameters():
        assert name.startswith(tuple(cross)) != torch.equal(before[name], p), name
    loaded = XLLM.from_pretrained(world / "run1m")
    assert set(checkpoint.read_card(world / "run1m").parts) == {"recognizer"} and hasattr(loaded, "context")
    read = ContextReader(loaded, "cif")
    assert read([world / "1.png"], "天地").visual.shape == (50, 16) and not read.unused


def test_the_video_interface_begins_as_a_copy_of_the_image_interface(world):
    for stage, modality in ((0, "text"), (0, "image"), (2, "image")):
        trainer(world, stage, modality=modality).run()
    films = trainer(world, 2, modality="video").model.model
    pictures = checkpoint.load_tensors(world / "run2i" / "model.safetensors")
    assert pictures
    for name, value in pictures.items():
        assert torch.equal(films.video.get_parameter(name.removeprefix("image.")), value), name


def test_what_a_picture_shows_in_words_draws_its_embeddings(world, monkeypatch):
    for stage, modality in ((0, "text"), (0, "image")):
        trainer(world, stage, modality=modality).run()
    model = trainer(world, 2, modality="image").model.model.eval()
    asked = [{}], [{"image": [torch.rand(1, 3, 16, 16)]}], ["天？"], ["天"]
    words = fill("天", 3)
    plain, drawn = model.response_loss(*asked), model.response_loss(*asked, told=[{"image": words}])
    assert "image text" not in plain and drawn["image text"] > 0
    torch.testing.assert_close(drawn["loss"], plain["loss"] + 0.3 * drawn["image text"])
    assert model.response_loss(*asked, told=[{"image": "天"}])["image text"] == 0  # no token for each embedding
    there = model.llm.embed(model.prompt.tokens(words))
    monkeypatch.setattr(model, "embed", lambda tokens: [{"image": [there]}])
    assert model.response_loss(*asked, told=[{"image": words}])["image text"] == 0


def test_interfaces_may_learn_words_alone_without_the_llm(world, monkeypatch):
    """What is not told in words is left out, and said; the LLM is only asked for embeddings."""
    for stage, modality in ((0, "text"), (0, "image")):
        trainer(world, stage, modality=modality).run()
    run = trainer(world, 2, "answers=false", "epochs=1", modality="image")
    assert set(run.training.dropped.values()) == {"nothing tells what it shows"}
    model = run.model.model
    monkeypatch.setattr(type(model.llm), "answer_loss", lambda *_: pytest.fail("a pass of the LLM"))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    run.run()
    assert {name.split(".")[0] for name, p in model.named_parameters() if not torch.equal(before[name], p)} == {"image"}
    with pytest.raises(ConfigError, match="answers: false"):
        trainer(world, 1, "answers=false")


def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(world):
    def start(output, pause, resume):
        overrides = [f"output={world}/{output}", "epochs=3"]
        return subprocess.Popen(
            [sys.executable, "-c", RUN, str(world / "recipe.yaml"), str(pause), resume, *overrides],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    whole = start("whole", 0, "new")
    steps = [int(line) for line in whole.stdout]
    assert whole.wait() == 0
    killed = start("killed", 0.2, "new")
    for line in killed.stdout:
        if int(line) >= len(steps) // 2 + 1:
            killed.send_signal(signal.SIGKILL)
            break
    assert killed.wait() == -signal.SIGKILL
    assert not (world / "killed" / checkpoint.MARK).exists()
    place = json.loads((max((world / "killed" / "checkpoints").glob("step-*[0-9]")) / "place.json").read_text())
    assert 0 < place["step"] < len(steps) and place["batch"] > 0, "the checkpoint should lie inside an epoch"
    resumed = start("killed", 0, "resume")
    rest = [int(line) for line in resumed.stdout]
    assert resumed.wait() == 0
    assert rest == list(range(place["step"] + 1, len(steps) + 1))
    a = checkpoint.load_tensors(world / "whole" / "model.safetensors")
    b = checkpoint.load_tensors(world / "killed" / "model.safetensors")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_is_not_overwritten(world):
    trainer(world, 1).run()
    with pytest.raises(ConfigError, match="--resume"):
        trainer(world, 1).run()
    shutil.rmtree(world / "run1" / "checkpoints")
    for resume in (False, True):
        with pytest.raises(ConfigError, match="holds a trained system already"):
            trainer(world, 1).run(resume)


@pytest.mark.parametrize(
    "change, message",
    [
        ("batch_cost=300", "batch_cost was 250, is 300"),
        ("window=3", "window was 50, is 3"),
        ("max_cost=90", "max_cost was 3000, is 90"),
        ("seed=4", "seed was 3, is 4"),
        ("accumulate=2", "accumulate was 1, is 2"),
        ("augment=false", "augment was True, is False"),
        ("train=[{world}/train.jsonl]", "manifests was 2 .*, is 1 .*samples was 24 .*, is 10"),
    ],
)
def test_what_makes_the_batches_must_stay(world, change, message):
    trainer(world, 1, "epochs=1").run()
    with pytest.raises(ConfigError, match=message):
        trainer(world, 1, change.format(world=world), "epochs=2").run(resume=True)


def test_as_many_rows_of_other_content_are_other_data(world):
    trainer(world, 0, "epochs=1").run()
    text = (world / "text.jsonl").read_text(encoding="utf-8")
    (world / "moved").mkdir()
    (world / "moved" / "text.jsonl").write_text(text, encoding="utf-8")
    trainer(world, 0, f"train=[{world}/moved/text.jsonl]", "lr=0.01", "save_every=7", "epochs=2").run(resume=True)
    (world / "text.jsonl").write_text(text.replace('"t1"', '"t0"'), encoding="utf-8")
    with pytest.raises(ConfigError, match="manifests was 1 .*, is 1 "):
        trainer(world, 0, "epochs=3").run(resume=True)


def test_checkpoints_of_another_model_are_refused(world):
    trainer(world, 0, "epochs=1").run()
    with pytest.raises(ConfigError, match="another model"):
        trainer(world, 0, "epochs=2", "model.llm.ffn=48").run(resume=True)


def test_rates_and_decay_may_change_and_each_parameter_keeps_its_moments(world):
    run = trainer(world, 1, "epochs=1")
    run.run()
    kept = optimizer_tensors(run.optimizer)
    later = trainer(world, 1, "epochs=2", "weight_decay=0", "lr_scale={recognizer.decoder: 0.5, recognizer.cif: 0.2}")
    later._go_on()
    found = optimizer_tensors(later.optimizer)
    assert found.keys() == kept.keys() and "recognizer.cif.weight.bias.exp_avg" in kept
    assert all(torch.equal(found[name], kept[name]) for name in kept)
    assert {(group["weight_decay"], group["scale"]) for group in later.optimizer.param_groups} == {
        (0.0, 1.0),
        (0.0, 0.5),
        (0.0, 0.2),
    }
    with pytest.raises(ConfigError, match="step-.*no 'recognizer.*other layers trained"):
        trainer(world, 1, "epochs=2", "trains=[recognizer.cif]", f"start_from=[{world}/run1]")._go_on()


def test_the_number_of_processes_may_change_where_the_batches_allow_it():
    was = {"seed": 1, "accumulate": 2, "processes": 1, "samples": "9"}
    for now, within, found in (
        ({"accumulate": 1, "processes": 2}, True, []),
        ({"processes": 2}, False, []),
        ({"processes": 2}, True, ["processes was 1, is 2"]),
        ({"accumulate": 1}, False, ["accumulate was 2, is 1"]),
        ({"accumulate": 4, "seed": 2}, True, ["seed was 1, is 2", "accumulate was 2, is 4"]),
    ):
        assert sorted(differences(was, was | now, within)) == sorted(found), now


def test_two_runs_in_one_folder_are_refused(world):
    errors = []

    def second(event, numbers):
        if event == "start":
            with pytest.raises(ConfigError, match="another run is at work") as caught:
                trainer(world, 0).run()
            errors.append(caught)

    recipe = load_recipe(world / "recipe.yaml", ["epochs=1"], 0, "text")
    Trainer(recipe, recipe.stage(0, "text"), torch.device("cpu"), second).run()
    assert errors and not (world / "run0" / ".lock").exists()
    assert (world / "run0" / checkpoint.MARK).exists(), "the first one was not disturbed"


@pytest.mark.parametrize("damage", ["truncated", "missing", "place"])
def test_from_a_damaged_checkpoint_the_one_before_goes_on_exactly(world, damage, monkeypatch):
    trainer(world, 1, f"output={world}/whole", "save_every=2").run()
    trainer(world, 1, "epochs=1", "save_every=2").run()
    before, newest = sorted((world / "run1" / "checkpoints").glob("step-*[0-9]"))
    if damage == "truncated":
        data = (newest / "model.safetensors").read_bytes()
        (newest / "model.safetensors").write_bytes(data[:-100])
    elif damage == "missing":
        (newest / "random-0.safetensors").unlink()
    else:
        (newest / "place.json").write_text('{"step": ')
    said, steps = [], []
    monkeypatch.setattr(loop.logger, "warning", lambda form, *values: said.append(form % values))
    events = []
    trainer(world, 1, "save_every=2", events=events).run(resume=True)
    steps = [numbers["step"] for event, numbers in events if event == "train"]
    assert steps[0] == int(before.name[5:]) + 1, "on from the one before"
    about = next(line for line in said if "damaged" in line)
    assert str(newest) in about and f"{before.name} goes on" in about
    a, b = (checkpoint.load_tensors(world / name / "model.safetensors") for name in ("whole", "run1"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_without_a_whole_checkpoint_nothing_begins_anew(world):
    trainer(world, 0, "epochs=1").run()
    for folder in (world / "run0" / "checkpoints").glob("step-*"):
        (folder / "optimizer.safetensors").unlink()
    with pytest.raises(ConfigError, match="no checkpoint is whole.*optimizer"):
        trainer(world, 0, "epochs=2").run(resume=True)


def test_dropped_samples_are_counted_with_reasons(world):
    lines = (world / "train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    rows[0]["response"] = "。"
    rows[1]["reading"] = "ni3"
    (world / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    (world / "2.wav").write_text("not audio")
    (world / "12.wav").write_text("not audio")
    dev = [json.loads(line) for line in (world / "dev.jsonl").read_text(encoding="utf-8").splitlines()]
    dev[0]["response"] = "。"
    (world / "dev.jsonl").write_text("".join(json.dumps(r) + "\n" for r in dev), encoding="utf-8")
    for epochs in (1, 3):
        events = []
        run = trainer(world, 1, "max_cost=95", f"epochs={epochs}", events=events)
        run.run(resume=epochs > 1)
    reasons = run.training.dropped
    assert "no characters" in reasons["s0"] and "reading" in reasons["s1"]
    assert "2.wav" in reasons["s2"], "found while training, not before: the features are not cached"
    assert "max_cost" in reasons["s3"]
    start = next(numbers for event, numbers in events if event == "start")
    assert start["samples"] == len(run.training.items) and start["dev"] == len(run.dev.items)
    assert "no characters" in start["dev_dropped"]["s10"]
    later = [numbers for event, numbers in events if event == "dev_dropped"]
    assert len(later) == 1 and "12.wav" in later[0]["s12"], "said once, not in every epoch"
    listed = [json.loads(line) for line in (world / "run1" / "dropped.jsonl").read_text().splitlines()]
    assert {(row["id"], row["reason"]) for row in listed if "dev" not in row} == set(reasons.items())
    assert {(row["id"], row["reason"]) for row in listed if row.get("dev")} == set(run.dev.dropped.items())
    assert len(listed) == len(reasons) + len(run.dev.dropped), "each once, however often a run is started"


def test_a_dev_set_that_cannot_be_used_is_an_error(world):
    with pytest.raises(ConfigError, match="no dev sample can be used; the first: s10: longer than max_cost"):
        trainer(world, 1, f"train=[{world}/text.jsonl]", "max_cost=39")
    for number in range(10, 14):
        (world / f"{number}.wav").write_text("not audio")
    with pytest.raises(ManifestError, match="no dev sample can be read.*10.wav|11.wav|12.wav|13.wav"):
        trainer(world, 1, "epochs=1").run()


def test_an_unreadable_dev_batch_counts_for_nothing(world):
    """And no other one counts twice in its place."""
    run = trainer(world, 1, "batch_cost=1")  # a batch for each sample
    losses = {item: run.dev.examples.load(item, None) for item in range(4)}
    run.model.eval()
    with torch.no_grad():
        expected = [float(run.model(run.dev.examples.collate([losses[item]]))["loss"]) for item in range(3)]
    (world / "13.wav").write_text("not audio")
    assert run.evaluate()["loss"] == pytest.approx(sum(expected) / 3, rel=1e-5)


def test_clip_zero_is_no_clipping(world):
    for name, clip in (("none", 0), ("wide", 1e9), ("tight", 1e-3)):
        trainer(world, 0, f"clip={clip}", f"output={world}/{name}").run()
    none, wide, tight = (
        checkpoint.load_tensors(world / name / "model.safetensors") for name in ("none", "wide", "tight")
    )
    assert all(torch.equal(none[name], wide[name]) for name in none)
    assert not all(torch.equal(none[name], tight[name]) for name in none)


def test_a_stage_without_a_schedule_keeps_its_rate(world):
    events = []
    trainer(world, 0, "lr=0.02", "schedule={}", "epochs=3", events=events).run()
    rates = {numbers["lr"] for event, numbers in events if event == "train"}
    assert rates == {0.02}


def test_a_schedule_that_misses_the_run_is_a_warning_with_both_numbers(world, monkeypatch):
    said = []
    monkeypatch.setattr(loop.logger, "warning", lambda form, *values: said.append(form % values))
    run = trainer(world, 0, "epochs=3")
    assert run.steps == 3 * len(run.batches(0))
    run.run()
    assert len(said) == 1 and f"ends at step 22, the run at step {run.steps}:" in said[0]
    said.clear()
    trainer(world, 0, "epochs=3", f"output={world}/other", f"schedule.decay={run.steps - 2}").run()
    assert not said


def test_a_compiled_language_model_trains_to_the_same_weights(world, monkeypatch):
    """As far as it goes without a compiler: traced, and run as it stands."""
    compiled = []
    monkeypatch.setattr(
        torch.nn.Module,
        "compile",
        lambda self, **how: (
            compiled.append(type(self).__name__),
            setattr(self, "_compiled_call_impl", torch.compile(self._call_impl, backend="eager", **how)),
        ),
    )
    for name, how in (("plain", "compile=false"), ("compiled", "compile=true")):
        trainer(world, 0, how, f"output={world / name}", modality="text").run()
    assert compiled == ["LlamaModel"]
    one, other = (checkpoint.load_tensors(world / name / "model.safetensors") for name in ("plain", "compiled"))
    assert all(torch.allclose(one[name], other[name], atol=1e-5) for name in one)


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED"])
def test_sharded_weights_are_refused_before_any_work(world, monkeypatch, kind):
    from accelerate import Accelerator, DistributedType

    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType[kind])
    with pytest.raises(ConfigError, match="use --gpus"):
        trainer(world, 1)


def test_speech_is_aligned_with_vsdials_questions_and_nothing_else_of_them(world):
    """A row of VSDial-CN has an image, a caption and earlier turns: they are not what stage 2 of speech is about."""
    turns = [{"instruction": "几个人？", "response": "两个"}]
    more = {"image": "no-such.png", "caption": "天", "history": turns}
    rows = [json.loads(line) | more for line in (world / "train.jsonl").open()]
    asked = {**rows[0], "id": "asked", "instruction": "图中是什么？"}
    (world / "vsdial.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, asked]), encoding="utf-8")
    for stage in (0, 1):
        trainer(world, stage).run()
    run = trainer(world, 2, f"train=[{world}/vsdial.jsonl]")
    assert run.training.dropped == {"asked": "its instruction is also about image, which this stage is not"}
    run.run()
    batch = run.training.examples.collate([run.training.examples.load(0, None)])
    assert batch["histories"] == [[]] and batch["instructions"] == [INSTRUCTIONS["asr"][0]]
    assert batch["responses"] == [rows[0]["response"]] and rows[0]["response"].endswith("。")


def test_dry_run_names_the_longest_sample(world):
    told = trainer(world, 1).dry_run()
    assert told["longest"].startswith("s") and told["memory_bytes"] > 0 and told["loss"] > 0
    assert not (world / "run1").exists()


def test_stage_two_needs_the_earlier_ones(world):
    with pytest.raises(ConfigError, match="llm, recognizer"):
        trainer(world, 2, "start_from=[]")


def test_log_has_loss_rate_and_eta(world):
    trainer(world, 0, "epochs=1").run()
    rows = [json.loads(line) for line in (world / "run0" / "log.jsonl").read_text().splitlines()]
    train = [row for row in rows if row["event"] == "train"]
    assert train and {"loss", "lr", "samples_s", "data_wait", "eta_s", "step"} <= set(train[0])
    assert (world / "run0" / "tensorboard").is_dir()
