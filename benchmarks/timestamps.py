"""Time stamps by construction: two utterances joined with a known silence; how far off are the edges?

    python benchmarks/timestamps.py data/tiny/test.jsonl

Utterances are trimmed to the samples above -40 dB of their peak, which gives their true edges. Edges of the output are
the first and last token's times of each of the two segments. Pairs that do not come out as two segments are counted.
"""

import argparse
from pathlib import Path
from statistics import median

import torch

from xllm.manifest import iterate_manifest
from xllm.media import SAMPLE_RATE, load_audio
from xllm.model import ENGINES, XLLM
from xllm.segment import cut, find_speech
from xllm.transcribe import place


def trimmed(path: str) -> torch.Tensor:
    wave = load_audio(path)
    loud = (wave.abs() > 0.01 * wave.abs().max()).nonzero().flatten()
    return wave[int(loud[0]) : int(loud[-1]) + 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--silence", type=float, default=1.0, help="seconds between the two")
    options = parser.parse_args()
    model = XLLM.from_pretrained(options.model)
    paths = [row["speech"] for row in iterate_manifest(options.manifest)]
    errors: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    split_wrong = dict.fromkeys(ENGINES, 0)
    gap = torch.zeros(int(options.silence * SAMPLE_RATE))
    edge = torch.zeros(SAMPLE_RATE // 2)
    for first, second in list(zip(paths[::2], paths[1::2], strict=False))[: options.pairs]:
        a, b = trimmed(first), trimmed(second)
        wave = torch.cat([edge, a, gap, b, edge])
        starts = [len(edge), len(edge) + len(a) + len(gap)]
        truth = [t / SAMPLE_RATE for s, u in zip(starts, (a, b), strict=True) for t in (s, s + len(u))]
        speech, _ = find_speech([wave])
        pieces = list(cut([wave], speech))
        for engine in ENGINES:
            segments = [
                place(t, p) for p, t in zip(pieces, model.transcribe([p.wave for p in pieces], engine), strict=True)
            ]
            segments = [segment for segment in segments if segment.tokens]
            if len(segments) != 2:
                split_wrong[engine] += 1
                continue
            found = [t for s in segments for t in (s.tokens[0].start, s.tokens[-1].end)]
            errors[engine] += [abs(x - y) for x, y in zip(found, truth, strict=True)]
    for engine in ENGINES:
        values = sorted(errors[engine])
        print(
            f"{engine:5} {len(values)} edges: median {1000 * median(values):.0f} ms, "
            f"90% within {1000 * values[int(0.9 * len(values))]:.0f} ms; "
            f"{split_wrong[engine]} pairs not in two segments"
        )


if __name__ == "__main__":
    main()
