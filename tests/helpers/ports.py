"""Free loopback ports for servers that tests start."""

import random
import socket

# Below Linux' range for outgoing connections (net.ipv4.ip_local_port_range), so that no client
# socket can take the port between this check and the server's own bind.
_RANGE = range(15_000, 32_000)
_given: set[int] = set()


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that is free now and was not given out before.

    Another process may still take it: whoever starts a server tries again when it cannot bind.
    """
    for port in random.sample(_RANGE, k=200):
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise RuntimeError("200 ports tried on 127.0.0.1 and none was free")
