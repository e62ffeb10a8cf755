"""Checkpoints: a folder that says what it is, holds safetensors only, and is complete or not there.

config.yaml         name, architecture, and which parts are inside
model.safetensors   the parts' weights, or those of the whole system in a bundle
tokenizer/          units, syllables and the tiny LLM's tokenizer, when the system brings its own
complete            written last

Every path in it stays inside (`xllm.trust`). The exception are a trainer's own runs, whose `frozen` are other runs;
what comes from the hub may name neither these nor any other place on this machine, but models of the package.
"""

import logging
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import nn

from xllm.config import Config, LLMConfig, LoRAConfig, ModelConfig, to_yaml, validate
from xllm.errors import ConfigError
from xllm.files import replacing, write_atomic
from xllm.trust import from_hub, inside
from xllm.yaml_files import read_yaml

BUNDLES = Path(__file__).parent / "bundles"  # systems inside the package, by name
MARK = "complete"
WEIGHTS = "model.safetensors"
SCALE = ":scale"  # ends the names of what rows of 8 bits are multiplied by
WORTH = 4096  # smaller matrices are kept in 16 bits, which is next to nothing
ENCODERS = {"recognizer", "vision"}  # parts that know nothing of a language model
WITHOUT_EFFECT = (".cross.",)  # layers that change nothing until they are trained: a checkpoint may lack them
TOKENIZER = (  # what a tokenizer's folder may hold: our units and names, and the files of transformers
    *(
        "units.txt",
        "syllables.txt",
        "readings.txt",
        "names.txt",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    ),
    *("added_tokens.json", "chat_template.jinja", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model"),
)
FILES = ("config.yaml", WEIGHTS, *(f"tokenizer/{name}" for name in TOKENIZER), MARK)  # nothing else is fetched
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(?:@[\w./-]+)?")

logger = logging.getLogger(__name__)


class Card(Config):
    """What a checkpoint folder holds: `parts` are the top-level modules whose weights are inside.

    `frozen` are the checkpoints (folders, or names of models) that hold the parts this one was trained beside; a bundle
    needs none. `lora` says what the part of that name is.
    """

    name: str
    parts: tuple[str, ...]
    frozen: tuple[str, ...] = ()
    model: ModelConfig
    lora: LoRAConfig | None = None


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters and the statistics of batch norm by their names in checkpoints.

    LoRA, which peft puts inside the LLM's layers, is a part of its own.
    """
    for name, value in chain(model.named_parameters(), _persistent_buffers(model)):
        update = ".lora_A." in name or ".lora_B." in name
        yield name.replace("llm", "lora", 1) if update else name.replace(".base_layer.", "."), value


def _persistent_buffers(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Buffers that PyTorch counts among a model's state: what was learned, not what follows from the configuration."""
    for prefix, module in model.named_modules():
        for name, value in module.named_buffers(recurse=False):
            if name not in module._non_persistent_buffers_set:
                yield f"{prefix}.{name}", value


def tensors(model: nn.Module, parts: Iterable[str]) -> dict[str, torch.Tensor]:
    """What the named parts (of a layer of a part: the whole part) have learned; a tied parameter appears once."""
    parts = {part.partition(".")[0] for part in parts}
    return {name: p.detach() for name, p in _tensors(model) if name.split(".")[0] in parts}


def save_tensors(path: Path, values: dict[str, torch.Tensor]) -> None:
    """Write safetensors atomically."""
    with replacing(path, "wb") as file:
        file.write(serialize({name: t.detach().to("cpu").contiguous() for name, t in values.items()}))


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read safetensors, rows of 8 bits as float32; raises ConfigError when the file is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path}: cannot read the weights ({error}); copy the checkpoint again") from None
    scales = {name.removesuffix(SCALE): values.pop(name) for name in list(values) if name.endswith(SCALE)}
    try:
        return values | {name: values[name].float() * scale for name, scale in scales.items()}
    except KeyError as error:
        raise ConfigError(f"{path}: {error} has a scale and no rows; copy the checkpoint again") from None


def _stored(value: torch.Tensor, bits: int) -> dict[str, torch.Tensor]:
    """A tensor as it is kept, by what follows its name: in 8 bits matrices, each row with a scale of its own.

    With a number that float16 cannot hold it stays as it is.
    """
    if bits == 32 or not value.is_floating_point() or not (value.abs() <= torch.finfo(torch.float16).max).all():
        return {"": value}
    if bits == 16 or value.dim() < 2 or value.numel() < WORTH:
        return {"": value.half()}
    rows = tuple(range(1, value.dim()))
    scale = value.float().abs().amax(rows, keepdim=True).clamp(min=1e-12) / 127
    return {"": (value.float() / scale).round().to(torch.int8), SCALE: scale}


def save(
    folder: Path,
    name: str,
    config: ModelConfig,
    values: dict[str, torch.Tensor],
    frozen: Iterable[str | Path] = (),
    bits: int = 32,
    lora: LoRAConfig | None = None,
) -> None:
    """Write a checkpoint folder: parts' tensors under their full names, in 32, 16 or 8 `bits`, tokenizer beside.

    `frozen` are the checkpoints of the parts that are not inside. Where the parts inside began from is no longer said.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).unlink(missing_ok=True)
    stored = {key + end: part for key, value in values.items() for end, part in _stored(value, bits).items()}
    save_tensors(folder / WEIGHTS, stored)
    if config.tokenizer is not None and config.tokenizer.resolve() != (folder / "tokenizer").resolve():
        _copy_tokenizer(config.tokenizer, folder / "tokenizer")
    parts = tuple(dict.fromkeys(key.split(".")[0] for key in values))
    tokenizer = Path("tokenizer") if config.tokenizer else None
    config = config.trained(parts).model_copy(update={"tokenizer": tokenizer})
    card = Card(name=name, parts=parts, frozen=tuple(map(_from_anywhere, frozen)), model=config, lora=lora)
    write_atomic(folder / "config.yaml", to_yaml(card))
    write_atomic(folder / MARK, "")


def _copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the files that make a tokenizer; a warning names what else lies there."""
    target.mkdir(exist_ok=True)
    others = sorted(path.name for path in source.iterdir() if path.name not in TOKENIZER)
    if others:
        logger.warning("%s: not copied, since no tokenizer needs it: %s", source, ", ".join(others))
    for name in TOKENIZER:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def is_complete(folder: Path) -> bool:
    """Whether a folder is a whole checkpoint."""
    return (folder / MARK).is_file()


def _bundle(name: str | Path) -> Path | None:
    """The folder of a system of the package."""
    folder = BUNDLES / str(name)
    return folder if str(name).isidentifier() and folder.is_dir() else None


def _from_anywhere(name: str | Path) -> str:
    """A checkpoint's name as it can be found from any folder: a model's name as it is, a folder's whole path."""
    return str(Path(name).resolve()) if _bundle(name) is None and Path(name).is_dir() else str(name)


def find(name: str | Path) -> Path:
    """A checkpoint's folder from its path, the name of a bundle, or `owner/name[@revision]` on the Hugging Face hub.

    Raises ConfigError when there is none, or it is not complete.
    """
    folder = _bundle(name) or Path(name)
    if not folder.is_dir() and _HUB_NAME.fullmatch(str(name)):
        folder = _download(str(name))
    if not folder.is_dir():
        have = ", ".join(sorted(p.name for p in BUNDLES.glob("*/"))) or "none"
        raise ConfigError(f"model {str(name)!r} is neither a folder nor a model of the package (it has: {have})")
    if not is_complete(folder):
        raise ConfigError(f"{folder}: not a complete checkpoint (no {MARK!r} mark); was the run interrupted?")
    return folder


def _download(name: str) -> Path:
    """The hub's snapshot of a checkpoint; what is in the cache is not fetched again. Raises ConfigError."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    repository, _, revision = name.partition("@")
    pinned = f" --revision {revision}" if revision else ""
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=FILES))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        if isinstance(error, HfHubHTTPError) and error.response is not None:
            raise ConfigError(f"{name}: the hub has no such model, or it is not yours to read") from None
        raise ConfigError(
            f"{name}: neither a folder, nor in the cache, and the hub cannot be reached; where it can be: "
            f"hf download {repository}{pinned}"
        ) from None


def fitting(card: Card, llm: LLMConfig) -> set[str]:
    """The parts of a checkpoint that are of use around `llm`: encoders alone, where it brings another of its own."""
    return ENCODERS & set(card.parts) if llm.name and "llm" in card.parts else set(card.parts)


def beside(names: Iterable[str], trained: Iterable[str]) -> list[str]:
    """Those checkpoints that hold parts other than the trained ones (layers of a part: the whole part)."""
    own = {part.partition(".")[0] for part in trained}
    return [name for name in names if set(read_card(find(name)).parts) - own]


def read_card(folder: Path) -> Card:
    """The checkpoint's card, its tokenizer path made absolute; raises ConfigError, also for a path that leads out."""
    path = inside(folder, "config.yaml")
    card = validate(Card, read_yaml(path), str(path))
    if from_hub(folder):
        _check_names(path, card)
    if card.model.tokenizer is None:
        return card
    tokenizer = inside(folder, card.model.tokenizer)
    for file in tokenizer.rglob("*"):
        inside(folder, file.relative_to(folder))
    return card.model_copy(update={"model": card.model.model_copy(update={"tokenizer": tokenizer})})


def _check_names(path: Path, card: Card) -> None:
    """Raises ConfigError when a card that others wrote names a place on this machine, where only hub names help."""
    if elsewhere := [name for name in card.frozen if _bundle(name) is None]:
        raise ConfigError(
            f"{path}: parts of it are in other folders ({elsewhere[0]}); its owner has to publish what `xllm export` "
            "writes, which is whole"
        )
    for text in _strings(card.model.model_dump(mode="json", exclude={"tokenizer": True, "llm": {"sizes"}})):
        if text.startswith(("~", ".", "/", "\\", "local-dir:")) or Path(text).is_absolute() or ".." in Path(text).parts:
            raise ConfigError(f"{path}: names {text!r}, a place on this machine; only names of the hub can be meant")


def _strings(data: Any) -> Iterator[str]:
    """Every string in plain data."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            yield from _strings(value)


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """A checkpoint's tensors by name; raises ConfigError when they are damaged or lie elsewhere."""
    return load_tensors(inside(folder, WEIGHTS))


def lacking(model: nn.Module, folder: Path, parts: Iterable[str]) -> list[str]:
    """Layers of those `parts` that the checkpoint has for which it has no weights."""
    have = read_weights(find(folder)).keys()
    shared = {name.split(".")[0] for name in have} & set(parts)
    missing = (name for name, _ in _tensors(model) if name.split(".")[0] in shared and name not in have)
    return list(dict.fromkeys(name.rpartition(".")[0] for name in missing))


def load_into(
    model: nn.Module,
    folder: Path,
    parts: Iterable[str] | None = None,
    renamed: Mapping[str, str] = {},
    new: Sequence[str] = (),
) -> set[str]:
    """Copy a checkpoint's weights into the model, in the model's dtype; returns the parts that were loaded.

    Only `parts` are taken if given; `renamed` gives the checkpoint's parts other names first; layers in `new` may lack
    weights. Raises ConfigError when another tensor is missing, one is unknown or of another shape.
    """
    folder = find(folder)
    values = read_weights(folder)
    for old, called in renamed.items():
        values = {
            name.replace(f"{old}.", f"{called}.", 1): value
            for name, value in values.items()
            if name.startswith(f"{old}.")
        }
    own = dict(_tensors(model))
    loaded = {name.split(".")[0] for name in values}
    loaded = loaded if parts is None else loaded & set(parts)
    for name in (n for n in own if n.split(".")[0] in loaded):
        if name not in values and not any(layer in name for layer in new):
            raise ConfigError(f"{folder}: no weights for {name}; the architecture differs from the checkpoint's")
    with torch.no_grad():
        for name, value in values.items():
            if name.split(".")[0] not in loaded:
                continue
            if name not in own or own[name].shape != value.shape:
                have = tuple(own[name].shape) if name in own else "nothing"
                raise ConfigError(f"{folder}: {name} is {tuple(value.shape)}, the model has {have}")
            own[name].copy_(value)
    return loaded
