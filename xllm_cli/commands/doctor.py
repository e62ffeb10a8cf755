"""`xllm doctor`: what is installed, which device would be used, which models are here."""

import json
import platform
from importlib import metadata
from typing import Annotated

import typer

from xllm_cli.console import result

PACKAGES = (
    "xllm-cli",
    "torch",
    "torchaudio",
    "torchvision",
    "transformers",
    "accelerate",
    "datasets",
    "timm",
    "av",
    "silero-vad",
    "soundfile",
    "jiwer",
    "openai",
    "pypinyin",
    "tensorboard",
)


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Say what is installed, which device would be used, and which models are here. Needs no network."""
    import torch

    from xllm.checkpoint import BUNDLES, MARK, read_card
    from xllm.device import resolve_device

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    models = {}
    for folder in sorted(BUNDLES.glob("*/")):
        if (folder / MARK).exists():
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            models[folder.name] = f"{', '.join(read_card(folder).parts)}; {size / 1e6:.0f} MB; {folder}"
    found = {
        "python": platform.python_version(),
        "system": platform.platform(),
        **versions,
        "device (auto)": str(resolve_device("auto")),
        "CPU threads": torch.get_num_threads(),
        "GPUs": gpus or "none",
        "models": models or "none in the package",
    }
    if as_json:
        result(json.dumps(found, ensure_ascii=False, indent=2) + "\n")
        return
    width = max(map(len, found))
    for name, value in found.items():
        if isinstance(value, dict):
            value = "; ".join(f"{key} ({text})" for key, text in value.items())
        result(f"{name:<{width}}  {value if isinstance(value, str) else json.dumps(value)}\n")
