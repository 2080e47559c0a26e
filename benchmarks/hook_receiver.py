"""The receiver of the webhook benchmark, as a program: says 200 to all, on a free port."""

from __future__ import annotations

import socket
import threading

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


def _serve() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    """200 for each request; a body is never longer than what came with its head says."""
    pending = b""
    with connection:
        while data := connection.recv(65536):
            pending += data
            while b"\r\n\r\n" in pending:
                head, _, rest = pending.partition(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
                if len(rest) < length:
                    break
                pending = rest[length:]
                connection.sendall(_ANSWER)


if __name__ == "__main__":
    _serve()
