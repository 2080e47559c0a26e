"""The gate before every RPC: API key in the metadata, client certificate, or loopback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from multidict import MultiDict

from actors.access import Caller
from actors.gate import Gate, Knock, TooMany, Unknown
from api.access import (
    FOR_THE_WHOLE_DAEMON,
    NEEDS_A_KEY,
    PROXY_HEADERS,
    enter,
    lacks,
    refused,
    restricted,
    scope_of_rpc,
)
from api.errors import Answer
from api.grpc import payscrypt
from api.grpc.call import Call, current_call
from api.grpc.peer import Peer
from api.grpc.serving import Interceptor
from api.grpc.status import CallError
from api.payscrypt import APIKEY, SERVICE
from proto.standard.google.rpc import RetryInfo

_PAYSCRYPT = f"/{SERVICE}/"


def gatekeeper(gate: Gate) -> Interceptor:
    """An interceptor that makes the caller known to the handler, or refuses the call.

    Streams end when the key that opened them is revoked or expires.
    """
    streams: dict[Call, Caller] = {}

    def look() -> None:
        for call, caller in tuple(streams.items()):
            if call.outlet.closed:
                del streams[call]
            elif not gate.lets_stay(caller):
                del streams[call]
                call.end(_error(refused(Unknown("the API key has expired or was revoked"))))

    gate.after_each_look(look)

    async def ask(method: str, metadata: MultiDict[str | bytes], peer: Peer) -> GRPCError | None:
        error_of = payscrypt.refused if method.startswith(_PAYSCRYPT) else _error
        scope = scope_of_rpc(method)
        if scope is None:
            stranger = gate.admit_stranger(Knock(address=peer.address))
            return _turned_away(stranger, error_of) if isinstance(stranger, TooMany) else None
        if method in NEEDS_A_KEY:
            found = await _by_key(gate, metadata, peer)
        else:
            found = gate.admit(_knock(metadata, peer))
        if not isinstance(found, Caller):
            return _turned_away(found, error_of)
        if not found.may(scope):
            return error_of(lacks(found, scope))
        if found.user_id is not None and method in FOR_THE_WHOLE_DAEMON:
            return error_of(restricted(found))
        enter(found)
        if found.key is not None and (call := current_call()).method.server_streaming:
            streams[call] = found
        return None

    return ask


async def _by_key(
    gate: Gate, metadata: MultiDict[str | bytes], peer: Peer
) -> Caller | Unknown | TooMany:
    """Raises CallError when the store cannot be asked."""
    knock = _knock(metadata, peer)
    given = metadata.get(APIKEY)
    if isinstance(given, str):
        knock = replace(knock, authorization=f"Bearer {given}")
    with payscrypt.store_failures():
        return await gate.admit_by_key(knock)


def _knock(metadata: MultiDict[str | bytes], peer: Peer) -> Knock:
    given = metadata.get("authorization")
    return Knock(
        address=peer.address,
        authorization=given if isinstance(given, str) else None,
        subject=peer.subject,
        direct=not any(name in metadata for name in PROXY_HEADERS),
    )


def _turned_away(found: Unknown | TooMany, error_of: Callable[[Answer], CallError]) -> CallError:
    error = error_of(refused(found))
    if isinstance(found, TooMany):
        wait = RetryInfo(retry_delay=timedelta(seconds=found.retry_after_s))
        error.details = [*(error.details or ()), wait]
    return error


def _error(told: Answer) -> CallError:
    return CallError(
        Status(told.kind.grpc),
        told.detail,
        reason=told.kind.reason,
        facts={**told.facts, "detail": told.detail},
    )
