"""Texts of settings turned into values, strictly.

Every parser takes the text as written (YAML's own guesses are not consulted, so `no`, `0o17` or
`1:30` never turn into something else) and the folder that relative paths start from. A refusal is
a ValueError that says what to write instead and never repeats the text: it may be a secret.
"""

import re
from collections.abc import Callable, Collection, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from daemon.config.schema import NodeUrl, Secret

Parser = Callable[[str, Path], object]
MAX_ENDPOINTS = 16

_WHOLE = re.compile(r"0|[1-9][0-9]{0,18}")
_DECIMAL = re.compile(r"(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?")
_VAULT_KEY = re.compile(r"[0-9a-fA-F]{64}")
_SCOPES = r"(?:read|write|admin)(?:\+(?:read|write|admin))*"
_SUBJECT = re.compile(rf"({_SCOPES}):\s*(\S.{{0,499}})")
_NEXT_SUBJECT = re.compile(rf",\s*(?={_SCOPES}:)")
_ROLE = re.compile(r"api|deliver|watch:[a-z][a-z0-9-]*")
_HOST = re.compile(r"[0-9A-Za-z._:%-]+")
_PUBLIC_HOST = re.compile(r"[0-9a-z.-]+|[0-9a-f:]+")


def text(value: str, _base: Path) -> str:
    return value


def secret(value: str, _base: Path) -> Secret:
    return Secret(value)


def vault_key(value: str, _base: Path) -> Secret:
    if not _VAULT_KEY.fullmatch(value):
        raise ValueError(
            "write 64 hexadecimal digits: 32 random bytes, for example from `openssl rand -hex 32`"
        )
    return Secret(value.lower())


def host(value: str, _base: Path) -> str:
    name = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    if not _HOST.fullmatch(name):
        raise ValueError("write only a host name or an address, such as 127.0.0.1 or ::1")
    return name


def database_host(value: str, base: Path) -> str:
    """A host, or the folder of PostgreSQL's Unix socket."""
    return value if value.startswith("/") else host(value, base)


def whole(least: int, most: int) -> Parser:
    def parse(value: str, _base: Path) -> int:
        if not _WHOLE.fullmatch(value) or not least <= int(value) <= most:
            raise ValueError(f"write a whole decimal number from {least} to {most}, digits only")
        return int(value)

    return parse


def seconds(least: float, most: float) -> Parser:
    def parse(value: str, _base: Path) -> float:
        if not _DECIMAL.fullmatch(value) or not least <= float(value) <= most:
            raise ValueError(f"write seconds as a number from {least:g} to {most:g}, no unit")
        return float(value)

    return parse


def switch(value: str, _base: Path) -> bool:
    if value not in ("true", "false"):
        raise ValueError("write true or false")
    return value == "true"


def choice(names: Collection[str], *, aliases: Mapping[str, str] | None = None) -> Parser:
    """One of `names`; an alias is accepted in silence and stands for the name it maps to."""
    known = {name: name for name in names} | dict(aliases or {})

    def parse(value: str, _base: Path) -> str:
        if value not in known:
            raise ValueError(f"write one of {', '.join(names)}")
        return known[value]

    return parse


def path(value: str, base: Path) -> Path:
    try:
        return base / Path(value).expanduser()
    except RuntimeError:
        raise ValueError("its ~ can not be resolved here: write an absolute path") from None


def paths(value: str, base: Path) -> tuple[Path, ...]:
    """A comma list, as GoiPay's -client-ca takes it."""
    return tuple(path(part.strip(), base) for part in value.split(",") if part.strip())


def subjects(value: str, _base: Path) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """A comma list of SCOPES:SUBJECT, where a subject may hold commas itself."""
    found: dict[str, tuple[str, ...]] = {}
    for part in _NEXT_SUBJECT.split(value):
        match = _SUBJECT.fullmatch(part.strip())
        if match is None:
            raise ValueError(
                "write what a certificate may do and whom it belongs to, such as write:shop,"
                " read+write:CN=shop,O=Example or admin:*; the scopes are read, write and admin"
            )
        scopes, subject = match.groups()
        if subject in found:
            raise ValueError("the same subject stands there twice: join its scopes with +")
        found[subject] = tuple(scopes.split("+"))
    return tuple(found.items())


def _split(value: str, example: str) -> SplitResult:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError(f"this is no URL with a valid port: write one such as {example}") from None
    return parts


def node_url(value: str, _base: Path) -> NodeUrl:
    return _node_url(value, ("http", "https"), "http://127.0.0.1:8332")


def public_url(value: str, _base: Path) -> str:
    """Scheme, host and perhaps a port; a slash at the end is left out."""
    example = "https://pay.example.org"
    parts = _split(value, example)
    name, port = parts.hostname or "", parts.port
    shown = f"[{name}]" if ":" in name else name
    plain = f"{parts.scheme}://{shown}" + ("" if port is None else f":{port}")
    if parts.scheme not in ("http", "https") or not _PUBLIC_HOST.fullmatch(name):
        raise ValueError(f"write a whole http or https URL such as {example}")
    if value.lower() not in (plain, f"{plain}/"):
        raise ValueError(
            f"write scheme, host and perhaps a port, and nothing else, such as {example}: the"
            " payment page is at the root of its host"
        )
    return plain


def evm_urls(value: str, _base: Path) -> tuple[NodeUrl, ...]:
    """One URL or a comma list: the endpoints of one chain, the preferred one first."""
    return _node_urls(value, ("ws", "wss", "http", "https"), "ws://127.0.0.1:8546")


def monero_urls(value: str, _base: Path) -> tuple[NodeUrl, ...]:
    """Likewise for monerod's RPC."""
    return _node_urls(value, ("http", "https"), "http://127.0.0.1:18081")


def ton_urls(value: str, _base: Path) -> tuple[NodeUrl, ...]:
    """Likewise for the HTTP API of toncenter."""
    return _node_urls(value, ("http", "https"), "https://toncenter.com")


def _node_urls(value: str, schemes: tuple[str, ...], example: str) -> tuple[NodeUrl, ...]:
    parts = [part.strip() for part in value.split(",") if part.strip()]
    if len(parts) > MAX_ENDPOINTS:
        raise ValueError(f"at most {MAX_ENDPOINTS} URLs can be given")
    # A lone comma is no list: it is refused as what it is.
    urls = tuple(_node_url(part, schemes, example) for part in parts or [value])
    if len({one.url for one in urls}) < len(urls):
        raise ValueError("the same URL stands there twice")
    return urls


def _node_url(value: str, schemes: tuple[str, ...], example: str) -> NodeUrl:
    parts = _split(value, example)
    if parts.scheme not in schemes or not parts.hostname or " " in value:
        listed = f"{', '.join(schemes[:-1])} or {schemes[-1]}"
        raise ValueError(f"write a whole {listed} URL such as {example}")
    if parts.fragment:
        raise ValueError("a URL of a node has no #fragment (write a # in a password as %23)")
    user = unquote(parts.username) if parts.username else None
    password = Secret(unquote(parts.password)) if parts.password else None
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    return NodeUrl(url=urlunsplit(bare), user=user, password=password)


def database_url(value: str, base: Path) -> Secret:
    """A SQLAlchemy URL; `postgres://` and `postgresql://` get our driver, sqlite paths become
    absolute.
    """
    scheme, separator, rest = value.partition("://")
    if not separator:
        raise ValueError(
            "write a URL such as sqlite:////var/lib/tallyd/tallyd.db or postgresql://…"
        )
    if scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        if not _split(value, "postgresql://user:pass@localhost/tally").path.strip("/"):
            raise ValueError("it names no database: write postgresql://user:pass@host:5432/NAME")
        return Secret(f"postgresql+psycopg://{rest}")
    if scheme == "sqlite":
        name = rest.partition("/")[2]
        if rest.partition("/")[0] or name in ("", ":memory:") or "?" in name:
            raise ValueError(
                "write sqlite:/// and the path of a file (four slashes for an absolute path); "
                "a database in memory would forget every payment"
            )
        return Secret(f"sqlite:///{path(name, base)}")
    raise ValueError("only sqlite:///… and postgresql://… are supported")


def networks(value: str, _base: Path) -> tuple[IPv4Network | IPv6Network, ...]:
    """A comma list of networks, or of single addresses."""
    try:
        found = [ip_network(part.strip()) for part in value.split(",") if part.strip()]
    except ValueError:
        raise ValueError(
            "write networks such as 10.0.0.0/8 or fd00::/8, with no bit set after the prefix, or"
            " single addresses"
        ) from None
    return tuple(dict.fromkeys(found))


def roles(value: str, _base: Path) -> tuple[str, ...]:
    """A comma list of `api`, `deliver` and `watch:` with a chain id, in whatever case."""
    found = [part.strip().lower() for part in value.split(",") if part.strip()]
    if not all(_ROLE.fullmatch(one) for one in found):
        raise ValueError(
            "write api, deliver, or watch: and a chain, such as watch:btc; several with commas"
        )
    return tuple(dict.fromkeys(found))


def tcp_endpoint(value: str, _base: Path) -> str:
    example = "tcp://127.0.0.1:28332"
    parts = _split(value, example)
    if parts.scheme != "tcp" or not parts.hostname or not parts.port or parts.path:
        raise ValueError(f"write an endpoint such as {example}")
    return value
