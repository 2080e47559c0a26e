"""What must be true in the end of a story: every invoice is what the chain says, on every wire."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.crash.findings import Finding, some
from tests.crash.status_reader import StatusReader
from tests.crash.world import Sold, World
from tests.helpers.daemon import Daemon
from tests.helpers.goipay_client import GoiPay
from tests.helpers.log_readers import Told
from tests.helpers.process import ServerError, wait_until
from tests.helpers.shop import check_history, leaks

Json = dict[str, Any]
AGREED_S = 120.0
"""It takes the daemon half a minute to believe that a transaction is gone."""
TOLD_S = 30.0
AT_ONCE = 100
"""Invoices asked for with one call."""


def check_log(daemon: Daemon, log: list[Told]) -> list[Finding]:
    """Dense, unbroken, and derived again from the nodes it comes out the same."""
    seqs = [event.seq for event in log]
    gaps = set(range(1, len(log) + 1)).difference(seqs)
    found = [
        *some("lost", "the log has gaps at", sorted(gaps)),
        *some("doubled", "the log has twice", sorted(Counter(seqs) - Counter(set(seqs)))),
    ]
    with ThreadPoolExecutor() as pool:
        for command, done in zip(
            _AUDITS, pool.map(lambda one: daemon.command(*one), _AUDITS), strict=True
        ):
            if done.returncode:
                said = (done.stdout + done.stderr)[-3000:]
                found.append(Finding("wrong", f"tallyd {' '.join(command)} is not clean: {said}"))
    return found


_AUDITS = (("audit", "--log"), ("audit",))


def check_output(daemon: Daemon) -> list[Finding]:
    """What the daemon itself wrote down: no secret, and nothing that it did not expect."""
    text = daemon.log.read_text()
    found = some("wrong", "the daemon's output holds secrets", leaks(text, daemon))
    for sign in ("Traceback", "actor crashed"):
        if sign in text:
            at = text.index(sign)
            found.append(Finding("wrong", f"the daemon says {sign}: {text[at - 500 : at + 3000]}"))
    return found


# --- the invoices ---------------------------------------------------------------------------------


def check_invoices(world: World, client: GoiPay) -> list[Finding]:
    """Each that a merchant was told of, and none that was made twice."""
    found = _check_orders(world)
    wires = {}
    for some_sold in _parts(world.sold):
        wires |= {wire.id: wire for wire in client.get(*(sold.id for sold in some_sold))}
    for sold in world.sold:
        try:
            shown = _agreed(world.daemon, sold)
        except ServerError:
            found.append(_disagreement(world.daemon, sold))
            continue
        if shown is None:
            found.append(Finding("lost", f"invoice {sold.id} was promised and is not there"))
            continue
        events = _get(world.daemon, f"/v1/invoices/{sold.id}/events")["items"]
        found += _check_status(sold, shown, [event["type"] for event in events])
        try:
            check_history(events, shown)
        except AssertionError as error:
            found.append(Finding("wrong", f"the history of {sold.id}: {error}"))
        if sold.id not in wires:
            found.append(Finding("lost", f"GoiPay does not know invoice {sold.id}"))
    return found + _check_wires(world, client)


def _agreed(daemon: Daemon, sold: Sold) -> Json | None:
    """REST's invoice, once it is as the chain has it; None if there is none."""
    path = f"/v1/invoices/{sold.id}"
    if daemon.http("GET", path)[0] == 404:
        return None
    depth = sold.coin.depths(sold.paid)
    status = "EXPIRED" if sold.fleeting else None

    def probe() -> Json | None:
        shown = _get(daemon, path)
        if status is not None:
            return shown if shown["status"] == status else None
        there = {
            one["txid"]: one["confirmations"]
            for one in shown["payments"]
            if one["state"] == "included"
        }
        received = str(sum(sold.paid[txid] for txid in depth))
        wanted = {txid: deep for txid, deep in depth.items() if deep}
        return shown if (shown["received_base"], there) == (received, wanted) else None

    return wait_until(probe, f"invoice {sold.id} is as the chain has it", timeout_s=AGREED_S)


def _disagreement(daemon: Daemon, sold: Sold) -> Finding:
    depth = sold.coin.depths(sold.paid)
    total = sum(sold.paid[txid] for txid in depth)
    shown = _get(daemon, f"/v1/invoices/{sold.id}")
    events = _get(daemon, f"/v1/invoices/{sold.id}/events")["items"]
    known = {one["txid"] for one in shown["payments"] if one["state"] in ("mempool", "included")}
    what = (
        f"{sold.coin.asset} invoice {sold.id}: {sold.paid} has {depth}; it says {shown}, {events}"
    )
    if depth.keys() - known:
        return Finding("lost", what)
    return Finding("doubled" if int(shown["received_base"]) > total else "wrong", what)


def _check_status(sold: Sold, shown: Json, kinds: list[str]) -> list[Finding]:
    """Settled when enough is deep enough; and what was settled once stays so."""
    depth = sold.coin.depths(sold.paid)
    total = sum(sold.paid[txid] for txid in depth)
    deep = sum(sold.paid[txid] for txid, one in depth.items() if one >= sold.confirmations)
    if sold.fleeting:
        expected = "EXPIRED"
    elif deep >= sold.amount_base:
        expected = "CONFIRMED"
    else:
        expected = "PENDING_MEMPOOL" if total >= sold.amount_base else "PENDING"
    status = shown["status"]
    if status == "CONFIRMED" != expected:
        # It was deep enough before money went: the alarm is for what is gone.
        went = {"payment.disconnected", "payment.displaced"} & {*kinds}
        if went and shown["flags"]["reversed"] == (total < sold.amount_base):
            return []
    if status == expected and shown["address"] == sold.address:
        return []
    kind = "lost" if expected == "CONFIRMED" else "wrong"
    return [Finding(kind, f"invoice {sold.id} is {status} and should be {expected}: {shown}")]


def _check_wires(world: World, client: GoiPay) -> list[Finding]:
    """GoiPay says what REST says; nothing changes any more."""
    found = []
    for part in _parts(world.sold):
        by_id = {sold.id: sold for sold in part}
        for wire in client.get(*by_id):
            sold = by_id[wire.id]
            shown = _get(world.daemon, f"/v1/invoices/{sold.id}")
            # The wire has eight decimals.
            unit_base = sold.coin.unit_base
            here = (wire.status, wire.address, wire.actual_base, wire.txid)
            received_base = int(shown["received_base"]) // unit_base
            there = (shown["status"], shown["address"], received_base, shown["txid"] or "")
            if here != there:
                found.append(Finding("wrong", f"invoice {wire.id}: GoiPay {here}, REST {there}"))
    return found


def _check_orders(world: World) -> list[Finding]:
    """Each request that was repeated made one invoice, and each invoice has its own address."""
    listed: list[Json] = []
    cursor = ""
    while True:
        page = _get(world.daemon, f"/v1/invoices?limit=100{cursor}")
        listed += page["items"]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    orders = Counter(one["metadata"]["order"] for one in listed if one["metadata"])
    answered = {one["metadata"]["order"]: one["id"] for one in listed if one["metadata"]}
    addresses = Counter((one["chain"], one["address"]) for one in listed)
    unknown = [key for key, made in world.ordered.items() if answered.get(key) != made]
    return [
        *some("doubled", "orders with two invoices", [k for k, n in orders.items() if n > 1]),
        *some("doubled", "addresses of two invoices", [k for k, n in addresses.items() if n > 1]),
        *some("lost", "orders that were answered and are not there", unknown),
    ]


# --- GoiPay's stream ------------------------------------------------------------------------------


def check_statuses(world: World, reader: StatusReader, log: list[Told]) -> list[Finding]:
    """What its client believes, and whether all that it was told is recorded."""
    wanted = {
        sold.id: _get(world.daemon, f"/v1/invoices/{sold.id}")["status"] for sold in world.sold
    }

    def has_it() -> bool:
        return wanted.items() <= reader.statuses().items()

    found = []
    try:
        wait_until(has_it, "the status stream has told all", timeout_s=TOLD_S)
    except ServerError:
        believed = reader.statuses()
        wrong = [one for one, status in wanted.items() if believed.get(one) != status]
        found += some("lost", "the status stream has not told the end of", wrong)
    kinds: dict[str, set[str]] = {}
    for event in log:
        kinds.setdefault(event.invoice_id, set()).add(event.type)
    ends = Counter(
        (one.id, one.status) for one in reader.told() if one.status in ("CONFIRMED", "EXPIRED")
    )
    false = [
        one.id
        for one in reader.told()
        if one.status in _TURN and _TURN[one.status] not in kinds.get(one.id, set())
    ]
    found += some("doubled", "ends told twice", [one for one, n in ends.items() if n > 1])
    found += some("wrong", "statuses told that are not recorded", false)
    return found


_TURN = {
    "PENDING": "invoice.created",
    "PENDING_MEMPOOL": "invoice.covered",
    "CONFIRMED": "invoice.settled",
    "EXPIRED": "invoice.expired",
}


def _get(daemon: Daemon, path: str) -> Json:
    status, _, document = daemon.http("GET", path)
    assert status == 200, (path, document)
    return dict(document)


def _parts(sold: list[Sold]) -> Iterator[list[Sold]]:
    for start in range(0, len(sold), AT_ONCE):
        yield sold[start : start + AT_ONCE]
