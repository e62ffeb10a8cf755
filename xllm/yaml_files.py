"""YAML files as plain data: nothing is imported, nothing is said twice, and what is wrong is one line with its place.

Recipes may begin from another one (`base`), be changed by `key=value` overrides, and say `$name` in their strings.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from xllm.errors import ConfigError

MOST = 100_000  # values of a file, those behind aliases counted wherever they stand; paper.yaml has 700
MERGE = "tag:yaml.org,2002:merge"  # the key `<<`


def read_yaml(path: Path) -> Any:
    """The plain data of a YAML file; raises ConfigError when it is missing or not good YAML."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the recipe: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid YAML: not UTF-8 ({error.reason} at byte {error.start})") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Any:
    """The plain data of a YAML text.

    Raises ConfigError, naming `source`, line and column, for what YAML does not allow, a key that is given twice, and
    aliases that contain themselves or multiply to more than `MOST` values.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _count(loader, node, source, {}) > MOST:
            raise ConfigError(f"{source}: more than {MOST:,} values, as aliases multiply them")
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        problem = error.problem or error.context
        hint = "; indent with spaces, not tabs" if "'\\t'" in problem else ""
        raise ConfigError(
            f"{source}, {_place(error.problem_mark or error.context_mark)}: not valid YAML: {problem}{hint}"
        ) from None
    except yaml.reader.ReaderError as error:
        raise ConfigError(
            f"{source}: not valid YAML: character {error.character:#06x} at {error.position} is not allowed"
        ) from None
    except (ValueError, KeyError, TypeError) as error:  # of values that a tag or their form promises: 2024-13-45
        raise ConfigError(f"{source}: not valid YAML: a value is not what it seems ({error}); quote it") from None
    except RecursionError:
        raise ConfigError(f"{source}: not valid YAML: nested too deeply") from None


def _place(mark: yaml.Mark) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"


def _count(loader: yaml.SafeLoader, node: yaml.Node, source: str, sizes: dict[int, int | None]) -> int:
    """Values below a node and itself, with what aliases repeat; `sizes` are of nodes counted before."""
    number = id(node)
    if number in sizes:
        if sizes[number] is None:
            raise ConfigError(f"{source}, {_place(node.start_mark)}: contains itself by an alias")
        return sizes[number]
    sizes[number] = None
    inner: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        inner = node.value
    elif isinstance(node, yaml.MappingNode):
        _refuse_doubles(loader, node, source)
        inner = [each for pair in node.value for each in pair]
    sizes[number] = 1 + sum(_count(loader, each, source, sizes) for each in inner)
    return sizes[number]


def _refuse_doubles(loader: yaml.SafeLoader, node: yaml.MappingNode, source: str) -> None:
    seen: dict[Any, yaml.Mark] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue  # no recipe has such keys, and pydantic says so
        name = key.value if key.tag == MERGE else loader.construct_object(key)
        if name in seen:
            raise ConfigError(
                f"{source}, {_place(key.start_mark)}: {name!r} is given twice, first in {_place(seen[name])}"
            )
        seen[name] = key.start_mark


def read_recipe(path: Path, earlier: Sequence[Path] = ()) -> dict:
    """The data of a recipe laid over that of its base; raises ConfigError."""
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a recipe is a mapping of name, model and stages")
    base = data.pop("base", None)
    if base is None:
        return data
    own = Path(path).resolve()
    if not isinstance(base, str) or own in earlier:
        raise ConfigError(f"{path}: 'base' names another recipe, beside this one")
    return lay_over(read_recipe(Path(path).parent / base, (*earlier, own)), data)


def lay_over(base: dict, data: dict) -> dict:
    """`base` with the values of `data` in their places; what is a mapping in both, key by key."""
    both = dict(base)
    for key, value in data.items():
        inner = isinstance(base.get(key), dict) and isinstance(value, dict)
        both[key] = lay_over(base[key], value) if inner else value
    return both


def parse_override(override: str, form: str = "key=value") -> tuple[str, Any]:
    """Key and value (YAML) of `key=value`; raises ConfigError."""
    key, sign, value = override.partition("=")
    if not sign or not key:
        raise ConfigError(f"override {override!r} is not of the form {form}")
    return key, parse_yaml(value, f"override {override!r}")


def apply_override(data: dict, path: Sequence[str], value: Any, override: str) -> dict:
    """`data` with `value` at `path`; what aliases share is changed there alone. Raises ConfigError."""
    first, *rest = path
    if not rest:
        return data | {first: value}
    inner = data.get(first) or {}
    if not isinstance(inner, dict):
        raise ConfigError(f"override {override!r}: {first!r} is a value, not a section")
    return data | {first: apply_override(inner, rest, value, override)}


def fill_name(data: Any, name: str) -> Any:
    """The data with the recipe's name where its strings say `$name`."""
    if isinstance(data, str):
        return data.replace("$name", name)
    if isinstance(data, list):
        return [fill_name(each, name) for each in data]
    return {key: fill_name(value, name) for key, value in data.items()} if isinstance(data, dict) else data
