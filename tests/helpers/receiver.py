"""A webhook receiver in a process of its own, good or bad, and killed without warning.

It writes down every request before it answers, with one write to a file that outlives it: what it
took is known even if it was killed before the sender heard of it. Signatures are checked as
Standard Webhooks describes them, by code that shares nothing with the daemon's.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import http.client
import json
import os
import random
import sys
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.helpers.ports import free_port
from tests.helpers.process import ServerProcess
from tests.helpers.server import Managed

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE_S = 300
ACCEPTED = 200


@dataclass(frozen=True, slots=True)
class Request:
    """One request that was read completely."""

    id: str
    """`webhook-id`."""
    signed: bool
    """By the receiver's secret, and just now."""
    body: Any
    status: int
    """What was answered; 0: nothing ever."""

    @property
    def accepted(self) -> bool:
        return self.status == ACCEPTED


class Receiver(Managed):
    """One receiver on a port of its own; start() again after kill() continues on the same port.

    ``refuse`` is the part of events whose first attempt is answered 500, by chance from ``seed``;
    ``refuse_first`` and ``hang_first`` are so many requests that are answered 500, or never, before
    it behaves. ``refuse=1`` with ``for_ever`` takes nothing at all.
    """

    def __init__(
        self,
        folder: Path,
        *,
        refuse: float = 0.0,
        refuse_first: int = 0,
        hang_first: int = 0,
        for_ever: bool = False,
        seed: int = 1,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._journal = folder / "requests.jsonl"
        self._secret = folder / "secret"
        self._log = folder / "receiver.log"
        self._options = [
            f"--refuse={refuse}",
            f"--refuse-first={refuse_first}",
            f"--hang-first={hang_first}",
            f"--seed={seed}",
            *(["--for-ever"] if for_ever else []),
        ]
        self._process: ServerProcess | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def trust(self, secret: str) -> None:
        """The endpoint's secret, `whsec_…`; before it is known no request counts as signed."""
        self._secret.write_text(secret)

    def behave(self) -> None:
        """From the next start on it takes everything."""
        self._options = []

    def start(self) -> None:
        assert self._process is None, "the receiver is already started"
        files = [str(self._journal), str(self._secret)]
        self._process = ServerProcess(
            [sys.executable, "-m", __name__, str(self.port), *files, *self._options],
            log=self._log,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._process.wait_ready(self._answers)

    def kill(self) -> None:
        """SIGKILL, in the middle of whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def requests(self) -> list[Request]:
        """Every request so far, in the order in which they were read, over all its lives."""
        if not self._journal.exists():
            return []
        *whole, _being_written = self._journal.read_text().split("\n")
        return [Request(**json.loads(line)) for line in whole]

    def accepted(self) -> list[Request]:
        return [one for one in self.requests() if one.accepted]

    def close(self) -> None:
        self.kill()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == ACCEPTED
        except OSError:
            return False
        finally:
            connection.close()


# --- the process ----------------------------------------------------------------------------------


def is_signed(secret: str, headers: Any, body: bytes, *, now_s: float) -> bool:
    """Standard Webhooks, version 1 signatures."""
    event_id, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not at.isdigit() or abs(now_s - int(at)) > TOLERANCE_S:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, f"{event_id}.{at}.".encode() + body, hashlib.sha256)
    wanted = f"v1,{base64.b64encode(digest).decode()}"
    given = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(wanted, one) for one in given)


class _Mood:
    """Decides about each request; one lock, as requests come side by side."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._chance = random.Random(options.seed)
        self._refuse_first: int = options.refuse_first
        self._hang_first: int = options.hang_first
        self._refused: set[str] = set()
        self._lock = threading.Lock()

    def status(self, event_id: str) -> int:
        with self._lock:
            if self._hang_first > 0:
                self._hang_first -= 1
                return 0
            if self._refuse_first > 0:
                self._refuse_first -= 1
                return 500
            known = event_id in self._refused and not self._options.for_ever
            if not known and self._chance.random() < self._options.refuse:
                self._refused.add(event_id)
                return 500
            return ACCEPTED


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sender that hangs up, as a killed daemon does, is no news."""


def _serve(options: argparse.Namespace) -> None:
    mood = _Mood(options)
    journal = os.open(options.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    secret_file: Path = options.secret

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._say(ACCEPTED)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            event_id = self.headers.get("webhook-id", "")
            secret = secret_file.read_text() if secret_file.exists() else None
            signed = secret is not None and is_signed(secret, self.headers, body, now_s=time.time())
            status = mood.status(event_id) if signed else 401
            fact = {
                "id": event_id,
                "signed": signed,
                "body": json.loads(body),
                "status": status,
            }
            os.write(journal, json.dumps(fact).encode() + b"\n")
            if status:
                self._say(status)
            else:
                self.rfile.read(1)  # until the sender gives up

        def _say(self, status: int) -> None:
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """The journal has it all."""

    with _Server(("127.0.0.1", options.port), Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("journal", type=Path)
    parser.add_argument("secret", type=Path)
    parser.add_argument("--refuse", type=float, default=0.0)
    parser.add_argument("--refuse-first", type=int, default=0)
    parser.add_argument("--hang-first", type=int, default=0)
    parser.add_argument("--for-ever", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    _serve(parser.parse_args())
