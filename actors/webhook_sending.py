"""What the webhook actors need to send with, as a Protocol; the real one is the daemon's client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one request."""

    status: int | None
    """HTTP; None: there was no answer."""
    error: str | None
    """Why it counts as failed, for people; None for 2xx."""
    latency_ms: int
    retry_after_s: float | None = None
    """How long the receiver asks to be left alone."""


class Sender(Protocol):
    async def post(
        self, endpoint_id: UUID, url: str, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        """POST `body`, within a time limit; raises nothing but cancellation.

        Connections may be kept for the next request of the same endpoint.
        """
        ...

    async def forget(self, endpoint_id: UUID) -> None:
        """Close the connections kept for the endpoint."""
        ...
