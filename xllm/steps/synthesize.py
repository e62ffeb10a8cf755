"""Texts spoken: one file of 16 kHz for each different text, by a model of transformers or by any program.

Texts go one by one: VITS draws its rhythm from noise, and in a batch the draw would depend on the company, so that a
text would sound otherwise after a restart. More of a GPU's time is used by more workers.
"""

import hashlib
import json
import os
import re
import shlex
import subprocess
import tempfile
import wave
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from xllm.config import Config
from xllm.errors import ConfigError, MediaError, XLLMError
from xllm.steps.rows import Dropped
from xllm.steps.run import Made, Row
from xllm.trust import loading

RATE = 16_000  # Hz
SILENCE = 1e-4  # of full scale


class Synthesize(Config):
    """Rows with `speech` and `duration`; equal texts share one file, whoever speaks is chosen by the text."""

    model: str | None = Field(None, description="text-to-speech model: VITS or FastSpeech2 with a vocoder")
    command: str | None = Field(None, description="or a program, with {text} and {out}, a .wav, and perhaps {voice}")
    text: str = Field("response", description="key that is spoken")
    voices: int = Field(1, gt=0, description="speakers, numbered from 0")
    timeout: float = Field(120.0, gt=0, description="seconds that a program may take for one text")
    folder: Path = Field(Path("speech"), description="where the files go: beside the manifest")
    scratch: Path = Field(Path("."), description="for files in the making, on the same disk")
    device: str = "auto"

    @model_validator(mode="after")
    def _one_of_both(self) -> "Synthesize":
        if (self.model is None) == (self.command is None):
            raise ValueError("give either a model or a command")
        if self.command is not None and not ("{text}" in self.command and "{out}" in self.command):
            raise ValueError("the command needs {text} and {out}")
        return self

    def __call__(self, rows: list[Row]) -> Made:
        return [self._spoken(row) for row in rows]

    def _spoken(self, row: Row) -> Row | Dropped:
        text = (row.get(self.text) or "").strip()
        if not text:
            return Dropped(row["id"], "no words")
        voice = int.from_bytes(_digest(text)[:8], "big") % self.voices
        name = _digest(json.dumps([self.model or self.command, voice, text])).hex()[:32]
        path = self.folder / name[:2] / f"{name}.wav"
        if not path.exists():
            try:
                sound = self._by_model(text, voice, name) if self.model else self._by_command(text, voice)
                if not len(sound) or np.abs(sound).max() < SILENCE:
                    raise XLLMError("silence")
            except ConfigError:
                raise
            except XLLMError as error:
                return Dropped(row["id"], "not spoken", str(error), failed=True)
            self._write(path, sound)
        with wave.open(str(path)) as file:
            seconds = file.getnframes() / RATE
        return row | {"speech": str(path), "duration": round(seconds, 3)}

    def _write(self, path: Path, sound: np.ndarray) -> None:
        """Mono, 16 bits; a reader sees the whole file or none."""
        temporary = self.scratch / f"{path.name}.{os.getpid()}"
        with wave.open(str(temporary), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes((np.clip(sound, -1, 1) * 32767).round().astype("<i2").tobytes())
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, path)

    @cached_property
    def _speaker(self) -> tuple[Any, Any]:
        """Tokenizer and model. Raises ConfigError when they cannot be loaded."""
        from transformers import AutoModelForTextToWaveform, AutoTokenizer

        from xllm.device import resolve_device

        with loading(f"speech model {self.model!r}"):
            tokenizer = AutoTokenizer.from_pretrained(self.model, trust_remote_code=False)
            model = AutoModelForTextToWaveform.from_pretrained(self.model, trust_remote_code=False, weights_only=True)
        return tokenizer, model.to(resolve_device(self.device)).eval()

    def _by_model(self, text: str, voice: int, name: str) -> np.ndarray:
        """Samples at 16 kHz."""
        import torch
        from torchaudio.functional import resample

        tokenizer, model = self._speaker
        try:
            inputs = tokenizer(text, return_tensors="pt").to(model.device)
        except ImportError as error:  # tokenizers of VITS ask for a phonemizer when they are first used
            raise ConfigError(f"speech model {self.model!r}: {' '.join(str(error).split())[:200]}") from None
        if not inputs["input_ids"].numel():
            raise XLLMError(f"the model knows none of its characters: {text!r:.40}")
        if self.voices > 1:
            one = {"vits": {"speaker_id": voice}}
            inputs |= one.get(model.config.model_type, {"speaker_ids": torch.tensor([[voice]], device=model.device)})
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.inference_mode():
            torch.manual_seed(int(name[:15], 16))
            sound = model(**inputs).waveform[0].float().cpu()
        config = getattr(model.config, "vocoder_config", model.config)
        return resample(sound, config.sampling_rate, RATE).numpy()

    def _by_command(self, text: str, voice: int) -> np.ndarray:
        """Samples at 16 kHz of the file that the program writes. No shell sees the text."""
        from xllm.media import load_audio

        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            out = Path(folder) / "spoken.wav"
            values = {"{text}": text, "{out}": str(out), "{voice}": str(voice)}
            words = [_fill(word, values) for word in shlex.split(self.command)]
            try:
                done = subprocess.run(
                    words, stdin=subprocess.DEVNULL, capture_output=True, timeout=self.timeout, check=False
                )
            except subprocess.TimeoutExpired:
                raise XLLMError(f"{words[0]}: took longer than {self.timeout:g} s") from None
            except (FileNotFoundError, PermissionError) as error:
                raise ConfigError(f"{words[0]}: cannot be run ({error.strerror})") from None
            except (OSError, ValueError) as error:  # the text is too long, or has a zero byte
                raise XLLMError(f"{words[0]}: cannot be told the text ({error})") from None
            if done.returncode:
                said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
                raise XLLMError(f"{words[0]}: {said[-1]}")
            try:
                return load_audio(out).numpy()
            except MediaError as error:
                raise XLLMError(f"{words[0]}: wrote no sound ({str(error).rpartition(': ')[2]})") from None


def _fill(word: str, values: dict[str, str]) -> str:
    """One argument with its values; what stands in a value is not looked at again."""
    return re.sub("|".join(map(re.escape, values)), lambda found: values[found[0]], word)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
