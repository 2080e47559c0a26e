"""The page at `/docs`: the OpenAPI document for people; needs no script, nothing from elsewhere."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from api.errors import KINDS

Json = Mapping[str, Any]
METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True, slots=True)
class Page:
    """A rendered page and the policy that lets its own style in, and nothing else."""

    content: bytes
    security_policy: str


def docs_page(document: Json) -> Page:
    """Render an OpenAPI document."""
    style = _resource("docs.css")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["prose"] = _prose
    environment.filters["kind"] = _kind
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=2)
    html = environment.from_string(_resource("docs.html")).render(
        api=document,
        style=Markup(style),  # noqa: S704 - our own file
        groups=_groups(document),
        kinds=KINDS.values(),
        curl=_curl,
    )
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'"
    return Page(html.encode(), policy)


def _resource(name: str) -> str:
    return files("api.rest").joinpath(name).read_text(encoding="utf-8")


def _groups(document: Json) -> list[dict[str, Any]]:
    """The operations below each tag, in the document's order."""
    operations = [
        {"method": method.upper(), "path": path, **item[method]}
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item
    ]
    return [
        {**tag, "operations": [one for one in operations if tag["name"] in one["tags"]]}
        for tag in document["tags"]
    ]


def _prose(text: str) -> Markup:
    """Text in which `code`, **strong** and empty lines mean what they do in Markdown."""
    paragraphs = []
    for paragraph in text.strip().split("\n\n"):
        html = ""
        for at, part in enumerate(paragraph.split("`")):
            quoted = str(escape(part))
            if at % 2:
                html += f"<code>{quoted}</code>"
                continue
            for inner, piece in enumerate(quoted.split("**")):
                html += f"<strong>{piece}</strong>" if inner % 2 else piece
        paragraphs.append(html)
    return Markup("</p><p>".join(paragraphs))  # noqa: S704 - escaped above


def _kind(schema: Json) -> Markup:
    """A schema's type in a few words, with links to the named ones."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return Markup('<a href="#schema-{0}">{0}</a>').format(name)
    if "oneOf" in schema:
        return Markup(" or ").join(_kind(one) for one in schema["oneOf"])
    types = schema.get("type", "any")
    names = [types] if isinstance(types, str) else list(types)
    if "array" in names:
        return Markup("array of {}").format(_kind(schema["items"]))
    said = " or ".join(names)
    if "format" in schema:
        said += f" ({schema['format']})"
    if "enum" in schema and len(schema["enum"]) <= 8:
        said += ": " + ", ".join(map(str, schema["enum"]))
    return escape(said)


def _curl(operation: Json) -> str:
    """A call of the operation that can be pasted into a shell."""
    path = operation["path"]
    for name in ("user_id", "invoice_id"):
        path = path.replace("{" + name + "}", f"${name.upper()}")
    verb = "" if operation["method"] == "GET" else f"-X {operation['method']} "
    parts = [f'curl {verb}"http://127.0.0.1:8080{path}"']
    body = operation.get("requestBody")
    if body:
        example = body["content"]["application/json"].get("example")
        parts.append("-H 'Content-Type: application/json'")
        if example is not None:
            parts.append(f"-d '{json.dumps(example)}'")
    return " \\\n  ".join(parts)
