"""`/v1/events`: the log from any point on, in pages or as server-sent events.

Source: html.spec.whatwg.org/multipage/server-sent-events.html.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import orjson
import trio
from quart import request

from actors.core.codec import EVENT_KINDS
from actors.core.outcomes import NoSuchInvoice, NoSuchUser
from actors.outbox import CursorRefused, Filter, Follower, Published, TooFarBehind
from api.errors import answer, cursor_refused
from api.event_json import event_document, event_json
from api.rest import fields
from api.rest.edge import Edge
from api.rest.event_room import EventRoom
from api.rest.fields import Field, Shape
from api.rest.operation import Incoming, Operation, Reply, Success
from api.rest.problems import Problem
from api.rest.streaming import SendPart

EVENT_STREAM = "text/event-stream"
PAGE = 100
MAX_PAGE = 1000
MAX_WAIT_S = 30
HEARTBEAT_S = 15.0
RETRY_MS = 3000
"""What a browser waits before it connects again."""
MAX_LAG = 50_000
"""Events that a reader who had caught up may be behind."""
PART_BYTES = 64 * 1024
"""Events are sent in parts of about this size."""
_KEPT = 4096


class Events:
    """Gives the log to those who ask for it."""

    def __init__(self, edge: Edge, *, room: EventRoom) -> None:
        self._outbox = edge.outbox
        self._invoicing = edge.invoicing
        self._room = room
        self._encoded: dict[int, bytes] = {}

    def operations(self) -> tuple[Operation, ...]:
        return (self._reading(),)

    def _reading(self) -> Operation:
        return Operation(
            id="listEvents",
            method="GET",
            path="/v1/events",
            tag="Events",
            summary="Read events, or follow them",
            about=(
                "Every event has the same `id` and `seq` on all channels; ask with the last one"
                " that you have, and none is missed. With `Accept: text/event-stream` the answer is"
                " a stream of server-sent events: first what was recorded after the cursor (without"
                " one: nothing), then what comes. Otherwise it is a page, from the beginning"
                " without a cursor; `next_after` is the cursor of the next one."
            ),
            handle=self._answer,
            query=_query(),
            request_headers={
                "Last-Event-ID": "As `after`, and counts before it: browsers send it when they"
                " connect again.",
                "Accept": "`text/event-stream` for a stream.",
            },
            successes=(
                Success(200, "A page of events.", "EventPage"),
                Success(200, "A stream of events.", media_type=EVENT_STREAM),
            ),
            refusals=("CURSOR_REFUSED", "NO_SUCH_USER", "NO_SUCH_INVOICE", "TOO_MANY_WAITING"),
        )

    async def _answer(self, incoming: Incoming) -> Reply:
        asked = incoming.query
        wanted = Filter(asked.get("user_id"), asked.get("invoice_id"), asked.get("type", ()))
        await self._check_known(wanted)
        after_seq = await self._cursor(request.headers.get("Last-Event-ID") or asked.get("after"))
        streamed = EVENT_STREAM in request.headers.get("Accept", "")
        if not streamed or request.method == "HEAD":
            limit, wait_s = asked.get("limit", PAGE), asked.get("wait_s", 0)
            return await self._page(after_seq or 0, limit, wanted, wait_s=wait_s)
        self._room.check()
        return Reply(
            media_type=EVENT_STREAM,
            # Proxies must hand on what they get as it comes.
            headers={"X-Accel-Buffering": "no"},
            work=lambda send: self._stream(send, after_seq, wanted),
        )

    async def _cursor(self, given: str | None) -> int | None:
        if given is None:
            return None
        after_seq = await self._outbox.parse_cursor(given)
        if isinstance(after_seq, CursorRefused):
            raise Problem(cursor_refused(after_seq))
        return after_seq

    async def _check_known(self, wanted: Filter) -> None:
        """A mistyped id would be waited for in vain."""
        if wanted.user_id is not None and not await self._invoicing.has_user(wanted.user_id):
            raise Problem(answer(NoSuchUser(wanted.user_id)))
        if wanted.invoice_id is not None:
            row = await self._invoicing.invoice(wanted.invoice_id)
            if isinstance(row, NoSuchInvoice):
                raise Problem(answer(row))

    # --- pages ------------------------------------------------------------------------------------

    async def _page(self, after_seq: int, limit: int, wanted: Filter, *, wait_s: int) -> Reply:
        page = await self._outbox.page(after_seq, limit, wanted)
        if not page.events and wait_s:
            await self._wait(page.reached_seq, wanted, wait_s)
            page = await self._outbox.page(page.reached_seq, limit, wanted)
        document = {
            "items": [event_document(one) for one in page.events],
            "next_after": page.reached_seq,
            "has_more": len(page.events) == limit,
        }
        return Reply(document=document)

    async def _wait(self, after_seq: int, wanted: Filter, wait_s: int) -> None:
        """Until there is an event, the time is up, or the daemon stops."""
        with self._room.waiting(wait_s):
            async with self._outbox.follow(after_seq, wanted) as follower:
                await anext(follower)

    # --- streams ----------------------------------------------------------------------------------

    async def _stream(self, send: SendPart, after_seq: int | None, wanted: Filter) -> None:
        with self._room.streaming():
            async with self._outbox.follow(after_seq, wanted, max_lag=MAX_LAG) as follower:
                await send(b"retry: %d\n\n" % RETRY_MS)
                try:
                    await self._follow(send, follower)
                except TooFarBehind as behind:
                    await send(await self._farewell(behind.resume_seq))

    async def _follow(self, send: SendPart, follower: Follower) -> None:
        log_id = (await self._outbox.log_id()).encode()
        while True:
            batch: Sequence[Published] = ()
            with trio.move_on_after(HEARTBEAT_S):
                batch = await anext(follower)
            if not batch:
                # An id without data moves the reader's place over what the filter kept back.
                await send(b": nothing new\nid: %s-%d\n\n" % (log_id, follower.seq))
            for part in _parts(map(self._event, batch)):
                await send(part)

    def _event(self, event: Published) -> bytes:
        found = self._encoded.get(event.seq)
        if found is None:
            found = b"id: %s\nevent: %s\ndata: %s\n\n" % (
                event.id.encode(),
                event.type.encode(),
                event_json(event),
            )
            if len(self._encoded) >= _KEPT:
                self._encoded.clear()
            self._encoded[event.seq] = found
        return found

    async def _farewell(self, resume_seq: int) -> bytes:
        """The last event of a stream whose reader is too slow."""
        data = {
            "reason": "READER_TOO_FAR_BEHIND",
            "detail": "Events were not taken from the stream in time.",
            "advice": "Connect again with Last-Event-ID or `after` set to resume_after.",
            "resume_after": f"{await self._outbox.log_id()}-{resume_seq}",
            "resume_after_seq": resume_seq,
        }
        return b"event: error\ndata: %s\n\n" % orjson.dumps(data)


def _parts(events: Iterable[bytes]) -> Iterator[bytes]:
    """The events in parts of about PART_BYTES."""
    part: list[bytes] = []
    size = 0
    for event in events:
        part.append(event)
        size += len(event)
        if size >= PART_BYTES:
            yield b"".join(part)
            part, size = [], 0
    if part:
        yield b"".join(part)


def _query() -> Shape:
    ident = {"type": "string", "format": "uuid"}
    return Shape(
        (
            Field(
                "after",
                fields.text,
                {"type": "string"},
                "The `seq` or `id` of the last event that you have; 0 for the beginning.",
                example="1042",
            ),
            Field(
                "limit",
                fields.whole_text(1, MAX_PAGE),
                {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": PAGE},
                "Events on a page; a stream has no pages.",
            ),
            Field(
                "wait_s",
                fields.whole_text(0, MAX_WAIT_S),
                {"type": "integer", "minimum": 0, "maximum": MAX_WAIT_S, "default": 0},
                "Seconds to wait for an event where the page would be empty.",
            ),
            Field("user_id", fields.uuid, ident, "One user's."),
            Field("invoice_id", fields.uuid, ident, "One invoice's."),
            Field(
                "type",
                fields.listed(fields.choice(EVENT_KINDS)),
                {"type": "string"},
                f"Of these types, separated by commas: {', '.join(EVENT_KINDS)}.",
                example="invoice.settled,invoice.expired",
            ),
        )
    )
