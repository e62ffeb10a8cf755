"""BLIP-2's ViT-g and Q-Former (Li et al. 2023; FACTS 4), which the paper begins from, read out of its published files.

Tensor by tensor: of the language model between them nothing is read. InstructBLIP's files (Dai et al. 2023) will do,
too: of its Q-Former, which reads instructions, the queries' branch is taken, which then sees the picture alone.
"""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from xllm.errors import ConfigError
from xllm.trust import loading

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
_VISION = (  # transformers' names, and timm's
    (r"embeddings\.class_embedding", "vit.cls_token"),
    (r"embeddings\.position_embedding", "vit.pos_embed"),
    (r"embeddings\.patch_embedding\.", "vit.patch_embed.proj."),
    (r"encoder\.layers\.(\d+)\.self_attn\.qkv\.", r"vit.blocks.\1.attn.qkv."),
    (r"encoder\.layers\.(\d+)\.self_attn\.projection\.", r"vit.blocks.\1.attn.proj."),
    (r"encoder\.layers\.(\d+)\.layer_norm(\d)\.", r"vit.blocks.\1.norm\2."),
    (r"encoder\.layers\.(\d+)\.mlp\.", r"vit.blocks.\1.mlp."),
    (r"post_layernorm\.", "norm."),
)

logger = logging.getLogger(__name__)


def load_blip2(name: str, vision: nn.Module | None = None, image: nn.Module | None = None) -> set[str]:
    """Give an encoder and an image interface BLIP-2's weights; returns which parts got theirs.

    `name` is a folder or hub name with safetensors. The adapter gets the language projection where the language model
    has the same width. Raises ConfigError for a tensor that is missing or of another shape.
    """
    wanted = {"vision_model.": (vision, _vision), "qformer.": (image, _qformer), "query_tokens": (image, _qformer)}
    wanted = {start: (part, call) for start, (part, call) in wanted.items() if part is not None}
    left = {id(part): {n for n, _ in part.named_parameters()} for part, _ in wanted.values()}
    projection = {}
    for key, value in _tensors(name, (*wanted, "language_projection.")):
        if key.startswith("language_projection."):
            projection[key.partition(".")[2]] = value
            continue
        part, called = next(pair for start, pair in wanted.items() if key.startswith(start))
        own = dict(part.named_parameters())
        for inner, tensor in called(key, value, own):
            if inner not in own or inner not in left[id(part)]:
                continue  # of the last block, which is not used, or of a text branch
            if own[inner].shape != tensor.shape:
                raise ConfigError(f"{name}: {key} is {tuple(tensor.shape)}, {inner} is {tuple(own[inner].shape)}")
            with torch.no_grad():
                own[inner].copy_(tensor)
            left[id(part)].discard(inner)
    if image is not None:
        left[id(image)] -= {n for n in left[id(image)] if not n.startswith(("qformer.", "queries"))}
        _project(name, image, projection)
    for names in left.values():
        if names:
            raise ConfigError(f"{name}: has no weights for {min(names)}; is it a BLIP-2?")
    return {called for called, part in (("vision", vision), ("image", image)) if part is not None}


def _vision(key: str, value: Tensor, own: dict[str, nn.Parameter]) -> Iterator[tuple[str, Tensor]]:
    inner = key.removeprefix("vision_model.")
    for pattern, called in _VISION:
        inner, found = re.subn(rf"^{pattern}", called, inner)
        if found:
            break
    if inner.endswith("attn.qkv.bias") and inner not in own:  # EVA's keys have no bias: zeros in these files
        query, _, values = value.chunk(3)
        yield from ((inner.replace("qkv.bias", f"{n}_bias"), part) for n, part in (("q", query), ("v", values)))
    else:
        yield inner, value


def _qformer(key: str, value: Tensor, own: dict[str, nn.Parameter]) -> Iterator[tuple[str, Tensor]]:
    # InstructBLIP's queries and words share a norm, which it has put among the words.
    yield ("queries" if key == "query_tokens" else key.replace(".embeddings.layernorm.", ".layernorm.")), value


def _project(name: str, image: nn.Module, projection: dict[str, Tensor]) -> None:
    weight = projection.get("weight")
    if weight is None or weight.shape != image.adapter.weight.shape:
        logger.warning("%s: its language model has another width: the adapter begins new", name)
        return
    with torch.no_grad():
        image.adapter.weight.copy_(weight)
        image.adapter.bias.copy_(projection["bias"])


def _tensors(name: str, starts: tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
    """Tensors whose names begin so, one at a time, from those shards alone that have any."""
    from safetensors import SafetensorError, safe_open

    index = _file(name, INDEX)
    if index is None:
        shards = [SINGLE]
    else:
        with loading(f"blip2 {name!r}"):
            places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            shards = sorted({shard for key, shard in places.items() if key.startswith(starts)})
        if elsewhere := [shard for shard in shards if Path(shard).name != shard]:
            raise ConfigError(f"{index}: {elsewhere[0]!r} is no file beside it")
    for shard in shards:
        path = _file(name, shard)
        if path is None:
            raise ConfigError(f"{name}: has no {shard}; give BLIP-2 as a folder or hub name with safetensors")
        try:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 - not a mapping
                    if key.startswith(starts):
                        yield key, file.get_tensor(key)
        except (OSError, SafetensorError) as error:
            raise ConfigError(f"{path}: cannot read the weights ({str(error)[:80]})") from None


def _file(name: str, file: str) -> Path | None:
    """A file of the folder or of the hub's snapshot; None where there is none."""
    if Path(name).is_dir():
        path = Path(name) / file
        return path if path.exists() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(name, file))
    except LocalEntryNotFoundError:
        raise ConfigError(f"{name}: not in the cache, and the hub cannot be reached: hf download {name}") from None
    except EntryNotFoundError:
        return None
    except (OSError, ValueError, HfHubHTTPError):
        raise ConfigError(f"{name}: neither a folder nor a model that the hub gives you") from None
