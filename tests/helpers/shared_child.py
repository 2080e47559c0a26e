"""A program that shares a store with others of its kind until it is killed, and says what happens.

`python -m tests.helpers.shared_child URL FIRST_NUMBER`: each line on standard output is one of

    open
    wrote NUMBER VERSION SEQ     an append of ours has returned
    heard FIRST LAST             our listener was told of these facts
    held MONOTONIC               the duty is ours, seconds of the machine's clock
    asked NUMBER SEQ             the holder has created the invoice we asked for
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import trio

from actors.ports import Committed, TransientError, VersionConflict
from daemon.store import SharedStore, open_shared_store
from tests.helpers.ledger import creation, payment, settlement

DUTY = "watch:BTC"
CALLERS = 4
ASKED_FROM = 500_000


def say(*words: object) -> None:
    print(*words, flush=True)


def heard(facts: Sequence[Committed]) -> None:
    say("heard", facts[0].seq, facts[-1].seq)


async def write(store: SharedStore, number: int) -> None:
    """One invoice after the other."""
    while True:
        before, new = None, (creation(number),)
        for more in (payment, settlement, None):
            done = await store.append(before, new)
            assert not isinstance(done, VersionConflict)
            for fact in done:
                say("wrote", number, fact.after.version, fact.seq)
            before = done[-1].after
            new = more(before) if more else ()
        number += CALLERS


async def hold(store: SharedStore) -> None:
    """Stand by, then create what is asked for."""

    async def create(_kind: str, body: bytes) -> bytes:
        step = creation(int(body))
        done = await store.append(None, [step])
        if not isinstance(done, VersionConflict):
            return b"%d" % done[0].seq
        # Asked before: it is as it is.
        (entry, *_) = await store.history(step.after.terms.invoice_id)
        return b"%d" % entry.seq

    await store.duties.take(DUTY, holder="child")
    say("held", time.monotonic())
    await store.duties.report(DUTY, b"fine")
    await store.duties.serve(DUTY, create)


async def ask(store: SharedStore, number: int) -> None:
    """Ask for one invoice after the other, each until there is an answer."""
    while True:
        try:
            seq = await store.duties.ask(DUTY, "create", b"%d" % number)
        except TransientError:
            continue
        say("asked", number, int(seq))
        number += CALLERS


async def main(url: str, first_number: int) -> None:
    async with (
        open_shared_store(url, on_commit=heard) as store,
        trio.open_nursery() as nursery,
    ):
        say("open")
        nursery.start_soon(store.duties.run)
        nursery.start_soon(hold, store)
        for caller in range(CALLERS):
            nursery.start_soon(write, store, first_number + caller)
            nursery.start_soon(ask, store, first_number + ASKED_FROM + caller)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]))
