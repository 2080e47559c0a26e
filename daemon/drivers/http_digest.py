"""HTTP Digest authentication of a client (RFC 7616; RFC 2617 and RFC 2069 for old servers).

`qop=auth` only: bodies are not hashed. Of several challenges the best algorithm is taken. A session
belongs to one connection: monerod gives each connection a nonce of its own.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

_ALGORITHMS: Mapping[str, Callable[[bytes], str]] = MappingProxyType(
    {
        "sha-256": lambda data: hashlib.sha256(data).hexdigest(),
        # No choice of ours: monerod knows nothing else (and it is no signature here).
        "md5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
    }
)
"""Best first."""
_SESSION = "-sess"
_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_WORDS = re.compile(rf'({_NAME})(?:[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|{_NAME}))?')
_ATTEMPTS = 3
_CHALLENGE_CHARS = 8192


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a server wants to see proved (RFC 7616, section 3.3)."""

    realm: str
    nonce: str
    opaque: str | None
    algorithm: str
    """As the server wrote it; empty when it did not say, which means MD5."""
    has_qop: bool
    is_stale: bool


class DigestSession:
    """One connection's login. `authorization` before each request, `challenged` after each 401.

    User and password never appear in an exception, and only the user in a header. Raises ValueError
    for a user that can not stand in a header.
    """

    def __init__(
        self,
        user: str,
        password: str,
        *,
        make_cnonce: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        if not user.isascii() or not user.isprintable():
            raise ValueError("a user name for HTTP Digest has printable ASCII characters only")
        self._user = user
        self._password = password
        self._make_cnonce = make_cnonce
        self._challenge: Challenge | None = None
        self._count = 0
        self._cnonce = ""
        self._attempts = 0

    def authorization(self, method: str, target: str) -> str | None:
        """The header's value for one request; None before the first challenge."""
        challenge = self._challenge
        if challenge is None:
            return None
        self._count += 1
        if self._count == 1:
            # One per nonce: the session algorithms hash the first one into every answer.
            self._cnonce = self._make_cnonce()
        fields = [
            f"username={_quoted(self._user)}",
            f"realm={_quoted(challenge.realm)}",
            f"nonce={_quoted(challenge.nonce)}",
            f"uri={_quoted(target)}",
            f'response="{self._response(challenge, method, target)}"',
        ]
        if challenge.algorithm:
            fields.append(f"algorithm={challenge.algorithm}")
        if challenge.opaque is not None:
            fields.append(f"opaque={_quoted(challenge.opaque)}")
        if challenge.has_qop:
            fields += ["qop=auth", f"nc={self._count:08x}", f"cnonce={_quoted(self._cnonce)}"]
        return "Digest " + ", ".join(fields)

    def challenged(self, headers: Sequence[str]) -> bool:
        """After HTTP 401 with these WWW-Authenticate headers: whether to send the request again.

        False means that user and password are refused, or that the server wants something else than
        Digest: it is not told the password in clear.
        """
        offered = [each for text in headers for each in challenges(text)]
        if not offered:
            return False
        best = min(offered, key=lambda each: _rank(each.algorithm))
        # A nonce that served before may be over without the server saying so.
        was_fresh = self._challenge is not None and self._count <= 1
        self._challenge = best
        self._count = 0
        self._attempts += 1
        return (best.is_stale or not was_fresh) and self._attempts < _ATTEMPTS

    def accepted(self) -> None:
        """The server answered with something else than 401."""
        self._attempts = 0

    def _response(self, challenge: Challenge, method: str, target: str) -> str:
        base, is_session = _split(challenge.algorithm)
        digest = _ALGORITHMS[base]
        a1 = f"{self._user}:{challenge.realm}:{self._password}".encode()
        if is_session:
            a1 = f"{digest(a1)}:{challenge.nonce}:{self._cnonce}".encode()
        parts = [challenge.nonce]
        if challenge.has_qop:
            parts += [f"{self._count:08x}", self._cnonce, "auth"]
        joined = ":".join([digest(a1), *parts, digest(f"{method}:{target}".encode())])
        return digest(joined.encode())


def challenges(header: str) -> list[Challenge]:
    """The Digest challenges in one WWW-Authenticate header that we can answer."""
    found = (_challenge(fields) for scheme, fields in _schemes(header) if scheme == "digest")
    return [each for each in found if each is not None]


def _schemes(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    scheme, fields = "", dict[str, str]()
    for match in _WORDS.finditer(header[:_CHALLENGE_CHARS]):
        word, value = match[1].lower(), match[2]
        if value is None:
            yield scheme, fields
            scheme, fields = word, {}
        else:
            fields.setdefault(word, _unquoted(value))
    yield scheme, fields


def _challenge(fields: Mapping[str, str]) -> Challenge | None:
    algorithm = fields.get("algorithm", "")
    qop = fields.get("qop")
    offers = {each.strip().lower() for each in qop.split(",")} if qop else set()
    base, is_session = _split(algorithm)
    if "nonce" not in fields or base not in _ALGORITHMS or (offers and "auth" not in offers):
        return None
    # They are sent back in a header of ours.
    if not all(text.isascii() and text.isprintable() for text in fields.values()):
        return None
    if is_session and not offers:
        # RFC 2069 knows no cnonce to open a session with.
        return None
    return Challenge(
        realm=fields.get("realm", ""),
        nonce=fields["nonce"],
        opaque=fields.get("opaque"),
        algorithm=algorithm,
        has_qop=bool(offers),
        is_stale=fields.get("stale", "").lower() == "true",
    )


def _split(algorithm: str) -> tuple[str, bool]:
    """(the hash's name, whether it is the session kind)."""
    name = algorithm.lower() or "md5"
    return name.removesuffix(_SESSION), name.endswith(_SESSION)


def _rank(algorithm: str) -> tuple[int, bool]:
    base, is_session = _split(algorithm)
    return list(_ALGORITHMS).index(base), is_session


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
