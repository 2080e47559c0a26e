"""One RPC in progress: what its handler sees, and how it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import betterproto2
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.metadata import Deadline, decode_metadata, encode_metadata
from multidict import MultiDict

from api.grpc.codec import Encoded, decode, too_large
from api.grpc.inbox import Inbox
from api.grpc.outlet import Outlet
from api.grpc.peer import Peer
from api.grpc.serving import Method, Serving
from api.grpc.status import CallError, Metadata, error_trailers, success_trailers

_CURRENT: ContextVar[Call] = ContextVar("current_grpc_call")


def current_call() -> Call:
    """The call that the running handler serves; LookupError outside of one."""
    return _CURRENT.get()


async def pushed(work: Awaitable[None]) -> AsyncIterator[Any]:
    """Make a streaming handler out of work that sends through ``Call.push`` and yields nothing."""
    await work
    replies: tuple[Any, ...] = ()
    for reply in replies:
        yield reply


def _slow_reader() -> CallError:
    return CallError(
        Status.RESOURCE_EXHAUSTED,
        "The reader is too slow: messages were not taken from the stream in time."
        " Reconnect and ask for what was missed.",
        reason="SLOW_READER",
    )


class Call:
    """The server side of one RPC.

    Has the interface that generated code expects of grpclib's server stream (``recv_message``,
    ``send_message``, iteration), and beyond it ``push`` for broadcasters, ``peer``, ``metadata``,
    ``deadline`` and ``trailing_metadata``.

    However a call ends (its handler returns or raises, the deadline passes, the peer resets it,
    the reader is cut off, the server stops), it ends once: the first of these decides the status,
    and the handler is cancelled if it still runs.
    """

    __slots__ = (
        "_headers",
        "_metadata",
        "_reply",
        "_scope",
        "_serving",
        "deadline",
        "inbox",
        "method",
        "outlet",
        "peer",
        "slow_reader",
        "trailing_metadata",
    )

    def __init__(
        self,
        serving: Serving,
        method: Method,
        *,
        headers: list[tuple[bytes, bytes]],
        peer: Peer,
        inbox: Inbox,
        outlet: Outlet,
        timeout_s: float | None,
    ) -> None:
        self._serving = serving
        self._headers = headers
        self._metadata: MultiDict[str | bytes] | None = None
        self._reply: Encoded | None = None
        self._scope = trio.CancelScope()
        self.method = method
        self.peer = peer
        self.inbox = inbox
        self.outlet = outlet
        self.deadline: Deadline | None = None
        self.trailing_metadata: list[tuple[str, str | bytes]] = []
        self.slow_reader: Callable[[], GRPCError] = _slow_reader
        """How the call ends when it is cut off; a handler may say more than the server knows."""
        if timeout_s is not None:
            self.deadline = Deadline.from_timeout(timeout_s)
            self._scope.deadline = trio.current_time() + timeout_s

    @property
    def metadata(self) -> MultiDict[str | bytes]:
        """What the client sent beside the request; GRPCError when a ``-bin`` value is damaged."""
        if self._metadata is None:
            headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in self._headers]
            try:
                self._metadata = decode_metadata(headers)
            except ValueError:  # damaged base64, or no ASCII at all
                raise GRPCError(
                    Status.INVALID_ARGUMENT, "A metadata value whose key ends in -bin is no base64."
                ) from None
        return self._metadata

    @property
    def user_agent(self) -> str | None:
        """What the client calls itself."""
        return next((v.decode("latin-1") for k, v in self._headers if k == b"user-agent"), None)

    async def recv_message(self) -> Any:
        """The next request, or None after the last; GRPCError when it is not what was declared."""
        if self.method.client_streaming:
            data = await self.inbox.take()
        else:
            data = await self.inbox.take_only()
        if data is None:
            return None
        self._serving.counters.messages_in += 1
        return decode(data, self.method.request_type)

    def __aiter__(self) -> Call:
        return self

    async def __anext__(self) -> Any:
        message = await self.recv_message()
        if message is None:
            raise StopAsyncIteration
        return message

    async def send_initial_metadata(self, *, metadata: Metadata = ()) -> None:
        """Send the response headers before the first message."""
        # Before any await: an event pushed in between would start the answer itself.
        if not self.outlet.closed:
            # Kept out of the header table (the third item), whose size the peer chooses.
            self.outlet.start((key, value, True) for key, value in encode_metadata(metadata))
        await trio.lowlevel.checkpoint()

    async def send_message(self, message: betterproto2.Message | Encoded) -> None:
        """Send one reply; on a stream, return once the reader's buffer is empty again.

        Raises GRPCError RESOURCE_EXHAUSTED for a message over the limit and TypeError for one of
        another type than declared.
        """
        encoded = self._encode(message)
        if not self.method.server_streaming:
            if self._reply is not None:
                raise RuntimeError(f"{self.method.path} answers once, but replied twice")
            self._reply = encoded
            return
        self._push(encoded)
        # Even a reader that keeps up must let other tasks run between two messages.
        await trio.lowlevel.checkpoint()
        await self.outlet.until_drained()

    def push(self, message: betterproto2.Message | Encoded) -> bool:
        """Send one message of a server stream without waiting; for broadcasters.

        Returns False, and does nothing, once the stream is over. A reader that lets more wait
        than the limit is cut off with RESOURCE_EXHAUSTED: False is returned and the handler
        cancelled. Encode a message for many calls once, as ``Encoded``. Raises as
        ``send_message`` does.
        """
        assert self.method.server_streaming
        return self._push(self._encode(message))

    async def sleep_until_closed(self) -> None:
        """Wait for the end of the call, which comes as cancellation: for handlers that push."""
        await trio.sleep_forever()

    async def run(self) -> None:
        """Run the handler to its end; the boundary that turns exceptions into statuses."""
        _CURRENT.set(self)
        try:
            with self._scope:
                await self._serve()
                self._succeed()
        except GRPCError as error:
            self.end(error)
        except Exception as error:  # noqa: BLE001 - the boundary: a handler's bug ends its call only
            self._fail(error)
        else:
            if self._scope.cancelled_caught:
                self.end(GRPCError(Status.DEADLINE_EXCEEDED, "The deadline of the call passed."))

    def end(self, error: GRPCError, *, after_queued: bool = False) -> None:
        """End the call with an error status and cancel its handler; nothing if it has ended.

        What waits for a slow reader is dropped unless it shall go out first.
        """
        # Cancelled before its stream ends, or a handler that waits for its reader would go on.
        self._scope.cancel()
        if self.outlet.closed:
            return
        try:
            trailers = error_trailers(error, self.trailing_metadata)
        except (ValueError, TypeError) as problem:
            self._report(problem)
            error = self._internal()
            trailers = error_trailers(error)
        self._serving.counters.statuses[error.status.name] += 1
        if after_queued:
            self.outlet.finish(trailers)
        else:
            self.outlet.abort(trailers)

    def cut_off(self) -> None:
        """End the stream of a reader that does not keep up."""
        if self.outlet.ended:
            return
        self._serving.counters.readers_cut_off += 1
        self._serving.counters.statuses[Status.RESOURCE_EXHAUSTED.name] += 1
        self._serving.log.warning(
            "a slow reader was cut off", method=self.method.path, peer=str(self.peer)
        )
        self._scope.cancel()
        self.outlet.abort(error_trailers(self.slow_reader()))

    def abandon(self) -> None:
        """The peer does not want the answer any more."""
        self._scope.cancel()
        self.outlet.drop()

    async def _serve(self) -> None:
        for interceptor in self._serving.interceptors:
            refusal = await interceptor(self.method.path, self.metadata, self.peer)
            if refusal is not None:
                raise refusal
        await self.method.func(self)

    def _succeed(self) -> None:
        if self.outlet.closed:
            return
        trailers = success_trailers(self.trailing_metadata)
        if not self.method.server_streaming:
            if self._reply is None:
                raise RuntimeError(f"{self.method.path} returned without a reply")
            self._push(self._reply)
        elif not self.outlet.started:
            self.outlet.start()
        self._serving.counters.statuses["OK"] += 1
        self.outlet.finish(trailers)

    def _fail(self, error: Exception) -> None:
        expected = _only_cause(error)
        if isinstance(expected, GRPCError):
            self.end(expected)
            return
        self._report(error)
        self.trailing_metadata.clear()
        self.end(self._internal())

    def _internal(self) -> GRPCError:
        return GRPCError(Status.INTERNAL, self.method.internal_text)

    def _report(self, error: Exception) -> None:
        self._serving.counters.handler_errors += 1
        self._serving.log.error(
            "a gRPC handler failed", method=self.method.path, peer=str(self.peer), exc_info=error
        )

    def _encode(self, message: betterproto2.Message | Encoded) -> Encoded:
        encoded = message if isinstance(message, Encoded) else Encoded.of(message)
        if encoded.message_type is not self.method.reply_type:
            raise TypeError(
                f"{self.method.path} answers with {self.method.reply_type.__name__},"
                f" not {encoded.message_type.__name__}"
            )
        if encoded.body_bytes > self._serving.limits.message_bytes:
            raise too_large(encoded.body_bytes, self._serving.limits.message_bytes)
        return encoded

    def _push(self, encoded: Encoded) -> bool:
        if not self.outlet.started and not self.outlet.closed:
            limit = self._serving.limits.compress_above_bytes
            if not self.method.server_streaming and encoded.body_bytes < limit:
                self.outlet.no_gzip()
        self._serving.counters.messages_out += 1
        return self.outlet.push(encoded)


def _only_cause(error: BaseException) -> BaseException:
    """The exception inside of groups of one, which nurseries wrap around it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
