"""Claim: `xllm asr` with a language model of half a billion parameters takes 2/5 of the time of `--no-draft`, or less.

    python benchmarks/asr_drafts.py data/tiny/test.jsonl [--utterances 200] [--batch-size 1 4 8] [--errors 0.05 0.1]

Whole commands on 2 cores, float32: start, load, decode, encode, write. The language model is random (Qwen3's shape, 578
million parameters with its untied head), behind tiny's recogniser. Its drafts are what it has itself written in the run
without drafts, with a share of tokens replaced, left out or put in. All answers are compared.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def child(answers: Path, share: float, arguments: list[str]) -> None:
    """One command: its answers go to a file, or drafts come from there."""
    from test_drafting import spoiled

    from xllm import model
    from xllm_cli.main import main

    known = json.loads(answers.read_text()) if answers.exists() else {}
    kept: dict[str, list[int]] = {}
    verify = model.verify

    def noted(llm, build, limits, drafts, *rest):
        keys = []
        for number in range(len(limits)):
            (prompt,), _ = build([number])
            keys.append(f"{float(prompt.double().square().sum()):.6f}")  # its speech is nobody else's
        if known:
            drafts = [spoiled(random.Random(key), known[key], share, len(llm.tokenizer)) for key in keys]
        made = verify(llm, build, limits, drafts, *rest)
        kept.update((key, answer.ids) for key, answer in zip(keys, made.answers, strict=True))
        return made

    model.verify = noted
    sys.argv = ["xllm", *arguments]
    try:
        main()
    finally:
        answers.with_suffix(".out").write_text(json.dumps(kept))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--utterances", type=int, default=200)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--errors", type=float, nargs="+", default=[0.05, 0.1])
    given = parser.parse_args()
    from random_llm import with_tiny_ears

    from xllm.manifest import iterate_manifest

    rows = list(iterate_manifest(given.manifest))[: given.utterances]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        system = with_tiny_ears(place)
        (place / "list.jsonl").write_text(
            "".join(json.dumps({"id": r["id"], "speech": str(Path(r["speech"]).resolve())}) + "\n" for r in rows)
        )

        def run(answers: str, share: float, *arguments: str) -> tuple[float, str, dict]:
            call = [sys.executable, __file__, "--child", str(place / answers), str(share), "asr", "-q", *arguments]
            begun = time.perf_counter()
            done = subprocess.run(
                [*call, "--model", str(system), str(place / "list.jsonl")], capture_output=True, text=True
            )
            if done.returncode:
                sys.exit(done.stderr)
            return (
                time.perf_counter() - begun,
                done.stdout,
                json.loads((place / answers).with_suffix(".out").read_text()),
            )

        print(
            f"{len(rows)} utterances\n{'batch':>6}{'errors':>8}{'s':>8}{'--no-draft':>12}{'ratio':>7}{'different':>11}"
        )
        for size in map(str, given.batch_size):
            whole, text, answers = run(f"none-{size}", 0.0, "--no-draft", "--batch-size", size)
            (place / f"known-{size}").write_text(json.dumps(answers))
            for share in given.errors:
                seconds, own, drafted = run(f"known-{size}", share, "--batch-size", size)
                different = sum(answers[key] != drafted[key] for key in answers) + (own != text)
                print(
                    f"{size:>6}{share:>8.0%}{seconds:>8.1f}{whole:>12.1f}{whole / seconds:>7.1f}{different:>11}",
                    flush=True,
                )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])
    else:
        main()
