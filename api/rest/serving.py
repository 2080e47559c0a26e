"""Serves the application on HTTP/1.1 and h2c with Hypercorn's Trio worker."""

from __future__ import annotations

import logging
import socket
from contextlib import ExitStack
from typing import Protocol

import trio
from hypercorn.config import Config, Sockets
from hypercorn.trio.run import worker_serve
from hypercorn.utils import wrap_app

from api.rest.app import RestApp

BACKLOG = 256
GRACE_S = 3.0
"""After the long-polls have ended: for what is still being answered."""
IDLE_S = 75.0
"""A connection that asks nothing for so long is closed; polling clients keep theirs."""
HEADER_BYTES = 16 * 1024

Address = tuple[str, int]


class HttpListenError(Exception):
    """The address cannot be listened on; the text names the settings and what to do."""


class Stop(Protocol):
    """Something that can be waited for: `trio.Event`."""

    async def wait(self) -> None: ...


async def serve(
    app: RestApp,
    host: str,
    port: int,
    *,
    shutdown: Stop,
    task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listen and serve until `shutdown`, then end within about GRACE_S.

    `started()` means listening, and hands over the bound addresses (host, port). Port 0 is any free
    one. At shutdown waiting long-polls are answered at once. Raises HttpListenError.
    """
    with ExitStack() as sockets:
        bound = await _bind(host, port, sockets)
        addresses: list[Address] = [one.getsockname()[:2] for one in bound]

        async def until_shutdown() -> None:
            await shutdown.wait()
            # Hypercorn waits for open requests: those that only wait have to be told.
            app.room.close()

        async with trio.open_nursery() as nursery:
            await nursery.start(_serve, app, bound, until_shutdown)
            task_status.started(addresses)


async def _serve(
    app: RestApp,
    bound: list[socket.socket],
    until_shutdown: object,
    *,
    task_status: trio.TaskStatus[list[str]],
) -> None:
    await worker_serve(
        wrap_app(app, 0, "asgi"),
        _config(),
        sockets=Sockets([], bound, []),
        shutdown_trigger=until_shutdown,  # type: ignore[arg-type]
        task_status=task_status,
    )


def _config() -> Config:
    config = Config()
    config.errorlog = logging.getLogger("hypercorn.error")
    config.accesslog = None
    config.include_server_header = False
    config.graceful_timeout = GRACE_S
    config.keep_alive_timeout = IDLE_S
    config.h11_max_incomplete_size = HEADER_BYTES
    config.h2_max_header_list_size = HEADER_BYTES
    return config


async def _bind(host: str, port: int, sockets: ExitStack) -> list[socket.socket]:
    """Listening sockets on every address of `host`; a free port is the same one on all."""
    where = f"{host}:{port}"
    try:
        found = await trio.socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise HttpListenError(
            f"http.host (TALLY_HTTP_HOST) is {host!r}, which is no address here: {error.strerror}"
        ) from error
    bound: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(found):
        one = sockets.enter_context(socket.socket(family, kind, protocol))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            one.bind((address[0], port, *address[2:]))
            one.listen(BACKLOG)
        except OSError as error:
            raise HttpListenError(
                f"cannot listen for HTTP on {where}: {error.strerror}. Set http.port"
                " (TALLY_HTTP_PORT) to a free port, or http.host (TALLY_HTTP_HOST) to an address"
                " of this machine"
            ) from error
        one.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        bound.append(one)
        port = one.getsockname()[1]
    return bound
