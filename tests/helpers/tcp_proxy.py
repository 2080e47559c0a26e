"""A connection that can be cut at a chosen word, to see what both ends make of it."""

from __future__ import annotations

import contextlib
import socket
import threading

from tests.helpers.server import Managed


class CuttingProxy(Managed):
    """Forwards 127.0.0.1:`port` to `target`, until told to cut. A context manager; it has threads.

    `cut_at(word)` ends the next connection whose client sends `word`: after the word has been
    forwarded (`forward=True`; the answer is lost), or instead of forwarding it.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._word: bytes | None = None
        self._forward = True
        self._refuse = False
        self._then_refuse = False
        self.cut = threading.Event()
        """Set once a connection was cut."""
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    def cut_at(self, word: bytes, *, forward: bool, then_refuse: bool = False) -> None:
        self._forward = forward
        self._then_refuse = then_refuse
        self.cut.clear()
        self._word = word

    def cut_all(self) -> None:
        """End every connection, and each new one at once."""
        self._refuse = True
        for each in self._sockets:
            with contextlib.suppress(OSError):  # it has ended
                each.shutdown(socket.SHUT_RDWR)

    def allow(self) -> None:
        """Take connections again."""
        self._refuse = False

    def start(self) -> None:
        self._threads[0].start()

    def close(self) -> None:
        # shutdown() wakes the thread in accept(); close() alone would not.
        for each in [self._listener, *self._sockets]:
            _end(each)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refuse:
                client.close()
                continue
            server = socket.create_connection(self._target)
            self._sockets += (client, server)
            for source, sink, watched in ((client, server, True), (server, client, False)):
                thread = threading.Thread(target=self._pump, args=(source, sink, watched))
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, watched: bool) -> None:
        with contextlib.suppress(OSError):  # either end is gone: so is the other
            while data := source.recv(65536):
                if watched and self._word is not None and self._word in data:
                    self._word = None
                    self._refuse = self._then_refuse
                    self.cut.set()  # before the client can notice
                    _end(source)
                    if self._forward:
                        sink.sendall(data)
                        sink.shutdown(socket.SHUT_WR)
                    break
                sink.sendall(data)
        if not self._forward or not self.cut.is_set():
            _end(sink)
        _end(source)


def _end(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
