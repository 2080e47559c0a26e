"""What one gRPC server spends on its peers at most."""

from dataclasses import dataclass, fields

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one server; every one of them is enforced, none is advice.

    Raises ValueError naming the limit when one is not positive or contradicts HTTP/2.
    """

    connections: int = 2000
    """Open connections; a further one is closed at once."""

    streams_per_connection: int = 100
    """Calls in progress on one connection; a further one is refused and may be retried."""

    message_bytes: int = 4 * MIB
    """One message in or out, after decompression."""

    header_bytes: int = 16 * KIB
    """Request headers of one call as HTTP/2 counts them; four times as much ends the connection."""

    stream_window_bytes: int = 256 * KIB
    """HTTP/2 flow control: what a peer may send on one stream before the handler reads."""

    connection_window_bytes: int = 1 * MIB
    """HTTP/2 flow control: the same for all streams of one connection together."""

    connection_inbound_bytes: int = 16 * MIB
    """Received on one connection and not yet read by handlers."""

    stream_outbound_bytes: int = 1 * MIB
    """Waiting for one slow reader; what is beyond cuts the reader off."""

    connection_outbound_bytes: int = 256 * KIB
    """Handed to the socket of one connection at a time; streams wait their turn behind it."""

    compress_above_bytes: int = 16 * KIB
    """Messages of at least this size are compressed for clients that accept gzip."""

    handshake_timeout_s: float = 10.0
    """For TLS, and again for the HTTP/2 preface."""

    keepalive_interval_s: float = 30.0
    """A connection that is silent for so long is pinged."""

    keepalive_timeout_s: float = 10.0
    """A connection that does not answer a ping for so long is dead and closed."""

    stall_timeout_s: float = 30.0
    """A reader that takes nothing of what waits for it for so long is cut off."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(
                    f"gRPC limit {field.name} must be positive, not {getattr(self, field.name)}"
                )
        for name in ("stream_window_bytes", "connection_window_bytes"):
            # A peer may spend HTTP/2's default window before it reads our settings.
            if not 65_535 <= getattr(self, name) < 2**31:
                raise ValueError(f"gRPC limit {name} must be between 65535 and 2147483647")
