"""SIGHUP: re-open the log, read the certificates anew, change what can change while running."""

from __future__ import annotations

from collections.abc import Callable

from actors.ports import PersistentError
from daemon.config import CoinConfig, Config, ConfigError, reloadable_changes
from daemon.house import House
from daemon.logging import LogOutput, get_logger
from daemon.servers import Servers
from daemon.sources import apply_live

_log = get_logger("reload")


class Reload:
    """Applies a re-read configuration to the running daemon; what fails leaves the old in place."""

    def __init__(
        self,
        config: Config,
        house: House,
        servers: Servers | None,
        output: LogOutput,
        reread: Callable[[], Config],
    ) -> None:
        self._config = config
        self._house = house
        self._servers = servers
        self._output = output
        self._reread = reread

    def apply(self) -> None:
        """Never raises for what a person wrote: the log says what was wrong."""
        try:
            self._output.reopen()
        except OSError as error:
            _log.error("the log file cannot be re-opened, the old one stays", error=str(error))
        try:
            fresh = self._reread()
        except ConfigError as error:
            _log.error("the configuration was not reloaded", problems=str(error))
            return
        plan = reloadable_changes(self._config, fresh)
        self._output.set_level(fresh.log.level)
        for coin in fresh.coins.values():
            self._use(coin)
        try:
            if self._servers is not None:
                self._servers.reread_certificates(fresh.server)
        except PersistentError as error:
            _log.error("the certificates were not reloaded, the old ones stay", error=str(error))
        _log.info(
            "configuration reloaded", changed=list(plan.live), need_a_restart=list(plan.restart)
        )
        # What needs a restart is named at every reload until there is one.
        self._config = fresh if not plan.restart else self._config

    def _use(self, coin: CoinConfig) -> None:
        house = self._house
        if house.roles is not None:
            house.roles.use(coin)
        if coin.coin in house.chains:
            house.chains[coin.coin].use_confirmations(coin.confirmations)
        if coin.coin in house.watched:
            watched = house.watched[coin.coin]
            apply_live(watched.source, coin)
            watched.supervisor.retry()
