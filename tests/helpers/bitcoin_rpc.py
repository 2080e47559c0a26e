"""A small synchronous JSON-RPC client for bitcoind and its forks; standard library only.

For tests and the demo: it shares no code with the daemon's client, so that a mistake there cannot
hide itself here.
"""

import base64
import http.client
import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any


class RpcError(Exception):
    """The node answered with an error object; ``code`` is Bitcoin Core's RPCErrorCode."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} (code {code})")
        self.code = code
        self.message = message


class HttpError(Exception):
    """The node answered without JSON: 401 (credentials), 403, 404, 503 (work queue full)."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"HTTP {status}: {body[:200]!r}")
        self.status = status
        self.body = body


class RpcClient:
    """Calls one node. Thread-safe: every call has a connection of its own.

    No keep-alive on purpose: Litecoin 0.21 waits for idle connections before it stops.
    """

    def __init__(
        self, port: int, credentials: Callable[[], str], *, wallet: str | None = None
    ) -> None:
        self.port = port
        self._credentials = credentials
        self._path = "/" if wallet is None else f"/wallet/{wallet}"

    def for_wallet(self, name: str) -> "RpcClient":
        """Return a client for one of several wallets of the node."""
        return RpcClient(self.port, self._credentials, wallet=name)

    def post(self, body: Any, *, timeout_s: float = 60.0) -> tuple[int, bytes]:
        """Send ``body`` as JSON; returns the HTTP status and the answer's bytes."""
        token = base64.b64encode(self._credentials().encode()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request(
                "POST",
                self._path,
                json.dumps(body, default=_encode),
                {"Authorization": f"Basic {token}", "Content-Type": "application/json"},
            )
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def call(self, method: str, *params: Any, timeout_s: float = 60.0) -> Any:
        """Return the result, with amounts as Decimal; raises RpcError or HttpError."""
        request = {"id": 0, "method": method, "params": params}
        status, body = self.post(request, timeout_s=timeout_s)
        return _result(_decode(status, body))

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Return the results in the order of ``calls``; the first error is raised."""
        requests = [
            {"id": number, "method": method, "params": list(params)}
            for number, (method, params) in enumerate(calls)
        ]
        answers = _decode(*self.post(requests))
        return [_result(answer) for answer in sorted(answers, key=lambda answer: answer["id"])]


def _encode(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")  # the node takes amounts as strings too
    raise TypeError(f"{type(value).__name__} cannot be sent over JSON-RPC")


def _decode(status: int, body: bytes) -> Any:
    try:
        return json.loads(body, parse_float=Decimal)
    except ValueError:
        raise HttpError(status, body) from None


def _result(answer: dict[str, Any]) -> Any:
    if answer.get("error"):
        raise RpcError(answer["error"]["code"], answer["error"]["message"])
    return answer["result"]
