"""Frozen dataclasses as settings: changed by `key=value`, saved as JSON, read back with unknown keys refused."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Sequence
from typing import Any, TypeVar

from core.errors import UserError

T = TypeVar("T")


def settings(recipe: T, changes: Sequence[str]) -> T:
    """A copy of a frozen dataclass with `path.to.key=value` changes, each checked against the declared type.

    Raises:
        UserError: a change without `=`, an unknown key (the known ones are listed), or a value of the wrong type.
    """
    tree: dict[str, Any] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise UserError(f"setting '{change}' has no '='", where="--set", mend="write key=value")
        *path, last = key.strip().split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise UserError(f"setting '{part}' is given whole and in part", where=key, mend="give one of them")
        node[last] = text.strip()
    return _changed(recipe, tree, "")


def _changed(node: Any, tree: dict[str, Any], prefix: str) -> Any:
    """All changes of one dataclass are made at once, since some only fit together."""
    hints = typing.get_type_hints(type(node))
    names = [f.name for f in dataclasses.fields(node)]
    made = {}
    for name, change in tree.items():
        key = prefix + name
        if name not in names:
            raise UserError(f"unknown setting '{key}'", where="--set", mend=f"known here: {', '.join(names)}")
        value = getattr(node, name)
        if not isinstance(change, dict):
            made[name] = _convert(_parse(change), hints[name], key)
        elif dataclasses.is_dataclass(value):
            made[name] = _changed(value, change, f"{key}.")
        else:
            raise UserError(f"setting '{name}' has no parts", where=key, mend=f"write {name}=value")
    return dataclasses.replace(node, **made)


def _parse(text: str) -> Any:
    lowered = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in lowered:
        return lowered[text.lower()]
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _convert(value: Any, hint: Any, key: str) -> Any:
    """`value` as `hint` declares it; JSON's lists become tuples."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for part in sorted(parts, key=lambda p: p is str):  # str last: it would take anything
            try:
                return _convert(value, part, key)
            except UserError:
                continue
    elif hint is Any or (hint is type(None) and value is None):
        return value
    elif origin is typing.Literal:
        if value in parts:
            return value
        raise UserError(
            f"'{value}' is not possible for '{key}'", where="settings", mend=f"choose from {', '.join(map(str, parts))}"
        )
    elif dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return from_dict(hint, value)  # type: ignore[arg-type]
    elif origin is tuple and isinstance(value, list | tuple):
        if len(parts) == 2 and parts[1] is Ellipsis:
            return tuple(_convert(item, parts[0], key) for item in value)
        if len(parts) == len(value):
            return tuple(_convert(item, part, key) for item, part in zip(value, parts, strict=True))
    elif origin in (list, dict) and isinstance(value, origin):
        return value
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif hint is str and not isinstance(value, dict | list):
        return str(value)
    elif isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    wanted = getattr(hint, "__name__", str(hint))
    raise UserError(f"'{value}' is not a value for '{key}'", where="settings", mend=f"give a {wanted}")


def to_dict(recipe: Any) -> dict[str, Any]:
    """The dataclass as plain JSON types."""
    return json.loads(json.dumps(dataclasses.asdict(recipe)))


def from_dict(kind: type[T], data: dict[str, Any]) -> T:
    """The dataclass that `to_dict` described; unknown keys are refused, missing ones take their defaults."""
    hints = typing.get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    unknown = [key for key in data if key not in names]
    if unknown:
        raise UserError(f"unknown setting '{unknown[0]}'", where=kind.__name__, mend=f"known here: {', '.join(names)}")
    return kind(**{key: _convert(value, hints[key], key) for key, value in data.items()})
