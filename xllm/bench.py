"""What this machine makes of a system: seconds, ratios and memory of each step, on somebody's own recordings."""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from xllm.drafting import Verified, verify
from xllm.errors import ConfigError
from xllm.features import speech_features
from xllm.generation import generate
from xllm.instructions import INSTRUCTIONS
from xllm.llm.causal import CausalLM
from xllm.media import SAMPLE_RATE, load_audio
from xllm.model import XLLM

ROUNDS = 5  # medians of
LONGEST = 15.0  # seconds of a recording that are used


def bench(model: str, paths: Sequence[str], device: torch.device, batch_size: int = 8) -> dict[str, float]:
    """Figures by name, each with its unit; all are medians of some rounds. Raises ConfigError, MediaError."""
    if not paths:
        raise ConfigError("bench needs recordings: files or folders with speech")
    begun = time.perf_counter()
    system = XLLM.from_pretrained(model, device)
    figures = {"load the model, s": time.perf_counter() - begun}
    waves = sorted((load_audio(Path(path))[: int(LONGEST * SAMPLE_RATE)] for path in paths), key=len)
    batches = [waves[start : start + batch_size] for start in range(0, len(waves), batch_size)]
    seconds = sum(map(len, waves)) / SAMPLE_RATE
    sizes = system.config.recognizer.encoder
    features = [[speech_features(wave, sizes) for wave in batch] for batch in batches]
    encoder, cif = system.recognizer.encoder, system.recognizer.cif
    with torch.inference_mode():
        padded = [_padded(batch, device) for batch in features]
        frames = [encoder(*batch) for batch in padded]
        figures["speech, s"] = seconds
        figures["fbank, real-time factor"] = (
            _median(lambda: [speech_features(wave, sizes) for wave in waves], device) / seconds
        )
        figures["encoder, real-time factor"] = _median(lambda: [encoder(*batch) for batch in padded], device) / seconds
        figures["CIF, real-time factor"] = _median(lambda: [cif(*batch) for batch in frames], device) / seconds
        figures |= _drafting(system, features, device)
    whole = _median(lambda: [system.transcribe(batch) for batch in batches], device)
    figures["whole, real-time factor"] = whole / seconds
    unit = 1024 if sys.platform != "darwin" else 1  # ru_maxrss is bytes there
    figures["peak memory, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    if device.type == "cuda":
        figures["peak GPU memory, MB"] = torch.cuda.max_memory_allocated() / 1e6
    return figures


def _drafting(system: XLLM, features: list[list[Tensor]], device: torch.device) -> dict[str, float]:
    """The LLM's part, with drafts and without."""
    prompts, drafts, limits = [], [], []
    for batch in features:
        out = system.recognizer.encode_all(batch)
        heard = [row[:n] for row, n in zip(system.recognizer.tokens(out), out.cif.lengths.tolist(), strict=True)]
        media = system.embed([{"speech": [row]} for row in heard])
        prompts.append(system.prompt.build(system.llm, [INSTRUCTIONS["asr"][0]] * len(heard), media))
        texts = ["".join(system.recognizer.units.decode(said.ids)) for said in system.recognizer.decode(out)]
        drafts.append([system.prompt.tokens(text) for text in texts])
        limits.append([len(row) + len(row) // 2 + 4 if len(row) else 0 for row in heard])
    given = [(system.llm, p.embeds, p.mask, most) for p, most in zip(prompts, limits, strict=True)]
    made = [_verified(*one, draft) for one, draft in zip(given, drafts, strict=True)]
    tokens = sum(len(answer.ids) + 1 for one in made for answer in one.answers)
    passes, utterances = sum(sum(one.passes) for one in made), sum(len(one.passes) for one in made)
    verified = _median(lambda: [_verified(*one, draft) for one, draft in zip(given, drafts, strict=True)], device)
    written = _median(lambda: [generate(*one) for one in given], device)
    return {
        "LLM passes an utterance": passes / max(1, utterances),
        "tokens a pass": tokens / max(1, passes),
        "tokens/s, drafts verified": tokens / verified,
        "tokens/s, one by one": tokens / written,
    }


def _verified(llm: CausalLM, embeds: Tensor, mask: Tensor, limits: list[int], drafts: list[list[int]]) -> Verified:
    return verify(llm, lambda numbers: (embeds[numbers], mask[numbers]), limits, drafts, len(embeds))


def _padded(batch: list[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(row) for row in batch], device=device)
    return torch.nn.utils.rnn.pad_sequence(batch, batch_first=True).to(device), lengths


def _median(work: Callable[[], object], device: torch.device) -> float:
    """Seconds; the first round warms up."""
    times = []
    for _ in range(ROUNDS + 1):
        begun = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return statistics.median(times[1:])
