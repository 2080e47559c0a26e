"""What a JSON-RPC node says and how it fails, checked and put in words; the same for HTTP and ws.

Texts are for the person who runs the daemon: what happened, which setting it was
(`<setting>.daemon.url`, ...), what to do. None holds a user, a password, a cookie or an access key.
"""

from __future__ import annotations

import copy
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import trio

from actors.ports import PersistentError, TransientError
from daemon.drivers.jsonrpc_http import Address, ConnectionLostError, GarbledError, TooLargeError
from daemon.drivers.jsonrpc_login import Credentials

BATCH_LIMIT = 1000
"""Calls in one request, at most."""
IN_WARMUP = -28
METHOD_NOT_FOUND = -32601
_SHOWN = 80
_KEY_LENGTH = 8
"""Parts of a path that may be an access key are at least this long; `rpc` and `v3` are not."""

Call = tuple[str, tuple[Any, ...]]
"""(method, params)."""


class RpcError(TransientError):
    """The node answered this call with a JSON-RPC error object."""

    def __init__(self, code: int, message: str, text: str, data: object = None) -> None:
        super().__init__(text)
        self.code = code
        self.message = message
        """The node's words, shortened; without credentials."""
        self.data = data
        """What the node added, unchecked (JSON-RPC 2.0, section 5.1); never shown."""


class AnswerTooLargeError(TransientError):
    """The answer is larger than the limit; asking for less at a time may help."""


class BusyError(TransientError):
    """The server answered HTTP 429, 502, 503 or 504."""

    status = 0
    retry_after: str | None = None
    """The header as it came: seconds or a date (RFC 9110, section 10.2.3)."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do, per kind of node; `{setting}` stands for the chain's: `coin.btc`."""

    refused: str
    busy: str
    port: str


BITCOIN_ADVICE = Advice(
    refused="Check {setting}.daemon.user and {setting}.daemon.pass, or {setting}.cookie_file, and"
    " that the node allows this machine (rpcallowip) and these calls (rpcwhitelist)",
    busy="If it stays so, raise the node's rpcworkqueue and rpcthreads",
    port="Is this the node's RPC port?",
)
EVM_ADVICE = Advice(
    refused="Check the access key in {setting}.daemon.url, or {setting}.daemon.user and"
    " {setting}.daemon.pass, and that the node or its provider allows this machine",
    busy="If it stays so, add another endpoint to {setting}.daemon.url, or use a node of your own",
    port="Is this the node's JSON-RPC address, and ws:// or http:// as the node wants it there?",
)


class NodeWords:
    """Checks one node's answers and puts its failures in words."""

    def __init__(
        self, address: Address, *, setting: str, credentials: Credentials, advice: Advice
    ) -> None:
        self.address = address
        self.setting = setting
        self._credentials = credentials
        self._refused = advice.refused.format(setting=setting)
        self._busy = advice.busy.format(setting=setting)
        self._port = advice.port.format(setting=setting)
        parts = re.split(r"[/?&=]", address.target)
        keys = {part for part in parts if len(part) >= _KEY_LENGTH}
        self._keys = sorted(keys, key=len, reverse=True)

    @property
    def where(self) -> str:
        """The node, for people: the setting that names it and its address."""
        return f"{self.setting}.daemon.url ({self.address.display})"

    # --- connections ---

    @contextmanager
    def failures(self, *, timeout_s: float, limit_bytes: int) -> Iterator[None]:
        """Turn what goes wrong with a connection into the world's two errors."""
        try:
            yield
        except (
            trio.TooSlowError,
            trio.ClosedResourceError,
            ConnectionLostError,
            GarbledError,
            TooLargeError,
            OSError,
        ) as error:
            told = self.told(error, timeout_s=timeout_s, limit_bytes=limit_bytes)
            assert told is not None, "the same errors are known there"
            raise told from None

    def told(
        self, error: BaseException, *, timeout_s: float, limit_bytes: int
    ) -> TransientError | PersistentError | None:
        """A new error that says in words what `error` means; None when it is a bug."""
        match error:
            case TransientError() | PersistentError():
                return copy.copy(error)
            case trio.TooSlowError():
                return self.transient(
                    f"did not answer within {timeout_s:g} s. Is the node overloaded? Raise"
                    f" {self.setting}.rpc_timeout_s if it needs longer"
                )
            case ConnectionLostError() | trio.ClosedResourceError():
                what = self._redacted(str(error) or "closed")
                return self.transient(f"{what}. Did the node stop? Its log tells why")
            case GarbledError():
                return self.transient(
                    f"answered garbage: {self._redacted(str(error))}. {self._port}"
                )
            case TooLargeError():
                return AnswerTooLargeError(
                    f"{self.where} answered with more than we accept ({error}, the limit is"
                    f" {limit_bytes}). {self._port}"
                )
            case OSError():
                return self.transient(
                    f"cannot be reached: {_reason(error)}. Is the node running, and are host and"
                    " port those of its RPC server?"
                )
        return None

    def transient(self, what: str) -> TransientError:
        return TransientError(f"{self.where} {what}")

    # --- answers ---

    def status_error(
        self, status: int, body: bytes, retry_after: str | None
    ) -> TransientError | PersistentError | None:
        """The error of an HTTP status that means the same whatever the body says."""
        if status in (401, 403):
            return PersistentError(f"{self.where} refuses us (HTTP {status}). {self._refused}")
        if status in (429, 502, 503, 504):
            wait = f"; it asks us to wait {retry_after!r}" if retry_after else ""
            busy = BusyError(
                f"{self.where} is too busy (HTTP {status}: {self.shown(body)}){wait}. {self._busy}"
            )
            busy.status = status
            busy.retry_after = retry_after
            return busy
        return None

    def garbage(self, what: str, body: bytes | str) -> NoReturn:
        raise self.transient(
            f"answered garbage: {what} in {len(body)} bytes that begin {self.shown(body)}."
            f" {self._port}"
        ) from None

    def results(
        self, parsed: Any, ids: range, methods: Sequence[str], *, batch: bool, body: bytes | str
    ) -> list[Any]:
        """Results in the order of `ids`; a refused call is an RpcError in its place.

        Raises the RpcError of a batch that was refused as a whole.
        """
        if isinstance(parsed, dict) and (not batch or parsed.get("error") is not None):
            error = parsed.get("error")
            if error is not None and (batch or parsed.get("id") is None):
                raise self.rpc_error(error, methods[0])
            parsed = [parsed]
        if not isinstance(parsed, list):
            self.garbage("neither an object nor a list", body)
        results: dict[int, Any] = {}
        for item in parsed:
            if not isinstance(item, dict) or not isinstance(item.get("id"), int):
                self.garbage("no JSON-RPC answer", body)
            number = item["id"]
            if number not in ids or number in results:
                self.garbage("an answer to another request", body)
            error = item.get("error")
            if error is not None:
                results[number] = self.rpc_error(error, methods[number - ids.start])
            elif "result" in item:
                results[number] = item["result"]
            else:
                self.garbage("neither result nor error", body)
        if len(results) != len(ids):
            self.garbage(f"{len(results)} answers to {len(ids)} calls", body)
        return [results[number] for number in ids]

    def rpc_error(self, error: object, method: str) -> RpcError:
        code = error.get("code") if isinstance(error, dict) else None
        message = error.get("message") if isinstance(error, dict) else error
        data = error.get("data") if isinstance(error, dict) else None
        if not isinstance(code, int):
            code = 0
        message = self._redacted(str(message)[:300])
        if code == IN_WARMUP:
            text = f"{self.where} is still starting: {message}. Wait until the node is ready"
        else:
            text = f"{self.where} refused {method}: {message} (error {code})"
        return RpcError(code, message, text, data)

    def shown(self, body: bytes | str) -> str:
        """The beginning of what came, for an error's text."""
        head = body[:_SHOWN]
        return repr(self._redacted(head if isinstance(head, str) else head.decode("latin-1")))

    def _redacted(self, text: str) -> str:
        for key in self._keys:
            text = text.replace(key, "***")
        return self._credentials.redacted(text)


def _reason(error: OSError) -> str:
    """Why: trio says that all attempts failed, and has their errors as the cause."""
    cause: BaseException | None = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    inner = cause if isinstance(cause, OSError) else error
    if inner.errno is not None and not isinstance(inner, socket.gaierror):
        return os.strerror(inner.errno)
    return inner.strerror or str(inner)
