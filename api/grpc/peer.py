"""Who is at the other end of a connection."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Peer:
    """The far end of one connection, as interceptors and logs see it."""

    address: str
    """Host and port, or another name of the transport."""

    tls: bool = False

    subject: str | None = None
    """Subject of the verified client certificate, ``CN=shop,O=Example``; None without mTLS."""

    certificate: bytes | None = None
    """The same certificate in DER."""

    def __str__(self) -> str:
        return self.address if self.subject is None else f"{self.address} ({self.subject})"
