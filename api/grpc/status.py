"""How a call ends: a gRPC status, its message, its details and trailing metadata, as headers.

Sources: grpc/doc/PROTOCOL-HTTP2.md, grpc/doc/statuscodes.md, google.rpc.Status.
"""

from collections.abc import Collection, Mapping
from typing import Any

import betterproto2
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.metadata import encode_bin_value, encode_grpc_message, encode_metadata

from proto.standard.google.protobuf import Any as Packed
from proto.standard.google.rpc import BadRequest, BadRequestFieldViolation, ErrorInfo
from proto.standard.google.rpc import Status as RpcStatus
from proto.standard.message_pool import default_message_pool

REASON_KEY = "tally-reason"
DOMAIN = "tallyd"
MAX_MESSAGE_CHARACTERS = 1000
MAX_DETAILS_BYTES = 4096
"""Trailers stay well under the 8 KiB that clients accept by default."""

Metadata = Mapping[str, str | bytes] | Collection[tuple[str, str | bytes]]
Header = tuple[str, str] | tuple[str, str, bool]

CONTENT_TYPE = ("content-type", "application/grpc")
RESPONSE = ((":status", "200"), CONTENT_TYPE)
OK_TRAILERS: tuple[Header, ...] = (("grpc-status", "0"),)


class CallError(GRPCError):
    """A refused call that says why beside its text.

    ``reason`` is an UPPER_SNAKE_CASE word for programs: it travels as google.rpc.ErrorInfo in
    ``grpc-status-details-bin`` together with ``facts``, and as trailing metadata
    ``tally-reason``. ``violations`` are the wrong fields, each with what is wrong, and travel as
    google.rpc.BadRequest. ``metadata`` is further trailing metadata, ``headers`` are those of the
    protocol itself.
    """

    def __init__(
        self,
        status: Status,
        message: str,
        *,
        reason: str | None = None,
        facts: Mapping[str, str] | None = None,
        metadata: Metadata = (),
        headers: Collection[Header] = (),
        domain: str = DOMAIN,
        violations: Collection[tuple[str, str]] = (),
    ) -> None:
        details: list[ErrorInfo | BadRequest] = []
        trailing = list(metadata.items() if isinstance(metadata, Mapping) else metadata)
        if reason is not None:
            details.append(ErrorInfo(reason=reason, domain=domain, metadata=dict(facts or {})))
            trailing.append((REASON_KEY, reason))
        if violations:
            wrong = [
                BadRequestFieldViolation(field=field, description=description)
                for field, description in violations
            ]
            details.append(BadRequest(field_violations=wrong))
        super().__init__(status, message, details or None)
        self.metadata: list[tuple[str, str | bytes]] = trailing
        self.headers = headers


def error_trailers(error: GRPCError, metadata: Metadata = ()) -> list[Header]:
    """The trailing headers of a failed call.

    Raises ValueError or TypeError when metadata cannot travel in a header, which is a bug of the
    handler. Texts beyond the limits are cut, details beyond them are left out.
    """
    message = (error.message or "")[:MAX_MESSAGE_CHARACTERS]
    # Texts and reasons differ from call to call: kept out of the peer's header table (the third
    # item), or they would wash out the entries that every answer repeats.
    headers: list[Header] = [("grpc-status", str(error.status.value))]
    if message:
        headers.append(("grpc-message", encode_grpc_message(message), True))
    if error.details is not None:
        packed = _details(error.status, message, error.details)
        if len(packed) <= MAX_DETAILS_BYTES:
            headers.append(("grpc-status-details-bin", encode_bin_value(packed).decode(), True))
    headers.extend(getattr(error, "headers", ()))
    for source in (metadata, getattr(error, "metadata", ())):
        headers.extend((key, value, True) for key, value in encode_metadata(source))
    return headers


def success_trailers(metadata: Metadata) -> list[Header]:
    """The trailing headers of a call that succeeded; raises as ``error_trailers`` does."""
    return [*OK_TRAILERS, *((key, value, True) for key, value in encode_metadata(metadata))]


def _details(status: Status, message: str, details: Collection[Any]) -> bytes:
    return bytes(
        RpcStatus(
            code=status.value,
            message=message,
            details=[Packed(type_url=_type_url(one), value=bytes(one)) for one in details],
        )
    )


def _type_url(message: betterproto2.Message) -> str:
    url = default_message_pool.type_to_url.get(type(message))
    if url is None:
        raise TypeError(
            f"{type(message).__name__} cannot be an error detail: it is not in proto.standard"
        )
    return url
