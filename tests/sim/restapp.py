"""The REST application of the simulation: made once, for all processes of all histories.

Making its routes takes as long as half a history. What it stands on is looked up at each access.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any
from unittest import mock

from api.rest import app as rest_app
from api.rest.edge import Edge, HttpLimits
from api.rest.serving import HttpServer


class _Present:
    edge: Edge
    events: Any = None


class _Part:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(_Present.edge, self._name), name)

    def __call__(self, *args: Any) -> Any:
        return getattr(_Present.edge, self._name)(*args)


def http_server(edge: Edge) -> HttpServer:
    """A server of this moment's process."""
    _Present.edge = edge
    app = _app()
    _Present.events._encoded.clear()
    return HttpServer(app)


@lru_cache(maxsize=1)
def _app() -> rest_app.RestApp:
    values = ("version", "limits", "public_url", "trusted_proxies")
    names = [name for name in Edge.__dataclass_fields__ if name not in values]
    parts: dict[str, Any] = {name: _Part(name) for name in names}

    def remembered(*given: Any, **named: Any) -> Any:
        _Present.events = made(*given, **named)
        return _Present.events

    made = rest_app.Events
    with mock.patch.object(rest_app, "Events", remembered):
        return rest_app.create_app(Edge(version="0.0.0", limits=HttpLimits(), **parts))
