"""Ports that stay a story's own while the server on them is dead."""

from __future__ import annotations

import random
import socket

# Above Linux' range for outgoing connections, and above what other tests choose from: while a
# server is dead nobody else is to find its port free.
_RANGE = range(61_000, 65_500)
_given: set[int] = set()


def own_port() -> int:
    """Return a TCP port on 127.0.0.1 that is free now and was not given out before."""
    for port in random.sample(_RANGE, k=200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if port not in _given and probe.connect_ex(("127.0.0.1", port)):
                _given.add(port)
                return port
    raise RuntimeError("200 ports tried on 127.0.0.1 and none was free")
