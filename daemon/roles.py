"""One of several processes on one database: its duties, and doors to what others do.

Every process has the same doors, to chains and to webhooks, and goes through them whoever is behind
them, itself included. Behind a door stands the holder of a duty: the one process that watches the
chain, or that delivers. Whoever has the role and not the duty stands by, with everything open but
the chain itself, and begins as at a start when the duty falls to it.

A duty is never given back while the process lives. A process that has lost the connection to which
its duties are bound ends (DutyLostError).
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from actors.asking import Asking
from actors.chain_desk import ChainDesk
from actors.chain_standing import watch_duty
from actors.duties import Duties, DutyStatistics, Standing
from actors.remote_chain import RemoteChain
from actors.remote_webhooks import DELIVER
from actors.webhook_desk import WebhookDesk
from daemon.chains import WatchedChain, loading, open_chain, policy_of
from daemon.config import CoinConfig
from daemon.ground import Ground, Works
from daemon.logging import get_logger
from daemon.unlock import watch_account, watch_used

_log = get_logger("roles")


class Roles:
    """What one process does of what its configuration names."""

    def __init__(self, ground: Ground, duties: Duties) -> None:
        self.names = ground.config.roles.names
        self.duties = duties
        self._asking = Asking(duties)
        self._ground = ground
        self._coins = dict(ground.config.coins)
        self._watched: dict[str, WatchedChain] = {}
        self._known: set[int] = set()
        """Accounts that chains are scanned for, as far as they need that."""
        self._holder = f"{socket.gethostname()} pid {os.getpid()}"

    @asynccontextmanager
    async def works(self) -> AsyncIterator[Works]:
        """Doors to everything; for the length of the block this process does or stands by."""
        ground, roles = self._ground, self._ground.config.roles
        chains = {
            coin.coin: RemoteChain(
                coin.chain,
                policy=policy_of(coin),
                duties=self._asking,
                store=ground.store,
                cursor=await ground.store.cursor(coin.coin),
            )
            for coin in ground.config.coins.values()
        }
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.duties.run)
            for chain in roles.watch:
                nursery.start_soon(self._watch, chain)
            if roles.deliver:
                nursery.start_soon(self._deliver)
            try:
                yield Works(
                    chains=chains,
                    watched=self._watched,
                    webhooks=ground.kit.service(ground.kit.elsewhere(self._asking)),
                )
            finally:
                self._asking.close()
                nursery.cancel_scope.cancel()

    async def stop_asking(self, *, after_s: float) -> None:
        """What others have not answered by then is given up: this process has to end."""
        await trio.sleep(after_s)
        self._asking.close()

    def use(self, coin: CoinConfig) -> None:
        """What a chain is opened with that falls to us later (SIGHUP)."""
        self._coins[coin.coin] = coin

    def statistics(self) -> DutyStatistics:
        return self.duties.statistics()

    def holders(self) -> dict[str, Standing | None]:
        """Each duty that there is, with what its holder last said; None: nobody holds it now."""
        duties = [*map(watch_duty, self._ground.config.coins), DELIVER]
        return {duty: self.duties.standing(duty) for duty in duties}

    def status(self) -> str:
        """For `systemctl status`: what this process does, and what it would do."""
        held, roles = self.duties.statistics().held, self._ground.config.roles
        duties = [*map(watch_duty, roles.watch), *([DELIVER] if roles.deliver else [])]
        parts = [f"{'holding' if one in held else 'standing by for'} {one}" for one in duties]
        return ", ".join([*(["api"] if roles.api else []), *parts])

    # --- duties -----------------------------------------------------------------------------------

    async def _watch(self, chain: str) -> None:
        """Watch the chain from when that falls to us until we end."""
        ground = self._ground
        await self._take(watch_duty(chain))
        watched = open_chain(
            self._coins[chain],
            catalogue=ground.config.catalogue,
            keyring=ground.keyring,
            store=ground.store,
            metrics=ground.metrics,
        )
        desk = ChainDesk(
            watched.supervisor,
            duties=self.duties,
            store=ground.store,
            know_account=self._know_account,
            log=_log,
        )
        self._watched[chain] = watched
        try:
            await desk.greet()
            # Accounts that others have given out addresses of since we were started.
            await watch_used(ground.config, ground.store, ground.keyring, log=_log)
            async with trio.open_nursery() as nursery:
                with loading():
                    await nursery.start(watched.supervisor.run)
                nursery.start_soon(desk.run)
        finally:
            with trio.CancelScope(shield=True):
                await watched.source.aclose()

    async def _deliver(self) -> None:
        """Send webhooks from when that falls to us until we end."""
        await self._take(DELIVER)
        async with self._ground.kit.delivering(self._ground.hub) as engine:
            await WebhookDesk(engine, duties=self.duties, log=_log).run()

    async def _take(self, duty: str) -> None:
        _log.info("standing by", duty=duty)
        await self.duties.take(duty, holder=self._holder)
        _log.info("duty taken", duty=duty)

    async def _know_account(self, account_id: int) -> None:
        if account_id not in self._known:
            await watch_account(self._ground.store, self._ground.keyring, account_id)
            self._known.add(account_id)
