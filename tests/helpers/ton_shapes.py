"""Whether answers have the shape that toncenter documents (tests/nodes/data/ton)."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_DATA = Path(__file__).resolve().parents[1] / "nodes/data/ton"
V3_FIELDS: dict[str, Any] = json.loads((_DATA / "v3_fields.json").read_text())
V2_EXAMPLES: dict[str, Any] = json.loads((_DATA / "v2_examples.json").read_text())

_TEXTS = {
    "int64": re.compile(r"-?[0-9]{1,20}"),
    "hash": re.compile(r"[A-Za-z0-9+/]{43}="),
    "raw": re.compile(r"(-1|0):[0-9A-F]{64}"),
    "shard": re.compile(r"[0-9A-F]{16}"),
    "opcode": re.compile(r"0x[0-9a-f]{8}"),
}
_TYPES: dict[str, type] = {"int": int, "bool": bool, "string": str, "object": dict}


def v3_faults(value: Any, name: str, place: str = "") -> Iterator[str]:
    """Yield where a value of API v3 differs from the named object or type."""
    name, _, null = name.partition("|")
    if value is None and null:
        return
    if name.startswith("["):
        if not isinstance(value, list):
            yield f"{place} is no list"
            return
        for number, item in enumerate(value):
            yield from v3_faults(item, name.strip("[]"), f"{place}[{number}]")
    elif name in V3_FIELDS:
        yield from _object_faults(value, V3_FIELDS[name], place)
    elif name in _TEXTS:
        if not isinstance(value, str) or not _TEXTS[name].fullmatch(value):
            yield f"{place} is no {name}: {value!r}"
    elif name != "any" and type(value) is not _TYPES[name]:
        yield f"{place} is no {name}: {value!r}"


def _object_faults(value: Any, fields: Mapping[str, str], place: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{place} is no object"
        return
    yield from (f"{place}.{name} is not documented" for name in value.keys() - fields.keys())
    for name, kind in fields.items():
        if name in value:
            yield from v3_faults(value[name], kind.rstrip("?"), f"{place}.{name}")
        elif not kind.endswith("?"):
            yield f"{place}.{name} is missing"


def example_faults(value: Any, example: Any, place: str = "") -> Iterator[str]:
    """Yield where a value differs in its names and types from a documented example.

    Every item of a list is compared with the example's first.
    """
    if type(value) is not type(example):
        yield f"{place} is a {type(value).__name__}, not a {type(example).__name__}"
    elif isinstance(value, dict):
        if value.get("@type") == "msg.dataText" and example.get("@type") == "msg.dataRaw":
            return
        yield from (f"{place}.{name} is not there" for name in example.keys() - value.keys())
        yield from (f"{place}.{name} is not documented" for name in value.keys() - example.keys())
        for name in value.keys() & example.keys():
            yield from example_faults(value[name], example[name], f"{place}.{name}")
    elif isinstance(value, list) and example:
        for number, item in enumerate(value):
            yield from example_faults(item, example[0], f"{place}[{number}]")
    elif place.endswith("@type") and value != example:
        yield f"{place} is {value}, not {example}"
