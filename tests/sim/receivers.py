"""Simulated receivers of webhooks: they take, refuse, hang, forget, and check what they get."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

import orjson
import trio

from actors.webhook_sending import Answer

MOODS = ("takes", "refuses", "hangs", "gone", "drops", "slow", "flickers")


@dataclass
class Receiver:
    """One endpoint's other side. It lives as long as the world."""

    url: str
    user_id: UUID | None
    types: tuple[str, ...]
    mood: str = "takes"
    secret: bytes = b""
    webhook_id: UUID | None = None
    first_seq: int = 0
    """Events after this one are its."""
    taken: dict[str, int] = field(default_factory=dict)
    """Event id → seq, in the order in which they were first taken."""
    lanes: dict[str, list[int]] = field(default_factory=dict)
    """Invoice → seqs, as first taken."""
    requests: int = 0
    notices: int = 0


class Receivers:
    """`Sender`: all of the world's receivers by URL; outlives the daemon."""

    def __init__(self, random: Random) -> None:
        self.by_url: dict[str, Receiver] = {}
        self._random = random

    async def post(
        self, endpoint_id: UUID, url: str, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        receiver = self.by_url[url]
        receiver.requests += 1
        await trio.lowlevel.checkpoint()
        mood = receiver.mood
        if mood == "flickers":
            mood = self._random.choice(("takes", "refuses", "hangs", "drops"))
        if mood == "hangs":
            await trio.sleep(10)
            return Answer(status=None, error="no answer within 10 s", latency_ms=10_000)
        if mood == "refuses":
            return Answer(status=500, error="HTTP 500", latency_ms=1)
        if mood == "gone":
            return Answer(status=410, error="HTTP 410", latency_ms=1)
        if mood == "slow":
            await trio.sleep(3)
        _take(receiver, headers, body)
        if mood == "drops":
            return Answer(status=None, error="the connection broke", latency_ms=1)
        return Answer(status=204, error=None, latency_ms=1)

    async def forget(self, _endpoint_id: UUID) -> None:
        await trio.lowlevel.checkpoint()


def _take(receiver: Receiver, headers: Mapping[str, str], body: bytes) -> None:
    event_id = headers["webhook-id"]
    signed = b"%s.%s.%s" % (event_id.encode(), headers["webhook-timestamp"].encode(), body)
    digest = hmac.new(receiver.secret, signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{b64encode(digest).decode()}", "a wrong signature"
    event = orjson.loads(body)
    if event["seq"] is None:
        receiver.notices += 1
        return
    assert event["id"] == event_id
    assert receiver.user_id is None or event["user_id"] == str(receiver.user_id)
    assert not receiver.types or event["type"] in receiver.types
    if event_id not in receiver.taken:
        receiver.taken[event_id] = event["seq"]
        receiver.lanes.setdefault(event["invoice_id"], []).append(event["seq"])
