"""`tallyd invoice show ID`: one invoice's whole history, and in words why it is not paid yet."""

from __future__ import annotations

import argparse
import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from uuid import UUID

import trio

from actors.core.assets import Asset, Catalogue
from actors.core.codec import event_to_json
from actors.core.explain import ChainSituation, explain
from actors.core.invoice import Invoice
from actors.core.money import format_decimal
from actors.core.policy_json import policy_to_json
from actors.core.words import utc
from actors.ports import ChainCursor, LogEntry
from daemon.clock import SystemClock
from daemon.config import Config, add_flags, flags_from, load_config
from daemon.store import read_store

ASK_WITHIN_S = 3.0
_NOT_DETAIL = ("at_ms", "terms")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    invoice = commands.add_parser("invoice", help="look at invoices")
    actions = invoice.add_subparsers(title="commands", metavar="COMMAND", required=True)
    command = actions.add_parser("show", help="its history, and why it is not paid yet")
    add_flags(command)
    command.add_argument("id", metavar="ID", type=UUID, help="the invoice's id")
    command.set_defaults(action=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns 0, or 1 if there is no such invoice; reads only, beside a running daemon or not."""
    config = load_config(flags_from(arguments))
    return trio.run(_show, config, arguments.id)


async def _show(config: Config, invoice_id: UUID) -> int:
    async with read_store(config.database.url.reveal()) as store:
        row = await store.invoice(invoice_id)
        if row is None:
            print(f"tallyd: there is no invoice {invoice_id} in {config.database.display}")
            return 1
        history = await store.history(invoice_id)
        cursor = await store.cursor(row.invoice.terms.chain)
    asked = await trio.to_thread.run_sync(_ask_daemon, config, row.invoice.terms.chain)
    situation = asked or _stored(config, cursor)
    for line in lines(row.invoice, history, config.catalogue, situation):
        print(line)
    return 0


def lines(
    invoice: Invoice,
    history: tuple[LogEntry, ...],
    catalogue: Catalogue,
    situation: ChainSituation,
) -> Iterator[str]:
    """The text for a terminal."""
    terms = invoice.terms
    asset = catalogue.assets.get(terms.asset)
    major, minor = terms.path
    yield f"Invoice    {terms.invoice_id}"
    yield f"User       {terms.user_id}"
    yield f"State      {invoice.state.value}{_flags(invoice)}"
    yield f"Asset      {terms.asset} on {terms.chain} {terms.network}"
    yield f"Address    {terms.address}  ({major}/{minor} below account {terms.account_id})"
    if terms.memo is not None:
        yield f"Comment    {terms.memo}"
    yield f"Required   {_amount(terms.required_base, asset)}"
    yield f"Received   {_amount(invoice.received_base, asset)}"
    yield f"Created    {utc(terms.created_at_ms)}"
    yield f"Expires    {utc(terms.expires_at_ms)}"
    yield f"Confirms   {invoice.confirmations}"
    if terms.policy is not None:
        yield f"Policy     {json.dumps(policy_to_json(terms.policy))}"
    if terms.metadata:
        yield f"Metadata   {json.dumps(dict(terms.metadata))}"
    yield ""
    yield "Why"
    now_ms = SystemClock().now_ms()
    events = [entry.event for entry in history]
    for reason in explain(
        invoice, now_ms=now_ms, catalogue=catalogue, situation=situation, history=events
    ):
        yield f"  {reason.code:<22} {reason.text}"
    yield ""
    yield "History"
    for entry in history:
        detail = " ".join(
            f"{name}={_plain(value)}"
            for name, value in event_to_json(entry.event).items()
            if name not in _NOT_DETAIL
        )
        event = entry.event
        yield f"  {entry.seq:>6}  {utc(event.at_ms)}  {event.kind:<24} {detail}".rstrip()


def _plain(value: object) -> object:
    """A policy is a list of what was applied, an outpoint one of transaction and index."""
    if not isinstance(value, list):
        return value
    return ":".join(str(part["name"] if isinstance(part, dict) else part) for part in value)


def _flags(invoice: Invoice) -> str:
    names = ("underpaid", "overpaid", "late", "reversed", "refused")
    return "".join(f", {name}" for name in names if getattr(invoice, name))


def _amount(amount_base: int, asset: Asset | None) -> str:
    if asset is None:
        return f"{amount_base} base units"
    return f"{format_decimal(amount_base, asset.exponent)} {asset.symbol}"


def _ask_daemon(config: Config, chain: str) -> ChainSituation | None:
    """How the running daemon sees the chain; None if none answers."""
    connection = http.client.HTTPConnection(
        config.http.host, config.http.port, timeout=ASK_WITHIN_S
    )
    try:
        with closing(connection):
            # By this name, whatever address it listens on: only to who is near it tells reasons.
            connection.request("GET", "/readyz", headers={"Host": "localhost"})
            found = json.loads(connection.getresponse().read())["chains"][chain]
            as_of = found["as_of"]
            return ChainSituation(
                state=found["state"],
                reason=found["reason"],
                tip_height=found["height"],
                as_of_ms=_unix_ms(as_of) if as_of else None,
            )
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        # Something else listens there, or nothing: what is stored has to do.
        return None


def _unix_ms(instant: str) -> int:
    return round(datetime.fromisoformat(instant).timestamp() * 1000)


def _stored(config: Config, cursor: ChainCursor | None) -> ChainSituation:
    return ChainSituation(
        state="unreachable",
        reason=f"no daemon answers on {config.http.host}:{config.http.port} (http.host, http.port),"
        " or it tells us nothing; what follows is what it had stored",
        tip_height=cursor.view.tip.height if cursor else None,
        as_of_ms=cursor.saved_at_ms if cursor else None,
    )
