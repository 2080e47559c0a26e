"""The real daemon as a child process, for end-to-end tests and the demo."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.helpers.bitcoind import BitcoinNode
from tests.helpers.monerod import MoneroNode
from tests.helpers.ports import free_port
from tests.helpers.process import ServerError, ServerProcess, wait_until
from tests.helpers.server import Managed

ROOT = Path(__file__).resolve().parents[2]
TALLYD = Path(sys.executable).parent / "tallyd"
STOP_WITHIN_S = 10.0


class Daemon(Managed):
    """`tallyd run` on ports of its own; use as a context manager, or start() and stop().

    ``folder`` holds its state and its log and is kept. Settings go by environment variables.
    """

    def __init__(
        self,
        folder: Path,
        *,
        nodes: tuple[BitcoinNode | MoneroNode, ...] = (),
        env: Mapping[str, str] | None = None,
        arguments: Sequence[str] = ("run",),
        grpc_port: int | None = None,
        http_port: int | None = None,
    ) -> None:
        self.folder = folder
        self.grpc_port = grpc_port or free_port()
        self.http_port = http_port or free_port()
        self.nodes = nodes
        self.extra_env = dict(env or {})
        self.arguments = tuple(arguments)
        self.exit_status: int | None = None
        self._process: ServerProcess | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def log(self) -> Path:
        return self.folder / "tallyd.log"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the daemon is not running"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.is_running

    def environment(self) -> dict[str, str]:
        settings = {
            "STATE_DIRECTORY": str(self.folder),
            "SERVER_HOST": "127.0.0.1",
            "SERVER_PORT": str(self.grpc_port),
            "TALLY_HTTP_HOST": "127.0.0.1",
            "TALLY_HTTP_PORT": str(self.http_port),
        }
        for node in self.nodes:
            prefix = f"{node.family.upper()}_DAEMON"
            settings[f"{prefix}_URL"] = node.url
            if node.user:
                settings[f"{prefix}_USER"] = node.user
                settings[f"{prefix}_PASS"] = node.password
            if isinstance(node, MoneroNode) and node.has_zmq:
                settings["TALLY_XMR_ZMQ_PUB"] = node.zmq_endpoint
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return {**inherited, **settings, **self.extra_env}

    def start(self, *, ready: bool = True) -> None:
        """Start and wait until HTTP answers and, if ``ready``, every chain is current."""
        self.spawn()
        assert self._process is not None
        try:
            self._process.wait_ready(self._is_ready if ready else self._answers)
        except ServerError:
            self._process = None
            raise

    def spawn(self) -> None:
        """Start and wait for nothing."""
        assert self._process is None, "the daemon is already started"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process = ServerProcess(
            [TALLYD, *self.arguments], log=self.log, env=self.environment()
        )

    def wait_current(self, *, timeout_s: float = 60.0) -> None:
        wait_until(self._is_ready, "every chain is current", timeout_s=timeout_s)

    def stop(self, request: signal.Signals = signal.SIGTERM) -> bool:
        """Returns whether the daemon ended by itself in the promised time; see `exit_status`."""
        if self._process is None:
            return True
        in_time = self._process.stop(request=request, grace_s=STOP_WITHIN_S)
        self.exit_status = self._process.exit_status
        self._process = None
        return in_time

    def send(self, request: signal.Signals) -> None:
        assert self._process is not None, "the daemon is not running"
        self._process.send(request)

    def command(
        self, *arguments: str, stdin: str = "", timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run another command of `tallyd` with the same settings; never raises for its status."""
        return subprocess.run(
            [TALLYD, *arguments],
            env=self.environment(),
            cwd="/",
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def kill(self) -> None:
        """SIGKILL, as in a power cut."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def close(self) -> None:
        self.stop()

    def http(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], Any]:
        """One request to the REST API: status, headers, decoded body (text unless JSON)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=90)
        with contextlib.closing(connection):
            connection.request(
                method,
                path,
                body=None if body is None else json.dumps(body),
                headers={"Content-Type": "application/json", **(headers or {})},
            )
            answer = connection.getresponse()
            text = answer.read().decode()
            received = {name.lower(): value for name, value in answer.getheaders()}
            is_json = "json" in received.get("content-type", "")
            return answer.status, received, json.loads(text) if is_json and text else text

    def _answers(self) -> bool:
        return self._status("/healthz") == http.HTTPStatus.OK

    def _is_ready(self) -> bool:
        return self._status("/readyz") == http.HTTPStatus.OK

    def _status(self, path: str) -> int | None:
        try:
            return self.http("GET", path)[0]
        except (OSError, http.client.HTTPException):
            return None
