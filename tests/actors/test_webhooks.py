"""Webhooks' actors: order, retries, probes, pauses, redelivery; on a virtual clock."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from uuid import UUID, uuid4

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.core.outcomes import NoSuchUser
from actors.core.webhook import GIVE_UP_MS, Pause
from actors.event_hub import EventHub
from actors.ports import PersistentError, TransientError
from actors.webhook_actor import TRIP_LANES, WebhookRules
from actors.webhook_book import Outcome
from actors.webhook_sending import Answer
from actors.webhooks import (
    CannotRedeliver,
    NewWebhook,
    NoSuchWebhook,
    Shown,
    TooManyWebhooks,
    UrlRefused,
)
from tests.helpers.faulty_store import FaultyStore
from tests.helpers.recording_log import RecordingLog
from tests.helpers.webhook_world import OTHER_SHOP, ToldSender, open_world

DAY_S = 86_400
NOBODY = UUID(int=404)


@pytest.fixture
def hub() -> EventHub:
    return EventHub(log=RecordingLog())


@pytest.fixture
def store(hub: EventHub) -> FaultyStore:
    return FaultyStore(hub.publish)


def seqs(sent) -> list[int]:
    return [one.seq for one in sent]


def by_invoice(sent) -> dict[str, list[int]]:
    found = defaultdict(list)
    for one in sent:
        found[one.body["invoice"]].append(one.seq)
    return found


async def test_what_happens_is_sent_signed_and_in_order(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        await world.create(1)
        endpoint = await world.add()
        for number in (2, 3):
            await world.create(number)
            await world.pay(number)
        await world.settled(endpoint.id)
        assert sorted(seqs(world.sender.taken)) == list(range(2, 8)), "from now on, all of it"
        assert all(list(one) == sorted(one) for one in by_invoice(world.sender.taken).values())
        sent = world.sender.taken[0]
        log_id = await store.log_id()
        assert sent.id == f"{log_id}-{sent.seq}"
        assert sent.headers["webhook-signature"].startswith("v1,")
        assert sent.headers["Content-Type"] == "application/json"
        assert await world.outcomes(endpoint.id) == [Outcome.DELIVERED] * 6
        assert world.engine.statistics().delivered == 6
        assert world.engine.statistics().oldest_at_ms is None


async def test_only_the_users_own_and_wanted_kinds_are_sent(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        mine = await world.add(types=("payment.seen",), from_start=True)
        await world.add("https://all.example/", user_id=None)
        await world.create(1)
        await world.pay(1)
        await world.create(2, user_id=OTHER_SHOP)
        await world.pay(2)
        # Not until a cursor is recorded: that of what nobody wants is not, in so short a log.
        await wait_all_tasks_blocked()
        sent = world.sender.taken
        assert [one.body["type"] for one in sent if one.url == mine.url] == ["payment.seen"]
        assert sorted(seqs(one for one in sent if one.url != mine.url)) == list(range(1, 7))


async def test_one_failing_invoice_holds_up_nobody(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        bad = str(UUID(int=1 << 64 | 1))
        world.sender.mood = lambda sent: 500 if sent.body["invoice"] == bad else 200
        endpoint = await world.add()
        for number in range(1, 40):
            await world.create(number)
            await world.pay(number)
        await trio.sleep(4)
        taken = by_invoice(world.sender.taken)
        assert len(taken) == 38
        assert all(len(one) == 3 for one in taken.values())
        found = await store.webhooks.endpoint(endpoint.id)
        assert found.cursor == 39 * 3, "the cursor passes what has rows"
        rows = await store.webhooks.owed(endpoint.id, dead=False, limit=10)
        assert [row.seq for row in rows] == [1, 2, 3], "what waits behind it, too"
        world.sender.mood = lambda _sent: 204
        await world.settled(endpoint.id)
        assert by_invoice(world.sender.taken)[bad] == [1, 2, 3]


async def test_retries_follow_the_schedule_and_then_it_is_dead(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        world.sender.mood = lambda sent: 500 if sent.seq == 1 else 200
        endpoint = await world.add()
        await world.create(1)
        await trio.sleep(5 * 3600)
        first = [sent.at_s for sent in world.sender.sent]
        gaps = [round(b - a) for a, b in pairwise(first)]
        assert gaps == [5, 30, 120, 600, 1800, 3600, 7200]
        await world.pay(1)
        await trio.sleep(3 * DAY_S)
        assert [row.seq for row in await store.webhooks.owed(endpoint.id, dead=True, limit=9)] == [
            1
        ]
        assert seqs(world.sender.taken) == [2, 3], "what waited goes on"
        attempts = [one for one in world.sender.sent if one.seq == 1]
        assert round(attempts[-1].at_s - attempts[0].at_s) == GIVE_UP_MS // 1000
        assert Outcome.DEAD in await world.outcomes(endpoint.id)
        assert world.engine.statistics().dead == 1
        world.sender.mood = lambda _sent: 200
        assert await world.webhooks.redeliver_one(endpoint.id, attempts[0].id) == 1
        await trio.sleep(1)
        assert seqs(world.sender.taken) == [2, 3, 1]
        assert (await store.webhooks.owing(endpoint.id)).dead == 0


async def test_retry_after_is_obeyed(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        busy = Answer(status=429, error="HTTP 429", latency_ms=1, retry_after_s=77)
        world.sender.mood = lambda _sent: busy if len(world.sender.sent) == 1 else 200
        endpoint = await world.add()
        await world.create(1)
        await world.settled(endpoint.id)
        first, second = world.sender.sent
        assert round(second.at_s - first.at_s) == 77


async def test_a_hanging_endpoint_holds_up_no_other(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        hanging = [await world.add(f"https://hang{n}.example/") for n in range(20)]
        good = await world.add("https://good.example/")
        world.sender.mood = lambda sent: 200 if sent.url == good.url else None
        for number in range(1, 101):
            await world.create(number)
        started = trio.current_time()
        await world.settled(good.id)
        assert trio.current_time() - started <= 11, "until the others' first requests gave up"
        started = trio.current_time()
        for number in range(1, 101):
            await world.pay(number)
        await world.settled(good.id)
        assert trio.current_time() - started < 1, "and never again"
        assert (await store.webhooks.endpoint(hanging[0].id)).cursor < 100


async def test_an_endpoint_that_takes_nothing_is_probed_and_then_gets_all(
    autojump_clock, store, hub
):
    async with open_world(store, hub) as world:
        world.sender.mood = lambda _sent: 503
        endpoint = await world.add()
        for number in range(1, 1001):
            await world.create(number)
        await trio.sleep(3600)
        assert len(world.sender.sent) < TRIP_LANES + 8 + 30
        assert (await store.webhooks.owing(endpoint.id)).waiting < 50
        assert world.engine.statistics().failing == 1
        world.sender.mood = lambda _sent: 200
        await trio.sleep(12.1 * 60)
        await world.settled(endpoint.id)
        assert sorted(seqs(world.sender.taken)) == list(range(1, 1001))
        assert world.engine.statistics().failing == 0


async def test_gone_pauses_with_an_alarm_and_a_notice_to_the_users_others(
    autojump_clock, store, hub
):
    async with open_world(store, hub) as world:
        gone = await world.add("https://gone.example/")
        other = await world.add("https://other.example/")
        await world.add("https://stranger.example/", user_id=OTHER_SHOP)
        await world.add("https://picky.example/", types=("invoice.settled",))
        world.sender.mood = lambda sent: 410 if sent.url == gone.url else 200
        await world.create(1)
        await trio.sleep(5)
        found = await store.webhooks.endpoint(gone.id)
        assert found.health.paused is Pause.GONE
        assert [one.id for one, _ in world.alarms] == [gone.id]
        assert "410" in world.alarms[0][1]
        notices = [one for one in world.sender.taken if one.id.startswith("webhook.paused-")]
        assert [one.url for one in notices] == [other.url]
        assert notices[0].body["endpoint"] == str(gone.id)
        assert world.log.level("error")
        statistics = world.engine.statistics()
        assert (statistics.paused, statistics.active, statistics.pauses) == (1, 3, 1)
        await world.create(2)
        await trio.sleep(DAY_S)
        assert len([one for one in world.sender.sent if one.url == gone.url]) == 1
        world.sender.mood = lambda _sent: 200
        await world.webhooks.resume(gone.id, from_now=False)
        await world.settled(gone.id)
        assert seqs(one for one in world.sender.taken if one.url == gone.url) == [1, 2]


async def test_days_of_nothing_but_failures_pause(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        world.sender.mood = lambda _sent: Answer(status=None, error="refused", latency_ms=1)
        endpoint = await world.add()
        for number in range(1, 11):
            await world.create(number)
        await trio.sleep(4.9 * DAY_S)
        assert (await store.webhooks.endpoint(endpoint.id)).health.word == "failing"
        for number in range(11, 21):
            await world.create(number)
        await trio.sleep(2 * DAY_S)
        found = await store.webhooks.endpoint(endpoint.id)
        assert found.health.paused is Pause.FAILING
        assert len(world.alarms) == 1
        world.sender.mood = lambda _sent: 200
        await world.webhooks.resume(endpoint.id, from_now=False)
        await world.settled(endpoint.id)
        dead = await store.webhooks.owed(endpoint.id, dead=True, limit=100)
        assert sorted([*seqs(world.sender.taken), *(row.seq for row in dead)]) == list(range(1, 21))


async def test_a_paused_endpoint_has_no_rows_and_goes_on_from_its_cursor(
    autojump_clock, store, hub
):
    async with open_world(store, hub) as world:
        endpoint = await world.add()
        await world.webhooks.pause(endpoint.id)
        for number in range(1, 21):
            await world.create(number)
        await trio.sleep(60)
        assert world.sender.sent == []
        view = await world.webhooks.look(endpoint.id)
        assert (view.owing.waiting, view.behind) == (0, 20)
        assert await world.webhooks.pause(endpoint.id) == view.endpoint, "twice is once"
        await world.webhooks.resume(endpoint.id, from_now=False)
        await world.settled(endpoint.id)
        assert sorted(seqs(world.sender.taken)) == list(range(1, 21))


async def test_resuming_from_now_gives_up_what_waited(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        world.sender.mood = lambda _sent: 500
        endpoint = await world.add()
        await world.create(1)
        await trio.sleep(1)
        await world.webhooks.pause(endpoint.id)
        await world.create(2)
        world.sender.mood = lambda _sent: 200
        await world.webhooks.resume(endpoint.id, from_now=True)
        await world.create(3)
        await world.settled(endpoint.id)
        assert seqs(world.sender.taken) == [3]
        dead = await world.webhooks.owed(endpoint.id, dead=True, limit=9)
        assert [(row.seq, row.error) for row in dead] == [(1, "skipped: resumed from now")]


async def test_events_are_sent_again_by_time(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        endpoint = await world.add()
        for number in range(1, 6):
            await world.create(number)
        await world.settled(endpoint.id)
        log = await store.read(after_seq=0, limit=10)
        since_ms, until_ms = log[1].event.at_ms, log[3].event.at_ms
        world.sender.taken.clear()
        count = await world.webhooks.redeliver_range(
            endpoint.id, since_ms=since_ms, until_ms=until_ms
        )
        assert count == 2
        await world.settled(endpoint.id)
        assert sorted(seqs(world.sender.taken)) == [2, 3]


async def test_what_cannot_be_sent_again_is_refused_in_words(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        endpoint = await world.add()
        await world.create(1, user_id=OTHER_SHOP)
        refused = [
            await world.webhooks.redeliver_one(endpoint.id, event)
            for event in ("1", "2", "0", "00000000-1", "what")
        ]
        assert all(isinstance(one, CannotRedeliver) for one in refused)
        assert isinstance(await world.webhooks.redeliver_one(NOBODY, "1"), NoSuchWebhook)
        gone = await world.webhooks.redeliver_range(NOBODY, since_ms=0, until_ms=1)
        assert isinstance(gone, NoSuchWebhook)


async def test_what_is_read_later_is_not_owed_twice(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        endpoint = await world.add()
        await world.webhooks.pause(endpoint.id)
        await world.create(1)
        assert await world.webhooks.redeliver_one(endpoint.id, "1") == 0
        assert (await store.webhooks.owing(endpoint.id)).waiting == 0


async def test_both_secrets_sign_during_a_rotation(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        endpoint = await world.add()
        shown = await world.webhooks.rotate(endpoint.id, overlap_s=60, secret=b"\x08" * 24)
        assert isinstance(shown, Shown)
        await world.create(1)
        await world.settled(endpoint.id)
        await trio.sleep(60)
        await world.create(2)
        await world.settled(endpoint.id)
        signatures = [one.headers["webhook-signature"] for one in world.sender.taken]
        assert [text.count("v1,") for text in signatures] == [2, 1]
        at_once = await world.webhooks.rotate(endpoint.id, overlap_s=0)
        assert at_once.endpoint.old_secret is None


async def test_a_test_says_what_came_of_it_and_is_logged(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        endpoint = await world.add()
        await world.webhooks.pause(endpoint.id)
        answer = await world.webhooks.test(endpoint.id)
        assert answer.status == 200
        world.sender.mood = lambda _sent: 500
        assert (await world.webhooks.test(endpoint.id)).error == "HTTP 500"
        logged = await world.webhooks.log(endpoint.id, before=None, limit=10)
        assert [one.attempt.outcome for one in logged] == [Outcome.DEAD, Outcome.DELIVERED]
        assert (await store.webhooks.endpoint(endpoint.id)).health.failures == 0


async def test_changes_count_at_once(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        hung = trio.Event()
        world.sender.mood = lambda sent: hung if sent.url.endswith("old/") else 200
        endpoint = await world.add("https://old/")
        await world.create(1)
        await wait_all_tasks_blocked()
        changed = await world.webhooks.change(
            endpoint.id, url="https://new/", types=["payment.seen"]
        )
        assert (changed.url, changed.types) == ("https://new/", ("payment.seen",))
        await world.create(2)
        await world.pay(2)
        await world.settled(endpoint.id)
        assert [one.body["type"] for one in world.sender.taken] == ["payment.seen"]
        assert isinstance(await world.webhooks.change(endpoint.id, url="ftp://x"), UrlRefused)
        assert await world.webhooks.remove(endpoint.id) is None
        await world.create(3)
        await trio.sleep(60)
        assert len(world.sender.taken) == 1


async def test_refusals(autojump_clock, store, hub):
    async with open_world(store, hub, rules=WebhookRules(most_endpoints=1)) as world:
        webhooks = world.webhooks
        assert isinstance(await webhooks.add(NewWebhook("ftp://x", None)), UrlRefused)
        assert isinstance(await webhooks.add(NewWebhook("https://x", uuid4())), NoSuchUser)
        await world.add()
        assert isinstance(await webhooks.add(NewWebhook("https://x", None)), TooManyWebhooks)
        for outcome in (
            await webhooks.look(NOBODY),
            await webhooks.pause(NOBODY),
            await webhooks.resume(NOBODY, from_now=True),
            await webhooks.rotate(NOBODY),
            await webhooks.remove(NOBODY),
            await webhooks.test(NOBODY),
            await webhooks.log(NOBODY, before=None, limit=1),
            await webhooks.owed(NOBODY, dead=True, limit=1),
        ):
            assert outcome == NoSuchWebhook(NOBODY)


async def test_a_new_start_goes_on_where_the_last_one_was(autojump_clock, store, hub):
    """Stopped in the middle, with some hanging and some failed: all arrive, order is kept."""
    sender = ToldSender(mood=lambda sent: None if sent.seq % 3 else 500)
    async with open_world(store, hub, sender=sender) as world:
        endpoint = await world.add(from_start=True)
        for number in range(1, 31):
            await world.create(number)
            await world.pay(number)
        await trio.sleep(3)
    again = ToldSender()
    async with open_world(store, hub, sender=again) as world:
        await world.settled(endpoint.id)
        await world.create(31)
        await world.settled(endpoint.id)
    assert sorted(set(seqs([*sender.taken, *again.taken]))) == list(range(1, 92))
    firsts = by_invoice([*sender.taken, *again.taken])
    for one in firsts.values():
        deduplicated = list(dict.fromkeys(one))
        assert deduplicated == sorted(deduplicated)


async def test_a_store_that_fails_costs_repeats_and_no_loss(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        endpoint = await world.add()
        book = store.webhooks
        recorded = book.record
        failures = 3

        async def record(*given, **more):
            nonlocal failures
            if failures:
                failures -= 1
                raise TransientError("database.url is away")
            await recorded(*given, **more)

        book.record = record
        for number in range(1, 6):
            await world.create(number)
        await world.settled(endpoint.id)
        assert failures == 0
        assert set(seqs(world.sender.taken)) == set(range(1, 6))
        assert len(world.sender.taken) > 5


async def test_concurrency_is_bounded(autojump_clock, store, hub):
    async with open_world(store, hub, rules=WebhookRules(concurrency=3)) as world:
        endpoint = await world.add()
        for number in range(1, 11):
            await world.create(number)
        await world.settled(endpoint.id)
        gate = trio.Event()
        world.sender.mood = lambda _sent: gate
        for number in range(11, 31):
            await world.create(number)
        await wait_all_tasks_blocked()
        assert world.sender.open_now == world.sender.most_open == 3
        gate.set()
        await world.settled(endpoint.id)
        assert len(world.sender.taken) == 30


async def test_the_log_is_trimmed(autojump_clock, store, hub):
    rules = WebhookRules(keep_attempts=5, keep_log_ms=2 * DAY_S * 1000)
    async with open_world(store, hub, rules=rules) as world:
        endpoint = await world.add()
        for number in range(1, 21):
            await world.create(number)
        await world.settled(endpoint.id)
        await trio.sleep(601)
        assert len(await world.outcomes(endpoint.id)) == 5
        await trio.sleep(3 * DAY_S)
        assert await world.outcomes(endpoint.id) == []


async def test_a_clock_that_is_moved_back_delays_nothing(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        world.sender.mood = lambda _sent: 500
        endpoint = await world.add()
        for number in range(1, 11):
            await world.create(number)
        await trio.sleep(3600)
        world.sender.mood = lambda _sent: 200
        world.clock.jump(-30 * DAY_S)
        await trio.sleep(70)
        await world.settled(endpoint.id)
        assert sorted(seqs(world.sender.taken)) == list(range(1, 11))


async def test_an_endpoint_whose_secret_does_not_open_waits_and_says_so(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        good = world.engine.tools.open_secret

        def broken(_id, _sealed):
            raise PersistentError("vault.key is not the key")

        object.__setattr__(world.engine.tools, "open_secret", broken)
        endpoint = await world.add()
        await world.create(1)
        await trio.sleep(100)
        assert world.sender.sent == []
        assert any("vault.key" in str(line.fields) for line in world.log.level("warning"))
        object.__setattr__(world.engine.tools, "open_secret", good)
        await world.settled(endpoint.id)
        assert seqs(world.sender.taken) == [1]


async def test_a_pause_that_cannot_be_told_is_logged(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        world.sender.mood = lambda _sent: 410
        await world.add()

        async def broken(_user_id=None):
            raise TransientError("database.url is away")

        store.webhooks.endpoints = broken
        await world.create(1)
        await trio.sleep(1)
        paused, untold = world.log.events("error")
        assert "was paused by itself" in paused
        assert untold == "nobody but this log could be told of the pause"


async def test_what_is_paused_stays_paused_at_the_next_start(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        endpoint = await world.add()
        await world.webhooks.pause(endpoint.id)
    async with open_world(store, hub) as world:
        await world.create(1)
        await trio.sleep(60)
        assert world.sender.sent == []
        assert world.engine.statistics().paused == 1
