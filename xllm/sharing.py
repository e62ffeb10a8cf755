"""A trained system to give away: one folder with all that was trained, and a model card that says what it is."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from xllm import checkpoint
from xllm.config import CaptionEncoderConfig, LLMConfig, ModelConfig, Recipe, validate
from xllm.context import encoders
from xllm.errors import ConfigError, ManifestError
from xllm.files import write_atomic
from xllm.trust import from_hub, inside
from xllm.yaml_files import read_yaml

LICENCES = {  # of frozen parts that are not in the folder, by the beginning of their names
    "THUDM/chatglm-6b": "ChatGLM-6B model licence: research; commercial use after registration",
    "zai-org/GLM-4": "MIT",
    "Qwen/Qwen3": "Apache 2.0",
    "Qwen/Qwen2.5-0.5B": "Apache 2.0",
    "Qwen/Qwen2.5-Coder-0.5B": "Apache 2.0",
    "eva_giant_patch14_clip": "MIT (EVA-CLIP)",
    "Salesforce/blip2": "MIT (its language model, which is not used, has another)",
    "openai/whisper": "Apache 2.0",
    "vit_base_patch16_clip_quickgelu_224.openai": "MIT (CLIP)",
    "tf_efficientnet": "Apache 2.0",
    "bert-base-chinese": "Apache 2.0",
}


SAME = 0.05  # of a tensor's size: most that 8 bits change

logger = logging.getLogger(__name__)


def export(
    run: str | Path,
    folder: Path,
    *,
    bits: int = 16,
    report: Path | None = None,
    llm: str | None = None,
    beside: str | None = None,
) -> dict[str, int]:
    """Write what was trained in a run, and in the runs that it began from, to `folder`; parameters of each part.

    Weights have 32, 16 or 8 `bits` (`checkpoint.save`). `README.md` is a model card; `report`, text in Markdown, is
    appended to it: measured figures, say. `llm` is another name for the same language model: on the hub, or a folder.
    Encoders that the checkpoint `beside` has are left there, and it is named.
    Raises ConfigError when the run is none, `folder` holds something, or `beside` has other encoders.
    """
    source = checkpoint.find(run)
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder}: is not empty; choose another folder")
    figures = _read(report) if report is not None else None
    card = checkpoint.read_card(source)
    values: dict[str, Tensor] = {}
    for place in (source, *(checkpoint.find(frozen) for frozen in reversed(card.frozen))):
        fits = checkpoint.fitting(checkpoint.read_card(place), card.model.llm)
        fits -= {"naming", *map(_part, values)}  # its own parts first, then what was taken last
        values |= {name: value for name, value in checkpoint.read_weights(place).items() if _part(name) in fits}
    if "vision" not in set(map(_part, values)):
        values |= _encoder_from_folder(source, card.model)
    left = {} if beside is None else dict.fromkeys(_left_beside(values, beside), beside)
    values = {name: value for name, value in values.items() if _part(name) not in left}
    model = _pinned(card.model if llm is None else _with_llm(card.model, llm))
    if model.llm.name and Path(model.llm.name).is_dir():
        logger.warning("the language model is named by a folder of this machine, %s; others need --llm", model.llm.name)
    counts: Counter[str] = Counter()
    for name, value in values.items():
        counts[_part(name)] += value.numel()
    readme = model_card(card.name, model, counts, _trained_on(source, card), figures, left)
    checkpoint.save(folder, card.name, model, values, set(left.values()), bits=bits, lora=card.lora)
    write_atomic(folder / "README.md", readme)
    return dict(counts)


def _part(name: str) -> str:
    """Of a tensor."""
    return name.partition(".")[0]


def _with_llm(model: ModelConfig, name: str) -> ModelConfig:
    if model.llm.name is None:
        raise ConfigError(f"llm {name!r}: this system's language model is its own, and inside")
    return model.model_copy(update={"llm": model.llm.model_copy(update={"name": name, "revision": None})})


def _left_beside(values: dict[str, Tensor], beside: str) -> set[str]:
    """The encoders that another checkpoint has, too; raises ConfigError when it has none, or not the same."""
    place = checkpoint.find(beside)
    theirs = checkpoint.read_weights(place)
    shared = checkpoint.ENCODERS & set(checkpoint.read_card(place).parts) & set(map(_part, values))
    if not shared:
        raise ConfigError(f"{beside}: has none of the encoders that are to be left there")
    for name, value in values.items():
        if _part(name) in shared and not _alike(value, theirs.get(name)):
            raise ConfigError(f"{beside}: its {_part(name)} is another than that of this run ({name})")
    return shared


def _alike(value: Tensor, other: Tensor | None) -> bool:
    """Whether two tensors are one, but for the bits they are kept in."""
    if other is None or value.shape != other.shape:
        return False
    return bool((value.float() - other.float()).norm() <= SAME * value.float().norm())


def _encoder_from_folder(source: Path, model: ModelConfig) -> dict[str, Tensor]:
    """Weights of the image encoder, if they came out of a folder, which nobody else has; what has a name is fetched."""
    if model.vision is None or not isinstance(model.vision.pretrained, str):
        return {}
    from xllm.model import XLLM

    return checkpoint.tensors(XLLM.from_pretrained(source, parts={"vision"}), {"vision"})


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None


def _pinned(model: ModelConfig) -> ModelConfig:
    """The configuration with the revisions of named models that are in the cache: those it was trained with."""
    llm = model.llm.model_copy(update={"revision": _revision(model.llm)})
    captions = model.context.linguistic
    if captions is not None:
        captions = captions.model_copy(update={"revision": _revision(captions)})
    context = model.context.model_copy(update={"linguistic": captions})
    return model.model_copy(update={"llm": llm, "context": context})


def _revision(named: LLMConfig | CaptionEncoderConfig) -> str | None:
    if named.name is None or named.revision is not None or Path(named.name).is_dir():
        return named.revision
    from huggingface_hub import try_to_load_from_cache

    try:
        cached = try_to_load_from_cache(named.name, "config.json")
    except ValueError:  # no name of the hub
        return None
    return Path(cached).parent.name if isinstance(cached, str) else None


def _trained_on(source: Path, card: checkpoint.Card) -> Iterator[tuple[str, list[str]]]:
    """Each run's name and the manifests of its recipe, as far as its folder still has one."""
    for place in (*(checkpoint.find(frozen) for frozen in card.frozen), source):
        path = inside(place, "recipe.yaml")
        if path.exists() and not from_hub(place):
            recipe = validate(Recipe, read_yaml(path), str(path))
            stage = next((s for s in recipe.stages.values() if s.output.resolve() == place.resolve()), None)
            if stage is not None:
                yield f"stage {stage.stage} {stage.modality}", [_manifest(path) for path in stage.train]


def _manifest(path: Path) -> str:
    """A manifest's name, its corpora, and their licences, where they are known."""
    from xllm.corpora.table import CORPORA
    from xllm.steps.rows import Dropped, read_rows

    rows, sources = 0, Counter()
    try:
        for row in read_rows(path):
            if not isinstance(row, Dropped):
                rows += 1
                sources[row.get("source")] += 1
    except ManifestError:
        return str(path)
    known = [f"{CORPORA[name].title}, {CORPORA[name].licence}" for name in sources if name in CORPORA]
    return f"{path}: {rows:,} rows" + (f" ({'; '.join(known)})" if known else "")


def model_card(
    name: str,
    model: ModelConfig,
    counts: dict[str, int],
    data: Iterator[tuple[str, list[str]]],
    figures: str | None = None,
    beside: Mapping[str, str] = {},
) -> str:
    """A model card in the hub's form: what is inside, what is frozen and whose, what it was trained on, figures.

    `beside` says in which other checkpoint a part is.
    """
    frozen = {"llm": model.llm.name, "vision": model.vision and model.vision.name, **beside}
    if "recognizer" in counts and "context" in encoders(model).values():
        captions = model.context.linguistic
        frozen |= {"context, images": model.context.visual, "context, captions": captions and captions.name}
    outside = {part: named for part, named in frozen.items() if named and part not in counts}
    lines = ["---", "library_name: xllm", "language: [zh]"]
    lines += [f"base_model: {outside['llm']}"] if "llm" in outside else []
    lines += ["tags: [x-llm, multimodal, speech-recognition]", "---", "", f"# {name}", ""]
    lines += ["An X-LLM system (arXiv 2305.04160): interfaces that let a frozen language model hear and see.", ""]
    lines += ["| part | parameters | where |", "|---|---|---|"]
    lines += [f"| {part} | {count:,} | in this folder |" for part, count in counts.items()]
    for part, named in outside.items():
        licence = next((text for start, text in LICENCES.items() if named.startswith(start)), "see its own card")
        lines.append(f"| {part} | frozen | {named}, licence: {licence} |")
    lines += [
        "",
        "```python",
        "from xllm.model import XLLM",
        'model = XLLM.from_pretrained("this folder, or owner/name on the hub")',
        "```",
        "",
    ]
    trained = [f"* {stage}: {'; '.join(manifests)}" for stage, manifests in data]
    lines += ["## Data", "", *(trained or ["Not recorded."]), ""]
    lines += ["## Figures", "", figures.strip() if figures else "None were given.", ""]
    return "\n".join(lines)
