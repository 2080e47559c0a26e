"""Plays a plan on a simulated world, and compares at each moment of rest and at the end."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from unittest import mock
from uuid import UUID

import trio

from actors.chain_supervisor import ChainState
from actors.core.invoice import State
from actors.supervisor import failures_of
from api.grpc import watching
from tests.sim.backend import Backend, Wish
from tests.sim.ending import check_end
from tests.sim.moves import move
from tests.sim.node import NodeFaults
from tests.sim.plan import POLICIES, Step, chains_of, draw
from tests.sim.process import Gone
from tests.sim.readers import Poller, Reader, SseReader, StatusReader, Watcher
from tests.sim.receivers import Receiver
from tests.sim.resting import Resting
from tests.sim.scheduling import run_seeded, until
from tests.sim.world import CHAINS, Followed, World


@dataclass(frozen=True)
class Played:
    """What came of a history."""

    digest: str
    """Of all that could be seen from outside."""
    events: int
    kills: int
    comparisons: int
    exact: int
    """Comparisons in which nothing was left open."""
    virtual_s: float


class History(Resting):
    """One plan on one world."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.users: list[UUID] = []
        self.hooks: list[Receiver] = []
        self.adding = 0
        self._trace = hashlib.sha256()

    async def play(self, plan: Sequence[Step]) -> None:
        world = self.world
        world.nursery.start_soon(world.run)
        await trio.sleep(1)
        for step in plan:
            await self.step(step)
        await self.end()

    async def step(self, step: Step) -> None:
        verb, *args = step
        act = getattr(self, "_" + verb.replace(" ", "_"), None)
        if act is not None:
            await act(*args)
        else:
            self.move(step)
        if verb not in ("user", "reader", "webhook", "create", "kill", "kill in", "node", "disk"):
            await self.rest()

    # --- the chains -------------------------------------------------------------------------------

    def move(self, step: Step) -> None:
        self.world.learn()
        one = self.chain(step[1])
        if one.lost is not None:
            return
        before = self._standing(one)
        move(one, self.world.clock, step)
        self._count(one, before)

    def chain(self, number: int) -> Followed:
        return self.world.chains[CHAINS[number]]

    def _standing(self, one: Followed) -> list[dict]:
        return [account.standing(one.node) for account in one.accounts]

    def _count(self, one: Followed, before: list[dict]) -> None:
        for at, (old, new) in enumerate(zip(before, self._standing(one), strict=True)):
            if old != new:
                one.changes[at] = one.changes.get(at, 0) + 1

    async def _together(self, shuffled: bool, steps: Sequence[Step]) -> None:
        """All of it at one moment."""
        touched = [self.chain(step[1]) for step in steps]
        for one in touched:
            one.muddled = True
            one.node.faults.shuffled = shuffled
            one.node.hold()
        for step in steps:
            self.move(step)
        for one in touched:
            one.node.let_go()
            one.node.faults.shuffled = False
        await trio.lowlevel.checkpoint()

    # --- trouble ----------------------------------------------------------------------------------

    async def _node(self, chain: int, kind: str, amount: int) -> None:
        one = self.chain(chain)
        node, faults = one.node, one.node.faults
        if kind == "too deep":
            if one.remembers and node.final is None and one.lost is None:
                move(one, self.world.clock, ("lose", chain))
                await self._see_refusal(CHAINS[chain])
            return
        if kind == "stale" and (one.lost or not one.remembers):
            return
        if kind in ("down", "rejected"):
            setattr(faults, kind, True)
            node.disconnect()
        elif kind == "stale":
            faults.stale_by = amount
            node.disconnect()
        elif kind in ("replicas", "refuses"):
            setattr(faults, kind, amount / 10)
        elif kind == "slow":
            faults.slow_s = amount / 5
        elif kind == "echo":
            node.echo = True
        elif kind == "lost push":
            node.lose_push()
        elif kind == "dropped":
            node.disconnect()
            one.remembers = False
        else:
            setattr(faults, kind, True)

    async def _see_refusal(self, chain: str) -> None:
        """A reorg that is too deep: the chain stops with a reason, and nothing is changed."""
        world = self.world
        with trio.move_on_after(40):
            while world.process.up and not world.disk.faults.any:
                supervisor = world.process.chains.get(chain)
                if supervisor and supervisor.health().state is ChainState.REFUSED:
                    return
                await trio.sleep(0.5)
            return
        raise AssertionError(f"{chain} is not refused after a reorg that is too deep")

    async def _mend_node(self, chain: int) -> None:
        one = self.chain(chain)
        if one.lost is not None:
            move(one, self.world.clock, ("come back", chain))
            one.remembers = False
        if one.node.faults.disturbing or one.node.faults.stale_by:
            one.muddled = True
        if one.node.faults.stale_by:
            # What was mined meanwhile was in none of its answers: it was gone, and came back.
            one.changes = {at: count + 1 for at, count in one.changes.items()}
        one.shaken |= bool(one.node.faults.stale_by or one.node.faults.replicas)
        if one.node.faults.blinding or one.node.faults.disturbing:
            one.remembers = False
        one.node.faults = NodeFaults()
        one.node.echo = False
        one.node.lose_push()

    async def _disk(self, kind: str, amount: int) -> None:
        self._mended = True
        faults = self.world.disk.faults
        if kind == "full":
            faults.full = True
        elif kind == "persistent":
            faults.full = faults.persistent = True
        elif kind == "slow":
            faults.commit_s = amount / 5
        elif kind == "broken":
            faults.broken_writes = amount
        elif kind == "lost answer":
            faults.lost_answers = amount
        elif kind == "reads":
            faults.broken_reads = amount

    async def _mend_disk(self) -> None:
        self._mended = True
        faults = self.world.disk.faults
        faults.full = faults.persistent = False
        faults.commit_s = 0.0
        faults.broken_writes = faults.lost_answers = faults.broken_reads = 0

    async def _kill(self, steps: int) -> None:
        self.world.kill_soon(steps)

    async def _kill_in(self, seconds: float) -> None:
        async def strike() -> None:
            await trio.sleep(seconds)
            self.world._kill()

        self.world.nursery.start_soon(strike)

    async def _stop(self) -> None:
        await self.world.process.stop()

    async def _down(self) -> None:
        self.world.down = True
        self.world.process.kill()

    async def _up(self) -> None:
        self.world.down = False
        self.world.wake.set()

    async def _wait(self, seconds: float) -> None:
        await trio.sleep(seconds)

    async def _jump(self, seconds: float) -> None:
        self.world.clock.jump(seconds)

    async def _rest(self) -> None:
        """Every step is followed by a rest."""

    # --- clients ----------------------------------------------------------------------------------

    async def _user(self) -> None:
        world, number = self.world, len(self.users) + 1
        user_id = UUID(int=number)
        keys = [(chain, f"key {number}") for chain in CHAINS]
        while len(world.disk._accounts) < len(CHAINS) * number:
            with suppress(Gone):
                await world.ask(lambda process: process.invoicing.register_user(user_id))
                await world.ask(lambda process: process.invoicing.set_keys(user_id, keys))
            await trio.sleep(0.1)
        self.users.append(user_id)
        backend = Backend(user_id, lambda: world.process)
        world.backends.append(backend)
        world.nursery.start_soon(backend.run)

    def user(self, number: int | None) -> UUID | None:
        return None if number is None or not self.users else self.users[number % len(self.users)]

    async def _create(self, user: int, chain: int, *wanted: object) -> None:
        if not self.users:
            return
        amount_base, ttl_s, confirmations, policy, channel, key, twice = wanted
        backend = self.world.backends[user % len(self.users)]
        agreed = None if policy is None else POLICIES[policy]
        wish = Wish(CHAINS[chain], amount_base, ttl_s, confirmations, agreed, channel, key, twice)
        backend.wish(wish)
        await trio.sleep(0.2)

    async def _cancel(self, number: int) -> None:
        """Only where the daemon knows what the account knows."""
        world = self.world
        accounts = world.accounts()
        if not accounts:
            return
        account = accounts[number % len(accounts)]
        one = world.chains[account.terms.chain]
        quiet = one.remembers and not one.muddled and world.follows(account.terms.chain)
        if not quiet or not account.judged or world.killer.counting:
            return
        backend = next(b for b in world.backends if b.user_id == account.terms.user_id)
        invoice_id = account.terms.invoice_id
        backend.cancel(invoice_id)
        await until(lambda: backend.idle, within_s=30, every_s=0.1)
        state = world.disk.state(invoice_id)
        assert state is not None
        if state.state is State.CANCELLED:
            assert account.cancellable or account.state is State.CANCELLED, "cancelled, with money"
            account.cancel()
        else:
            assert backend.cancelled.get(invoice_id) is not True, (
                "told of a cancelling that was not"
            )

    async def _reader(
        self, kind: str, whose: int | None, types: tuple[str, ...], slow: bool
    ) -> None:
        world = self.world
        present, random = (lambda: world.process), Random(world.random.random())
        if len(world.readers) >= 5:
            return
        reader: Reader
        if kind == "status":
            reader = StatusReader(present, random, self.promised)
        elif kind == "watch":
            reader = Watcher(present, random, self.user(whose), types, slow=slow)
        else:
            make = SseReader if kind == "sse" else Poller
            reader = make(present, random, None, types, slow=slow)
        world.readers.append(reader)
        world.nursery.start_soon(reader.run)

    def promised(self) -> list[UUID]:
        return [one.invoice_id for backend in self.world.backends for one in backend.promises]

    async def _vanish(self, number: int) -> None:
        if self.world.readers:
            self.world.readers[number % len(self.world.readers)].vanish()

    async def _webhook(self, whose: int | None, types: tuple[str, ...], mood: str) -> None:
        if len(self.hooks) >= 4:
            return
        url = f"https://{len(self.hooks)}.example/"
        receiver = Receiver(url, self.user(whose), types, mood)
        self.hooks.append(receiver)
        self.world.nursery.start_soon(self.world.add_webhook, receiver)

    def hook(self, number: int) -> Receiver | None:
        there = [one for one in self.hooks if one.webhook_id is not None]
        return there[number % len(there)] if there else None

    async def _mood(self, number: int, mood: str) -> None:
        if (receiver := self.hook(number)) is not None:
            receiver.mood = mood

    async def _resume(self, number: int) -> None:
        if (receiver := self.hook(number)) is not None:
            await self._of_webhook("resume", receiver.webhook_id, from_now=False)

    async def _rotate(self, number: int) -> None:
        receiver = self.hook(number)
        if receiver is None:
            return
        endpoint = self.world.disk.webhooks._endpoints[receiver.webhook_id]
        new = self.world.random.randbytes(32)
        await self._of_webhook("rotate", endpoint.id, overlap_s=0, secret=new)
        receiver.secret = self.world.disk.webhooks._endpoints[endpoint.id].secret[::-1]

    async def _of_webhook(self, what: str, *args: object, **given: object) -> None:
        with suppress(Gone):
            await self.world.ask(lambda one: getattr(one.webhooks, what)(*args, **given))

    # --- the end ----------------------------------------------------------------------------------

    async def end(self) -> None:
        """Mend everything, wait until everybody has everything, and compare all there is."""
        world = self.world
        world.kill_soon(None)
        await self._mend_disk()
        await self._up()
        for chain in world.chains:
            await self._mend_node(CHAINS.index(chain))
        for receiver in self.hooks:
            receiver.mood = "takes"
        for reader in world.readers:
            reader.slow = False
        await self.rest()
        await check_end(self)
        trace = self._trace
        for entry in world.disk.log:
            trace.update(repr(entry).encode())
        for reader in world.readers:
            trace.update(repr(reader.heard).encode())
        for receiver in self.hooks:
            trace.update(repr((receiver.taken, receiver.requests)).encode())
        trace.update(repr(trio.current_time()).encode())


def play(plan: Sequence[Step], *, seed: int) -> Played:
    """Play the plan, with every choice that it leaves open taken from the seed.

    Watchers are given little room, so that they fall behind, and catch up, in so short a history.
    """

    async def main() -> Played:
        async with trio.open_nursery() as nursery:
            world = World(Random(~seed), nursery, chains=chains_of(plan))
            history = History(world)
            try:
                await history.play(plan)
            finally:
                world.kill_soon(None)
                world.process.kill()
            nursery.cancel_scope.cancel()
        return Played(
            history._trace.hexdigest(),
            len(world.disk.log),
            world.kills,
            history.comparisons,
            history.exact,
            trio.current_time(),
        )

    try:
        with (
            mock.patch.object(watching, "QUEUED_BYTES", 600),
            mock.patch.object(watching, "PUSHED_EVENTS", 4),
        ):
            return run_seeded(seed, main)
    except BaseExceptionGroup as group:
        # What failed first fails everything else: the rest is its end.
        failed = [one for one in failures_of(group) if isinstance(one, Exception)]
        asserted = [one for one in failed if isinstance(one, AssertionError)]
        first = (asserted or failed or [None])[0]
        if first is None:
            raise
        raise first from None


def play_seed(seed: int) -> Played:
    return play(draw(seed), seed=seed)
