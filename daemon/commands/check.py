"""`tallyd check`: configuration, database and every node, before or beside a running daemon."""

from __future__ import annotations

import argparse
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum

import trio

from actors.access import in_force
from actors.access_book import ApiKey
from actors.chain_standing import watch_duty
from actors.duties import FRESH_S, Standing
from actors.ports import Account, ChainCursor, NodeStatus, PersistentError, TransientError
from actors.remote_webhooks import DELIVER
from daemon.admission import NOBODY, why_not
from daemon.clock import SystemClock
from daemon.config import CoinConfig, Config, add_flags, flags_from, load_config
from daemon.keys import SealedWebhook, Vault
from daemon.sources import open_servers, open_source
from daemon.store import read_store
from daemon.unlock import key_place, needs_vault, stored_accounts, stored_webhooks

PATIENCE_S = 15.0


class Verdict(Enum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "FAILED"


class _Unsaid:
    """A driver's log while it is checked: what matters of it is among the findings."""

    def debug(self, event: str, **fields: object) -> None: ...
    def info(self, event: str, **fields: object) -> None: ...
    def warning(self, event: str, **fields: object) -> None: ...
    def error(self, event: str, **fields: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Finding:
    verdict: Verdict
    subject: str
    text: str


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("check", help="check configuration, database and nodes")
    add_flags(command)
    command.set_defaults(action=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns 0 if nothing failed, else 1; prints a line for each thing looked at."""
    config = load_config(flags_from(arguments))

    async def show() -> int:
        failed = 0
        async with aclosing(findings(config)) as found:
            async for finding in found:
                failed += finding.verdict is Verdict.FAILED
                print(
                    f"{finding.verdict.value:<8} {finding.subject:<14} {finding.text}", flush=True
                )
        return failed

    return 1 if trio.run(show) else 0


async def findings(config: Config) -> AsyncGenerator[Finding, None]:
    """What was found, one by one as it is found; never raises for what it looks at."""
    source = str(config.file) if config.file else "no file: environment and defaults"
    yield Finding(Verdict.OK, "configuration", source)
    for warning in config.warnings:
        yield Finding(Verdict.WARNING, "configuration", warning)
    cursors: dict[str, ChainCursor | None] = {}
    accounts: list[Account] = []
    webhooks: list[SealedWebhook] = []
    keys: list[ApiKey] = []
    standings: list[Standing] = []
    try:
        text = await _database(config, cursors, accounts, webhooks, keys, standings)
    except (TransientError, PersistentError) as error:
        yield Finding(Verdict.FAILED, "database", str(error))
    else:
        yield Finding(Verdict.OK, "database", text)
        if config.roles.serves:
            yield _access(config, keys)
        for verdict, told in _vault(config, accounts, webhooks):
            yield Finding(verdict, "vault", told)
        for verdict, told in _roles(config, standings):
            yield Finding(verdict, "roles", told)
    if not config.coins:
        yield Finding(
            Verdict.WARNING, "coins", "none is enabled: set coin.btc.daemon.url or others"
        )
    for coin in config.coins.values():
        async with aclosing(_node(config, coin, cursors.get(coin.coin))) as found:
            async for finding in found:
                yield finding


async def _database(
    config: Config,
    cursors: dict[str, ChainCursor | None],
    accounts: list[Account],
    webhooks: list[SealedWebhook],
    keys: list[ApiKey],
    standings: list[Standing],
) -> str:
    url = config.database.url.reveal()
    file = config.database.sqlite_file
    if file is not None and not await trio.Path(file).exists():
        return f"{config.database.display}: will be created at the first start"
    async with read_store(url) as store:
        for chain in config.coins:
            cursors[chain] = await store.cursor(chain)
        accounts += await stored_accounts(config, store, used=False)
        webhooks += await stored_webhooks(store)
        keys += await store.api_keys()
        if not config.roles.alone:
            standings += await store.standings()
        return f"{config.database.display}: {await store.last_seq()} events"


def _access(config: Config, keys: list[ApiKey]) -> Finding:
    """Who could come in."""
    now_ms = SystemClock().now_ms()
    count = sum(in_force(key, now_ms=now_ms) for key in keys)
    objection = why_not(config, has_key=count > 0)
    if objection is not None:
        return Finding(Verdict.FAILED, "access", objection)
    access = config.access
    if not (count or access.anonymous or access.subjects):
        return Finding(Verdict.WARNING, "access", NOBODY)
    ways = [f"{count} API keys in force"]
    if access.subjects:
        ways.append(f"{len(access.subjects)} subjects of certificates")
    if access.anonymous:
        ways.append("callers on this machine need none")
    return Finding(Verdict.OK, "access", ", ".join(ways))


def _vault(
    config: Config, accounts: list[Account], webhooks: list[SealedWebhook]
) -> Iterator[tuple[Verdict, str]]:
    """Where the key for what is sealed is, and whether it opens all that is stored."""
    if not accounts and not webhooks and not needs_vault(config):
        return
    place = key_place(config)
    sealed = [account for account in accounts if account.secret is not None]
    problem = Vault(place, warn=_Unsaid().warning).check([*sealed, *webhooks])
    if problem is not None:
        yield (Verdict.FAILED if needs_vault(config) else Verdict.WARNING), problem
    elif place.default:
        exists = place.file.exists()
        made = "view keys are stored under it" if exists else "will be made when it is needed"
        beside = "a copy of the state folder is enough to read them; set vault.key"
        yield Verdict.WARNING, f"{place}: {made}; {beside}"
    else:
        yield Verdict.OK, f"key from {place}"
    if sealed and problem is None:
        yield Verdict.OK, f"{len(sealed)} view keys can be opened"
    if webhooks and problem is None:
        yield Verdict.OK, f"{len(webhooks)} webhook secrets can be opened"
    if missing := len(accounts) - len(sealed):
        yield Verdict.WARNING, f"{missing} view keys are not stored: their users' keys must be set"


def _roles(config: Config, standings: list[Standing]) -> Iterator[tuple[Verdict, str]]:
    """What this process would do, and who does what others do."""
    if config.roles.alone:
        return
    yield Verdict.OK, f"this configuration is for {', '.join(config.roles.names)}"
    said = {one.duty: one for one in standings}
    for duty in (*map(watch_duty, config.coins), DELIVER):
        one = said.get(duty)
        if one is None:
            yield Verdict.WARNING, f"{duty}: no process has ever done it; start one with -role"
        elif one.age_s >= FRESH_S:
            away = f"{one.holder}, was heard of {one.age_s:.0f} s ago"
            yield Verdict.WARNING, f"{duty}: no process does it now; the last one, {away}"
        else:
            yield Verdict.OK, f"{duty}: {one.holder}"


async def _node(
    config: Config, coin: CoinConfig, cursor: ChainCursor | None
) -> AsyncGenerator[Finding, None]:
    if len(coin.nodes) > 1:
        for finding in await _endpoints(coin):
            yield finding
    assets = config.catalogue.assets.values()
    # As if there were open invoices: else a node that does not trace would be of less use here.
    source = open_source(coin, assets, log=_Unsaid(), open_destinations=list)
    subject = f"{coin.coin} node"
    try:
        with trio.fail_after(PATIENCE_S):
            status = await source.status()
            final_height = await source.final_height()
    except (TransientError, PersistentError) as error:
        yield Finding(Verdict.FAILED, subject, str(error))
        return
    except trio.TooSlowError:
        yield Finding(
            Verdict.FAILED,
            subject,
            f"{coin.display} did not answer within {PATIENCE_S:g} s (coin.{coin.coin}.daemon.url)",
        )
        return
    finally:
        with trio.CancelScope(shield=True):
            await source.aclose()
    network = f"chain id {status.network}" if coin.evm else f"network {status.network}"
    yield Finding(
        Verdict.OK,
        subject,
        f"{coin.display}: {status.software}, {network}, block {status.tip.height}",
    )
    for verdict, text in _judge(coin, status, cursor):
        yield Finding(verdict, subject, text)
    for verdict, text in (*_judge_evm(coin, final_height), *_judge_ton(coin)):
        yield Finding(verdict, subject, text)
    for verdict, text in _judge_tokens(config, coin, source.disabled_assets()):
        yield Finding(verdict, f"{coin.coin} tokens", text)


async def _endpoints(coin: CoinConfig) -> list[Finding]:
    """Each of several endpoints, compared with the others."""
    pool = open_servers(coin, log=_Unsaid())
    try:
        with trio.move_on_after(PATIENCE_S):
            await pool.check()
        healths = pool.health()
    finally:
        with trio.CancelScope(shield=True):
            await pool.aclose()
    found = []
    for node, health in zip(coin.nodes, healths, strict=True):
        text = f"block {health.head}"
        if coin.evm is not None:
            text += ", can push" if health.can_subscribe else ", cannot push"
        if health.reason or health.head is None:
            text = health.reason or f"did not answer within {PATIENCE_S:g} s"
        verdict = Verdict.OK if health.head is not None and not health.reason else Verdict.WARNING
        found.append(Finding(verdict, f"{coin.coin} endpoint", f"{node}: {text}"))
    return found


def _judge_ton(coin: CoinConfig) -> Iterator[tuple[Verdict, str]]:
    if coin.ton is not None:
        each = f"a {coin.ton.wallet} wallet each"
        shared = f"the key's own {coin.ton.wallet} wallet, and a comment each"
        yield Verdict.OK, f"new invoices get {shared if coin.ton.comments else each}"


def _judge_evm(coin: CoinConfig, final_height: int | None) -> Iterator[tuple[Verdict, str]]:
    finality = coin.evm.finality if coin.evm else None
    if finality is None:
        return
    if final_height is not None:
        yield Verdict.OK, f"{finality} up to block {final_height}"
    else:
        unknown = f"the node knows no {finality} block: set coin.{coin.coin}.finality to none"
        yield Verdict.FAILED, f"{unknown} and choose coin.{coin.coin}.confirmations"


def _judge_tokens(
    config: Config, coin: CoinConfig, disabled: Mapping[str, str]
) -> Iterator[tuple[Verdict, str]]:
    assets = config.catalogue.assets.values()
    tokens = [one.id for one in assets if one.chain == coin.coin and one.contract]
    if tokens:
        good = len(tokens) - len(disabled)
        yield Verdict.OK, f"{good} of {len(tokens)} contracts are as the asset data say"
    for asset_id, reason in disabled.items():
        yield Verdict.WARNING, f"{asset_id} is disabled: {reason}"


def _judge(
    coin: CoinConfig, status: NodeStatus, cursor: ChainCursor | None
) -> Iterator[tuple[Verdict, str]]:
    index = "" if coin.evm or coin.ton else "; no transaction index is needed"
    yield Verdict.OK, f"news by {status.push}{index}"
    if status.syncing:
        progress = f"block {status.tip.height} of {status.headers_height}"
        yield Verdict.FAILED, f"still syncing ({progress}); payments are watched when it is done"
    else:
        yield Verdict.OK, "in sync"
    next_height = cursor.view.tip.height + 1 if cursor else status.tip.height + 1
    if cursor and (cursor.network, cursor.genesis) != (status.network, status.genesis):
        used = f"the database has been used with network {cursor.network!r}: point"
        yield Verdict.FAILED, f"{used} coin.{coin.coin}.daemon.url there, or use another database"
    elif cursor:
        behind = max(0, status.tip.height - cursor.view.tip.height)
        yield Verdict.OK, f"read up to block {next_height - 1}, {behind} to go"
    if status.pruned_below is not None:
        kept = f"pruned: keeps blocks from {status.pruned_below} on, the next one is {next_height}"
        if status.pruned_below > next_height:
            yield Verdict.FAILED, f"{kept}; point coin.{coin.coin}.daemon.url at a node that has it"
        else:
            yield Verdict.WARNING, f"{kept}; a downtime longer than that would lose blocks"
