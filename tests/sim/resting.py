"""Moments of rest: the daemon may know all there is, and every invoice is compared."""

from __future__ import annotations

import trio

from tests.sim.scheduling import until
from tests.sim.world import Followed, World

REST_S = 3.5
"""After so long, what a node has forgotten has been forgotten, and deadlines have been noticed."""
LONGEST_S = 90.0
"""Until the daemon follows again, once nothing is wrong any more."""
EDGE_MS = 2_500
"""An instant so close may or may not have been noticed."""


class Resting:
    """The part of a history that waits and compares."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.comparisons = self.exact = 0
        self._process = world.process
        self._mended = False
        """The disk was bad since the last moment of rest: what waits for its next attempt needs its
        time."""

    async def rest(self) -> None:
        """If the daemon can know the world, let it, and compare."""
        world = self.world
        await self._rest_now()
        assert not world.violations, world.violations[0]

    async def _rest_now(self) -> None:
        world = self.world
        for one in world.chains.values():
            if one.node.faults.deaf:
                one.node.lose_push()
        await trio.sleep(REST_S)
        if world.disk.faults.any or world.down:
            for one in world.chains.values():
                one.remembers = False
                one.muddled |= not world.down
            return
        sound = {
            chain: one
            for chain, one in world.chains.items()
            if not (one.node.faults.blinding or one.node.faults.disturbing or one.lost)
        }
        for one in world.chains.values():
            if one not in sound.values():
                one.remembers = False
                one.muddled |= one.node.faults.disturbing
        await self._until_followed(sound)
        await self._away_from_deadlines(sound)
        world.learn()
        for chain, one in sound.items():
            self._compare(chain, one)

    async def _until_followed(self, sound: dict[str, Followed]) -> None:
        """Wait for the daemon; who was disturbed gets its time to find out what it missed."""
        world = self.world
        waited = 0.0
        while True:
            if all(map(world.follows, sound)):
                calm = all(one.remembers for one in sound.values()) and not self._mended
                if world.process is self._process and calm and not waited:
                    return
                self._process, waited = world.process, 0.0
                for one in sound.values():
                    if one.node.faults.deaf:
                        one.node.lose_push()
                # Appends and invoices that wait for their next attempt, evictions, deadlines.
                await trio.sleep(REST_S + 5.5)
                if world.process is self._process and all(map(world.follows, sound)):
                    self._mended = False
                    return
            assert waited < LONGEST_S, f"the daemon does not follow: {self._why(sound)}"
            for one in sound.values():
                one.remembers = False
            await trio.sleep(1)
            waited += 1

    def _why(self, sound: dict[str, Followed]) -> str:
        process = self.world.process
        healths = [process.chains[chain].health() for chain in sound if chain in process.chains]
        return f"up {process.up}: {healths}"

    async def _away_from_deadlines(self, sound: dict[str, Followed]) -> None:
        """What ends between two heartbeats may have been noticed or not: let the next one come."""
        world = self.world
        ends = [ms for a in world.accounts() for ms in (a.terms.expires_at_ms, a.closes_ms)]
        for one in sound.values():
            ends += [out.unlock_ms for tx in one.paid for out in tx.outputs if out.unlock_ms]

        def away() -> bool:
            now_ms = world.clock.now_ms()
            return not any(0 <= now_ms - end_ms < EDGE_MS for end_ms in ends)

        assert await until(away, within_s=LONGEST_S), "deadline upon deadline"

    def _compare(self, chain: str, one: Followed) -> None:
        world, node = self.world, one.node
        if self._process is not world.process or not world.follows(chain):
            one.remembers = False
            return
        now_ms = world.clock.now_ms()
        for at, account in enumerate(one.accounts):
            account.look(node, now_ms, remembers=one.remembers)
            if one.muddled and one.changes.get(at, 0) > 1:
                account.judged = False
            invoice = world.disk.state(account.terms.invoice_id)
            assert invoice is not None
            if one.muddled or not one.remembers:
                # It may have seen a lie that is gone by now.
                account.refused |= {out.outpoint for out in invoice.refused} & one.lies
            unchanged = not one.shaken and not one.changes.get(at)
            try:
                account.compare(invoice, node.height)
                account.check_news(
                    *world.disk.placed(invoice), unchanged=unchanged, shaken=one.shaken
                )
            except AssertionError as wrong:
                raise AssertionError(_both(account, invoice, wrong)) from wrong
            self.comparisons += 1
            self.exact += account.judged
        one.remembers, one.muddled, one.shaken = True, False, False
        one.changes.clear()


def _both(account: object, invoice: object, wrong: AssertionError) -> str:
    told = {name: value for name, value in vars(account).items() if name != "terms"}
    return f"{wrong}\n  it ought to be: {told}\n  the daemon has: {invoice}"
