"""Instants, spans and numbers in words for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def utc(at_ms: int) -> str:
    """ISO 8601 in UTC, to the second; an instant past the year 9999 is clamped to its end."""
    latest_ms = 253_402_300_799_000
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=min(max(at_ms, 0), latest_ms))
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


_UNITS = (("year", 365 * 86_400), ("day", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def duration(span_ms: int) -> str:
    """For people, in the two largest units: `45 s`, `3 min`, `1 h 20 min`, `2 days 3 h`."""
    left_s = max(1, span_ms // 1000)
    parts: list[str] = []
    for position, (unit, size_s) in enumerate(_UNITS):
        many, rest_s = divmod(left_s, size_s)
        if not many and not parts:
            continue
        if many:
            parts.append(count(many, unit) if position < 2 else f"{many} {unit}")
        # Seconds beside minutes, or a second unit that is nothing, say no more than they distract.
        if len(parts) == 2 or unit == "min" or (parts and not many):
            break
        left_s = rest_s
    return " ".join(parts)


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
