"""`xllm train` and `xllm prepare-data`: parsing, printing, and one line for what is wrong."""

import json
import re

import yaml

from xllm.config import load_recipe


def write_world(folder, tokenizer):
    texts = [{"id": f"t{i}", "response": "天地人你我他"[i % 4 :], "reading": None} for i in range(8)]
    (folder / "text.jsonl").write_text("".join(json.dumps(t) + "\n" for t in texts))
    recipe = {
        "name": "small",
        "model": {
            "tokenizer": str(tokenizer),
            "llm": {"width": 16, "ffn": 32, "heads": 2, "layers": 1, "max_tokens": 64},
        },
        "stages": {
            "llm": {
                "stage": 0,
                "modality": "text",
                "train": [f"{folder}/text.jsonl"],
                "output": f"{folder}/run",
                "batch_cost": 80,
                "log_every": 1,
            }
        },
    }
    (folder / "r.yaml").write_text(yaml.safe_dump(recipe))
    return folder / "r.yaml"


def test_train_saves_a_checkpoint_and_refuses_to_overwrite(xllm, tmp_path, small_tokenizer):
    recipe = write_world(tmp_path, small_tokenizer)
    code, out, err = xllm("train", recipe, "lr=0.01", "--stage", 0, "--device", "cpu")
    assert code == 0 and out == "" and "8 samples, 0 dropped" in err and f"saved {tmp_path}/run" in err
    assert load_recipe(tmp_path / "run" / "recipe.yaml").stage(0, None).lr == 0.01
    code, _, err = xllm("train", recipe, "--stage", 0, "--device", "cpu")
    assert code == 2 and "--resume" in err
    code, out, err = xllm("train", recipe, "--stage", 0, "--device", "cpu", "--resume", "--quiet")
    assert (code, out) == (0, "") and re.fullmatch(rf"saved {tmp_path}/run: stage 0 text, \d+ s\n", err)


def test_a_key_of_a_stage_needs_one_stage_or_all(xllm, tmp_path, small_tokenizer):
    recipe = write_world(tmp_path, small_tokenizer)
    two = yaml.safe_load(recipe.read_text())
    two["stages"]["more"] = two["stages"]["llm"] | {"output": f"{tmp_path}/more", "start_from": [f"{tmp_path}/run"]}
    recipe.write_text(yaml.safe_dump(two))
    for choice in ([], ["--stage", 0]):
        code, _, err = xllm("train", recipe, "lr=5e-4", *choice)
        assert code == 2 and "lr is a stage's" in err and "stages.NAME.lr" in err and "llm, more" in err
    code, out, _ = xllm("train", recipe, "lr=5e-4", "--stage", "more", "--print-config")
    assert code == 0 and [s["lr"] == 5e-4 for s in yaml.safe_load(out)["stages"].values()] == [False, True]
    code, _, err = xllm("train", recipe, "--stage", "mroe")
    assert code == 2 and "--stage mroe is not in the recipe" in err and "more (--stage 0 --modality text)" in err
    code, out, _ = xllm("train", recipe, "lr=5e-4", "stages.more.epochs=3", "--all", "--print-config")
    stages = yaml.safe_load(out)["stages"]
    assert code == 0 and [s["lr"] for s in stages.values()] == [5e-4, 5e-4] and stages["more"]["epochs"] == 3


def test_all_stages_run_in_order_and_what_is_complete_is_left_alone(xllm, tmp_path, small_tokenizer):
    recipe = write_world(tmp_path, small_tokenizer)
    two = yaml.safe_load(recipe.read_text())
    two["stages"]["more"] = two["stages"]["llm"] | {"output": f"{tmp_path}/more", "start_from": [f"{tmp_path}/run"]}
    recipe.write_text(yaml.safe_dump(two))
    code, out, err = xllm("train", recipe, "--all", "--device", "cpu", "--quiet")
    first, second = err.splitlines()
    assert (code, out) == (0, "") and first.startswith(f"saved {tmp_path}/run: ")
    assert second.startswith(f"saved {tmp_path}/more: stage 0 text, ")
    made = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    (tmp_path / "more" / "complete").unlink()
    code, _, err = xllm("train", recipe, "--all", "--device", "cpu", "--quiet")
    assert code == 2 and f"skipped {tmp_path}/run: stage 0 text is complete\n" in err and "--resume" in err
    code, _, err = xllm("train", recipe, "--all", "--device", "cpu", "--quiet", "--resume")
    assert code == 0 and f"saved {tmp_path}/more" in err
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == made
    code, _, err = xllm("train", recipe, "--all", "--stage", 0)
    assert code == 2 and "every stage" in err


def test_dry_run_and_print_config(xllm, tmp_path, small_tokenizer):
    recipe = write_world(tmp_path, small_tokenizer)
    code, out, _ = xllm("train", recipe, "--stage", 0, "--dry-run", "--device", "cpu")
    assert code == 0 and json.loads(out)["longest"].startswith("t")
    code, out, _ = xllm("train", recipe, "epochs=7", "--stage", 0, "--print-config")
    assert code == 0 and yaml.safe_load(out)["stages"]["llm"]["epochs"] == 7


def test_usage_errors(xllm, tmp_path, small_tokenizer):
    recipe = write_world(tmp_path, small_tokenizer)
    for arguments, message in (
        (["epoch=7"], "did you mean 'epochs'"),
        (["--device", "tpu"], "unknown device"),
        (["train=[none.jsonl]"], "no such manifest"),
    ):
        code, _, err = xllm("train", recipe, *arguments, "--stage", 0)
        assert code in (1, 2) and message in err and err.count("\n") == 1
    code, _, err = xllm("train", recipe)
    assert code == 2 and "--stage" in err and "--meta" in err
    code, _, err = xllm("train", recipe, "--stage", 2)
    assert code == 2 and "--stage 0" in err


def test_a_recipe_is_counted_without_weights_or_data(xllm, tmp_path, small_tokenizer):
    recipe = write_world(tmp_path, small_tokenizer)
    code, out, _ = xllm("train", recipe, "--dry-run", "--meta", "expected={samples: 1000, cost: 20}", "--stage", 0)
    lines = [line.split() for line in out.splitlines()]
    assert (
        code == 0
        and lines[0] == ["part", "million"]
        and [line[0] for line in lines[1:4]]
        == [
            "llm",
            "recognizer",
            "speech",
        ]
    )
    assert lines[-1][:2] == ["0", "text"] and lines[-1][-4:] == ["1,000", "4", "250", "1"]
    assert not (tmp_path / "run").exists()


def test_prepare_data_without_the_corpus(xllm, tmp_path):
    code, _, err = xllm("prepare-data", "tiny-speech", tmp_path)
    assert code == 1 and "manifest.jsonl" in err and err.count("\n") == 1


def test_dev_samples_that_are_dropped_are_shown_and_marked(xllm, tmp_path, small_tokenizer):
    recipe = write_world(tmp_path, small_tokenizer)
    dev = [{"id": f"d{i}", "response": "天" * (40 if i else 3)} for i in range(4)]
    (tmp_path / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in dev))
    arguments = ("train", recipe, f"dev=[{tmp_path}/dev.jsonl]", "max_cost=60", "--stage", 0, "--device", "cpu")
    for more in ((), ("--resume",)):
        code, _, err = xllm(*arguments, *more)
        assert code == 0 and "8 samples, 0 dropped; dev: 1 samples, 3 dropped;" in err
        assert "dropped dev d1: longer than max_cost" in err
        listed = [json.loads(line) for line in (tmp_path / "run" / "dropped.jsonl").read_text().splitlines()]
        assert [(row["id"], row["dev"]) for row in listed] == [("d1", True), ("d2", True), ("d3", True)]


def test_a_schedule_that_misses_the_run_is_told_before_and_when_it_runs(xllm, tmp_path, small_tokenizer):
    recipe = write_world(tmp_path, small_tokenizer)
    schedule = "schedule={kind: cosine, warmup: 10, decay: 990}"
    code, _, err = xllm("train", recipe, schedule, "expected={samples: 1000, cost: 20}", "--stage", 0, "--meta")
    assert code == 0
    line = "the schedule ends at step 1,000, the run at step 250: schedule.decay=240 ends with it"
    assert err.startswith(f"warning: stage 0 text: {line}") and err.count("\n") == 1
    for arguments in (["--dry-run"], []):
        code, _, err = xllm("train", recipe, schedule, "--stage", 0, "--device", "cpu", *arguments)
        assert code == 0 and err.count("warning: the schedule ends at step 1,000, the run at step ") == 1


def test_gpus_are_indices_and_not_beside_a_device(xllm, tmp_path, small_tokenizer, monkeypatch):
    import torch

    from xllm_cli.commands import train

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    started = []
    monkeypatch.setattr(train, "launch", lambda *given: started.append(given))
    recipe = write_world(tmp_path, small_tokenizer)
    for gpus in ("2", "all"):
        assert xllm("train", recipe, "--stage", 0, "--gpus", gpus)[0] == 0
    assert started == [(1, {"CUDA_VISIBLE_DEVICES": "6"}), (4, {"CUDA_VISIBLE_DEVICES": "4,5,6,7"})]
    for wrong, message in (
        (["8"], "no GPU 8"),
        (["0", "--device", "cpu"], "leave out"),
        (["0", "--processes", 2], "leave"),
    ):
        code, _, err = xllm("train", recipe, "--stage", 0, "--gpus", *wrong)
        assert code == 2 and message in err and err.count("\n") == 1
    assert len(started) == 2
