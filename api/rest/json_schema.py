"""The pieces that JSON Schemas of answers are put together from."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def text(about: str, **more: object) -> Schema:
    return {"type": "string", "description": about, **more}


def uuid(about: str) -> Schema:
    return text(about, format="uuid")


def instant(about: str) -> Schema:
    return text(about, format="date-time")


def whole(about: str, minimum: int = 0) -> Schema:
    return {"type": "integer", "minimum": minimum, "description": about}


def or_null(schema: Schema) -> Schema:
    """The same or null."""
    return {**schema, "type": [schema["type"], "null"]}


def array(item: Schema, about: str) -> Schema:
    return {"type": "array", "items": item, "description": about}


def whole_object(properties: dict[str, Schema], about: str = "") -> Schema:
    """An object that always has all of its properties, and no others."""
    schema: Schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {**schema, "description": about} if about else schema


def page(name: str, about: str, **more: Schema) -> Schema:
    """A list of a component, by its name."""
    items = array({"$ref": f"#/components/schemas/{name}"}, about)
    return whole_object({"items": items, **more})
