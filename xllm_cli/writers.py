"""Transcripts as txt, json, jsonl, srt, vtt and tsv."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise

from xllm.transcript import Recording, Segment
from xllm_cli.escape import to_json

FORMATS = ("txt", "json", "jsonl", "srt", "vtt", "tsv")
CUE_CHARACTERS, CUE_SECONDS = 20, 7.0  # what fits one subtitle of Chinese text, and how long it may stand


def as_dict(recording: Recording) -> dict:
    """Everything known about a recording, plain."""
    return {
        "id": recording.id,
        "path": recording.path,
        "text": recording.text,
        "score": round(recording.score, 4),
        "duration": recording.duration,
        "engine": recording.engine,
        "segments": [asdict(segment) for segment in recording.segments],
        "lost": recording.lost,
        "unclear": recording.unclear,
    }


def write(recording: Recording, form: str) -> str:
    """The recording as a whole file of the given format; always ends with a line break."""
    if form == "txt":
        return recording.text + "\n"
    if form in ("json", "jsonl"):
        return _document(as_dict(recording), form)
    if form == "tsv":  # milliseconds, as Whisper writes them
        rows = (f"{_ms(s.start)}\t{_ms(s.end)}\t{s.text}\n" for s in recording.segments)
        return "start\tend\ttext\n" + "".join(rows)
    cues = [cue for segment in recording.segments for cue in split_cues(segment)]
    if form == "vtt":
        return "WEBVTT\n\n" + "".join(f"{_clock(a, '.')} --> {_clock(b, '.')}\n{text}\n\n" for a, b, text in cues)
    return "".join(f"{n}\n{_clock(a, ',')} --> {_clock(b, ',')}\n{text}\n\n" for n, (a, b, text) in enumerate(cues, 1))


def renamed(text: str, form: str, id: str, path: str) -> str:
    """What `write` gave for an input, for the same one by another name. Raises ValueError for what it never gives."""
    if form not in ("json", "jsonl"):
        return text
    return _document({**json.loads(text), "id": id, "path": path}, form)


def _document(values: dict, form: str) -> str:
    return to_json(values, indent=2 if form == "json" else None) + "\n"


def split_cues(segment: Segment) -> Iterator[tuple[float, float, str]]:
    """Start, end and text of the subtitles of a segment; a long one is cut evenly, at token times."""
    tokens = segment.tokens
    parts = max(-(-len(tokens) // CUE_CHARACTERS), -(-int(segment.end - segment.start) // int(CUE_SECONDS)), 1)
    if parts == 1 or len(tokens) < parts:
        yield segment.start, segment.end, segment.text
        return
    edges = [round(i * len(tokens) / parts) for i in range(parts + 1)]
    for a, b in pairwise(edges):
        start = segment.start if a == 0 else tokens[a].start
        end = segment.end if b == len(tokens) else tokens[b].start
        yield start, end, "".join(token.text for token in tokens[a:b])


def _ms(seconds: float) -> int:
    return round(1000 * seconds)


def _clock(seconds: float, point: str) -> str:
    minutes, rest = divmod(_ms(seconds), 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"
