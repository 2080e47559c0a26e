"""A chain asked for from another process: nothing made twice, nothing lost with a watcher."""

from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
import trio
import trio.testing

from actors.chain_desk import ChainDesk
from actors.chain_standing import ChainStanding, pack, unpack, watch_duty
from actors.chain_supervisor import ChainState
from actors.core.invoice import State
from actors.duties import ANSWER_S, FRESH_S
from actors.ports import PersistentError, TransientError
from actors.remote_chain import RemoteChain
from tests.helpers.duties import DutyBoard
from tests.helpers.watched_chain import BTC, POLICY, WatchedChain, watched_chain

DUTY = watch_duty("btc")


@dataclass
class Office:
    """One asking process, and a watcher that can be killed and replaced."""

    board: DutyBoard
    it: WatchedChain
    chain: RemoteChain
    known: list[int]
    refusal: Exception | None = None
    scope: trio.CancelScope | None = None

    async def watcher(self, *, task_status=trio.TASK_STATUS_IGNORED) -> None:
        """A process that has the duty, until it is killed."""
        member = self.board.member()
        with trio.CancelScope() as self.scope:
            await member.take(DUTY, holder="a watcher")
            if not self.it.running:
                await self.it.start()
            desk = ChainDesk(
                self.it.supervisor,
                duties=member,
                store=self.it.store,
                know_account=self._know,
                log=self.it.log,
            )
            await desk.greet()
            task_status.started()
            await desk.run()
        member.die()
        await self.it.stop()

    async def _know(self, account_id: int) -> None:
        await trio.lowlevel.checkpoint()
        if self.refusal is not None:
            raise self.refusal
        self.known.append(account_id)

    def kill(self) -> None:
        assert self.scope is not None
        self.scope.cancel()


def remote(board: DutyBoard, store, cursor=None) -> RemoteChain:
    return RemoteChain(BTC, policy=POLICY, duties=board.member(), store=store, cursor=cursor)


@asynccontextmanager
async def office(*, watched: bool = True):
    board = DutyBoard()
    async with watched_chain() as it, trio.open_nursery() as nursery:
        chain = remote(board, it.store)
        one = Office(board, it, chain, [])
        if watched:
            await nursery.start(one.watcher)
        yield one, nursery
        nursery.cancel_scope.cancel()


async def test_an_invoice_made_from_elsewhere_is_durable_and_watched(autojump_clock):
    async with office() as (one, _):
        wanted = one.it.terms(100, confirmations=1)
        made = await one.chain.create(wanted)
        assert made.terms == wanted
        assert made.state is State.PENDING
        assert one.known == [wanted.account_id]
        one.it.node.pay(wanted.destination, 100)
        one.it.node.mine()
        await one.it.told()
        assert (await one.it.invoice(wanted)).state is State.SETTLED


async def test_asked_twice_it_is_the_invoice_as_it_is(autojump_clock):
    async with office() as (one, _):
        wanted = one.it.terms(100)
        # The same claim, completed by another process.
        other = replace(one.it.terms(250), invoice_id=wanted.invoice_id)
        made = []

        async def ask(terms) -> None:
            made.append(await one.chain.create(terms))

        async with trio.open_nursery() as asking:
            asking.start_soon(ask, wanted)
            asking.start_soon(ask, other)
        assert made[0] == made[1]
        assert made[0].terms in (wanted, other)
        assert await one.it.kinds(wanted) == ["invoice.created"]
        await one.chain.cancel(wanted.invoice_id)
        again = await one.chain.create(wanted)
        assert again.state is State.CANCELLED


async def test_a_cancellation_is_decided_by_the_watcher(autojump_clock):
    async with office() as (one, _):
        wanted = one.it.terms(100)
        await one.chain.create(wanted)
        one.it.node.pay(wanted.destination, 40)
        await one.it.told()
        await one.chain.cancel(wanted.invoice_id)
        assert (await one.it.invoice(wanted)).state is State.PENDING
        free = one.it.terms(100)
        await one.chain.create(free)
        await one.chain.cancel(free.invoice_id)
        await one.chain.cancel(free.invoice_id)
        assert (await one.it.invoice(free)).state is State.CANCELLED


async def test_what_is_asked_while_nobody_watches_waits_for_the_next_watcher(autojump_clock):
    async with office() as (one, nursery):
        one.chain.health()
        one.kill()
        await trio.sleep(1)
        wanted = one.it.terms(100)
        made = []

        async def ask() -> None:
            made.append(await one.chain.create(wanted))

        nursery.start_soon(ask)
        await trio.sleep(2)
        assert made == []
        await nursery.start(one.watcher)
        await trio.sleep(1)
        assert [invoice.terms for invoice in made] == [wanted]


async def test_nobody_answers(autojump_clock):
    async with office() as (one, _):
        health = one.chain.health()
        assert health.state is ChainState.CURRENT
        assert health == one.it.health()
        assert one.chain.figures() == one.it.supervisor.figures()
        one.kill()
        await trio.sleep(FRESH_S + 1)
        away = one.chain.health()
        assert away.state is ChainState.UNREACHABLE
        assert "tallyd --role watch:btc" in (away.reason or "")
        # An invoice may still be asked for: somebody may come.
        assert (away.network, away.tip) == (health.network, health.tip)
        assert one.chain.figures() is None
        started = trio.current_time()
        with pytest.raises(TransientError, match="nothing was done"):
            await one.chain.create(one.it.terms(100))
        assert trio.current_time() - started == pytest.approx(ANSWER_S)


async def test_before_anybody_has_ever_watched(autojump_clock):
    async with office(watched=False) as (one, _):
        assert one.chain.health().state is ChainState.UNREACHABLE
        assert one.chain.health().network is None
        assert one.chain.disabled_assets() == {}


async def test_a_process_that_has_just_begun_knows_where_the_chain_stood(autojump_clock):
    async with office() as (one, nursery):
        cursor = await one.it.store.cursor("btc")
        one.kill()
        await trio.sleep(FRESH_S)
        fresh = remote(one.board, one.it.store, cursor)
        health = fresh.health()
        assert (health.network, health.tip) == (cursor.network, cursor.view.tip)
        assert health.state is ChainState.UNREACHABLE
        nursery.start_soon(one.watcher)
        wanted = one.it.terms(100)
        assert (await fresh.create(wanted)).terms == wanted


async def test_others_hear_of_a_change_at_once_and_of_figures_soon(autojump_clock):
    async with office() as (one, _):
        await trio.sleep(1)
        one.it.node.fail_with = TransientError("coin.btc.daemon.url: connection refused")
        await trio.sleep(3)
        assert one.chain.health().state is ChainState.UNREACHABLE
        assert one.chain.health().reason == "coin.btc.daemon.url: connection refused"
        one.it.node.fail_with = None
        await one.it.told()
        await trio.sleep(6)
        assert one.chain.health().state is ChainState.CURRENT
        one.it.node.mine(count=3)
        await one.it.told()
        await trio.sleep(3)
        assert one.chain.health().tip == one.it.health().tip
        assert one.chain.figures() == one.it.supervisor.figures()


@pytest.mark.parametrize(
    "refusal", [TransientError("database.url: away"), PersistentError("vault.key is wrong")]
)
async def test_what_the_watcher_refuses_is_refused(autojump_clock, refusal):
    async with office() as (one, _):
        one.refusal = refusal
        with pytest.raises(type(refusal), match=str(refusal)):
            await one.chain.create(one.it.terms(100))
        one.refusal = None
        await one.chain.create(one.it.terms(100))


async def test_a_post_that_cannot_be_read_ends_nobody(autojump_clock):
    async with office() as (one, _):
        duties = one.board.member()
        with pytest.raises(TransientError, match="its log says why"):
            await duties.ask(DUTY, "create", b"{")
        with pytest.raises(PersistentError, match="the same version"):
            await duties.ask(DUTY, "dance", b"")
        await one.chain.create(one.it.terms(100))
        (line,) = one.it.log.level("error")
        assert line.fields["kind"] == "create"
        one.it.log.lines.clear()


async def test_a_new_watcher_that_has_not_looked_yet_says_nothing_new(autojump_clock):
    async with office() as (one, _):
        known = one.chain.health()
        standing = ChainStanding(
            replace(known, state=ChainState.STARTING, network=None, tip=None), {}, None
        )
        holder = one.board.holders[DUTY]
        await holder.report(DUTY, pack(standing))
        seen = one.chain.health()
        assert (seen.state, seen.network, seen.tip) == (
            ChainState.STARTING,
            known.network,
            known.tip,
        )


async def test_a_standing_survives_its_journey(autojump_clock):
    async with office() as (one, _):
        health = replace(one.it.health(), pruned_below=7, node_height=None, reason="words")
        figures = one.it.supervisor.figures()
        for standing in (
            ChainStanding(health, {"USDT": "no contract"}, figures),
            ChainStanding(replace(health, tip=None, network=None), {}, None),
        ):
            assert unpack(pack(standing)) == standing


async def test_confirmations_change_for_invoices_to_come():
    chain = remote(DutyBoard(), None)
    chain.use_confirmations(5)
    assert chain.chain.confirmations == 5


async def test_a_database_that_is_away_is_no_reason_to_stop_watching(autojump_clock, monkeypatch):
    async with office() as (one, _):
        holder = one.board.holders[DUTY]
        report, failures = holder.report, [TransientError("away"), PersistentError("full")]

        async def failing(duty, standing) -> None:
            if failures:
                raise failures.pop()
            await report(duty, standing)

        monkeypatch.setattr(holder, "report", failing)
        one.it.node.mine(count=2)
        await one.it.told()
        await trio.sleep(3)
        assert failures == []
        assert one.chain.health().tip == one.it.health().tip
        warned = [line.fields["reason"] for line in one.it.log.level("warning")]
        assert warned == ["full", "away"]
