"""What the documents tell a reader to type is true: it runs, or at least exists.

README, the first training run, fine-tuning and the way from AISHELL-1 run whole, in a folder that has what they name;
SMALL says what stands in for what takes hours, needs a GPU or a server. Of all other pages every command and option
exists, and every `train` names one stage of its recipe.
"""

import json
import shlex
import shutil
import sys
import tarfile

import pytest
import typer
from documents import PAGES, ROOT, inline_commands, shell_lines, xllm_commands
from llava_data import llava_data, rate
from openai_server import OpenAIServer
from PIL import Image
from raw_corpora import aishell1, visdial

from xllm.media import load_audio
from xllm_cli.main import app

EXAMPLES = ROOT / "examples"
README = ROOT / "README.md"
SPEAK = """synthesize.command="sh -c 'cp audio.wav {out}' {text}\""""
# What a page says, what the test runs in its place ("": nothing), and why.
SMALL = {
    "pip install . && ": ("", "what runs this test is installed"),
    'pip install -e ".[test]" && pytest': ("", "this is a test: it would run itself"),
    "xllm asr all.jsonl --gpus 0,1": ("xllm asr all.jsonl", "no GPUs in tests"),
    "xllm chat --web": ("", "it serves until it is stopped: tests/cli/test_web.py"),
    "--ray auto --workers 64": ("--limit 2", "no cluster in tests: tests/steps/test_cluster.py"),
    "synthesize.model=my/vits": (
        f"translate.model=gpt {SPEAK}",
        "no models in tests: a server and a file",
    ),
    "xllm prepare-data demo data/demo": ("xllm prepare-data demo data/demo --share 0.01", "a hundredth, for time"),
    "xllm train recipes/demo.yaml --all --gpus all": ("xllm train recipes/demo.yaml --all", "no GPUs in tests"),
    "xllm train recipes/demo.yaml --all": ("xllm train recipes/demo.yaml --all epochs=1", "one epoch, for time"),
    "xllm train recipes/demo.yaml --stage 1": ("xllm train recipes/demo.yaml --stage 1 epochs=1", "as before"),
    "xllm train recipes/finetune.yaml --all": (
        "xllm train recipes/finetune.yaml --all epochs=1",
        "one epoch, for time",
    ),
    "xllm train recipes/aishell.yaml": ("xllm train recipes/aishell.yaml {tiny}", "a small model, for time"),
    "--model RUN": ("--model runs/demo/joint", "a run"),
}
SIZES = [
    *("encoder.channels=4", "encoder.width=16", "encoder.ffn=32", "encoder.heads=2", "encoder.blocks=2"),
    *("encoder.pool_after=[1,2]", "cif.channels=8", "decoder.width=16", "decoder.ffn=32", "decoder.heads=2"),
]
GLOBAL = ("--debug", "--offline")  # which every command takes
TINY = " ".join(f"model.recognizer.{size}" for size in SIZES) + " epochs=1 workers=0 schedule.warmup=1"


def stand_in(line: str) -> str:
    """The line as the test runs it: each of SMALL once, the longest first."""
    for text in sorted(SMALL, key=len, reverse=True):
        if text in line:
            line = line.replace(text, SMALL[text][0].replace("{tiny}", TINY))
            if text.startswith("xllm"):
                break
    return line


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with every file that the pages name."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("examples", "recipes"):
        (folder / name).symlink_to(ROOT / name)
    sounds = sorted(EXAMPLES.glob("*.opus"))
    import soundfile

    for name in ("audio", "question", "talk"):
        soundfile.write(folder / f"{name}.wav", load_audio(sounds[0]).numpy(), 16000)
    for sub in ("talks", "data/mine"):
        (folder / sub).mkdir(parents=True)
        for sound in sounds:
            shutil.copy(sound, folder / sub)
    shutil.copy(EXAMPLES / "examples.jsonl", folder / "data" / "mine" / "train.jsonl")
    shutil.copy(EXAMPLES / "sun.png", folder / "a.png")
    Image.new("RGB", (80, 60), "green").save(folder / "scene.jpg")
    spoken = [{"id": s.stem, "speech": f"talks/{s.name}", "response": "走"} for s in sounds[:2]]
    asked = [{"image": "a.png", "instruction": "这是什么？", "response": "太阳"}] * 2
    manifests = {"calls": spoken, "all": spoken, "questions": asked}
    manifests["pictured"] = [row | {"image": "a.png"} for row in spoken]
    for name, rows in manifests.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    aishell1(folder / "raw")
    with tarfile.open(folder / "data_aishell.tgz", "w:gz") as archive:
        archive.add(folder / "raw" / "data_aishell", "data_aishell")
    visdial(folder / "RAW" / "visdial")
    llava = llava_data(folder / "llava_test")
    (llava / "images").rename(folder / "val2014")
    review = {"question_id": 0, "category": "conv", "content": "8 10\nGood."}
    (folder / "review.json").write_text(json.dumps([review]))
    return folder


@pytest.fixture
def run(place, monkeypatch, capfd):
    """Run a line's `xllm` commands one after another in that folder; returns what went wrong, or None."""

    def command(words: list[str]) -> str | None:
        from xllm_cli.main import main

        monkeypatch.setattr(sys, "argv", ["xllm", *words])
        try:
            main()
        except SystemExit as stop:
            if stop.code:
                return f"xllm {shlex.join(words)}: exit code {stop.code}: {capfd.readouterr().err[-2000:]}"
        return None

    monkeypatch.chdir(place)
    monkeypatch.setattr("sys.stdin", open("/dev/null"))
    return lambda line: next(filter(None, map(command, xllm_commands(stand_in(line)))), None)


@pytest.fixture
def judge(monkeypatch):
    def reply(body):
        return "走" if body["messages"][0]["content"].startswith("You translate") else rate(body, "6 8")

    with OpenAIServer(reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "a-long-key")
        yield


def test_every_stand_in_stands_for_something():
    said = "\n".join(line for page in PAGES for line in shell_lines(page))
    assert not [text for text in SMALL if text not in said]


def test_what_the_readme_says_runs(run, judge):
    assert not [failed for line in shell_lines(README) if (failed := run(line))]


def test_the_packaged_system_is_fine_tuned_in_three_commands(run, capfd, place):
    train, asr, export = shell_lines(ROOT / "docs" / "fine-tuning.md")
    assert not run(train)
    capfd.readouterr()
    assert not run(asr)
    text = capfd.readouterr().out
    assert text.strip()
    assert not run(export)
    capfd.readouterr()
    shutil.rmtree(place / "runs" / "mine")  # the export needs nothing else
    assert not run("xllm asr talk.wav --model mine/")
    assert capfd.readouterr().out == text


def test_aishell_alone_makes_a_recogniser(run):
    lines = shell_lines(ROOT / "docs" / "data.md", "From nothing to a useful small system")
    assert len(lines) > 3 and not [failed for line in lines if (failed := run(line))]


def _parse(words: list[str]) -> str | None:
    """What is wrong with the words of a command, as its own parser sees them; nothing of it runs."""
    command = typer.main.get_command(app)
    context = command.make_context("xllm", [], resilient_parsing=True)
    while hasattr(command, "get_command"):
        if not words or words[0].startswith("-"):
            break  # of the group itself
        if words[0] == "NAME":  # of any corpus
            return None
        name, *words = words
        command = command.get_command(context, name)
        if command is None:
            return f"no command {name!r}"
    try:
        command.make_parser(context).parse_args([word for word in words if word not in GLOBAL])
    except typer._click.exceptions.UsageError as error:
        return error.format_message()
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_exist(page):
    commands = [words for line in shell_lines(page) for words in xllm_commands(line)] + inline_commands(page)
    assert not {" ".join(words): flaw for words in commands if (flaw := _parse(words))}


def test_every_train_command_names_one_stage_of_a_recipe(run):
    lines = [line for page in PAGES for line in shell_lines(page) if line.startswith("xllm train recipes/")]
    assert len(lines) > 5 and not [failed for line in lines if (failed := run(f"{line} --print-config"))]
