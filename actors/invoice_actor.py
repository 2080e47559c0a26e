"""One actor per invoice: it alone decides, appends and evolves; and the house they live in.

An actor is a small object with a mailbox. It is a Trio task only while it has mail: a parked task
would cost fifteen times the memory. Its mailbox is bounded by its senders, who wait for the
acknowledgement of what they sent: at most one chain event and one command are ever on the way.

An input is acknowledged when what followed from it is durable (or when it brought nothing new).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import trio

from actors.core.decision import create, decide
from actors.core.events import Terms
from actors.core.inputs import Input
from actors.core.invoice import Invoice, evolve
from actors.ports import (
    Committed,
    Log,
    PersistentError,
    Step,
    Store,
    TransientError,
    VersionConflict,
)

SLICE = 64
"""Inputs decided at once: a block full of payments to one invoice must not stall the loop."""
ATTEMPTS = 3
"""How often mail that makes an actor crash is tried before the invoice is set aside."""
CONFLICTS = 10
"""How often in a row an append may find that somebody else was faster: more is a bug."""
RETRY_S = (0.05, 0.2, 1.0, 5.0)
"""Delays between attempts to append while the store cannot write; the last one repeats."""

T = TypeVar("T")
Changed = Callable[[Invoice | None, Invoice | None], None]


class InvoiceActor:
    """The state of one invoice and the mail it has not yet read."""

    __slots__ = ("awake", "invoice", "invoice_id", "mail")

    def __init__(self, invoice_id: UUID, invoice: Invoice | None) -> None:
        self.invoice_id = invoice_id
        self.invoice = invoice
        """None until it is loaded, or while its creation is not yet durable."""
        self.mail: list[_Mail] | None = None
        """None while there is none: an empty list for each of a million would cost 56 MB."""
        self.awake = False


class _Acknowledgements:
    """Counts a batch's mail down; `done` is set when all of it was handled."""

    __slots__ = ("done", "left")

    def __init__(self, left: int) -> None:
        self.left = left
        self.done = trio.Event()
        if left == 0:
            self.done.set()

    def one(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.done.set()


@dataclass(frozen=True, slots=True)
class _Mail:
    inputs: Sequence[Input]
    height: int
    """First height that the invoice must be told of again if this mail cannot be handled."""
    acknowledged: _Acknowledgements


@dataclass(frozen=True, slots=True)
class ActorStatistics:
    loaded: int
    open: int
    awake: int
    crashes: int
    set_aside: int
    """Invoices whose mail made them crash; they are told again when the chain starts next."""


class InvoiceActors:
    """The invoices of one chain that can still change, and a way to wake any other.

    `nursery` must outlive the watcher: an append that has begun is finished, whatever happens to
    the node's connection meanwhile.
    """

    def __init__(
        self,
        *,
        chain: str,
        store: Store,
        nursery: trio.Nursery,
        changed: Changed,
        log: Log,
    ) -> None:
        """`changed(before, after)` is called with each durable state before it is acknowledged.

        `before` is None when a state enters memory, `after` when it leaves.
        """
        self._chain = chain
        self._store = store
        self._nursery = nursery
        self._changed = changed
        self._log = log
        self._actors: dict[UUID, InvoiceActor] = {}
        self._open = 0
        self._awake = 0
        self._crashes = 0
        self._set_aside: set[UUID] = set()

    def adopt(self, invoice: Invoice) -> None:
        """Take an invoice that the store has loaded."""
        invoice_id = invoice.terms.invoice_id
        assert invoice_id not in self._actors, f"invoice {invoice_id} is adopted twice"
        self._actors[invoice_id] = InvoiceActor(invoice_id, invoice)
        self._open += invoice.open
        self._changed(None, invoice)

    def invoice(self, invoice_id: UUID) -> Invoice | None:
        """The live state, if the invoice is loaded."""
        actor = self._actors.get(invoice_id)
        return actor.invoice if actor else None

    def open_destinations(self, asset: str) -> list[bytes]:
        """The addresses of the open invoices that ask for `asset`."""
        invoices = (actor.invoice for actor in self._actors.values())
        return [
            one.terms.destination
            for one in invoices
            if one is not None and one.open and one.terms.asset == asset
        ]

    async def owners(self, destinations: Collection[bytes]) -> Mapping[bytes, UUID]:
        """Whose these addresses are, of which each was given out on this chain once."""
        found = await self._insist(lambda: self._store.owners(self._chain, destinations))
        missing = [each.hex() for each in destinations if each not in found]
        assert not missing, f"addresses are watched that the store does not know: {missing}"
        return found

    def retire(self, invoice_id: UUID) -> None:
        """Let go of an invoice in which nothing can change; mail will load it again."""
        actor = self._actors.get(invoice_id)
        if actor is not None and not actor.awake:
            self._forget_state(actor)
            del self._actors[invoice_id]

    def set_aside(self) -> frozenset[UUID]:
        return frozenset(self._set_aside)

    async def create(self, terms: Terms) -> Invoice:
        """Record a new invoice; it is durable and published when this returns.

        The actor exists before the append, so nothing that the chain says in between is lost. The
        append is finished even if the caller is cancelled. Raises TransientError if the store could
        not write: then there is no such invoice; or if the daemon is stopped meanwhile.
        """
        actor = InvoiceActor(terms.invoice_id, None)
        actor.awake = True
        self._actors[terms.invoice_id] = actor
        creation = _Creation(terms)
        self._nursery.start_soon(self._create, actor, creation)
        await creation.done.wait()
        if creation.failure is not None:
            raise creation.failure
        if creation.invoice is None:
            raise TransientError(
                f"tallyd was stopped while invoice {terms.invoice_id} was being recorded: ask for"
                " another one when it is back"
            )
        return creation.invoice

    async def deliver(self, mail: Mapping[UUID, Sequence[Input]], *, height: int) -> None:
        """Hand each invoice its inputs; returns when all of them are acknowledged.

        `height` is the first block that would have to be told again to an invoice that cannot
        handle its mail. If the caller is cancelled, the actors go on with what they have.
        """
        acknowledged = _Acknowledgements(len(mail))
        for invoice_id, inputs in mail.items():
            actor = self._actors.get(invoice_id)
            if actor is None:
                actor = self._actors[invoice_id] = InvoiceActor(invoice_id, None)
            letter = _Mail(inputs, height, acknowledged)
            if actor.mail is None:
                actor.mail = [letter]
            else:
                actor.mail.append(letter)
            if not actor.awake:
                actor.awake = True
                self._nursery.start_soon(self._work, actor)
        await acknowledged.done.wait()

    async def ask(self, invoice_id: UUID, asked: Input, *, height: int) -> None:
        """As `deliver`, for one who is not the chain's own: what came of it is in the state.

        It is finished even if the caller is cancelled. Raises TransientError if the daemon is
        stopped meanwhile.
        """
        question = _Question()
        self._nursery.start_soon(self._ask, {invoice_id: (asked,)}, height, question)
        await question.done.wait()
        if not question.answered:
            raise TransientError(
                f"tallyd was stopped while it looked at invoice {invoice_id}: ask again when it is"
                " back"
            )

    async def _ask(
        self, mail: Mapping[UUID, Sequence[Input]], height: int, question: _Question
    ) -> None:
        try:
            await self.deliver(mail, height=height)
            question.answered = True
        finally:
            question.done.set()

    def statistics(self) -> ActorStatistics:
        return ActorStatistics(
            loaded=len(self._actors),
            open=self._open,
            awake=self._awake,
            crashes=self._crashes,
            set_aside=len(self._set_aside),
        )

    # --- an actor at work -------------------------------------------------------------------------

    async def _create(self, actor: InvoiceActor, creation: _Creation) -> None:
        first = create(creation.terms)
        step = Step(first, evolve(None, first))
        try:
            outcome = await self._store.append(None, (step,))
            assert not isinstance(outcome, VersionConflict), "invoice ids are never reused"
            self._apply(actor, outcome)
            creation.invoice = outcome[-1].after
        except Exception as error:  # noqa: BLE001 - whoever asked for the invoice is told
            creation.failure = error
        finally:
            creation.done.set()
        await self._work(actor)

    async def _work(self, actor: InvoiceActor) -> None:
        """Read mail until there is none, then go back to being a mere object."""
        self._awake += 1
        try:
            while actor.mail:
                letters, actor.mail = actor.mail, None
                for letter in letters:
                    await self._read(actor, letter)
                    letter.acknowledged.one()
        finally:
            self._awake -= 1
            actor.awake = False
            if actor.invoice is None:
                self._actors.pop(actor.invoice_id, None)

    async def _read(self, actor: InvoiceActor, letter: _Mail) -> None:
        """Handle one letter; a bug in handling it ends here and stays with this invoice."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                if actor.invoice is None:
                    await self._load(actor)
                for start in range(0, len(letter.inputs), SLICE):
                    end = start + SLICE
                    more = end < len(letter.inputs)
                    await self._handle(actor, letter.inputs[start:end], more=more)
            except Exception as error:  # noqa: BLE001 - the boundary around one invoice
                self._crashes += 1
                self._log.error(
                    "an invoice's actor crashed",
                    invoice=str(actor.invoice_id),
                    chain=self._chain,
                    attempt=attempt,
                    error=repr(error),
                    exc_info=error,
                )
                self._forget_state(actor)
            else:
                return
        self._set_aside.add(actor.invoice_id)
        self._log.error(
            "an invoice is set aside: it will be told again from this height at the next start",
            invoice=str(actor.invoice_id),
            chain=self._chain,
            from_height=letter.height,
        )
        await self._insist(
            lambda: self._store.quarantine(actor.invoice_id, self._chain, from_height=letter.height)
        )

    async def _handle(self, actor: InvoiceActor, inputs: Sequence[Input], *, more: bool) -> None:
        for _ in range(CONFLICTS):
            before = actor.invoice
            if before is None:
                self._log.warning(
                    "mail for an invoice that was never recorded", invoice=str(actor.invoice_id)
                )
                return
            steps = _steps(before, inputs, more=more)
            if not steps:
                return
            outcome = await self._append(before, steps)
            if not isinstance(outcome, VersionConflict):
                self._apply(actor, outcome)
                return
            # Only an append whose outcome we never learnt can have overtaken us: read it and redo.
            self._forget_state(actor)
            await self._load(actor)
        raise AssertionError(f"the store refuses version after version, {CONFLICTS} times")

    async def _append(
        self, before: Invoice, steps: tuple[Step, ...]
    ) -> tuple[Committed, ...] | VersionConflict:
        return await self._insist(lambda: self._store.append(before, steps))

    async def _insist(self, write: Callable[[], Awaitable[T]]) -> T:
        """Try until the store can write: facts about money are not given up."""
        attempt = 0
        while True:
            try:
                return await write()
            except (TransientError, PersistentError) as error:
                delay_s = RETRY_S[min(attempt, len(RETRY_S) - 1)]
                attempt += 1
                self._log.warning(
                    "the store cannot write, trying again",
                    chain=self._chain,
                    reason=str(error),
                    attempt=attempt,
                    retry_in_s=delay_s,
                )
                await trio.sleep(delay_s)

    async def _load(self, actor: InvoiceActor) -> None:
        row = await self._insist(lambda: self._store.invoice(actor.invoice_id))
        if row is not None:
            actor.invoice = row.invoice
            self._open += row.invoice.open
            self._changed(None, row.invoice)

    def _apply(self, actor: InvoiceActor, committed: tuple[Committed, ...]) -> None:
        before, after = actor.invoice, committed[-1].after
        actor.invoice = after
        self._open += after.open - (before.open if before else False)
        self._changed(before, after)

    def _forget_state(self, actor: InvoiceActor) -> None:
        if actor.invoice is not None:
            self._open -= actor.invoice.open
            self._changed(actor.invoice, None)
            actor.invoice = None


class _Creation:
    """A creation on its way: who asked for it waits for `done`."""

    __slots__ = ("done", "failure", "invoice", "terms")

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.done = trio.Event()
        self.failure: Exception | None = None
        self.invoice: Invoice | None = None


class _Question:
    """Mail on its way from outside: who sent it waits for `done`."""

    __slots__ = ("answered", "done")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.answered = False


def _steps(invoice: Invoice, inputs: Sequence[Input], *, more: bool) -> tuple[Step, ...]:
    """What follows from the inputs, which came at one moment, perhaps with `more` after them."""
    steps: list[Step] = []
    for left, happened in zip(reversed(range(len(inputs))), inputs, strict=True):
        for event in decide(invoice, happened, more=more or left > 0):
            invoice = evolve(invoice, event)
            steps.append(Step(event, invoice))
    return tuple(steps)
