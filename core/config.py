"""Frozen dataclasses as settings: changed by `key=value`, saved as JSON, read back with unknown keys refused."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Sequence
from typing import Any, TypeVar

from core.errors import UserError

T = TypeVar("T")
SIZE, SHARE, POSITIVE = (1, 1e6), (0, 1), (1e-6, 1e6)  # bounds for `within`


def settings(recipe: T, changes: Sequence[str]) -> T:
    """A copy of a frozen dataclass with `path.to.key=value` changes, each checked against the declared type.

    Raises:
        UserError: a change without `=`, an unknown key (the known ones are listed), or a value of the wrong type.
    """
    tree: dict[str, Any] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise UserError(f"setting '{_short(change)}' has no '='", where="--set", mend="write key=value")
        *path, last = key.strip().split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise _twice(part, key)
        if isinstance(node.get(last), dict):
            raise _twice(last, key)
        node[last] = text.strip()
    return _changed(recipe, tree, "")


def _twice(part: str, key: str) -> UserError:
    return UserError(f"setting '{part}' is given whole and in part", where=key, mend="give one of them")


def _changed(node: Any, tree: dict[str, Any], prefix: str) -> Any:
    """All changes of one dataclass are made at once, since some only fit together."""
    hints = typing.get_type_hints(type(node))
    names = [f.name for f in dataclasses.fields(node) if f.init]
    made = {}
    for name, change in tree.items():
        key = prefix + name
        if name not in names:
            raise _unknown(key, names)
        value = getattr(node, name)
        if not isinstance(change, dict):
            made[name] = _convert(_parse(change), hints[name], key)
            continue
        kinds = _kinds(hints[name])
        if "kind" in change and kinds:  # another kind starts from its own defaults
            other = _chosen(kinds, change["kind"], key)
            value = value if type(value) is other else from_dict(other, {}, f"{key}.")
        if not dataclasses.is_dataclass(value):
            raise UserError(f"setting '{name}' has no parts", where=key, mend=f"write {name}=value")
        made[name] = _changed(value, change, f"{key}.")
    return dataclasses.replace(node, **made)


def _unknown(key: str, names: Sequence[str]) -> UserError:
    return UserError(f"unknown setting '{key}'", where="settings", mend=f"known here: {', '.join(names) or 'none'}")


def _parse(text: str) -> Any:
    lowered = {"true": True, "false": False, "none": None, "null": None, "inf": math.inf, "-inf": -math.inf}
    if text.lower() in lowered:
        return lowered[text.lower()]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _kinds(hint: Any) -> dict[str, type]:
    """The dataclasses of a union that call themselves by different `kind`s: `SimCLRConfig | MoCoConfig` by simclr, moco."""
    parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else ()
    found: dict[str, type] = {}
    for part in parts:
        if dataclasses.is_dataclass(part):
            names = typing.get_args(typing.get_type_hints(part).get("kind"))
            found |= {str(name): part for name in names}  # type: ignore[misc]
    return found if len(set(found.values())) > 1 else {}


def _chosen(kinds: dict[str, type], kind: Any, key: str) -> type:
    if not isinstance(kind, str) or kind not in kinds:
        raise UserError(
            f"'{kind}' is no kind of '{key}'" if kind is not None else f"'{key}' does not say its kind", where="settings",
            mend=f"choose from {', '.join(kinds)}",
        )  # fmt: skip
    return kinds[kind]


def _convert(value: Any, hint: Any, key: str) -> Any:
    """`value` as `hint` declares it; JSON's lists become tuples."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = _kinds(hint)
        if kinds and isinstance(value, dict):
            return from_dict(_chosen(kinds, value.get("kind"), key), value, f"{key}.")
        if isinstance(value, dict) and len(known := [p for p in parts if dataclasses.is_dataclass(p)]) == 1:
            return _convert(value, known[0], key)
        for part in sorted(parts, key=lambda p: p is str):  # str last: it would take anything
            try:
                return _convert(value, part, key)
            except UserError:
                continue
    elif hint is Any or (hint is type(None) and value is None):
        return value
    elif origin is typing.Literal:
        if any(value == part and type(value) is type(part) for part in parts):
            return value
        raise UserError(
            f"'{value}' is not possible for '{key}'", where="settings", mend=f"choose from {', '.join(map(str, parts))}"
        )
    elif dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return from_dict(hint, value, f"{key}.")  # type: ignore[arg-type]
    elif origin is tuple and isinstance(value, list | tuple):
        if len(parts) == 2 and parts[1] is Ellipsis:
            return tuple(_convert(item, parts[0], key) for item in value)
        if len(parts) == len(value):
            return tuple(_convert(item, part, key) for item, part in zip(value, parts, strict=True))
    elif origin is list and isinstance(value, list):
        return [_convert(item, parts[0], key) for item in value]
    elif origin is dict and isinstance(value, dict):
        return {name: _convert(item, parts[1], f"{key}.{name}") for name, item in value.items()}
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if value == value and not (isinstance(value, int) and abs(value) >= 2**1023):  # NaN is no setting
            return float(value)
    elif hint is int and isinstance(value, float) and value.is_integer():
        return int(value)  # 1e4
    elif hint is str and not isinstance(value, dict | list):
        return str(value)
    elif isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise UserError(f"'{_short(value)}' is not a value for '{key}'", where="settings", mend=f"give {_wanted(hint)}")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _wanted(hint: Any) -> str:
    """A type in words."""
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "none"}
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_wanted(part) for part in parts)
    if origin is typing.Literal:
        return " or ".join(map(str, parts))
    if origin in (tuple, list):
        return f"[{', '.join('…' if part is Ellipsis else _wanted(part) for part in parts)}]"
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def to_dict(recipe: Any) -> dict[str, Any]:
    """The dataclass as plain JSON types."""
    return json.loads(json.dumps(dataclasses.asdict(recipe)))


def from_dict(kind: type[T], data: dict[str, Any], prefix: str = "") -> T:
    """The dataclass that `to_dict` described; unknown keys are refused, missing ones take their defaults.

    Args:
        prefix: where in a larger recipe it stands, such as `objective.`, for the messages.

    Raises:
        UserError: an unknown key, a missing one without default, or a value of another type.
    """
    if not isinstance(data, dict):
        raise UserError(f"'{_short(data)}' is not a value for '{prefix or kind.__name__}'", where="settings", mend=f"give a {kind.__name__}")  # fmt: skip
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind) if f.init}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            raise _unknown(f"{prefix}{key}", list(fields))
    for name, f in fields.items():
        if name not in data and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise UserError(f"setting '{prefix}{name}' is missing", where="settings", mend="give it a value")
    return kind(**{key: _convert(value, hints[key], f"{prefix}{key}") for key, value in data.items()})


def within(settings: Any, **bounds: tuple[float, float]) -> None:
    """Raise where a number of a dataclass lies outside its bounds, ends included; for `__post_init__`. None passes.

    within(self, temperature=(1e-4, 1e3), queue=(1, 1e9))
    """
    for name, (low, high) in bounds.items():
        value = getattr(settings, name)
        if value is not None and not low <= value <= high:  # NaN is nowhere
            raise UserError(f"{name} is {value:g}", where=type(settings).__name__, mend=f"give {low:g} to {high:g}")


def shares(pretext: Any, *names: str) -> None:
    """Raise where a share of a pretext's dataclass is not between 0 and 1, ends left out; for `__post_init__`."""
    for name in names:
        value = getattr(pretext, name)
        if not 0 < value < 1:
            raise UserError(f"{name} is {value}", where=f"pretext.{name}", mend="use a share between 0 and 1")
