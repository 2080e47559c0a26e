"""What tests ask of problem documents (RFC 9457)."""

from __future__ import annotations

from typing import Any

import orjson


async def problem_of(response: Any, status: int, reason: str) -> dict[str, Any]:
    """The problem document of a response, which must be this one."""
    assert response.status_code == status, await response.get_data()
    assert response.headers["Content-Type"] == "application/problem+json"
    document = orjson.loads(await response.get_data())
    assert (document["status"], document["reason"]) == (status, reason), document
    assert document["type"] == f"/docs#{reason.lower().replace('_', '-')}"
    assert document["title"]
    assert document["detail"]
    return document


def refusing_with_problems(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Path, method and operation of an OpenAPI document; not pages, nor what others designed."""
    return [
        (path, method, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if operation["tags"] != ["Payscrypt"] and not path.startswith("/pay/")
    ]


def places(document: dict[str, Any]) -> list[str]:
    """Where the problem's errors are."""
    return [one.get("pointer") or one["parameter"] for one in document["errors"]]
