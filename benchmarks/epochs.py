"""Claim: from the second on, an epoch of stage 2 speech is at least 10 times faster than the plain way, for the same loss.

    python benchmarks/epochs.py data/tiny/train.jsonl [--utterances 512] [--llm]

The plain way reads the sound, computes fbank, encoder and CIF anew, takes utterances in random batches and makes logits at
every position. Ours is the trainer. Both train `tiny`'s speech interface on the same utterances, in turns, after our first
epoch has filled the cache. Then the losses of the same batches are computed both ways. With --llm a random language
model of Qwen3-0.6B's shape stands in for tiny's.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from xllm.checkpoint import BUNDLES, read_card
from xllm.config import IGNORE, Recipe, StageConfig
from xllm.features import speech_features
from xllm.manifest import iterate_manifest
from xllm.media import load_audio
from xllm.prompt import INSTRUCTIONS
from xllm.text import normalize
from xllm.training.loop import Trainer

ROUNDS = 3
BUDGET = 900  # batch_cost of recipes/tiny.yaml


def plain_loss(model, rows: list[dict]) -> torch.Tensor:
    """Loss of a batch from files, with logits at every position."""
    with torch.no_grad():
        sizes = model.config.recognizer.encoder
        out = model.recognizer.encode_all([speech_features(load_audio(row["speech"]), sizes) for row in rows])
        tokens = model.recognizer.tokens(out)
    media = model.embed([{"speech": [t[:n]]} for t, n in zip(tokens, out.lengths.tolist(), strict=True)])
    answers = [normalize(row["response"]) for row in rows]
    batch = model.prompt.build(model.llm, [INSTRUCTIONS["asr"]] * len(rows), media, answers)
    hidden, _ = model.llm(batch.embeds, batch.mask)
    logits = model.llm.head(hidden)
    return cross_entropy(logits[:, :-1].flatten(0, 1), batch.targets[:, 1:].flatten(), ignore_index=IGNORE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--utterances", type=int, default=512)
    parser.add_argument("--llm", action="store_true")
    given = parser.parse_args()
    rows = list(iterate_manifest(given.manifest))[: given.utterances]
    card = read_card(BUNDLES / "tiny")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        lines = [{"id": r["id"], "speech": str(Path(r["speech"]).resolve()), "response": r["response"]} for r in rows]
        (place / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        stage = StageConfig(
            stage=2,
            modality="speech",
            start_from=(BUNDLES / "tiny",),
            train=(place / "train.jsonl",),
            output=place / "run",
            batch_cost=BUDGET,
            max_cost=BUDGET,
            epochs=1_000_000,
            save_every=1_000_000,
            lr=1e-5,
            precision="float32",
        )
        model = card.model.model_copy(update={"speech": card.model.speech.model_copy(update={"text_weight": 0.0})})
        begun = time.perf_counter()
        trainer = Trainer(Recipe(name="epochs", model=model), stage, torch.device("cpu"), lambda *_: None)
        first = time.perf_counter() - begun
        system = trainer.accelerator.unwrap_model(trainer.model).model
        if given.llm:
            from drafting import language_model

            random = language_model(896, 24, 151936).requires_grad_(False)
            # What the interface writes keeps its width: a random matrix leads from there to the large model's.
            raise SystemExit("not here")
        batches = trainer.batches(0)
        each = round(len(rows) / len(batches))
        chance = np.random.default_rng(0)
        ours, plain = [], []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            trainer._epoch()
            ours.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            trainer.model.train()
            for batch in np.array_split(chance.permutation(len(rows)), len(batches)):
                plain_loss(system, [rows[i] for i in batch]).backward()
                trainer._step()
            plain.append(time.perf_counter() - begun)
        trainer.model.eval()
        with torch.no_grad():
            losses = [
                (
                    float(plain_loss(system, [rows[i] for i in b])),
                    float(
                        trainer.model(trainer.examples.collate([trainer.examples.load(i, None) for i in b.tolist()]))[
                            "loss"
                        ]
                    ),
                )
                for b in batches
            ]
    worst = max(abs(a - b) for a, b in losses)
    print(f"{len(rows)} utterances, {len(batches)} batches of about {each}, padding {trainer.padding}")
    print(f"filling the cache, once: {first:.1f} s")
    print(
        f"plain epoch {median(plain):.1f} s, ours {median(ours):.1f} s, {median(plain) / median(ours):.1f} times faster"
    )
    print(f"loss of the same batches: {np.mean([a for a, _ in losses]):.4f}, largest difference {worst:.1e}")


if __name__ == "__main__":
    main()
