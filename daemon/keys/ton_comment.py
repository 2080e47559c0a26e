"""The comment that tells an invoice's payment from others to the same wallet: digits only.

Digits survive every keyboard and font, and have no capitals to get wrong. The last two are a
checksum (ISO 7064 MOD 97-10), so that a digit mistyped, or two exchanged, never make the comment of
another invoice.
"""

from __future__ import annotations

_LEAST = 1_000_000
"""What is added so that no comment is as short as one that somebody writes by chance."""


def comment_for(*, account: int, minor: int) -> str:
    """The comment of an account's invoice; no other account or invoice has the same.

    Both are 0 or more. Nine digits or more, growing with the larger of the two.
    """
    number = _LEAST + _pair(account, minor)
    return f"{number}{98 - number * 100 % 97:02d}"


def _pair(first: int, second: int) -> int:
    """One number for two (Szudzik, "An elegant pairing function"); small ones stay small."""
    assert first >= 0
    assert second >= 0
    return second * second + first if first < second else first * first + first + second
