"""Claim: from the second on, an epoch of stage 2 speech is at least 10 times faster than the plain way, same loss.

    python benchmarks/epochs.py data/tiny/train.jsonl [--utterances 512] [--precision bfloat16] [--llm]

The plain way reads the sound, computes fbank, encoder and CIF anew, takes utterances in random batches and makes logits
at every position. Ours is the trainer. Both train tiny's speech interface on the same utterances, in turns, after our
first epoch has filled the cache. Then the losses of the same batches are computed both ways. With --llm a random
language model of half a billion parameters is in tiny's place.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from random_llm import with_tiny_ears
from torch.nn.functional import cross_entropy

from xllm.checkpoint import BUNDLES, read_card
from xllm.config import IGNORE, Recipe, StageConfig
from xllm.features import speech_features
from xllm.instructions import INSTRUCTIONS
from xllm.manifest import iterate_manifest
from xllm.media import load_audio
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
    media = model.embed([{"speech": [t[:n]]} for t, n in zip(tokens, out.cif.lengths.tolist(), strict=True)])
    answers = [normalize(row["response"]) for row in rows]
    batch = model.prompt.build(model.llm, [INSTRUCTIONS["asr"][0]] * len(rows), media, answers)
    hidden, _ = model.llm(batch.embeds, batch.mask)
    logits = model.llm.head(hidden)
    return cross_entropy(logits[:, :-1].flatten(0, 1), batch.targets[:, 1:].flatten(), ignore_index=IGNORE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--utterances", type=int, default=512)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--llm", action="store_true")
    given = parser.parse_args()
    rows = list(iterate_manifest(given.manifest))[: given.utterances]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        lines = [{"id": r["id"], "speech": str(Path(r["speech"]).resolve()), "response": r["response"]} for r in rows]
        (place / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        begin = with_tiny_ears(place).with_name("ears") if given.llm else BUNDLES / "tiny"
        model = read_card(begin).model
        stage = StageConfig(
            stage=2,
            modality="speech",
            start_from=(str(begin),),
            train=(place / "train.jsonl",),
            output=place / "run",
            batch_cost=BUDGET if not given.llm else BUDGET // 4,
            max_cost=BUDGET,
            epochs=1_000_000,
            save_every=1_000_000,
            lr=1e-5,
            precision=given.precision,
        )
        model = model.model_copy(update={"speech": model.speech.model_copy(update={"text_weight": 0.0})})
        begun = time.perf_counter()
        trainer = Trainer(Recipe(name="epochs", model=model), stage, torch.device("cpu"), lambda *_: None)
        first = time.perf_counter() - begun
        system = trainer.accelerator.unwrap_model(trainer.model).model
        batches = trainer.batches(0)
        chance = np.random.default_rng(0)
        ours, plain = [], []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            trainer._epoch()
            ours.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            trainer.model.train()
            for batch in np.array_split(chance.permutation(len(rows)), len(batches)):
                with trainer.accelerator.autocast():
                    loss = plain_loss(system, [rows[i] for i in batch])
                loss.backward()
                trainer._step()
            plain.append(time.perf_counter() - begun)
        trainer.model.eval()
        differences = []
        with torch.no_grad():
            for batch in batches:
                examples = trainer.training.examples
                own = examples.collate([examples.load(i, None) for i in batch.tolist()])
                differences.append(
                    abs(float(trainer.model(own)["loss"]) - plain_loss(system, [rows[i] for i in batch]))
                )
    print(f"{len(rows)} utterances, {len(batches)} batches, padding {trainer.padding}, {given.precision}")
    print(f"loading, and filling the cache, once: {first:.1f} s")
    print(
        f"plain epoch {median(plain):.1f} s, ours {median(ours):.1f} s, {median(plain) / median(ours):.1f} times faster"
    )
    print(f"loss of the same batches against the plain way in float32: largest difference {max(differences):.1e}")


if __name__ == "__main__":
    main()
