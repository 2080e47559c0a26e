"""Webhooks administered from another process than the one that sends them."""

from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
import trio

from actors.core.webhook import Pause
from actors.duties import ANSWER_S, FRESH_S
from actors.event_hub import EventHub
from actors.outbox import Outbox
from actors.ports import PersistentError, TransientError
from actors.remote_webhooks import (
    DELIVER,
    LEASE_S,
    NOTHING,
    REST,
    SEND_S,
    WAKE,
    Lease,
    RemoteEngine,
    RemoteSender,
)
from actors.webhook_desk import WebhookDesk
from actors.webhooks import NewWebhook, Shown, Webhooks
from daemon.store import MemoryStore
from tests.helpers.duties import DutyBoard
from tests.helpers.recording_log import RecordingLog
from tests.helpers.webhook_world import SHOP, WebhookWorld, open_world


@dataclass
class Offices:
    """A process that administers, one that delivers, and one that can take over from it."""

    board: DutyBoard
    store: MemoryStore
    hub: EventHub
    webhooks: Webhooks
    remote: RemoteEngine
    world: WebhookWorld | None = None
    scope: trio.CancelScope | None = None

    async def deliver(self, *, task_status=trio.TASK_STATUS_IGNORED) -> None:
        member = self.board.member()
        with trio.CancelScope() as self.scope:
            await member.take(DELIVER, holder="the one that delivers")
            async with open_world(self.store, self.hub) as self.world:
                task_status.started()
                await WebhookDesk(self.world.engine, duties=member, log=self.world.log).run()
        member.die()

    def kill(self) -> None:
        assert self.scope is not None
        self.scope.cancel()

    async def added(self, **more) -> Shown:
        shown = await self.webhooks.add(
            NewWebhook("https://shop.example/", **({"user_id": SHOP} | more))
        )
        assert isinstance(shown, Shown), shown
        return shown


@asynccontextmanager
async def offices():
    board = DutyBoard()
    hub = EventHub(log=RecordingLog())
    store = MemoryStore(hub.publish)
    await store.add_user(SHOP, at_ms=0)
    idle = open_world(store, EventHub(log=RecordingLog()))
    # Lent by an engine that hears of nothing.
    async with idle as own, trio.open_nursery() as nursery:
        duties = board.member()
        tools = replace(own.engine.tools, outbox=Outbox(store, hub), sender=RemoteSender(duties))
        remote = RemoteEngine(tools, duties)
        webhooks = Webhooks(
            store=store,
            engine=remote,
            seal=lambda _id, secret: secret,
            new_secret=lambda: b"\x07" * 24,
            check_url=lambda _url: None,
            test_body=lambda event_id, _endpoint, _at: (
                b'{"seq": 0, "id": "%s"}' % event_id.encode()
            ),
            clock=own.clock,
        )
        it = Offices(board, store, hub, webhooks, remote)
        await nursery.start(it.deliver)
        yield it, nursery
        nursery.cancel_scope.cancel()


async def test_an_endpoint_added_elsewhere_is_sent_to_at_once(autojump_clock):
    async with offices() as (it, _):
        shown = await it.added()
        await it.world.create(1)
        await it.world.settled(shown.endpoint.id)
        assert [sent.seq for sent in it.world.sender.taken] == [1]


async def test_paused_resumed_changed_and_removed_from_elsewhere(autojump_clock):
    async with offices() as (it, _):
        endpoint = (await it.added()).endpoint
        paused = await it.webhooks.pause(endpoint.id)
        assert paused.health.paused is Pause.ASKED
        await it.world.create(1)
        await trio.sleep(60)
        assert it.world.sender.sent == []
        await it.webhooks.change(endpoint.id, url="https://shop.example/new")
        await it.webhooks.resume(endpoint.id, from_now=False)
        await it.world.settled(endpoint.id)
        assert [sent.url for sent in it.world.sender.taken] == ["https://shop.example/new"]
        assert await it.webhooks.redeliver_one(endpoint.id, "1") == 1
        await it.world.settled(endpoint.id)
        assert [sent.seq for sent in it.world.sender.taken] == [1, 1]
        await it.webhooks.remove(endpoint.id)
        await it.world.create(2)
        await trio.sleep(60)
        assert len(it.world.sender.sent) == 2


async def test_a_test_leaves_from_where_webhooks_leave(autojump_clock):
    async with offices() as (it, _):
        endpoint = (await it.added()).endpoint
        answer = await it.webhooks.test(endpoint.id)
        assert (answer.status, answer.error) == (200, None)
        (sent,) = it.world.sender.sent
        assert sent.url == endpoint.url
        assert "webhook-signature" in sent.headers
        it.world.sender.mood = lambda _sent: None
        answer = await it.webhooks.test(endpoint.id)
        assert answer.status is None
        assert answer.error == f"no answer within {SEND_S:g} s"


async def test_nobody_delivers(autojump_clock):
    async with offices() as (it, _):
        endpoint = (await it.added()).endpoint
        it.kill()
        await trio.sleep(FRESH_S)
        started = trio.current_time()
        with pytest.raises(TransientError, match="nothing was done"):
            await it.webhooks.pause(endpoint.id)
        assert trio.current_time() - started == pytest.approx(ANSWER_S)
        assert (await it.webhooks.look(endpoint.id)).endpoint == endpoint
        answer = await it.webhooks.test(endpoint.id)
        assert answer.status is None
        assert "deliver" in answer.error
        assert it.remote.statistics() == NOTHING


async def test_the_next_one_delivers_what_the_last_one_did_not(autojump_clock):
    async with offices() as (it, nursery):
        endpoint = (await it.added()).endpoint
        first = it.world
        first.sender.mood = lambda _sent: None
        await first.create(1)
        await trio.sleep(1)
        it.kill()
        await nursery.start(it.deliver)
        await it.world.settled(endpoint.id)
        assert first.sender.taken == []
        assert [sent.seq for sent in it.world.sender.taken] == [1]


async def test_who_does_not_come_back_holds_nobody_up(autojump_clock):
    async with offices() as (it, _):
        endpoint = (await it.added()).endpoint
        lost = Lease(endpoint.id, endpoint.id)
        asking = it.board.member()
        await asking.ask(DELIVER, REST, lost.pack())
        await asking.ask(DELIVER, REST, lost.pack())  # the same again
        await it.world.create(1)
        await trio.sleep(LEASE_S - 1)
        assert it.world.sender.sent == []
        await it.world.settled(endpoint.id)
        assert [sent.seq for sent in it.world.sender.taken] == [1]
        assert await asking.ask(DELIVER, WAKE, lost.pack()) == b""
        (line,) = it.world.log.level("warning")
        assert "nobody came back" in line.event


async def test_a_change_that_outlasts_its_lease_says_so(autojump_clock):
    async with offices() as (it, _):
        endpoint = (await it.added()).endpoint
        with pytest.raises(TransientError, match="look at the endpoint"):
            async with it.remote.resting(endpoint.id):
                await trio.sleep(LEASE_S + 1)


async def test_a_holder_that_dies_in_the_middle_of_a_change_is_noticed(autojump_clock):
    async with offices() as (it, nursery):
        endpoint = (await it.added()).endpoint
        resting = it.remote.resting(endpoint.id)
        await resting.__aenter__()
        it.kill()
        await nursery.start(it.deliver)
        with pytest.raises(TransientError, match="look at the endpoint"):
            await resting.__aexit__(None, None, None)
        await it.world.create(1)
        await it.world.settled(endpoint.id)
        assert [sent.seq for sent in it.world.sender.taken] == [1]


async def test_a_failing_change_wakes_the_endpoint(autojump_clock):
    async with offices() as (it, _):
        endpoint = (await it.added()).endpoint
        with pytest.raises(ValueError, match="mine"):
            async with it.remote.resting(endpoint.id):
                raise ValueError("mine")
        await it.world.create(1)
        await it.world.settled(endpoint.id)
        assert [sent.seq for sent in it.world.sender.taken] == [1]


async def test_one_that_gave_up_waiting_leaves_no_lease(autojump_clock):
    async with offices() as (it, _):
        endpoint = (await it.added()).endpoint
        async with it.remote.resting(endpoint.id):
            with trio.move_on_after(1):
                async with it.remote.resting(endpoint.id):
                    raise AssertionError("one at a time")
        await it.world.create(1)
        await it.world.settled(endpoint.id)
        assert [sent.seq for sent in it.world.sender.taken] == [1]


async def test_figures_are_known_everywhere(autojump_clock):
    async with offices() as (it, _):
        shown = await it.added()
        await it.world.create(1)
        await it.world.settled(shown.endpoint.id)
        await trio.sleep(5)
        assert it.remote.statistics() == it.world.engine.statistics()
        assert it.remote.statistics().delivered == 1


async def test_a_post_that_cannot_be_read_ends_nobody(autojump_clock):
    async with offices() as (it, _):
        duties = it.board.member()
        with pytest.raises(TransientError, match="its log says why"):
            await duties.ask(DELIVER, REST, b"{")
        with pytest.raises(PersistentError, match="the same version"):
            await duties.ask(DELIVER, "dance", b"")
        await it.added()
