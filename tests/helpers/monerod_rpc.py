"""A small synchronous client for monerod and monero-wallet-rpc; standard library only.

For tests and the demo: it shares no code with the daemon's client, so that a mistake there cannot
hide itself here.
"""

import hashlib
import http.client
import json
import re
import secrets
from typing import Any


class RpcError(Exception):
    """The server answered with an error object, or with a ``status`` that is not OK.

    ``code`` is the JSON-RPC error's, None for a status.
    """

    def __init__(self, code: int | None, message: str) -> None:
        super().__init__(message if code is None else f"{message} (code {code})")
        self.code = code
        self.message = message


class HttpError(Exception):
    """The server answered without JSON: 401 (login), 404 (unknown, or refused when restricted)."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"HTTP {status}: {body[:200]!r}")
        self.status = status
        self.body = body


class MoneroClient:
    """Calls one server. Thread-safe: every call has a connection of its own.

    With ``login`` (user, password) it answers the HTTP Digest challenge (RFC 7616) on the same
    connection: monerod's nonce is worth nothing on another one.
    """

    def __init__(self, port: int, login: tuple[str, str] | None = None) -> None:
        self.port = port
        self._login = login

    def rpc(self, method: str, *, timeout_s: float = 60.0, **params: Any) -> Any:
        """Call a JSON-RPC method; returns its result, raises RpcError, HttpError or OSError."""
        request = {"jsonrpc": "2.0", "id": "0", "method": method, "params": params}
        answer = self.post("/json_rpc", timeout_s=timeout_s, **request)
        if "error" in answer:
            raise RpcError(answer["error"]["code"], answer["error"]["message"])
        return _checked(answer["result"])

    def post(self, path: str, *, timeout_s: float = 60.0, **fields: Any) -> Any:
        """Call one of the other endpoints with JSON, such as ``/get_transactions``."""
        status, body = self.send(path, json.dumps(fields).encode(), timeout_s=timeout_s)
        if status != http.HTTPStatus.OK:
            raise HttpError(status, body)
        try:
            return _checked(json.loads(body))
        except ValueError:
            raise HttpError(status, body) from None

    def send(self, path: str, body: bytes, *, timeout_s: float = 60.0) -> tuple[int, bytes]:
        """POST bytes; returns the HTTP status and the answer's bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            response = _exchange(connection, path, body, {})
            data = response.read()
            if response.status == http.HTTPStatus.UNAUTHORIZED and self._login is not None:
                challenge = response.headers.get_all("www-authenticate", [])[0]
                token = digest(challenge, "POST", path, *self._login)
                response = _exchange(connection, path, body, {"Authorization": token})
                data = response.read()
            return response.status, data
        finally:
            connection.close()


def digest(challenge: str, method: str, path: str, user: str, password: str) -> str:
    """Return the Authorization header for an MD5, qop=auth challenge (RFC 7616)."""
    given = dict(re.findall(r'(\w+)="?([^",]*)"?', challenge))
    assert given["algorithm"] == "MD5"
    assert given["qop"] == "auth"
    nonce, realm, cnonce = given["nonce"], given["realm"], secrets.token_hex(8)
    who = _md5(f"{user}:{realm}:{password}")
    response = _md5(f"{who}:{nonce}:00000001:{cnonce}:auth:{_md5(f'{method}:{path}')}")
    return (
        f'Digest username="{user}",realm="{realm}",nonce="{nonce}",uri="{path}",algorithm=MD5,'
        f'qop=auth,nc=00000001,cnonce="{cnonce}",response="{response}"'
    )


def _md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def _exchange(
    connection: http.client.HTTPConnection, path: str, body: bytes, headers: dict[str, str]
) -> http.client.HTTPResponse:
    connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
    return connection.getresponse()


def _checked(answer: Any) -> Any:
    if isinstance(answer, dict) and answer.get("status", "OK") != "OK":
        raise RpcError(None, str(answer.get("reason") or answer["status"]))
    return answer
