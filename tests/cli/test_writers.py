"""Every format, letter for letter."""

import json

import pytest

from xllm.transcript import Recording, Segment, Token
from xllm_cli.writers import FORMATS, split_cues, write

TOKENS = [Token("你", 0.5, 0.75, 0.9), Token("好", 0.75, 1.0, 0.4)]
RECORDING = Recording(
    "r",
    "a/x.wav",
    3661.5,
    "cif",
    [
        Segment(0.5, 1.0, "你好", 0.6, TOKENS),
        Segment(3661.0, 3661.25, "嗯", 0.5, [Token("嗯", 3661.0, 3661.25, 0.5)]),
    ],
)

GOLDEN = {
    "txt": "你好嗯\n",
    "tsv": "start\tend\ttext\n500\t1000\t你好\n3661000\t3661250\t嗯\n",
    "srt": "1\n00:00:00,500 --> 00:00:01,000\n你好\n\n2\n01:01:01,000 --> 01:01:01,250\n嗯\n\n",
    "vtt": "WEBVTT\n\n00:00:00.500 --> 00:00:01.000\n你好\n\n01:01:01.000 --> 01:01:01.250\n嗯\n\n",
}


@pytest.mark.parametrize("form", sorted(GOLDEN))
def test_golden(form):
    assert write(RECORDING, form) == GOLDEN[form]


def test_jsonl_is_one_line_and_json_holds_the_same():
    line = write(RECORDING, "jsonl")
    assert line.count("\n") == 1
    row = json.loads(line)
    assert row == json.loads(write(RECORDING, "json"))
    assert row["text"] == "你好嗯" and row["engine"] == "cif" and row["duration"] == 3661.5
    assert row["segments"][0]["tokens"][1] == {"text": "好", "start": 0.75, "end": 1.0, "score": 0.4}
    assert row["score"] == pytest.approx((0.9 * 0.4 * 0.5) ** (1 / 3), abs=1e-4)


@pytest.mark.parametrize("form", FORMATS)
def test_silence_is_a_valid_empty_file(form):
    text = write(Recording("r", "x.wav", 1.0, "xllm", []), form)
    assert text == {"txt": "\n", "srt": "", "vtt": "WEBVTT\n\n", "tsv": "start\tend\ttext\n"}.get(form, text)
    if form.startswith("json"):
        assert json.loads(text)["text"] == "" and json.loads(text)["segments"] == []


def test_long_segments_become_several_cues_at_token_times():
    tokens = [Token("字", i * 0.3, i * 0.3 + 0.3, 1.0) for i in range(50)]
    cues = list(split_cues(Segment(0.0, 15.0, "字" * 50, 1.0, tokens)))
    assert [len(text) for _, _, text in cues] == [17, 16, 17]
    assert cues[0][0] == 0.0 and cues[-1][1] == 15.0
    assert all(a[1] == b[0] for a, b in zip(cues, cues[1:], strict=False))
    assert all(end - start <= 7.0 for start, end, _ in cues)
