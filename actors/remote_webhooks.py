"""Webhooks that another process delivers: its actors rested, woken and sent through by post.

Changing an endpoint takes three steps: its actor rests, the tables are changed, it goes on with
what is stored then. Where the engine is another process', the first and the last are posts to it,
and in between it keeps the actor still under a lease. A lease ends by itself after LEASE_S, and
with the process that gave it, so a vanished asker holds up nobody; who comes too late is told that
the endpoint may have gone on meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from uuid import UUID, uuid4

import orjson
import trio

from actors.asking import Asks
from actors.ports import PersistentError, TransientError
from actors.webhook_actor import WebhookTools
from actors.webhook_engine import WebhookStatistics
from actors.webhook_sending import Answer

DELIVER = "deliver"
"""The duty of sending webhooks."""
REST, WAKE, SEND = "rest", "wake", "send"
"""Kinds of posts to it: two leases, and a request for a test."""
LEASE_S = 10.0
"""How long an endpoint rests at most."""
SEND_S = 4.0
"""How long a receiver has for a test that is sent for another process, which waits for it."""

NOTHING = WebhookStatistics(
    delivered=0,
    failed=0,
    dead=0,
    pauses=0,
    in_flight=0,
    active=0,
    failing=0,
    paused=0,
    oldest_at_ms=None,
)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to change one endpoint."""

    id: UUID
    endpoint_id: UUID

    def pack(self) -> bytes:
        return orjson.dumps({"lease": str(self.id), "endpoint": str(self.endpoint_id)})

    @classmethod
    def unpack(cls, body: bytes) -> Lease:
        data = orjson.loads(body)
        return cls(UUID(data["lease"]), UUID(data["endpoint"]))


@dataclass(frozen=True, slots=True)
class Sending:
    """One request to an endpoint."""

    endpoint_id: UUID
    url: str
    headers: Mapping[str, str]
    body: bytes

    def pack(self) -> bytes:
        head = {"endpoint": str(self.endpoint_id), "url": self.url, "headers": dict(self.headers)}
        return orjson.dumps(head) + b"\n" + self.body

    @classmethod
    def unpack(cls, packed: bytes) -> Sending:
        # JSON of orjson's has no line break.
        first, _, body = packed.partition(b"\n")
        head = orjson.loads(first)
        return cls(UUID(head["endpoint"]), head["url"], head["headers"], body)


class RemoteSender:
    """`Sender` by the process that delivers: only it needs a way out to the world."""

    def __init__(self, duties: Asks) -> None:
        self._duties = duties

    async def post(
        self, endpoint_id: UUID, url: str, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        """See `Sender`; what could not even be asked for is an answer as well."""
        started = trio.current_time()
        packed = Sending(endpoint_id, url, headers, body).pack()
        try:
            answer = await self._duties.ask(DELIVER, SEND, packed)
        except (TransientError, PersistentError) as error:
            latency_ms = round((trio.current_time() - started) * 1000)
            return Answer(status=None, error=str(error), latency_ms=latency_ms)
        return Answer(**orjson.loads(answer))

    async def forget(self, endpoint_id: UUID) -> None:  # noqa: ARG002 - the connections are not ours
        """The engine does so itself when the endpoint rests."""
        await trio.lowlevel.checkpoint()


class RemoteEngine:
    """The `Engine` of whichever process holds the duty of delivering, perhaps ours."""

    def __init__(self, tools: WebhookTools, duties: Asks) -> None:
        """`tools` send by `RemoteSender`."""
        self.tools = tools
        self._duties = duties

    @asynccontextmanager
    async def resting(self, endpoint_id: UUID) -> AsyncIterator[None]:
        """As `WebhookEngine.resting`.

        Raises TransientError: before the block, which then is not entered, when nobody delivers;
        after it, when the endpoint may have gone on before the block was done.
        """
        lease = Lease(uuid4(), endpoint_id)
        rests, kept = False, b""
        try:
            await self._duties.ask(DELIVER, REST, lease.pack())
            rests = True
            yield
        finally:
            # Also if it is not known whether it rests, unless nobody is there who could have done
            # it. Bounded: who asks is answered in time.
            if rests or self._duties.standing(DELIVER) is not None:
                with trio.CancelScope(shield=True):
                    kept = await self._wake(lease)
        if not kept:
            raise TransientError(
                "the process that delivers webhooks changed while the endpoint was being changed:"
                " look at the endpoint, and ask again if it is not as you want it"
            )

    async def _wake(self, lease: Lease) -> bytes:
        """Empty: the lease had ended before, or that is not known."""
        try:
            return await self._duties.ask(DELIVER, WAKE, lease.pack())
        except (TransientError, PersistentError) as error:
            self.tools.log.warning(
                "an endpoint was not woken; it goes on by itself",
                endpoint=str(lease.endpoint_id),
                reason=str(error),
            )
            return b""

    def statistics(self) -> WebhookStatistics:
        """As the holder last said; nothing while there is none."""
        standing = self._duties.standing(DELIVER)
        return WebhookStatistics(**orjson.loads(standing.body)) if standing else NOTHING


def pack_statistics(statistics: WebhookStatistics) -> bytes:
    """The body of the duty's standing."""
    return orjson.dumps(asdict(statistics))


def pack_answer(answer: Answer) -> bytes:
    return orjson.dumps(asdict(answer))
