"""A Bitcoin-family node's ZMQ notifications: topic, body, and a count that shows what was lost."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from daemon.drivers.zmq_subscription import BadMessageError, FrameSubscription

_COUNTER = struct.Struct("<I")
_COUNTER_VALUES = 1 << 32


@dataclass(frozen=True, slots=True)
class Published:
    """One notification; `lost` are those of its topic that are missing right before it."""

    topic: str
    body: bytes
    lost: int


def reachable(address: str, host: str) -> str:
    """The address to connect to for one that the node binds: its port, on the host we know.

    A node names 0.0.0.0, its own loopback or an address of its own network.
    """
    scheme, _, place = address.partition("://")
    port = place.rpartition(":")[2]
    if scheme != "tcp" or not port.isdecimal():
        return address
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


class Subscription(FrameSubscription):
    """A subscription to `endpoints` (topic → address)."""

    def __init__(self, endpoints: Mapping[str, str]) -> None:
        super().__init__(topics=endpoints, addresses=endpoints.values())
        self._counters: dict[str, int] = {}

    def drain(self) -> tuple[list[Published], bool]:
        """What has arrived, and whether more may be there already. Raises BadMessageError."""
        messages, more = self.drain_frames()
        return [self._read(frames) for frames in messages], more

    def _read(self, frames: list[bytes]) -> Published:
        if len(frames) != 3 or len(frames[2]) != _COUNTER.size:
            raise BadMessageError(f"{len(frames)} frames that begin {frames[0][:20]!r}")
        topic = frames[0].decode("ascii", "replace")
        if topic not in self._topics:
            raise BadMessageError(f"the topic {topic[:20]!r}")
        counter: int = _COUNTER.unpack(frames[2])[0]
        last = self._counters.get(topic)
        self._counters[topic] = counter
        lost = 0 if last is None else (counter - last - 1) % _COUNTER_VALUES
        return Published(topic, frames[1], lost)
