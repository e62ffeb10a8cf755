"""What strangers publish is data: none of their code runs, and their folders hold no path that leads out.

`trust_remote_code=False` stands at every call itself; without it transformers asks on stdin, where a question may wait.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

from xllm.errors import ConfigError, XLLMError

REMEDY = "give a folder, or a hub name that is in the cache or reachable"


@contextmanager
def loading(what: str, remedy: str = REMEDY) -> Iterator[None]:
    """While a library loads `what`, turn all that it raises into one line: a ConfigError with the remedy.

    Of odd files libraries raise whatever they meet. What they advise then, to run the code that lies beside a model or
    to open a pickle after all, is not passed on.
    """
    try:
        yield
    except XLLMError:
        raise
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        if isinstance(error, UnpicklingError) or "weights_only" in reason:
            raise ConfigError(
                f"{what}: its weights are a pickle of more than tensors, or damaged, and are not read; "
                "give it with safetensors"
            ) from None
        if "trust_remote_code" in reason:
            raise ConfigError(
                f"{what}: brings code of its own, which is never run; give a model that transformers has a class for"
            ) from None
        first, *others = reason.splitlines()
        reason = f"{first} {others[0].strip()}" if first.endswith(":") and others else first  # a title says nothing
        raise ConfigError(f"{what} cannot be loaded ({reason[:200]}); {remedy}") from error


def _is_snapshot(home: Path) -> bool:
    """Whether a resolved folder is one in the hub's cache, CACHE/models--OWNER--NAME/snapshots/REVISION."""
    return home.parent.name == "snapshots" and home.parents[1].name.startswith("models--")


def from_hub(folder: Path) -> bool:
    """Whether a folder was downloaded from the hub: a snapshot in its cache, or what `hf download --local-dir` made."""
    home = folder.resolve()
    return _is_snapshot(home) or (home / ".cache" / "huggingface").is_dir()


def inside(folder: Path, name: str | Path) -> Path:
    """The path of `name` in a checkpoint's folder; raises ConfigError when it, or a link on the way, leads out of it.

    Files of a snapshot are links to the store of the hub's cache, of the repository or shared by all: they stay, too.
    """
    try:
        home, target = folder.resolve(), (folder / name).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, a zero byte
        raise ConfigError(f"{folder}: {str(name)!r} is no path in it ({error})") from None
    homes = [home, *(home.parents[up] / "blobs" for up in (1, 2) if _is_snapshot(home))]
    if not any(target.is_relative_to(place) for place in homes):
        raise ConfigError(f"{folder / name}: leads out of its folder, to {target}; put a copy of what is meant there")
    return folder / name
