"""The structure of protobuf's binary encoding, read strictly.

betterproto2 takes what it can from a damaged message: cut-off input, field number 0, groups and
values of the wrong wire type all parse into something. ``check`` refuses such bytes before a
message is built from them, so that a handler only sees values of the declared types.
Source: protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import betterproto2

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
MAX_FIELD_NUMBER = 2**29 - 1
MAX_DEPTH = 100
"""Nesting that Google's parsers accept by default."""


class MalformedError(ValueError):
    """The bytes are not an encoding of the expected message."""


@dataclass(frozen=True, slots=True)
class _Field:
    wire: int
    item: int | None  # wire type of one element when the field may be packed
    text: bool
    oneof: str | None
    nested: "type[betterproto2.Message] | None"


def read_varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """The varint at the position, at most 64 bits, and the position after it."""
    value = shift = 0
    while position < end:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                raise MalformedError("a varint exceeds 64 bits")
            return value, position
        shift += 7
        if shift > 63:
            raise MalformedError("a varint exceeds ten bytes")
    raise MalformedError("the message ends inside a varint")


def spans(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Each field as (number, wire type, start, end); a LENGTH field's span is its content."""
    position = start
    while position < end:
        key, position = read_varint(data, position, end)
        number, wire = key >> 3, key & 7
        if not 0 < number <= MAX_FIELD_NUMBER:
            raise MalformedError(f"field number {number} does not exist")
        if wire == VARINT:
            _, stop = read_varint(data, position, end)
        elif wire == LENGTH:
            length, position = read_varint(data, position, end)
            stop = position + length
        elif wire == FIXED64:
            stop = position + 8
        elif wire == FIXED32:
            stop = position + 4
        else:
            raise MalformedError(f"field {number} has wire type {wire}")
        if stop > end:
            raise MalformedError(f"the message ends inside field {number}")
        yield number, wire, position, stop
        position = stop


def check(data: bytes, message_type: type[betterproto2.Message]) -> None:
    """Raise MalformedError unless the bytes are a well-formed message of the type.

    Unknown fields are accepted as proto3 demands, but must be well-formed themselves.
    """
    _check(data, 0, len(data), message_type, 1)


def _check(
    data: bytes, start: int, end: int, message_type: type[betterproto2.Message], depth: int
) -> None:
    if depth > MAX_DEPTH:
        raise MalformedError(f"messages are nested deeper than {MAX_DEPTH}")
    plan = _plan(message_type)
    chosen: dict[str, int] = {}
    for number, wire, first, stop in spans(data, start, end):
        field = plan.get(number)
        if field is None:
            continue
        if field.oneof is not None and chosen.setdefault(field.oneof, number) != number:
            raise MalformedError(f"fields {chosen[field.oneof]} and {number} exclude each other")
        if wire != field.wire:
            if wire != LENGTH or field.item is None:
                raise MalformedError(f"field {number} has wire type {wire}, not {field.wire}")
            _check_packed(data, first, stop, field.item)
        elif field.text:
            try:
                data[first:stop].decode()
            except UnicodeDecodeError:
                raise MalformedError(f"the text in field {number} is not UTF-8") from None
        elif field.nested is not None:
            _check(data, first, stop, field.nested, depth + 1)


def _check_packed(data: bytes, position: int, end: int, wire: int) -> None:
    if wire == VARINT:
        while position < end:
            _, position = read_varint(data, position, end)
    elif (end - position) % (8 if wire == FIXED64 else 4):
        raise MalformedError("a packed field ends inside an element")


@cache
def _plan(message_type: type[betterproto2.Message]) -> dict[int, _Field]:
    """Expected fields by number; there are as many plans as message types."""
    meta = cast("Any", message_type)._betterproto  # noqa: SLF001 - nothing else knows the field types
    plan = {}
    for name, field in meta.meta_by_field_name.items():
        wire = _wire_type(field.proto_type)
        nested = None
        if field.proto_type in (betterproto2.TYPE_MESSAGE, betterproto2.TYPE_MAP):
            nested = field.unwrap() if field.unwrap else meta.cls_by_field[name]
        plan[field.number] = _Field(
            wire=wire,
            item=wire if field.repeated and wire != LENGTH else None,
            text=field.proto_type == betterproto2.TYPE_STRING,
            oneof=field.group,
            nested=nested,
        )
    return plan


def _wire_type(proto_type: str) -> int:
    if proto_type in betterproto2.WIRE_VARINT_TYPES:
        return VARINT
    if proto_type in betterproto2.WIRE_FIXED_64_TYPES:
        return FIXED64
    if proto_type in betterproto2.WIRE_FIXED_32_TYPES:
        return FIXED32
    return LENGTH
