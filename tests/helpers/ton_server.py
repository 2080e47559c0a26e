"""The process of the TON test peer (tests/nodes/ton), its requests and its misbehaviour."""

import contextlib
import http.client
import json
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tests.helpers.process import ServerError, ServerProcess
from tests.helpers.server import Server
from tests.nodes.install import DEFAULT_DEST, find, how_to_install
from tests.nodes.npm import find_runtime
from tests.nodes.ton import SERVER


class TonPeerError(Exception):
    """The peer refused a command; the message is its reason."""


class TonEndpoint:
    """One place that speaks toncenter's API, with options and faults of its own."""

    port: int = 0

    @property
    def url(self) -> str:
        """What a daemon's setting would name: both versions of the API are below it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/api/streaming/v2/ws"

    # --- requests ---

    def request(
        self, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Send a GET, or a POST of ``body`` as JSON; returns status and answer. Raises OSError."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with contextlib.closing(connection):
            content = None if body is None else json.dumps(body)
            method = "GET" if body is None else "POST"
            connection.request(method, path, content, dict(headers or {}))
            response = connection.getresponse()
            return response.status, response.read()

    def get(self, path: str, **query: Any) -> Any:
        """Return the answer to a GET of the API, which must be 200."""
        text = urllib.parse.urlencode(query, doseq=True)
        status, answer = self.request(f"{path}?{text}" if text else path)
        assert status == 200, f"{path} answered {status}: {answer[:500]!r}"
        return json.loads(answer)

    def post(self, path: str, body: Any) -> Any:
        """Return the answer to a POST of the API, which must be 200."""
        status, answer = self.request(path, body)
        assert status == 200, f"{path} answered {status}: {answer[:500]!r}"
        return json.loads(answer)

    def command(self, name: str, /, **arguments: Any) -> Any:
        """Have the peer do something (admin.js); raises TonPeerError."""
        status, answer = self.request(f"/test/{name}", arguments)
        told = json.loads(answer)
        if status != 200:
            raise TonPeerError(told["error"])
        return told

    # --- behaviour ---

    def set(self, **options: Any) -> None:
        """Change options, at once; those of the start come back with a restart."""
        self.command("options", **options)

    def fail(self, path: str = "", *, times: int = 1, **fault: Any) -> None:
        """Plan that the next requests whose path has ``path`` in it fail; replaces the last plan.

        ``fault``: ``status`` and ``body`` (text as it is, anything else as JSON), or ``close``
        (the connection ends), ``hang`` (no answer), ``delay_ms``.
        """
        self.command("faults", faults=[{"path": path, "times": times, **fault}])

    def requests(self) -> dict[str, int]:
        """Return how often each path of the API was asked since the start or forget_requests()."""
        return dict(self.command("state")["requests"])

    def forget_requests(self) -> None:
        self.command("forget_requests")

    def connections(self) -> int:
        """Return how many websockets are open."""
        return int(self.command("state")["connections"])

    def disconnect_streams(self, *, abruptly: bool = False) -> None:
        """End every websocket, with 1001 or without a goodbye."""
        self.command("disconnect", abruptly=abruptly)


class TonMirror(TonEndpoint):
    """Another endpoint of a peer's chain; gone with the peer, also when that restarts."""

    def __init__(self, port: int) -> None:
        self.port = port


class TonServer(TonEndpoint, Server):
    """What TonPeer is besides its chain: use that."""

    PREFIX = "tally-ton-"
    STOP_GRACE_S = 20.0

    def __init__(
        self,
        *,
        network: Literal["mainnet", "testnet"] = "mainnet",
        first: int = 1,
        datadir: Path | None = None,
        **options: Any,
    ) -> None:
        library, runtime = find("ton"), find_runtime(DEFAULT_DEST)
        if library is None or runtime is None:
            raise ServerError(how_to_install("ton"))
        super().__init__(datadir)
        self.network = network
        self._choose_ports()
        self._start_options = {"network": network, "first": first, **options}
        self._node = runtime.node
        self._env = {**runtime.environment(), "NODE_PATH": str(library / "node_modules")}

    # --- life ---

    def _start_once(self) -> None:
        log = self.datadir / "output.log"
        log.unlink(missing_ok=True)
        state = str(self.datadir / "state.json")
        options = {**self._start_options, "port": self.port, "state": state}
        command = [self._node, SERVER, json.dumps(options)]
        process = ServerProcess(command, log=log, env=self._env)

        def told_port() -> int:
            line = log.read_text(errors="replace").partition("\n")
            return int(json.loads(line[0])["port"]) if line[1] and line[0][:1] == "{" else 0

        self.port = process.wait_ready(told_port)
        self._process = process

    def _choose_ports(self) -> None:
        self.port = 0

    def set_shards(self, count: Literal[1, 2, 4], *, blocks: int = 1) -> None:
        """From the next block on: so many shards, with so many blocks each per masterchain block.

        Of several, the first has the senders' transactions and the last the recipients'.
        """
        self.command("shards", count=count, blocks=blocks)

    def mirror(self, **options: Any) -> TonMirror:
        """Return a new endpoint of the same chain, with ``options`` of its own."""
        return TonMirror(int(self.command("mirror", options=options)["port"]))
