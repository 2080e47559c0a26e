"""What a merchant accepts beyond the plain rules; agreed when an invoice is created. Pure.

A policy never changes what the chain did, only what follows from it, and each fact that would not
have followed without one names it (`Applied`), so that nobody has to guess afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

MAX_BANDS = 16
MAX_CONFIRMATIONS = 2**32 - 1
MAX_LATE_S = 366 * 86_400
"""A year: an invoice whose late money may still settle it stays in memory."""
MAX_BPS = 10_000
"""Basis points in a whole."""

BAND = "confirmation_band"
REPLACEABLE = "replaceable"
TOLERANCE = "underpayment_tolerance"
LATE = "accept_late"


class PolicyError(ValueError):
    """The policy contradicts itself or asks for too much; the text says what, for a person."""


@dataclass(frozen=True, slots=True)
class Band:
    """From this amount on, that many confirmations."""

    from_base: int
    confirmations: int


@dataclass(frozen=True, slots=True)
class Policy:
    """All of it is optional; the empty policy changes nothing."""

    bands: tuple[Band, ...] = ()
    """Ascending. The amount is the one asked for; of an open amount, what is credited. Below the
    first band the invoice's own number of confirmations counts."""
    rbf_confirmations: int | None = None
    """At least so many for a payment whose transaction signals that it may be replaced (BIP 125);
    None: the signal means nothing."""
    tolerance_base: int = 0
    """So much less than the amount still covers it; not for an open amount."""
    tolerance_bps: int = 0
    """The same in basis points (hundredths of a percent) of the amount, rounded down. Where both
    are given, the smaller of the two counts."""
    accept_late_s: int = 0
    """Money that is first seen within so many seconds after the deadline is late, and counts."""

    def tolerance(self, required_base: int) -> int:
        """How much may be missing of `required_base`, in base units."""
        share_base = required_base * self.tolerance_bps // MAX_BPS
        if self.tolerance_base and self.tolerance_bps:
            return min(self.tolerance_base, share_base)
        return self.tolerance_base or share_base

    def band(self, amount_base: int) -> Band | None:
        """The band of this amount; None below the first one."""
        found = None
        for band in self.bands:
            if band.from_base > amount_base:
                break
            found = band
        return found

    @property
    def late_ms(self) -> int:
        return self.accept_late_s * 1000


EMPTY = Policy()


@dataclass(frozen=True, slots=True)
class Applied:
    """A policy without which a fact would have been another one, with its numbers."""

    name: str
    numbers: tuple[tuple[str, int], ...] = ()
    """By name; what ends in `_base` is money."""


def checked(policy: Policy) -> Policy:
    """The policy itself, or an equal one that is held already: most invoices share one.

    Raises PolicyError when it cannot be meant.
    """
    if len(policy.bands) > MAX_BANDS:
        raise PolicyError(f"there are {len(policy.bands)} bands; give at most {MAX_BANDS}")
    below = -1
    for band in policy.bands:
        if band.from_base <= below:
            raise PolicyError(
                f"the band from {band.from_base} does not come after a smaller one: order the bands"
                " by amount, each amount once, none below 0"
            )
        below = band.from_base
    depths = [band.confirmations for band in policy.bands]
    if policy.rbf_confirmations is not None:
        depths.append(policy.rbf_confirmations)
    if not all(0 <= depth <= MAX_CONFIRMATIONS for depth in depths):
        raise PolicyError(f"a number of confirmations is not from 0 to {MAX_CONFIRMATIONS}")
    if policy.tolerance_base < 0:
        raise PolicyError("the tolerance is below 0")
    if not 0 <= policy.tolerance_bps <= MAX_BPS:
        raise PolicyError(f"the tolerance in basis points is not from 0 to {MAX_BPS} (100 %)")
    if not 0 <= policy.accept_late_s <= MAX_LATE_S:
        raise PolicyError(f"late money can be accepted for 0 to {MAX_LATE_S} seconds (a year)")
    return shared(policy)


@lru_cache(maxsize=4096)
def shared(policy: Policy) -> Policy:
    """One object for equal policies: a hundred thousand invoices are held in memory."""
    return policy
