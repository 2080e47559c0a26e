"""What happens in a history: a list of steps, drawn from a seed before anything runs.

A step is a tuple of a verb and plain values. Numbers select among what is there when the step is
played, so that any step may be left out of a plan, and the rest still means something.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from actors.core.policy import Band, Policy
from tests.sim.receivers import MOODS
from tests.sim.world import CHAINS

Step = tuple[Any, ...]

POLICIES = (
    Policy(accept_late_s=30),
    Policy(tolerance_base=60, tolerance_bps=5000, accept_late_s=45),
    Policy(rbf_confirmations=2, tolerance_bps=4000),
    Policy(bands=(Band(50, 3), Band(101, 0))),
)
AMOUNTS = (100, 100, 100, 40, 250, 0)
TTLS_S = (25, 60, 600, 10**6)
SHARES = (30, 50, 100, 100, 150)
CHANNELS = ("tally", "tally", "rest", "goipay")
TYPES: tuple[tuple[str, ...], ...] = (
    (),
    (),
    ("invoice.created", "invoice.settled"),
    ("payment.seen", "payment.included", "invoice.covered"),
)
OF_CHAINS = frozenset(
    {
        *("create", "node", "mend node", "mine", "mine theft", "reorg", "go back", "finalise"),
        *("pay", "pay replaceable", "pay many", "pay outputs", "pay token", "pay one key"),
        *("pay locked", "pay locked for", "lie", "contest", "bump", "steal", "evict", "return"),
    }
)
"""Verbs of steps that happen to a chain."""


def draw(seed: int) -> list[Step]:
    """The plan of a seed."""
    random = Random(seed)
    draws = _Draws(random)
    steps: list[Step] = [("user",) for _ in range(random.choice((1, 2, 2, 3)))]
    steps += [draws.reader() for _ in range(random.choice((1, 2, 3)))]
    steps += [draws.webhook() for _ in range(random.choice((0, 1, 2)))]
    steps += [draws.creation() for _ in range(random.choice((2, 3, 4)))]
    steps.append(("rest",))
    for _ in range(random.choice((6, 9, 12, 16))):
        steps += draws.some()
    return steps


def chains_of(plan: Sequence[Step]) -> list[str]:
    """The chains that the plan has to do with: others would only cost."""
    numbers = {step[2] if step[0] == "create" else step[1] for step in _flat(plan)}
    return [chain for number, chain in enumerate(CHAINS) if number in numbers] or [CHAINS[0]]


def _flat(plan: Sequence[Step]) -> Iterator[Step]:
    for step in plan:
        if step[0] == "together":
            yield from _flat(step[2])
        elif step[0] in OF_CHAINS:
            yield step


class _Draws:
    def __init__(self, random: Random) -> None:
        self.random = random
        self._keys = 0
        # Each history has a few kinds of trouble, not all of them: what is rare alone meets more.
        self._troubles = random.sample(
            [
                self._node_trouble,
                self._disk_trouble,
                self._death,
                self._death,
                self._burst,
                self._time,
            ],
            k=random.choice((1, 2, 2, 3, 6)),
        )
        self._chains = random.sample(range(len(CHAINS)), k=random.choice((1, 2, 3)))

    def number(self) -> int:
        return self.random.randrange(1000)

    def chain(self) -> int:
        return self.random.choice(self._chains)

    def some(self) -> list[Step]:
        """The next step, or a few that belong together."""
        roll = self.random.random()
        if roll < 0.54:
            return [self.chain_step()]
        if roll < 0.61:
            return [self.creation()]
        if roll < 0.64:
            return [("cancel", self.number())]
        if roll < 0.72:
            return [self._client_step()]
        return self.random.choice(self._troubles)()

    # --- the chains -------------------------------------------------------------------------------

    def chain_step(self) -> Step:
        random, chain, number = self.random, self.chain(), self.number
        bits = random.getrandbits(6)
        steps: list[Step] = [
            ("pay", chain, number(), random.choice(SHARES)),
            ("pay", chain, number(), random.choice(SHARES)),
            ("pay", chain, number(), 100),
            ("pay replaceable", chain, number(), random.choice((60, 100))),
            ("pay many", chain, number(), number()),
            ("pay outputs", chain, number(), random.choice((2, 3))),
            ("bump", chain, number(), number()),
            ("steal", chain, number()),
            ("evict", chain, number()),
            ("return", chain, number()),
            ("mine", chain, bits, random.randrange(3)),
            ("mine", chain, 63, random.randrange(4)),
            ("mine", chain, 63, random.randrange(4)),
            ("mine theft", chain, number()),
            ("reorg", chain, random.choice((1, 1, 2, 3, 6, 9)), bits, random.getrandbits(6)),
            ("go back", chain, number()),
        ]
        if CHAINS[chain] == "eth":
            steps += [("finalise", chain, random.randrange(4))] * 4
            steps.append(("pay token", chain, number()))
        if CHAINS[chain] == "xmr":
            steps += [
                ("pay locked", chain, number(), random.randrange(1, 7)),
                ("pay locked for", chain, number(), random.randrange(1, 41)),
                ("pay one key", chain, number(), random.choice((30, 100))),
                ("pay one key", chain, number(), random.choice((30, 100))),
                ("lie", chain, number()),
                ("contest", chain, number()),
            ]
        return random.choice(steps)

    # --- clients ----------------------------------------------------------------------------------

    def creation(self) -> Step:
        random = self.random
        channel = random.choice(CHANNELS)
        amount_base = random.choice(AMOUNTS)
        policy = random.choice((None, None, *range(len(POLICIES))))
        confirmations: int | None = random.choice((None, 0, 1, 2, 3))
        if channel != "tally" or not amount_base:
            policy = None
        if policy is not None and POLICIES[policy].bands:
            confirmations = None
        if channel == "goipay":
            amount_base *= 10**10
        self._keys += 1
        return (
            "create",
            self.number(),
            self.chain(),
            amount_base,
            random.choice(TTLS_S),
            confirmations,
            policy,
            channel,
            f"key {self._keys}",
            channel != "goipay" and random.random() < 0.3,
        )

    def reader(self) -> Step:
        random = self.random
        kind = random.choice(("watch", "watch", "watch", "sse", "poll", "status"))
        whose = random.choice((None, None, self.number()))
        return ("reader", kind, whose, random.choice(TYPES), random.random() < 0.4)

    def webhook(self) -> Step:
        random = self.random
        whose = random.choice((None, self.number()))
        return ("webhook", whose, random.choice(TYPES), random.choice(("takes", *MOODS)))

    def _client_step(self) -> Step:
        return self.random.choice(
            (
                self.reader(),
                self.webhook(),
                ("vanish", self.number()),
                ("mood", self.number(), self.random.choice(("takes", "takes", *MOODS))),
                ("resume", self.number()),
                ("rotate", self.number()),
            )
        )

    # --- trouble ----------------------------------------------------------------------------------

    def _between(self, start: Step, end: Step) -> list[Step]:
        """Trouble, a few steps in it, and its end."""
        inside = [self.chain_step() for _ in range(self.random.choice((1, 1, 2, 3)))]
        return [start, *inside, end]

    def _node_trouble(self) -> list[Step]:
        random, chain = self.random, self.chain()
        kind = random.choice(
            (
                "down",
                "rejected",
                "stale",
                "replicas",
                "refuses",
                "loading",
                "slow",
                "deaf",
                "blind",
                "echo",
                "lost push",
                "dropped",
                "too deep",
            )
        )
        if kind in ("lost push", "dropped"):
            return [("node", chain, kind, 0), self.chain_step()]
        start = ("node", chain, kind, random.choice((1, 2, 3)))
        return self._between(start, ("mend node", chain))

    def _disk_trouble(self) -> list[Step]:
        random = self.random
        kind = random.choice(("full", "slow", "broken", "lost answer", "reads", "persistent"))
        if kind in ("broken", "lost answer", "reads"):
            return [("disk", kind, random.choice((1, 2, 4))), self.chain_step(), ("mend disk",)]
        return self._between(("disk", kind, random.choice((1, 4))), ("mend disk",))

    def _death(self) -> list[Step]:
        random = self.random
        kind = random.choice(("kill", "kill", "kill", "kill", "slow", "stop", "down"))
        if kind == "slow":
            # With a slow disk, much of the time lies between a commit and what has to follow it.
            begin: list[Step] = [("disk", "slow", 2), ("kill in", random.randrange(1, 40) / 20)]
            return [*begin, ("mine", self.chain(), 63, random.randrange(3)), ("mend disk",)]
        if kind == "down":
            return self._between(("down",), ("up",))
        if kind == "stop":
            return [("stop",), self.chain_step()]
        # What a payment or a block sets going is over after some hundred steps.
        soon = 1 + random.randrange(random.choice((10, 40, 100, 300)))
        chain = self.chain()
        paid: list[Step] = [
            ("pay", chain, self.number(), 100) for _ in range(random.choice((0, 2)))
        ]
        struck = random.choice(
            (self.chain_step(), self.creation(), ("mine", chain, 63, random.randrange(3)))
        )
        return [*paid, ("kill", soon), struck]

    def _burst(self) -> list[Step]:
        count = self.random.choice((2, 3, 5))
        inside = tuple(self.chain_step() for _ in range(count))
        return [("together", self.random.random() < 0.5, inside)]

    def _time(self) -> list[Step]:
        random = self.random
        kind = random.choice(("wait", "wait", "jump"))
        if kind == "wait":
            return [("wait", random.choice((5, 20, 40)))]
        return [("jump", random.choice((-3600, -40, -2, 3, 30, 700, 7200)))]
