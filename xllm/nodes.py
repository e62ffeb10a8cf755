"""What configurations are made of: frozen nodes, kinds of numbers, and one line for whatever is wrong.

A value that can only do harm, such as a negative width or a rate that is no number, is refused before any work.
"""

import difflib
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from xllm.errors import ConfigError


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"must be odd, so that as many frames come out as go in, not {value}")
    return value


Share = Annotated[float, Field(ge=0, lt=1)]  # dropout and its like
Kernel = Annotated[int, Field(gt=0), AfterValidator(_odd)]


class Config(BaseModel):
    """Base of every node: immutable, unknown keys rejected, numbers finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Transformer(Config):
    """Base of what has `width` and `heads`; where positions are `rotary` a head turns pairs of numbers."""

    rotary: ClassVar[bool] = False

    @model_validator(mode="after")
    def _heads_share_the_width(self):
        parts = self.heads * (2 if self.rotary else 1)
        if getattr(self, "name", None) is None and self.width % parts:  # what has a name brings its own sizes
            raise ValueError(f"width {self.width} is not a multiple of {parts}, which {self.heads} heads need")
        return self


def check_blocks(name: str, numbers: tuple[int, ...], blocks: int) -> None:
    """Raises ValueError when `numbers` are not different ones of so many blocks, counted from 1."""
    if len(set(numbers)) < len(numbers) or not all(1 <= number <= blocks for number in numbers):
        raise ValueError(f"{name} {list(numbers)} must be different blocks of 1..{blocks}")


def _first_error(error: ValidationError, source: str, root: type[BaseModel]) -> ConfigError:
    """One line for the first problem, with the nearest known key for an unknown one."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "value_error":
        return ConfigError(": ".join(filter(None, [source, where, str(problem["ctx"]["error"])])))
    if problem["type"] != "extra_forbidden":
        return ConfigError(f"{source}: {where}: {problem['msg']} (got {problem['input']!r})")
    known = list(_node_at(root, problem["loc"][:-1]).model_fields)
    near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
    return ConfigError(f"{source}: unknown key {where!r}; {hint}")


def _node_at(root: type[BaseModel], place: Sequence[str | int]) -> type[BaseModel]:
    """The class of the node at `place`, whose fields may be nodes, optional ones, or several by name or number."""
    node, several = root, False
    for part in place:
        if several:  # the part is which one of them
            several = False
            continue
        annotation = node.model_fields[part].annotation
        kinds = (kind for kind in get_args(annotation) if isinstance(kind, type) and issubclass(kind, Config))
        node, several = next(kinds, annotation), get_origin(annotation) in (dict, tuple)
    return node


def validate(model: type[Config], data: Any, source: str) -> Any:
    """Build `model` from plain data; raises ConfigError (one line, naming `source` and the key)."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _first_error(error, source, model) from None
