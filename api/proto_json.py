"""Messages as proto3 JSON (protobuf.dev/programming-guides/json), both ways.

For messages of texts, booleans, enums, 64-bit integers and other messages, which is what Payscrypt
has. Names go out as the .proto has them, and come in so or in lowerCamelCase; 64-bit integers go
out as texts, enums as names, and what is not set with its default.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, TypeVar, cast

import betterproto2

Json = dict[str, Any]
_M = TypeVar("_M", bound=betterproto2.Message)
_INT32 = range(-(2**31), 2**31)
_INT64 = range(-(2**63), 2**63)
_NUMBER = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?")


class FieldError(ValueError):
    """A value is of the wrong type; `field` is the name of the outermost field it is in."""

    def __init__(self, field: str) -> None:
        super().__init__(f"invalid {field}")
        self.field = field


@dataclass(frozen=True, slots=True)
class FieldForm:
    """How one field stands in JSON."""

    name: str
    camel: str
    repeated: bool
    read_one: Callable[[Any], Any]
    """From the JSON value of one element, never null. Raises ValueError."""
    write_one: Callable[[Any], Any]

    def read(self, value: Any) -> Any:
        """Raises ValueError."""
        if not self.repeated:
            return self.read_one(value)
        if not isinstance(value, list) or None in value:
            raise ValueError(self.name)
        return [self.read_one(one) for one in value]

    def write(self, value: Any) -> Any:
        return [self.write_one(one) for one in value] if self.repeated else self.write_one(value)


def to_json(message: betterproto2.Message) -> Json:
    """For orjson. A message that is not set is left out; anything else is there."""
    document: Json = {}
    for form in forms(type(message)).values():
        value = getattr(message, form.name)
        if value is not None:
            document[form.name] = form.write(value)
    return document


def from_json(message_type: type[_M], document: Mapping[str, Any]) -> _M:
    """Null counts as not set; unknown names are ignored. Raises FieldError."""
    values: dict[str, Any] = {}
    for form in forms(message_type).values():
        found = given(document, form.name, form.camel)
        if found is None:
            continue
        try:
            values[form.name] = form.read(found)
        except ValueError:
            raise FieldError(form.name) from None
    return message_type(**values)


def given(document: Mapping[str, Any], name: str, camel: str) -> Any:
    """The value under either name; None where there is none. Raises FieldError for two."""
    if name in document and camel != name and camel in document:
        raise FieldError(name)
    return document.get(name, document.get(camel))


def camel_case(name: str) -> str:
    """protoc's json_name: `pg_wallet_id` → `pgWalletId`."""
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


@cache
def forms(message_type: type[betterproto2.Message]) -> Mapping[str, FieldForm]:
    """The fields by name, in the order of the .proto; there are as many as message types."""
    meta = cast("Any", message_type)._betterproto  # noqa: SLF001 - nothing else knows the field types
    found = {}
    for name, field in meta.meta_by_field_name.items():
        read_one, write_one = _converters(field.proto_type, meta.cls_by_field[name])
        found[name] = FieldForm(name, camel_case(name), field.repeated, read_one, write_one)
    return found


def _converters(proto_type: str, kind: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    match proto_type:
        case betterproto2.TYPE_STRING:
            return _text, str
        case betterproto2.TYPE_BOOL:
            return _boolean, bool
        case betterproto2.TYPE_INT64:
            return read_int64, str
        case betterproto2.TYPE_ENUM:
            return _enum_reader(kind), _enum_name
        case betterproto2.TYPE_MESSAGE:
            return _message_reader(kind), to_json
    raise TypeError(f"no JSON form is written here for {proto_type}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")  # noqa: TRY004 - one family: the value does not fit
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("no boolean")  # noqa: TRY004 - as above
    return value


def read_int64(value: Any) -> int:
    """A number without fraction, or the text of one. Raises ValueError."""
    return _integer(value, _INT64)


def _integer(value: Any, bounds: range) -> int:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = Decimal(value)
        value = int(value) if value == value.to_integral_value() else None
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value not in bounds:
        raise ValueError("no integer of that size")
    return value


def _enum_reader(kind: Any) -> Callable[[Any], Any]:
    names = {one.name: one for one in kind}

    def read(value: Any) -> Any:
        if isinstance(value, str):
            if value not in names:
                raise ValueError("no name of this enum")
            return names[value]
        return kind(_integer(value, _INT32))

    return read


def _enum_name(value: Any) -> str | int:
    """The name; the number where the .proto has none for it."""
    return value.name or int(value)


def _message_reader(kind: Any) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError("no object")  # noqa: TRY004 - as above
        return from_json(kind, value)

    return read
