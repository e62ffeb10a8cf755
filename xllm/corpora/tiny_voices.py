"""More speech for the tiny system: training text spoken in many voices by Kokoro (docs/tiny.md).

Six Mandarin voices are few. A Kokoro voice is a table of style vectors whose first half colours the sound and whose
second half sets the prosody, so the prosody of a Mandarin voice can be joined with the timbre of any voice of any
language. Neither test voice is used.
"""

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from xllm.corpora.tiny_speech import speech_sample
from xllm.errors import MediaError, XLLMError
from xllm.files import write_jsonl_atomic
from xllm.media import probe_audio

MANDARIN = ("zf_xiaobei", "zf_xiaoni", "zf_xiaoxiao", "zm_yunjian", "zm_yunxi", "zm_yunxia")  # not the test voices
TIMBRES = (
    *("af_alloy", "af_aoede", "af_bella", "af_heart", "af_jessica", "af_kore", "af_nicole", "af_nova", "af_river"),
    *("af_sarah", "af_sky", "am_adam", "am_echo", "am_eric", "am_fenrir", "am_liam", "am_michael", "am_onyx"),
    *("am_puck", "am_santa", "bf_alice", "bf_emma", "bf_isabella", "bf_lily", "bm_daniel", "bm_fable", "bm_george"),
    *("bm_lewis", "ef_dora", "em_alex", "em_santa", "ff_siwis", "hf_alpha", "hf_beta", "hm_omega", "hm_psi"),
    *("if_sara", "im_nicola", "jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo", "pf_dora"),
    *("pm_alex", "pm_santa"),
)
FOREIGN = 0.65  # share of utterances in a foreign timbre
WORD_ROWS = 1500  # rows of unrelated words among the jobs: they hold syllables that sentences lack
STYLE = 256  # numbers of one style vector


def blend(draw: random.Random) -> dict[str, float]:
    """A voice to train on: one or two of Kokoro's with their weights, in foreign timbres or not."""
    voices = draw.sample(MANDARIN, draw.randint(1, 2))
    if draw.random() < FOREIGN:
        voices = [f"{voice}+{draw.choice(TIMBRES)}" for voice in voices]
    weights = [draw.random() + 0.1 for _ in voices]
    return {voice: round(weight / sum(weights), 3) for voice, weight in zip(voices, weights, strict=True)}


def voice_jobs(sentences: Sequence[dict], text: Sequence[dict], words: Sequence[dict]) -> list[dict]:
    """Jobs for Kokoro in a fixed shuffled order, of which any first part can be spoken: id, text, voice, speed.

    Rows are those of the manifests `train`, `text` (its dialogues are taken) and `words`. What is drawn for a row
    depends on its id alone.
    """
    order = random.Random(7)
    words = list(words)
    order.shuffle(words)
    chat = [row for row in text if row["id"].startswith("chat-") and 3 <= len(row["reading"].split()) <= 20]
    jobs = []
    for row in (*sentences, *chat, *words[:WORD_ROWS]):
        draw = random.Random("timbre " + row["id"])
        voice = blend(draw)
        speed = round(draw.uniform(0.8, 1.2), 3)
        jobs.append({"id": row["id"] + "-t", "text": row["response"], "voice": voice, "speed": speed})
    order.shuffle(jobs)
    return jobs


def mix_voices(folder: Path, jobs: Iterable[dict]) -> int:
    """Write the joined voices `mandarin+timbre.bin` that the jobs name beside Kokoro's own; returns their number.

    Raises XLLMError when one of Kokoro's voices is missing.
    """
    names = sorted({name for job in jobs for name in job["voice"] if "+" in name})
    for name in names:
        try:
            prosody, timbre = (
                np.fromfile(folder / f"{part}.bin", "<f4").reshape(-1, STYLE) for part in name.split("+")
            )
        except OSError as error:
            raise XLLMError(f"{error.filename}: {error.strerror}; unpack all voices of kokoro-js there") from None
        half = STYLE // 2
        np.concatenate([timbre[:, :half], prosody[:, half:]], axis=1).tofile(folder / f"{name}.bin")
    return len(names)


def spoken(jobs: Iterable[dict], folder: Path) -> Iterator[dict]:
    """Manifest rows of the jobs whose `<id>.wav` lies in `folder` and can be read."""
    for job in jobs:
        path = folder.resolve() / f"{job['id']}.wav"
        try:
            yield speech_sample(job["id"], str(path), round(probe_audio(path), 2), job["text"])
        except MediaError:
            continue


def prepare(target: Path, voices: Path | None = None, speech: Path | None = None) -> dict[str, int]:
    """Write `voice-jobs.jsonl` into `target`, which holds `train`, `text` and `words`; returns counts.

    `voices` is Kokoro's folder of voices, to join them there; `speech` what has been spoken, for `voices.jsonl`.
    """
    manifests = (target / f"{name}.jsonl" for name in ("train", "text", "words"))
    jobs = voice_jobs(*([json.loads(line) for line in path.open(encoding="utf-8")] for path in manifests))
    write_jsonl_atomic(target / "voice-jobs.jsonl", jobs)
    counts = {"voice jobs": len(jobs)}
    if voices is not None:
        counts["joined voices"] = mix_voices(voices, jobs)
    if speech is not None:
        rows = list(spoken(jobs, speech))
        write_jsonl_atomic(target / "voices.jsonl", rows)
        counts["spoken"] = len(rows)
    return counts
