"""`tallyd check`: configuration, database and every node, before or beside a running daemon."""

from __future__ import annotations

import argparse
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum

import trio

from actors.ports import ChainCursor, NodeStatus, PersistentError, TransientError
from daemon.catalogue import load_catalogue
from daemon.config import CoinConfig, Config, add_flags, flags_from, load_config
from daemon.logging import get_logger
from daemon.sources import open_source
from daemon.store import read_store

PATIENCE_S = 15.0


class Verdict(Enum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "FAILED"


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
    try:
        text = await _database(config, cursors)
    except (TransientError, PersistentError) as error:
        yield Finding(Verdict.FAILED, "database", str(error))
    else:
        yield Finding(Verdict.OK, "database", text)
    if not config.coins:
        yield Finding(
            Verdict.WARNING, "coins", "none is enabled: set coin.btc.daemon.url or others"
        )
    for coin in config.coins.values():
        async with aclosing(_node(config, coin, cursors.get(coin.coin))) as found:
            async for finding in found:
                yield finding


async def _database(config: Config, cursors: dict[str, ChainCursor | None]) -> str:
    url = config.database.url.reveal()
    file = config.database.sqlite_file
    if file is not None and not await trio.Path(file).exists():
        return f"{config.database.display}: will be created at the first start"
    async with read_store(url) as store:
        for chain in config.coins:
            cursors[chain] = await store.cursor(chain)
        return f"{config.database.display}: {await store.last_seq()} events"


async def _node(
    config: Config, coin: CoinConfig, cursor: ChainCursor | None
) -> AsyncGenerator[Finding, None]:
    chain = load_catalogue(config.assets.file).chains[coin.coin]
    source = open_source(chain, coin, log=get_logger(f"driver.{coin.coin}"))
    subject = f"{coin.coin} node"
    try:
        with trio.fail_after(PATIENCE_S):
            status = await source.status()
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
    yield Finding(
        Verdict.OK,
        subject,
        f"{coin.display}: {status.software}, network {status.network}, block {status.tip.height}",
    )
    for verdict, text in _judge(coin, status, cursor):
        yield Finding(verdict, subject, text)


def _judge(
    coin: CoinConfig, status: NodeStatus, cursor: ChainCursor | None
) -> Iterator[tuple[Verdict, str]]:
    yield Verdict.OK, f"news by {status.push}; no transaction index is needed"
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
