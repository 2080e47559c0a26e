"""An audit of a simulated chain, and the ways to falsify what is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from actors.core.events import Terms
from actors.core.invoice import Invoice
from actors.core.payment import Payment
from actors.ports import ChainSource, InvoiceQuery, InvoiceRow
from daemon.audit.coin_audit import CoinAudit, Heard, OpenAddresses, Subject
from daemon.audit.findings import CoinReport
from daemon.config import CoinConfig, NodeUrl, ZmqConfig
from tests.helpers.house import CATALOGUE
from tests.helpers.watched_chain import WatchedChain


def coin_of(it: WatchedChain) -> CoinConfig:
    return CoinConfig(
        chain=it.chain,
        nodes=(NodeUrl("http://127.0.0.1:1", None, None),),
        cookie_file=None,
        zmq=ZmqConfig(enabled=False, endpoints={}),
        evm=None,
        monero=None,
        ton=None,
        poll_interval_s=1,
        rpc_timeout_s=1,
        reorg_limit=it.policy.reorg_limit,
        settled_watch_depth=it.policy.settled_watch_depth,
    )


async def audited(
    it: WatchedChain,
    *,
    source: ChainSource | None = None,
    heard: Heard | None = None,
    progress: Callable[[str, int, int], None] = lambda _what, _done, _of: None,
) -> CoinReport:
    """What an audit finds of all that is stored now; with another `source`, as by --node."""
    cursor = await it.store.cursor(it.chain.id)
    invoices = [row.invoice for row in await it.store.find(InvoiceQuery(limit=1000))]
    subject = Subject(
        coin_of(it),
        CATALOGUE.assets,
        source or it.source,
        heard or Heard(),
        OpenAddresses(invoices, it.chain.coin, 0),
        is_own_node=source is None,
    )
    return await CoinAudit(subject, it.store, clock=it.clock, progress=progress).run(
        cursor, invoices
    )


def falsify(it: WatchedChain, of: Terms, **changes: Any) -> Invoice:
    """Change the stored state behind the daemon's back."""
    stored = it.store._invoices
    row = stored[of.invoice_id]
    changed = replace(row.invoice, **changes)
    stored[of.invoice_id] = InvoiceRow(changed, row.updated_seq)
    return changed


def falsify_payment(it: WatchedChain, of: Terms, number: int = 0, **changes: Any) -> Invoice:
    """Change one of its stored payments."""
    payments: Sequence[Payment] = it.store._invoices[of.invoice_id].invoice.payments
    changed = [
        replace(payment, **changes) if at == number else payment
        for at, payment in enumerate(payments)
    ]
    return falsify(it, of, payments=tuple(changed))


def differences(report: CoinReport) -> list[str]:
    """The kinds of what was found."""
    assert report.failure is None, report.failure
    assert report.differences == len(report.findings)
    return [finding.kind.value for finding in report.findings]
