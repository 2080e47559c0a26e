"""Bodies, queries and answers that are proto3 JSON: read leniently, described for OpenAPI.

`renamed` maps a message's fields to the names that an older or newer API has for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import betterproto2

from api.proto_json import FieldError, FieldForm, camel_case, forms, given, to_json
from api.rest.fields import Field, Schema, Shape, UnfitError
from api.rest.problems import Fault

_M = TypeVar("_M", bound=betterproto2.Message)
Renamed = Mapping[str, str]
NOTHING: Renamed = {}
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}
INT64_SCHEMA: Schema = {
    "oneOf": [
        {"type": "string", "pattern": "^-?[0-9]{1,18}$"},
        {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    ]
}


@dataclass(frozen=True, slots=True)
class ProtoShape(Shape):
    """As proto3 JSON has it: other fields are ignored, names may be in lowerCamelCase."""

    def read(
        self, given_values: Mapping[str, Any], at: Callable[[str, str], Fault]
    ) -> tuple[dict[str, Any], list[Fault]]:
        values: dict[str, Any] = {}
        faults: list[Fault] = []
        for one in self.fields:
            try:
                value = given(given_values, one.name, camel_case(one.name))
                if value is not None:
                    values[one.name] = one.read(value)
            except (FieldError, UnfitError):
                faults.append(at(one.name, f"invalid {one.name}"))
        return values, faults

    def schema(self) -> Schema:
        document = Shape.schema(self)
        del document["additionalProperties"]
        return document


def shape_of(
    message_type: type[betterproto2.Message],
    fields: Mapping[str, tuple[str, Schema]],
    *,
    renamed: Renamed = NOTHING,
    required: tuple[str, ...] = (),
    in_query: bool = False,
) -> ProtoShape:
    """`fields` are descriptions, and schemas narrower than the type's, by the message's names."""
    found = []
    for name, (about, schema) in fields.items():
        form = forms(message_type)[name]
        read = _query_reader(form) if in_query else _reader(form)
        outside = renamed.get(name, name)
        found.append(Field(outside, read, schema, about, required=name in required))
    return ProtoShape(tuple(found))


def message_of(message_type: type[_M], values: Mapping[str, Any], renamed: Renamed = NOTHING) -> _M:
    """The message of what a shape has read."""
    inside = {outside: name for name, outside in renamed.items()}
    return message_type(**{inside.get(name, name): value for name, value in values.items()})


def json_of(message: betterproto2.Message, renamed: Renamed = NOTHING) -> dict[str, Any]:
    """The message, for orjson."""
    return {renamed.get(name, name): value for name, value in to_json(message).items()}


def answer_schema(
    message_type: type[betterproto2.Message],
    about: Mapping[str, str],
    *,
    prefix: str,
    renamed: Renamed = NOTHING,
) -> Schema:
    """The schema of an answer: every field is there. Components are named after the messages."""
    meta = cast("Any", message_type)._betterproto  # noqa: SLF001 - nothing else knows the field types
    properties = {}
    for name, field in meta.meta_by_field_name.items():
        schema = _answered(field.proto_type, meta.cls_by_field[name], prefix)
        if field.repeated:
            schema = {"type": "array", "items": schema}
        if name in about:
            schema = {**schema, "description": about[name]}
        properties[renamed.get(name, name)] = schema
    return {"type": "object", "properties": properties, "required": list(properties)}


def _answered(proto_type: str, kind: Any, prefix: str) -> Schema:
    match proto_type:
        case betterproto2.TYPE_INT64:
            return {"type": "string", "pattern": "^-?[0-9]+$"}
        case betterproto2.TYPE_ENUM:
            return {"type": "string", "enum": [one.name for one in kind]}
        case betterproto2.TYPE_MESSAGE:
            return {"$ref": f"#/components/schemas/{prefix}{kind.__name__}"}
    return {"type": "boolean" if proto_type == betterproto2.TYPE_BOOL else "string"}


def _reader(form: FieldForm) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        try:
            return form.read(value)
        except ValueError:
            raise UnfitError("is of the wrong type") from None

    return read


def _query_reader(form: FieldForm) -> Callable[[Any], Any]:
    """For texts and booleans."""
    read = _reader(form)

    def read_text(value: Any) -> Any:
        try:
            return read(value)
        except UnfitError:
            if value not in _BOOLEANS:
                raise
            return read(_BOOLEANS[value])

    return read_text
