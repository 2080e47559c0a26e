"""A program that writes to a store until it is killed, and says what was acknowledged.

`python -m tests.helpers.store_child URL FIRST_NUMBER`: each line on standard output is
`invoice-number version seq`, printed after the append has returned; `cursor N` after a cursor that
stands for the appends of invoice N was saved.
"""

from __future__ import annotations

import sys

import trio

from actors.core.chain_view import ChainView
from actors.ports import ChainCursor, Store, VersionConflict
from daemon.store import open_store
from tests.helpers.invoices import block
from tests.helpers.ledger import creation, payment, settlement

CALLERS = 20


def say(*words: object) -> None:
    print(*words, flush=True)


async def write(store: Store, number: int) -> None:
    """One invoice after the other, each with its cursor after its facts."""
    while True:
        first = creation(number)
        before, new = None, (first,)
        for more in (payment, settlement, None):
            done = await store.append(before, new)
            assert not isinstance(done, VersionConflict)
            for fact in done:
                say(number, fact.after.version, fact.seq)
            before = done[-1].after
            new = more(before) if more else ()
        chain = f"chain {number % CALLERS}"
        view = ChainView((block(number),))
        await store.save_cursor(ChainCursor(chain, "regtest", b"", view, number))
        say("cursor", number)
        number += CALLERS


async def main(url: str, first_number: int) -> None:
    async with (
        open_store(url, on_commit=lambda _facts: None) as store,
        trio.open_nursery() as nursery,
    ):
        say("open")
        for number in range(first_number, first_number + CALLERS):
            nursery.start_soon(write, store, number)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]))
