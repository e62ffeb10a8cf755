"""The trained system in the package: it answers, alike in batches and alone, and keeps quiet when it should."""

from pathlib import Path

import pytest
import torch

from xllm.chat import Conversation
from xllm.checkpoint import BUNDLES
from xllm.evaluation.recognition import score, summarize
from xllm.manifest import iterate_manifest
from xllm.media import SAMPLE_RATE, load_audio
from xllm.model import ENGINES, XLLM
from xllm.transcribe import Source, transcribe

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = list(iterate_manifest(FOLDER / "examples.jsonl"))
DRAWN = {"sun.png": "太阳", "umbrella.png": "伞"}
LIMITS = {"cif": 20.0, "xllm": 20.0}  # % of characters wrong


@pytest.fixture(scope="module")
def tiny():
    return XLLM.from_pretrained("tiny")


@pytest.fixture(scope="module")
def waves():
    return [load_audio(row["speech"]) for row in EXAMPLES]


def test_it_is_small_and_half_precision():
    assert sum(f.stat().st_size for f in (BUNDLES / "tiny").rglob("*") if f.is_file()) <= 50 * 2**20


@pytest.mark.parametrize("engine", ENGINES)
def test_examples_are_recognised_as_well_as_when_it_was_shipped(tiny, waves, engine):
    """The limit is what docs/reproduction.md says of these examples, and a character or two of rounding."""
    results = tiny.transcribe(waves, engine)
    scores = [score(row["id"], "", row["response"], r.text) for row, r in zip(EXAMPLES, results, strict=True)]
    assert summarize(scores).cer <= LIMITS[engine]
    for result, wave in zip(results, waves, strict=True):
        assert "".join(token.text for token in result.tokens) == result.text
        assert all(token.start <= token.end for token in result.tokens)
        assert result.tokens[-1].end <= len(wave) / SAMPLE_RATE + 0.1


@pytest.mark.parametrize("engine", ENGINES)
def test_batched_text_equals_single_text(tiny, waves, engine):
    odd = [*waves, waves[0][: SAMPLE_RATE // 2], torch.cat([waves[1], waves[2]])]
    together = tiny.transcribe(odd, engine)
    for wave, result in zip(odd, together, strict=True):
        (alone,) = tiny.transcribe([wave], engine)
        assert alone.text == result.text
        assert alone.score == pytest.approx(result.score, abs=1e-3)


def test_tokens_lie_in_the_two_utterances_and_not_in_the_pause(tiny, waves, tmp_path):
    from media_files import write_audio

    gap = torch.zeros(int(1.5 * SAMPLE_RATE))
    path = write_audio(tmp_path / "two.wav", torch.cat([waves[0], gap, waves[1]]).numpy())
    ((_, recording),) = transcribe([Source("two", str(path))], tiny, "cif")
    assert len(recording.segments) == 2
    first, second = recording.segments
    pause = len(waves[0]) / SAMPLE_RATE
    assert first.tokens[-1].end <= pause + 0.1 and second.tokens[0].start >= pause + 1.4
    alone = tiny.transcribe([waves[0]], "cif")[0].text
    assert summarize([score("x", "", alone, first.text)]).cer <= 30.0, "the neighbour changes little"


@pytest.mark.parametrize("engine", ENGINES)
def test_silence_and_noise_have_no_text(tiny, tmp_path, engine):
    from media_files import write_audio

    quiet = write_audio(tmp_path / "quiet.wav", torch.zeros(3 * SAMPLE_RATE).numpy())
    hiss = write_audio(tmp_path / "hiss.wav", (0.003 * torch.randn(3 * SAMPLE_RATE)).numpy())
    for _, recording in transcribe([Source("q", str(quiet)), Source("h", str(hiss))], tiny, engine):
        assert recording.text == "" and recording.segments == []


def test_it_names_the_drawings_and_not_what_it_does_not_see(tiny):
    for picture, name in DRAWN.items():
        talk = Conversation(tiny)
        talk.attach("image", FOLDER / picture)
        assert "".join(talk.ask("这是什么？")) == name
    assert "".join(Conversation(tiny).ask("这是什么？")) not in DRAWN.values()


def test_drafts_change_nothing_but_the_number_of_passes(tiny, waves, monkeypatch):
    from xllm import model as module

    seen = []
    verify = module.verify
    monkeypatch.setattr(module, "verify", lambda *given: seen.append(verify(*given)) or seen[-1])
    drafted = tiny.transcribe(waves)
    monkeypatch.setattr(tiny, "drafts", False)
    for plain, one in zip(tiny.transcribe(waves), drafted, strict=True):
        assert plain.text == one.text and plain.score == pytest.approx(one.score, abs=1e-4)
        assert [(t.text, t.start, t.end) for t in plain.tokens] == [(t.text, t.start, t.end) for t in one.tokens]
    made, plain = seen
    assert [answer.ids for answer in made.answers] == [answer.ids for answer in plain.answers]
    assert sum(made.passes) * 3 < sum(plain.passes)


def test_a_threshold_leaves_sure_drafts_to_the_recogniser(tiny, waves, monkeypatch):
    by_cif, by_llm = (tiny.transcribe(waves, engine) for engine in ("cif", "xllm"))
    least = [min(token.score for token in one.tokens) for one in by_cif]
    monkeypatch.setattr(tiny, "draft_threshold", sorted(least)[-2])
    mixed = tiny.transcribe(waves)
    for one, cif, llm, lowest in zip(mixed, by_cif, by_llm, least, strict=True):
        assert one == cif if lowest >= tiny.draft_threshold else one.text == llm.text
    monkeypatch.setattr(tiny, "draft_threshold", 0.0)
    assert tiny.transcribe(waves) == by_cif
