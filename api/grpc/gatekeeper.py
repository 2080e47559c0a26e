"""The gate before every RPC: API key in the metadata, client certificate, or loopback."""

from __future__ import annotations

from datetime import timedelta

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from multidict import MultiDict

from actors.access import Caller
from actors.gate import Gate, Knock, TooMany, Unknown
from api.access import (
    FOR_THE_WHOLE_DAEMON,
    PROXY_HEADERS,
    enter,
    lacks,
    refused,
    restricted,
    scope_of_rpc,
)
from api.errors import Answer
from api.grpc.call import Call, current_call
from api.grpc.peer import Peer
from api.grpc.serving import Interceptor
from api.grpc.status import CallError
from proto.standard.google.rpc import RetryInfo


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
        scope = scope_of_rpc(method)
        if scope is None:
            stranger = gate.admit_stranger(Knock(address=peer.address))
            return _turned_away(stranger) if isinstance(stranger, TooMany) else None
        given = metadata.get("authorization")
        found = gate.admit(
            Knock(
                address=peer.address,
                authorization=given if isinstance(given, str) else None,
                subject=peer.subject,
                direct=not any(name in metadata for name in PROXY_HEADERS),
            )
        )
        if not isinstance(found, Caller):
            return _turned_away(found)
        if not found.may(scope):
            return _error(lacks(found, scope))
        if found.user_id is not None and method in FOR_THE_WHOLE_DAEMON:
            return _error(restricted(found))
        enter(found)
        if found.key is not None and (call := current_call()).method.server_streaming:
            streams[call] = found
        return None

    return ask


def _turned_away(found: Unknown | TooMany) -> CallError:
    error = _error(refused(found))
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
