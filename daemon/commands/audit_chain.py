"""`tallyd audit`: every invoice derived again from its node, and compared with what is stored."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import trio

from actors.core.invoice import Invoice
from actors.ports import (
    ChainCursor,
    InvoiceQuery,
    PersistentError,
    Store,
    TransientError,
)
from api.convert import parse_instant
from daemon.audit.coin_audit import CoinAudit, Heard, OnProgress, OpenAddresses, Subject
from daemon.audit.findings import CoinReport, Finding, Trust
from daemon.audit.plain_rules import OTHER_SLACK_MS, SLACK_MS
from daemon.clock import SystemClock
from daemon.commands.access import columns
from daemon.commands.audit_log import CLEAN, COULD_NOT_LOOK, DIFFERS
from daemon.commands.progress import Progress
from daemon.config import CoinConfig, Config, NodeUrl, flags_from, load_config, values
from daemon.drivers.monero_search import ViewKeys
from daemon.keys import Keyring, Vault
from daemon.sources import open_source
from daemon.store import read_store
from daemon.unlock import FAMILY as SEALED_FAMILY
from daemon.unlock import key_place

PAGE = 500
_URLS = {"evm": values.evm_urls, "monero": values.monero_urls, "ton": values.ton_urls}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be audited."""

    coins: tuple[str, ...] = ()
    """None named: all that are set up."""
    since_ms: int | None = None
    until_ms: int | None = None
    user_id: UUID | None = None
    node: str | None = None
    """Another node's URL, of the one coin."""


class Refused(Exception):  # noqa: N818 - it is the answer, not a fault
    """What was asked for cannot be done; the text says what to do."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--coin", action="append", default=[], metavar="C", help="btc, eth, …; may be repeated"
    )
    command.add_argument(
        "--since", type=_instant, metavar="T", help="invoices that were open, or changed, after"
    )
    command.add_argument("--until", type=_instant, metavar="T", help="invoices created before")
    command.add_argument("--user", type=_user, metavar="ID", help="invoices of this user")
    command.add_argument(
        "--node", metavar="URL", help="ask this node of the coin, not the configured one"
    )


def run(arguments: argparse.Namespace) -> int:
    """Returns CLEAN, DIFFERS or COULD_NOT_LOOK; raises ConfigError."""
    config = load_config(flags_from(arguments))
    wanted = Wanted(
        coins=tuple(coin.lower() for coin in arguments.coin),
        since_ms=arguments.since,
        until_ms=arguments.until,
        user_id=arguments.user,
        node=arguments.node,
    )
    try:
        with Progress() as progress:
            reports, others = trio.run(audit, config, wanted, progress)
    except (PersistentError, TransientError, Refused) as error:
        if arguments.json:
            print(json.dumps({"clean": None, "error": str(error)}, indent=2))
        print(f"tallyd: {error}", file=sys.stderr)
        return COULD_NOT_LOOK
    if arguments.json:
        print(json.dumps(document(reports, others), indent=2))
    else:
        print("\n".join(lines(reports, others)))
    return status_of(reports, others)


def status_of(reports: Sequence[CoinReport], others: Counter[str]) -> int:
    if any(report.differences for report in reports):
        return DIFFERS
    failed = others or any(report.failure is not None for report in reports)
    return COULD_NOT_LOOK if failed else CLEAN


async def audit(
    config: Config, wanted: Wanted, progress: OnProgress
) -> tuple[list[CoinReport], Counter[str]]:
    """A report of each coin, and how many invoices there are of coins that are not set up.

    Raises Refused, PersistentError and TransientError when nothing could be looked at.
    """
    coins = _coins(config, wanted)
    async with read_store(config.database.url.reveal()) as store:
        # Before the invoices: see daemon.audit.coin_audit.
        cursors = {coin: await store.cursor(coin) for coin in coins}
        found = await _invoices(store, wanted, progress)
        others = Counter({chain: len(of) for chain, of in found.items() if chain not in coins})
        reports = [
            await _audit_coin(
                config, coin, store, cursors[name], found.get(name, []), wanted, progress
            )
            for name, coin in coins.items()
        ]
    return reports, others


def _coins(config: Config, wanted: Wanted) -> dict[str, CoinConfig]:
    unknown = [coin for coin in wanted.coins if coin not in config.coins]
    if unknown:
        raise Refused(
            f"--coin {unknown[0]}: no node is set for it; set coin.{unknown[0]}.daemon.url, or name"
            f" one of {', '.join(config.coins) or 'those that have one (there is none)'}"
        )
    coins = {name: config.coins[name] for name in wanted.coins or config.coins}
    if wanted.node is None:
        return coins
    if len(coins) != 1:
        raise Refused("--node is one coin's node: say which with --coin")
    (name, coin) = next(iter(coins.items()))
    return {name: with_node(coin, wanted.node)}


def with_node(coin: CoinConfig, url: str) -> CoinConfig:
    """The coin with another node, and the same login unless the URL has one of its own."""
    parse = _URLS.get(coin.chain.family)
    try:
        nodes = (values.node_url(url, Path()),) if parse is None else parse(url, Path())
    except ValueError as error:
        # The URL itself may hold a password.
        raise Refused(f"--node: {error}") from None
    has_login = any(node.user is not None or node.password is not None for node in nodes)
    # An API key is one server's: no other gets to see it.
    if not has_login and coin.ton is None and coin.evm is None:
        login = coin.node
        nodes = tuple(NodeUrl(node.url, login.user, login.password) for node in nodes)
    return replace(coin, nodes=nodes, cookie_file=None if has_login else coin.cookie_file)


async def _invoices(store: Store, wanted: Wanted, progress: OnProgress) -> dict[str, list[Invoice]]:
    """By chain, as they were created."""
    found: dict[str, list[Invoice]] = {}
    query = InvoiceQuery(user_id=wanted.user_id, updated_since_ms=wanted.since_ms, limit=PAGE)
    count = 0
    while True:
        page = await store.find(query)
        for row in page:
            terms = row.invoice.terms
            is_early = wanted.until_ms is None or terms.created_at_ms < wanted.until_ms
            if is_early and (not wanted.coins or terms.chain in wanted.coins):
                found.setdefault(terms.chain, []).append(row.invoice)
        count += len(page)
        progress(f"{count} invoices", 0, 0)
        if len(page) < PAGE:
            return found
        last = page[-1].invoice.terms
        if wanted.until_ms is not None and last.created_at_ms >= wanted.until_ms:
            return found
        query = replace(query, after=(last.created_at_ms, last.invoice_id))


async def _audit_coin(
    config: Config,
    coin: CoinConfig,
    store: Store,
    cursor: ChainCursor | None,
    invoices: Sequence[Invoice],
    wanted: Wanted,
    progress: OnProgress,
) -> CoinReport:
    heard = Heard()
    slack_ms = SLACK_MS.get(coin.chain.family, OTHER_SLACK_MS)
    opened = OpenAddresses(invoices, coin.chain.coin, slack_ms)
    assets = config.catalogue.assets
    try:
        view_keys = await _view_keys(config, coin, store, invoices)
    except PersistentError as error:
        return CoinReport(coin.coin, coin.display, len(invoices), failure=str(error))
    source = open_source(
        coin, assets.values(), log=heard, open_destinations=_for_family(coin, opened),
        view_keys=view_keys,
    )  # fmt: skip
    try:
        subject = Subject(coin, assets, source, heard, opened, is_own_node=wanted.node is None)
        auditor = CoinAudit(subject, store, clock=SystemClock(), progress=progress)
        return await auditor.run(cursor, invoices)
    finally:
        with trio.CancelScope(shield=True):
            await source.aclose()


def _for_family(coin: CoinConfig, opened: OpenAddresses) -> OpenAddresses | None:
    """On TON it would be for the stream, which is not listened to."""
    return opened if coin.evm is not None else None


async def _view_keys(
    config: Config, coin: CoinConfig, store: Store, invoices: Sequence[Invoice]
) -> ViewKeys:
    """The view keys of the accounts whose invoices are audited; they never leave the process.

    Raises PersistentError, naming the setting, when the vault does not open them.
    """
    if coin.chain.family != SEALED_FAMILY or not invoices:
        return tuple
    wanted = {one.terms.account_id for one in invoices}
    accounts = [one for one in await store.accounts(coin.coin, used=True) if one.id in wanted]
    vault = Vault(key_place(config), warn=Heard().warning)
    problem = vault.check(accounts)
    if problem is not None:
        raise PersistentError(problem)
    missing = [one for one in accounts if one.secret is None]
    if missing:
        raise PersistentError(
            f"the view key of user {missing[0].user_id} is not stored, so payments to this user's"
            " invoices cannot be seen: set the user's keys again, or name other users with --user"
        )
    keyring = Keyring(vault)
    keyring.monero.watch(accounts)
    return keyring.monero.view_keys(coin.coin).keys


# --- what is printed ------------------------------------------------------------------------------


def document(reports: Sequence[CoinReport], others: Counter[str]) -> dict[str, Any]:
    """The findings for programs."""
    status = status_of(reports, others)
    return {
        "clean": {CLEAN: True, DIFFERS: False}.get(status),
        "differences": sum(report.differences for report in reports),
        "coins": [_coin_document(report) for report in reports],
        "not_set_up": dict(others),
        "findings": [_finding_document(one) for report in reports for one in report.findings],
    }


def _coin_document(report: CoinReport) -> dict[str, Any]:
    return {
        "coin": report.coin,
        "node": report.node,
        "invoices": report.invoices,
        "payments": report.payments,
        "from_height": report.from_height,
        "to_height": report.to_height,
        "differences": report.differences,
        "trusted": {why.name.lower(): count for why, count in _trusted(report.trust)},
        "notes": report.notes,
        "error": report.failure,
    }


def _finding_document(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind.value,
        "invoice_id": str(finding.invoice_id),
        "coin": finding.coin,
        "address": finding.address,
        "log": finding.log,
        "chain": finding.chain,
        "txid": finding.txid,
    }


def lines(reports: Sequence[CoinReport], others: Counter[str]) -> Iterator[str]:
    """The findings for people."""
    findings = [one for report in reports for one in report.findings]
    if findings:
        rows: list[tuple[str, ...]] = [
            ("INVOICE", "COIN", "DIFFERS", "THE LOG SAYS", "THE CHAIN SAYS", "TRANSACTION")
        ]
        rows += [
            (str(f.invoice_id), f.coin, f.kind.value, f.log, f.chain, f.txid or "")
            for f in findings
        ]
        yield from columns(rows)
        yield ""
    for report in reports:
        yield from _coin_lines(report)
    for chain, count in others.items():
        yield (
            f"{chain}: {count} invoices were not looked at: set coin.{chain}.daemon.url, or name"
            " the other coins with --coin"
        )
    more = sum(report.differences for report in reports) - len(findings)
    if more > 0:
        yield f"… and {more} more differences"
    if findings:
        yield (
            "Keep a copy of the database as it is. `tallyd audit --log` says whether something"
            " else than tallyd has changed it; a second node (--node) whether yours is right."
        )


def _coin_lines(report: CoinReport) -> Iterator[str]:
    if report.failure is not None:
        yield f"{report.coin}: could not look: {report.failure}"
        return
    if not report.invoices:
        yield f"{report.coin}: no invoices"
        return
    found = "clean" if not report.differences else f"{report.differences} differences"
    yield (
        f"{report.coin}: {found}: {report.invoices} invoices, {report.payments} payments in blocks"
        f" {report.from_height} to {report.to_height} of {report.node}"
    )
    for why, count in _trusted(report.trust):
        yield f"  {count} taken on trust: {why.value}"
    for note in report.notes:
        yield f"  the node: {note}"


def _trusted(trust: Counter[Trust]) -> list[tuple[Trust, int]]:
    return sorted(((why, count) for why, count in trust.items() if count), key=lambda one: -one[1])


# --- arguments ------------------------------------------------------------------------------------


def _instant(text: str) -> int:
    try:
        return parse_instant(f"{text}T00:00:00Z" if len(text) == 10 else text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} {error}, or a day such as 2026-01-31 (UTC)"
        ) from None


def _user(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError("give the user's id, a UUID of 36 characters") from None
