"""How fast the store takes facts, against the raw driver, and how fast a start reads them.

`figures()` returns them; `python -m benchmarks.store [postgresql-url]` prints them as JSON.
"""

from __future__ import annotations

import gc
import json
import sqlite3
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import trio

from actors.core.events import InvoiceCreated
from actors.core.inputs import TipReached
from actors.core.invoice import Invoice
from actors.ports import Committed, Step, VersionConflict
from daemon.store import SqlStore, migrate, open_store, rows
from daemon.store.bulk import DESTINATION_COLUMNS, EVENT_COLUMNS, INVOICE_COLUMNS, UPDATE_COLUMNS
from tests.helpers.invoices import block, included
from tests.helpers.ledger import creation, payment, steps
from tests.helpers.log_chain import rechain

CONCURRENT = 1000
LIVES = 4
"""Invoices that each of the concurrent callers sees through, one after the other; the first is not
counted, so that statements are prepared and pages are there."""

Life = list[tuple[Invoice | None, Sequence[Step]]]


def figures(
    *,
    postgres_url: str | None = None,
    live: int = 100_000,
    repeats: int = 5,
    callers: int = CONCURRENT,
) -> dict[str, Any]:
    """Every figure of the store: rates per second, seconds, bytes. Takes about a minute.

    `postgres_url` names an empty database. Ours and the raw driver take turns, and each ratio is of
    one turn; an append is one of created, paid, included, settled: 5 facts in 4 appends.
    """
    turns = [_turn(callers) for _ in range(repeats)]
    found: dict[str, Any] = {
        "sqlite_appends_per_s": round(statistics.median(ours for ours, _, _ in turns)),
        "sqlite_raw_appends_per_s": round(statistics.median(raw for _, raw, _ in turns)),
        "sqlite_ratio_to_raw": round(statistics.median(ours / raw for ours, raw, _ in turns), 3),
        "sqlite_ratios": [round(ours / raw, 3) for ours, raw, _ in turns],
        "sqlite_appends_per_commit": round(turns[-1][2]),
    }
    if postgres_url is not None:
        run = trio.run(_append_all, postgres_url, _lives(callers))
        found["postgresql_appends_per_s"] = round(run.appends / run.took_s)
    return {**found, **_start(live)}


def _turn(callers: int) -> tuple[float, float, float]:
    """Appends per second: ours, the raw driver's; and how many of ours went into one commit."""
    with tempfile.TemporaryDirectory(prefix="tally-bench-") as folder:
        run = trio.run(_append_all, f"sqlite:///{folder}/ours.db", _lives(callers))
        raw_s = _append_raw(Path(folder) / "raw.db", run)
    return (
        run.appends / run.took_s,
        run.appends / raw_s,
        run.appends / (len(run.batches) - run.warm_up),
    )


# --- appends --------------------------------------------------------------------------------------


@dataclass
class _Run:
    batches: list[list[Committed]]
    warm_up: int
    """So many batches come before the counted ones."""
    appends: int
    took_s: float


def _lives(callers: int) -> list[list[Life]]:
    """What each caller will append; made beforehand, as it is not the store's work."""
    return [
        [_life(caller * LIVES + number) for number in range(LIVES)]
        for caller in range(1, callers + 1)
    ]


def _life(number: int) -> Life:
    """Created, paid (two facts), in a block, settled."""
    new = creation(number)
    life: Life = [(None, [new])]
    terms = new.after.terms
    name = f"pay {terms.invoice_id}"
    at_ms = terms.created_at_ms + 120_000
    into_block = included(name, terms.required_base, into=block(10), at_ms=at_ms)
    for more in (
        payment,
        lambda i: steps(i, into_block),
        lambda i: steps(i, TipReached(12, at_ms)),
    ):
        before = life[-1][1][-1].after
        life.append((before, more(before)))
    return life


async def _append_all(url: str, callers: list[list[Life]]) -> _Run:
    batches: list[list[Committed]] = []

    async def call(store: SqlStore, lives: list[Life]) -> None:
        for life in lives:
            for before, new in life:
                done = await store.append(before, new)
                assert not isinstance(done, VersionConflict)

    async def call_all(store: SqlStore, first: int, last: int) -> None:
        async with trio.open_nursery() as nursery:
            for lives in callers:
                nursery.start_soon(call, store, lives[first:last])

    async with open_store(url, on_commit=lambda facts: batches.append(list(facts))) as store:
        await call_all(store, 0, 1)
        warm_up = len(batches)
        _settle_garbage()
        started = time.perf_counter()
        await call_all(store, 1, LIVES)
        took_s = time.perf_counter() - started
    appends = sum(len(life) for lives in callers for life in lives[1:])
    return _Run(batches, warm_up, appends, took_s)


def _append_raw(path: Path, run: _Run) -> float:
    """Seconds that `sqlite3` takes for the same rows in the same transactions, ready-made."""
    migrate.upgrade(f"sqlite:///{path}")
    work = [_raw_rows(facts) for facts in run.batches]
    started = 0.0
    insert_event = _insert("events", EVENT_COLUMNS)
    insert_invoice = _insert("invoices", INVOICE_COLUMNS)
    insert_destination = _insert("destinations", DESTINATION_COLUMNS)
    changes = ", ".join(f"{name} = ?{n}" for n, name in enumerate(UPDATE_COLUMNS[2:], 3))
    update_invoice = f"UPDATE invoices SET {changes} WHERE id = ?1 AND version = ?2"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "journal_size_limit = 67108864",
            "foreign_keys = ON",
            "temp_store = MEMORY",
            "cache_size = -65536",
        ):
            connection.execute(f"PRAGMA {pragma}")
        _settle_garbage()
        for number, (events, created, destinations, updated) in enumerate(work):
            if number == run.warm_up:
                started = time.perf_counter()
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(insert_event, events)
            connection.executemany(insert_invoice, created)
            connection.executemany(insert_destination, destinations)
            connection.executemany(update_invoice, updated)
            connection.execute("COMMIT")
        return time.perf_counter() - started


def _settle_garbage() -> None:
    """As the daemon does once it has loaded: what is there already is not looked at again."""
    gc.collect()
    gc.freeze()


def _insert(table: str, columns: Sequence[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def _raw_rows(facts: list[Committed]) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    events, created, destinations, updated = [], [], [], []
    newest = {fact.after.terms.invoice_id: fact for fact in facts}
    for fact in facts:
        terms, key = fact.after.terms, fact.after.terms.invoice_id.bytes
        event = fact.event
        data = rows.encode_event(event)
        row = (fact.seq, key, fact.after.version, event.kind, event.at_ms, data, bytes(32))
        events.append(row)
        last = newest[terms.invoice_id]
        if isinstance(event, InvoiceCreated):
            _, encoded = rows.encode_creation(event)
            columns = rows.terms_columns(key, terms.user_id.bytes, terms, encoded)
            created.append((*columns, *rows.state_columns(last.after), last.seq))
            destinations.append((terms.chain, terms.destination, key))
            newest.pop(terms.invoice_id)
            newest[terms.invoice_id] = last
    fresh = {row[0] for row in created}
    first = {}
    for fact in facts:
        first.setdefault(fact.after.terms.invoice_id, fact)
    for invoice_id, last in newest.items():
        before = first[invoice_id].before
        if invoice_id.bytes not in fresh and before is not None:
            state = rows.state_columns(last.after)
            updated.append((invoice_id.bytes, before.version, *state, last.seq))
    return events, created, destinations, updated


# --- the start ------------------------------------------------------------------------------------


def _start(live: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="tally-bench-") as folder:
        url = f"sqlite:///{folder}/start.db"
        migrate.upgrade(url)
        fill(Path(folder) / "start.db", _open_invoices(live))
        return trio.run(_load, url, live)


def fill(path: Path, parts: Iterable[list[Committed]]) -> None:
    """Write facts into a migrated SQLite database, quickly; each part holds whole invoices."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for facts in parts:
            events, created, destinations, _ = _raw_rows(facts)
            connection.execute("BEGIN")
            connection.executemany(_insert("events", EVENT_COLUMNS), events)
            connection.executemany(_insert("invoices", INVOICE_COLUMNS), created)
            connection.executemany(_insert("destinations", DESTINATION_COLUMNS), destinations)
            connection.execute("COMMIT")
    rechain(path)


def _open_invoices(count: int) -> Iterator[list[Committed]]:
    """`count` open invoices of a few hundred users, every fourth with a payment in the mempool."""
    seq = 0
    facts: list[Committed] = []
    for number in range(1, count + 1):
        new = [creation(number, user_id=UUID(int=number % 300 + 1 << 70))]
        if number % 4 == 0:
            new.extend(payment(new[0].after))
        for step in new:
            seq += 1
            facts.append(Committed(seq, None, step.event, step.after))
        if number % 5000 == 0 or number == count:
            yield facts
            facts = []


async def _load(url: str, count: int) -> dict[str, Any]:
    async with open_store(url, on_commit=lambda _facts: None) as store:
        started = time.perf_counter()
        invoices = await store.live("btc", tip_height=0)
        live_s = time.perf_counter() - started
        assert len(invoices) == count
        del invoices
        started = time.perf_counter()
        destinations = await store.destinations("btc")
        destinations_s = time.perf_counter() - started
        assert len(destinations) == count
        del destinations
        gc.collect()
        tracemalloc.start()
        invoices = await store.live("btc", tip_height=0)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(invoices) == count
    return {
        "live_invoices": count,
        "live_s": round(live_s, 3),
        "live_bytes_per_invoice": round(held / count),
        "destinations_s": round(destinations_s, 3),
    }


if __name__ == "__main__":
    json.dump(figures(postgres_url=sys.argv[1] if sys.argv[1:] else None), sys.stdout, indent=2)
    print()
