"""A webhook receiver in a thread of the test, which keeps what it was sent."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.helpers.server import Managed


@dataclass(frozen=True)
class Hook:
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class HookServer(Managed):
    """Answers what `mood` says: a status, or 0 to close the connection; a context manager."""

    def __init__(self, mood: Callable[[Hook], int] = lambda _hook: 200) -> None:
        self.mood = mood
        self.hooks: list[Hook] = []
        self.taken: list[Hook] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/hook"

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                hook = Hook(headers, self.rfile.read(int(headers["content-length"])))
                with outer._lock:
                    outer.hooks.append(hook)
                    status = outer.mood(hook)
                    if 200 <= status < 300:
                        outer.taken.append(hook)
                if status == 0:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name above us
                """The test has the hooks."""

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A daemon that was killed hangs up."""
