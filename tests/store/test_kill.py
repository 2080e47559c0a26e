"""`kill -9` at any instant: what was acknowledged is there, once, and no cursor runs ahead."""

from __future__ import annotations

import subprocess
import sys

from actors.core.invoice import fold
from actors.ports import LogEntry
from daemon.store import open_store
from tests.helpers import orders_child
from tests.helpers.house import open_house
from tests.helpers.ledger import creation
from tests.helpers.store_child import CALLERS
from tests.store.conftest import ignore


def write_and_die(url: str, first_number: int, lines: int) -> list[str]:
    return run_and_die("store_child", url, str(first_number), lines=lines)


def run_and_die(program: str, *arguments: str, lines: int) -> list[str]:
    """Let a child write until it has said so many lines, kill it; everything that it said."""
    with subprocess.Popen(
        [sys.executable, "-m", f"tests.helpers.{program}", *arguments],
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        said = []
        try:
            for line in child.stdout:
                said.append(line.strip())
                if len(said) >= lines:
                    break
        finally:
            child.kill()
        rest = child.stdout.read()
    # The last line may be cut off; the store is not to blame for that.
    said.extend(rest.splitlines()[: rest.count("\n")])
    assert len(said) >= lines, said
    return said[1:]


async def test_what_was_acknowledged_survives_a_kill(sql_url: str) -> None:
    said: list[str] = []
    next_number = 1
    for lines in (1, 57, 400):
        said += write_and_die(sql_url, next_number, lines)
        async with open_store(sql_url, on_commit=ignore) as store:
            entries: list[LogEntry] = []
            while page := await store.read(after_seq=len(entries), limit=1000):
                entries.extend(page)
            assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
            check_acknowledged(entries, said)
            histories: dict[object, list[LogEntry]] = {}
            for entry in entries:
                histories.setdefault(entry.invoice_id, []).append(entry)
            for invoice_id, history in histories.items():
                assert [entry.version for entry in history] == list(range(1, len(history) + 1))
                row = await store.invoice(invoice_id)
                assert row is not None
                assert row.invoice == fold(entry.event for entry in history)
                assert row.updated_seq == history[-1].seq
            for caller in range(CALLERS):
                cursor = await store.cursor(f"chain {caller}")
                if cursor is not None:
                    told = creation(cursor.saved_at_ms).after.terms.invoice_id
                    assert len(histories[told]) == 5, "the cursor is never ahead of its appends"
            numbers = [entry.event.terms.path[1] for entry in entries if entry.version == 1]
            next_number = max(numbers, default=0) + CALLERS


def check_acknowledged(entries: list[LogEntry], said: list[str]) -> None:
    for line in said:
        first, *others = line.split()
        if first != "cursor":
            version, seq = map(int, others)
            entry = entries[seq - 1]
            assert entry.version == version
            assert entry.invoice_id == creation(int(first)).after.terms.invoice_id


async def test_orders_that_a_kill_broke_off_are_made_once(sql_url: str) -> None:
    said: dict[str, str] = {}
    for lines in (2, 60):
        for line in run_and_die("orders_child", sql_url, lines=lines):
            name, ids = line.split(" ", 1)
            assert said.setdefault(name, ids) == ids, "one order to each number, after every kill"
    async with (
        open_store(sql_url, on_commit=ignore) as store,
        open_house(make_store=lambda _listener: store, chains=("btc",)) as house,
    ):
        for name, ids in said.items():
            order = (await orders_child.create(house, name)).order
            assert f"{order.id} {order.invoice_id}" == ids
        for caller in range(orders_child.CALLERS // 2):
            # What was made, what was begun, and what is new.
            for number in range(20):
                assert (await orders_child.create(house, f"{caller}-{number}")).order.attempt == 1
        entries = await store.read(after_seq=0, limit=100_000)
        made = [entry.invoice_id for entry in entries if entry.version == 1]
        orders = [await store.orders.order_of_invoice(invoice_id) for invoice_id in made]
    names = [order.merchant_order_id for order in orders if order is not None]
    assert len(set(names)) == len(names) == len(made) >= orders_child.CALLERS // 2 * 20
