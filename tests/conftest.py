"""What several test folders share."""

import importlib
import os
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # as `xllm` does, before transformers is imported
os.environ.setdefault(
    "HF_HUB_OFFLINE", "1"
)  # no test asks a hub; without it a name that is not there takes half a minute

import pytest
import torch

from xllm.config import (
    CIFConfig,
    DecoderConfig,
    LLMConfig,
    ModelConfig,
    RecognizerConfig,
    SpeechEncoderConfig,
    SpeechInterfaceConfig,
)

torch.set_num_threads(1)  # tiny models: more threads only wait for each other


@pytest.fixture
def small_tokenizer(tmp_path: Path) -> Path:
    """A tokenizer folder with a dozen characters and six syllables."""
    from xllm.corpora.tiny_text import write_tokenizer

    characters = dict.fromkeys("天地人你我他请忠实地识别语音")
    write_tokenizer(tmp_path / "tokenizer", list(characters), ["di4", "ni3", "ren2", "ta1", "tian1", "wo3"])
    return tmp_path / "tokenizer"


@pytest.fixture
def small_config(small_tokenizer: Path) -> ModelConfig:
    """A whole speech system, as small as it goes."""
    return ModelConfig(
        tokenizer=small_tokenizer,
        recognizer=RecognizerConfig(
            encoder=SpeechEncoderConfig(channels=4, width=16, ffn=32, heads=2, kernel=5, blocks=2, pool_after=(1, 2)),
            cif=CIFConfig(channels=8),
            decoder=DecoderConfig(width=16, ffn=32, heads=2, blocks=1, visual_blocks=(), linguistic_blocks=()),
        ),
        speech=SpeechInterfaceConfig(bert=None, width=16, ffn=32, heads=2, layers=1, max_tokens=64),
        llm=LLMConfig(width=16, ffn=32, heads=2, layers=1, max_tokens=128),
    )


@pytest.fixture
def small_system(small_config: ModelConfig):
    """That system with random weights."""
    from xllm.model import XLLM

    torch.manual_seed(0)
    return XLLM(small_config, ("recognizer", "speech", "llm")).eval()


@pytest.fixture
def small_model(small_system, tmp_path: Path) -> Path:
    """That system as a checkpoint folder: it writes nonsense, but the way there is the real one."""
    from xllm import checkpoint

    parts = checkpoint.tensors(small_system, ("recognizer", "speech", "llm"))
    checkpoint.save(tmp_path / "model", "small", small_system.config, parts)
    return tmp_path / "model"


@pytest.fixture
def script(monkeypatch):
    """Imports one of the scripts of recipes/base by its name."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "recipes/base")
    return importlib.import_module
