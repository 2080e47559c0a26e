"""What customers do with an invoice, what should be recorded of it, and how it ends."""

from __future__ import annotations

import random
from collections.abc import Container
from dataclasses import dataclass, field
from enum import Enum


class Habit(Enum):
    """How one customer pays."""

    EXACT = "exact"
    PARTS = "parts"
    """In three transactions."""
    OVER = "over"
    BUMP = "bump"
    """Then replaces the payment by one with a higher fee (RBF), once or twice."""
    SHORT = "short"
    """Less than was asked for, and no more: the invoice expires."""
    LATE = "late"
    """All of it, after the deadline."""


WEIGHTS = {
    Habit.EXACT: 30,
    Habit.PARTS: 20,
    Habit.OVER: 8,
    Habit.BUMP: 26,
    Habit.SHORT: 8,
    Habit.LATE: 8,
}
EVENTS = {
    # created, seen, covered, included, settled; with SHORT and LATE the deadline and the end.
    Habit.EXACT: 5,
    Habit.PARTS: 9,
    Habit.OVER: 5,
    Habit.BUMP: 7,  # 5, 7 or 9: some want two, and a block forestalls a third of all
    Habit.SHORT: 5,
    Habit.LATE: 5,
}
EVENTS_PER_INVOICE = sum(WEIGHTS[one] * EVENTS[one] for one in Habit) / sum(WEIGHTS.values())
PATIENT_S = 300
SHORT_S = 10
"""Of an invoice that is to expire: the least that there is."""
AFTER_DEADLINE_S = 2.5
BEFORE_DEADLINE_S = 4.0
"""Nobody pays so shortly before a deadline: on a busy machine it could be either."""


@dataclass
class Payment:
    """One transaction of a customer that the node took."""

    txid: str
    amount_base: int
    handed_ns: int
    """When it was handed to the node (CLOCK_MONOTONIC)."""
    in_time: bool
    replaced_by: str | None = None


@dataclass
class Story:
    """One invoice, as its customer knows it."""

    number: int
    habit: Habit
    price_base: int
    confirmations: int
    invoice_id: str = ""
    payments: list[Payment] = field(default_factory=list)

    @classmethod
    def draw(cls, number: int, chance: random.Random) -> Story:
        (habit,) = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
        return cls(number, habit, chance.randrange(9_000, 60_000), chance.choice((1, 1, 1, 2, 3)))

    @property
    def deadline_s(self) -> int:
        return SHORT_S if self.habit in (Habit.SHORT, Habit.LATE) else PATIENT_S

    def shares(self, chance: random.Random) -> list[int]:
        """What to pay in each transaction, in base units."""
        price = self.price_base
        match self.habit:
            case Habit.PARTS:
                first = chance.randrange(1_000, price // 2)
                second = chance.randrange(1_000, price - first - 1_000)
                return [first, second, price - first - second]
            case Habit.OVER:
                return [price + chance.randrange(1, 5_000)]
            case Habit.SHORT:
                return [price - chance.randrange(1, price // 2)]
        return [price]

    def decide(self, mined: Container[str]) -> None:
        """The block counts: it may have been begun before the replacement was taken."""
        for number, payment in enumerate(self.payments):
            if payment.replaced_by is not None and payment.txid in mined:
                payment.replaced_by = None
                for later in self.payments[number + 1 :]:
                    later.replaced_by = payment.txid

    @property
    def standing(self) -> list[Payment]:
        """Payments that nothing replaced."""
        return [one for one in self.payments if one.replaced_by is None]

    @property
    def status(self) -> str:
        """What every view must say in the end."""
        credited = sum(one.amount_base for one in self.standing if one.in_time)
        return "CONFIRMED" if credited >= self.price_base else "EXPIRED"
