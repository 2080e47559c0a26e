"""Long-polls: answered at the change, at the end of the time, or at the end of the daemon."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from api.rest.app import create_app
from api.rest.edge import HttpLimits
from api.rest.represent import invoice_json
from tests.helpers.house import open_house
from tests.helpers.problems import places, problem_of


class Poll:
    """One request in the background."""

    def __init__(self) -> None:
        self.response = None
        self.done_at_s = None


@asynccontextmanager
async def polling(app, invoice, *, wait_s, count=1, etag=None):
    """`count` long-polls that know the invoice as it is now."""
    client = app.test_client()
    path = f"/v1/invoices/{invoice.terms.invoice_id}"
    known = etag or (await client.get(path)).headers["ETag"]
    polls = [Poll() for _ in range(count)]

    async def run(poll):
        poll.response = await app.test_client().get(
            f"{path}?wait={wait_s}", headers={"If-None-Match": known}
        )
        poll.done_at_s = trio.current_time()

    async with trio.open_nursery() as nursery:
        for poll in polls:
            nursery.start_soon(run, poll)
        await trio.testing.wait_all_tasks_blocked()
        yield polls


@pytest.fixture
def autojump(autojump_clock):
    return autojump_clock


async def test_a_change_ends_the_wait_of_all_who_wait(app, house):
    invoice = await house.invoice(await house.user())
    async with polling(app, invoice, wait_s=60, count=3) as polls:
        assert app.room.waiting == 3
        await house.paid(invoice)
    for poll in polls:
        assert poll.response.status_code == 200
        assert (await poll.response.get_json())["status"] == "PENDING_MEMPOOL"
    assert (app.room.waiting, house.hub.statistics().waiters) == (0, 0)


@pytest.mark.parametrize(("asked_s", "waited_s"), [(30, 30), (60, 60), (86_400, 60)])
async def test_the_time_is_kept_and_capped(autojump_clock, asked_s, waited_s):
    async with open_house() as house:
        app = create_app(house.edge())
        invoice = await house.invoice(await house.user())
        begun_s = trio.current_time()
        async with polling(app, invoice, wait_s=asked_s) as (poll,):
            pass
        assert poll.response.status_code == 304
        assert poll.done_at_s - begun_s == pytest.approx(waited_s, abs=0.001)


async def test_without_a_tag_or_with_another_the_answer_comes_at_once(app, house):
    invoice = await house.invoice(await house.user())
    client = app.test_client()
    path = f"/v1/invoices/{invoice.terms.invoice_id}?wait=60"
    assert (await client.get(path)).status_code == 200
    assert (await client.get(path, headers={"If-None-Match": '"old"'})).status_code == 200
    tag = (await client.get(path)).headers["ETag"]
    short = await client.get(path.replace("wait=60", "wait=0"), headers={"If-None-Match": tag})
    assert short.status_code == 304


async def test_a_change_of_another_invoice_wakes_nobody(app, house):
    user_id = await house.user()
    invoice, other = await house.invoice(user_id), await house.invoice(user_id)
    async with polling(app, invoice, wait_s=60) as (poll,):
        await house.paid(other)
        assert poll.response is None
        await house.paid(invoice)
    assert poll.response.status_code == 200


async def test_growing_confirmations_end_the_wait(autojump_clock):
    async with open_house() as house:
        app = create_app(house.edge())
        invoice = await house.invoice(await house.user(), confirmations=6)
        await house.paid(invoice)
        await house.mined(invoice)
        begun_s = trio.current_time()
        async with polling(app, invoice, wait_s=60) as (poll,):
            house.btc.mine_empty()
            await house.told()
        assert (await poll.response.get_json())["payments"][0]["confirmations"] == 2
        assert poll.done_at_s - begun_s <= 1.001


async def test_the_end_of_the_daemon_ends_the_wait(app, house):
    invoice = await house.invoice(await house.user())
    async with polling(app, invoice, wait_s=60) as (poll,):
        app.room.close()
    assert poll.response.status_code == 304
    async with polling(app, invoice, wait_s=60) as (late,):
        pass
    assert late.response.status_code == 304


async def test_too_many_who_wait_are_sent_away(house):
    app = create_app(house.edge(limits=HttpLimits(waiting=2)))
    invoice = await house.invoice(await house.user())
    async with polling(app, invoice, wait_s=60, count=3) as polls:
        (refused,) = [poll for poll in polls if poll.response is not None]
        await problem_of(refused.response, 503, "TOO_MANY_WAITING")
        assert refused.response.headers["Retry-After"] == "5"
        await house.paid(invoice)
    assert sorted(poll.response.status_code for poll in polls) == [200, 200, 503]


@pytest.mark.parametrize("wait", ["-1", "1.5", "x", "86401", ""])
async def test_a_wait_that_is_none_is_refused(app, house, wait):
    invoice = await house.invoice(await house.user())
    response = await app.test_client().get(f"/v1/invoices/{invoice.terms.invoice_id}?wait={wait}")
    assert places(await problem_of(response, 422, "INVALID_REQUEST")) == ["wait"]


async def test_who_is_woken_by_the_settlement_sees_its_confirmations(app, house):
    """The invoice hears of a block before its chain counts the block as read."""
    invoice = await house.invoice(await house.user(), confirmations=2)
    await house.paid(invoice)
    await house.mined(invoice)
    looks = []

    def look(batch):
        view = house.invoicing.health("btc")
        looks.append(invoice_json(batch[-1].after, house.invoicing.catalogue, view))

    with house.hub.listening(look):
        house.btc.mine_empty()
        await house.told()
    (settled,) = looks
    assert settled["status"] == "CONFIRMED"
    assert (settled["payments"][0]["confirmations"], settled["confirmed"]) == (2, settled["amount"])
