"""`/pay/{order}/live`: a payment page's live part, and each later one, as server-sent events.

What is sent, and what the page's script makes of it, is written down in `api.page.live`. Source:
html.spec.whatwg.org/multipage/server-sent-events.html.
"""

from __future__ import annotations

from quart import request

from actors.orders import PlacedOrder
from api.rest.edge import Edge
from api.rest.events import EVENT_STREAM
from api.rest.live_pages import LivePages
from api.rest.live_room import LiveRoom
from api.rest.operation import Door, Incoming, Operation, Reply, Success
from api.rest.page_form import asked_language
from api.rest.pay import TAG, Pay
from api.rest.streaming import SendPart

BEAT = b"event: beat\ndata: 0\n\n"
RETRY_MS = 3000
FULL_RETRY_MS = 60_000
"""For who was let in and found the room full all the same."""


class PayLive:
    """Follows orders for those who have their pages open."""

    def __init__(self, edge: Edge, *, pay: Pay) -> None:
        self._pay = pay
        self._hub = edge.hub
        limits = edge.limits
        self.room = LiveRoom(streams=limits.pages, per_address=limits.pages_per_address)
        self.pages = LivePages(
            edge.orders,
            hub=edge.hub,
            health=edge.invoicing.health,
            clock=edge.clock,
            log=edge.log,
            render=pay.live_part,
        )

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                id="followPaymentPage",
                method="GET",
                path="/pay/{order}/live",
                path_words={"order": "The order's number."},
                tag=TAG,
                summary="Follow an order's payment page",
                about=(
                    "The part of the page that changes: first as it is, then whenever it is"
                    " another. Data is a JSON object with `version`, `status`, `final`, `headline`,"
                    " `announcement` and `html`. An event `beat` comes every 15 seconds. The stream"
                    " ends after a part that is `final`; who asks again with its version in"
                    " Last-Event-ID gets 204, upon which browsers give up. The language is that of"
                    " `?lang=`, else of Accept-Language. Without a stream, ask for"
                    " `/pay/{order}/status`."
                ),
                handle=self._answer,
                door=Door.STRANGERS,
                query=None,
                request_headers={
                    "Last-Event-ID": "Sent by browsers that connect again; the present part comes"
                    " in any case.",
                },
                successes=(
                    Success(200, "A stream of server-sent events.", media_type=EVENT_STREAM),
                    Success(204, "The order is final, and the caller has its last part."),
                ),
                refusals=("NOT_FOUND", "TOO_MANY_WAITING"),
            ),
        )

    async def _answer(self, incoming: Incoming) -> Reply:
        address = incoming.caller.address
        full = self.room.full(address)
        if full is not None:
            raise full
        seq = self._hub.last_seq
        placed, language = await self._pay.placed(incoming), asked_language()
        last = request.headers.get("Last-Event-ID")
        if last is not None and placed.status.final:
            part = self._pay.live_part(placed, language)
            if part.final and part.version == last:
                return Reply(status=204, content=b"")
        return Reply(
            media_type=EVENT_STREAM,
            # Proxies must hand on what they get as it comes.
            headers={"X-Accel-Buffering": "no"},
            work=lambda send: self._stream(send, placed, language, address, seq=seq),
        )

    async def _stream(
        self, send: SendPart, placed: PlacedOrder, language: str, address: str, *, seq: int
    ) -> None:
        if self.room.full(address) is not None:
            # Others came in since this one was let in.
            await send(b"retry: %d\n\n" % FULL_RETRY_MS)
            return
        with self.room.streaming(address), self.pages.reading(placed, language, seq=seq) as page:
            version, final = page.version, page.final
            await send(b"retry: %d\n\n%b" % (RETRY_MS, page.message))
            while not final:
                # There may be another one already: sending takes as long as the reader does.
                if page.version == version:
                    await page.woken.wait()
                message = BEAT if page.version == version else page.message
                version, final = page.version, page.final
                await send(message)
