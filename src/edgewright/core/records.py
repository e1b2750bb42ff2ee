"""Frozen dataclasses as plain data and back, with one set of checks.

Every document of ours (manifest, contract, evidence, configuration, profile)
is a frozen dataclass; this module turns it into what JSON and TOML hold, reads
it back strictly, and describes it as a JSON Schema. A field may be ``int``,
``float``, ``str``, ``bool``, ``X | None``, ``tuple[X, ...]``, ``dict[str, X]``
or another such dataclass. A field without a default must be there; an unknown
key is refused with the nearest known one named.
"""

import difflib
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from edgewright.core.errors import EdgewrightError

T = TypeVar("T")

_JSON_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean"}


def encode(record: Any) -> Any:
    """Return ``record`` as dicts, lists and scalars; fields that are None are left out."""
    if is_dataclass(record) and not isinstance(record, type):
        pairs = ((field.name, getattr(record, field.name)) for field in fields(record))
        return {name: encode(value) for name, value in pairs if value is not None}
    if isinstance(record, Mapping):
        return {str(key): encode(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [encode(item) for item in record]
    return record


def decode(
    kind: type[T],
    data: Any,
    *,
    error: type[EdgewrightError],
    where: str = "",
    ignore_unknown: bool = False,
) -> T:
    """Return ``data`` as a ``kind``.

    Args:
        kind: A frozen dataclass.
        data: What JSON or TOML gave.
        error: What to raise when ``data`` does not fit, with the place named.
        where: The place of ``data`` in its document, for the message.
        ignore_unknown: True on the wire, where a newer peer may say more.
    """
    if not isinstance(data, Mapping):
        raise error(f"{where or kind.__name__} must be a table, got {type(data).__name__}")
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if not ignore_unknown:
        _refuse_unknown(set(data) - set(known), list(known), error, where)
    reader = _Reader(error, ignore_unknown)
    values = {}
    for name, field in known.items():
        place = f"{where}.{name}" if where else name
        if name in data:
            values[name] = reader.value(hints[name], data[name], place)
        elif not _has_default(field):
            raise error(f"{place} is missing")
    try:
        return kind(**values)
    except (ValueError, EdgewrightError) as wrong:
        hint = getattr(wrong, "hint", "")
        raise error(f"{where or kind.__name__}: {wrong}", hint=hint) from wrong


def json_schema(kind: type[Any], *, title: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a dataclass, nested ones under ``$defs``."""
    definitions: dict[str, Any] = {}
    top = _schema_of(kind, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **top,
        "$defs": {name: definitions[name] for name in sorted(definitions)},
    }


def nearest(name: str, known: list[str]) -> str:
    """Return a hint naming the known word closest to ``name``, or all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(sorted(known))}."


def _refuse_unknown(
    unknown: set[str], known: list[str], error: type[EdgewrightError], where: str
) -> None:
    if unknown:
        first = min(unknown)
        place = f" in {where}" if where else ""
        raise error(f"unknown key {first!r}{place}", hint=nearest(first, known))


def _has_default(field: "Field[Any]") -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


@dataclass(frozen=True, slots=True)
class _Reader:
    """How one document is read: what to raise, and whether more keys may stand in it."""

    error: type[EdgewrightError]
    ignore_unknown: bool

    def value(self, kind: Any, data: Any, where: str) -> Any:
        """Return ``data`` as a ``kind``, or raise naming ``where``."""
        origin, args = get_origin(kind), get_args(kind)
        if kind is Any:
            return data
        if origin in {Union, types.UnionType}:
            inner = [arg for arg in args if arg is not type(None)]
            return None if data is None else self.value(_meant(inner, data), data, where)
        if origin in {tuple, dict}:
            return self._container(origin, args, data, where)
        if is_dataclass(kind):
            return decode(
                cast("type[Any]", kind),
                data,
                error=self.error,
                where=where,
                ignore_unknown=self.ignore_unknown,
            )
        return self._scalar(kind, data, where)

    def _container(self, origin: Any, args: tuple[Any, ...], data: Any, where: str) -> Any:
        if origin is tuple and isinstance(data, list | tuple):
            return tuple(self.value(args[0], x, f"{where}[{i}]") for i, x in enumerate(data))
        if origin is dict and isinstance(data, Mapping):
            return {str(k): self.value(args[1], v, f"{where}.{k}") for k, v in data.items()}
        name = "a list" if origin is tuple else "a table"
        raise self.error(f"{where} must be {name}, got {type(data).__name__}")

    def _scalar(self, kind: Any, data: Any, where: str) -> Any:
        if kind is float and isinstance(data, int) and not isinstance(data, bool):
            return float(data)
        # bool is an int in Python, and never one in our documents.
        if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
            raise self.error(f"{where} must be {_JSON_TYPES[kind]}, got {data!r:.60}")
        return data


def _meant(kinds: list[Any], data: Any) -> Any:
    """Return the one of several dataclasses whose fields ``data`` has; else the first."""
    if len(kinds) > 1 and isinstance(data, Mapping):
        keys = set(data)
        for kind in kinds:
            if is_dataclass(kind) and keys <= {f.name for f in fields(kind)}:
                return kind
    return kinds[0]


def _schema_of(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return {}
    if origin in {Union, types.UnionType}:
        inner = [arg for arg in args if arg is not type(None)]
        known = [_schema_of(one, definitions) for one in inner]
        return known[0] if len(known) == 1 else {"anyOf": known}
    if origin is tuple:
        return {"type": "array", "items": _schema_of(args[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema_of(args[1], definitions)}
    if not is_dataclass(kind):
        return {"type": _JSON_TYPES[kind]}
    name = kind.__name__  # type: ignore[union-attr]
    if name not in definitions:
        definitions[name] = {}
        hints = get_type_hints(kind)
        definitions[name] = {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                f.name: _schema_of(hints[f.name], definitions) for f in fields(kind)
            },
            "required": [f.name for f in fields(kind) if not _has_default(f)],
        }
    return {"$ref": f"#/$defs/{name}"}
