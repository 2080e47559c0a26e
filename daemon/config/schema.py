"""The configuration as the rest of the daemon sees it: frozen, typed, complete.

Nothing here reads files or the environment; `daemon.config.load` does and hands out a `Config`.
Durations are seconds, sizes bytes, depths blocks.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from urllib.parse import quote

from actors.core.assets import Catalogue, Chain


class Secret:
    """A text that must never be seen: `str`, `repr` and formatting give ``***``.

    Call `reveal` only where the value leaves for the node or the database.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce__(self) -> str:
        # A pickle or a deep copy into a report would carry the text out.
        raise TypeError("a Secret can not be pickled")


class TlsMode(StrEnum):
    """GoiPay's words: plain TCP, server certificate, client certificates required as well."""

    NONE = "none"
    TLS = "tls"
    MTLS = "mtls"


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """Certificates of the gRPC listener; `cert` and `key` are set unless `mode` is none.

    `ca` is GoiPay's setting for the authority of our own certificate; the daemon has no use for it
    (put the chain into `cert`). `client_ca` is not empty when `mode` is mtls.
    """

    mode: TlsMode
    cert: Path | None
    key: Path | None
    ca: Path | None
    client_ca: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class GrpcLimits:
    """Bounds of the gRPC server; all are positive."""

    message_bytes: int
    connections: int
    streams_per_connection: int
    stream_buffer_bytes: int


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The gRPC listener. Port 0 lets the system choose (tests).

    `reveal_view_keys`: GoiPay's deprecated GetCryptoKeys returns Monero's private view keys.
    """

    host: str
    port: int
    reflection: bool
    reveal_view_keys: bool
    tls: TlsConfig
    limits: GrpcLimits


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """The REST listener. Port 0 lets the system choose (tests).

    `public_url` is scheme, host and port by which customers reach it; None: as they asked for it.
    What a proxy in `trusted_proxies` says of the client's address is believed.
    """

    host: str
    port: int
    public_url: str | None
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...]


@dataclass(frozen=True, slots=True)
class AccessConfig:
    """Who may use the APIs beside those who have a key.

    `anonymous`: callers on loopback need to show nothing. `subjects` are pairs of the common name
    or whole subject of a client certificate, or `*`, and the words of what it may do. Rates are
    requests per second of one key or address; 0: no limit.
    """

    anonymous: bool
    subjects: tuple[tuple[str, tuple[str, ...]], ...]
    rate_per_s: float
    burst: int


@dataclass(frozen=True, slots=True)
class RolesConfig:
    """What this process does where several share one database; nothing named: all, alone.

    `watch` are ids of enabled chains. `names` are as they were given.
    """

    names: tuple[str, ...]
    api: bool
    deliver: bool
    watch: tuple[str, ...]

    @property
    def alone(self) -> bool:
        """The one process of its database, with everything in it."""
        return not self.names

    @property
    def serves(self) -> bool:
        """Whether it listens."""
        return self.alone or self.api


@dataclass(frozen=True, slots=True)
class DatabaseConfig:
    """`url` is a SQLAlchemy URL: ``sqlite:////absolute/path`` or ``postgresql+psycopg://…``."""

    url: Secret

    @property
    def is_sqlite(self) -> bool:
        return self.url.reveal().startswith("sqlite:")

    @property
    def sqlite_file(self) -> Path | None:
        """The database's file; None on PostgreSQL."""
        return Path(self.url.reveal().removeprefix("sqlite:///")) if self.is_sqlite else None

    @property
    def display(self) -> str:
        """The URL without user, password and query, for logs and for people."""
        return display_url(self.url.reveal())


@dataclass(frozen=True, slots=True)
class ZmqConfig:
    """Where a Bitcoin-family node pushes from.

    Not `enabled`: never subscribe. Enabled without `endpoints`: ask the node
    (`getzmqnotifications`). Otherwise topic (rawtx, hashblock, sequence) → ``tcp://host:port``.
    """

    enabled: bool
    endpoints: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NodeUrl:
    """A node's URL with the user part taken out of it (percent-decoded, as RFC 3986 has it).

    The URL may carry an access key in its path: show it by `str`, which leaves that out.
    """

    url: str = field(repr=False)
    user: str | None
    password: Secret | None

    def __str__(self) -> str:
        return display_url(self.url, keep_path=False)

    def reveal(self) -> str:
        """The whole URL, user part included: for the node's ears only."""
        if self.user is None and self.password is None:
            return self.url
        scheme, _, rest = self.url.partition("://")
        password = "" if self.password is None else ":" + quote(self.password.reveal(), safe="")
        return f"{scheme}://{quote(self.user or '', safe='')}{password}@{rest}"


@dataclass(frozen=True, slots=True)
class EvmConfig:
    """What only EVM chains have.

    `chain_id` is what their nodes must answer (EIP-155). `finality` is the block tag (`safe`,
    `finalized`) that invoices wait for which name no number of confirmations. `internal` is how
    payments by contracts are seen: auto, trace, debug, balance or off.
    """

    chain_id: int
    finality: str | None
    internal: str


@dataclass(frozen=True, slots=True)
class MoneroConfig:
    """What only Monero has.

    `zmq_pub` is where the preferred node's ZMQ publisher listens (``tcp://host:port``, monerod's
    --zmq-pub); None: poll only, because no RPC tells it.
    """

    zmq_pub: str | None


@dataclass(frozen=True, slots=True)
class TonConfig:
    """What only TON has.

    `network` (mainnet or testnet) is what the endpoints must serve and addresses are made for.
    `streaming`: use the websocket where one is offered. New invoices get a `wallet` (v4r2 or v5r1)
    each, or with `comments` one wallet and a comment each. API keys are the nodes' passwords.
    """

    network: str
    streaming: bool
    wallet: str
    comments: bool


@dataclass(frozen=True, slots=True)
class CoinConfig:
    """One enabled chain and its nodes.

    `chain` has the configured number of confirmations. `nodes` are never empty; of the Bitcoin
    family there is one, of others there may be several, the preferred one first. Of the Bitcoin
    family `cookie_file`, which the node rewrites at each of its starts, may stand for user and
    password. `poll_interval_s` is for what a node can not push; `reorg_limit` and
    `settled_watch_depth` are blocks. `evm`, `monero` and `ton` are set for those families alone.
    """

    chain: Chain
    nodes: tuple[NodeUrl, ...]
    cookie_file: Path | None
    zmq: ZmqConfig
    evm: EvmConfig | None
    monero: MoneroConfig | None
    ton: TonConfig | None
    poll_interval_s: float
    rpc_timeout_s: float
    reorg_limit: int
    settled_watch_depth: int

    @property
    def coin(self) -> str:
        """The lower-case chain id (btc, ltc)."""
        return self.chain.id

    @property
    def confirmations(self) -> int:
        """For requests that name none."""
        return self.chain.confirmations

    @property
    def node(self) -> NodeUrl:
        """The preferred one."""
        return self.nodes[0]

    @property
    def display(self) -> str:
        """Scheme, host and port of the nodes, for logs and for people."""
        return ", ".join(map(str, self.nodes))


class LogFormat(StrEnum):
    LOGFMT = "logfmt"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class LogConfig:
    """`level` is debug, info, warning or error; `file` None means standard error."""

    level: str
    format: LogFormat
    file: Path | None


@dataclass(frozen=True, slots=True)
class AssetsConfig:
    """`file` extends or replaces the built-in table of chains and assets."""

    file: Path | None


@dataclass(frozen=True, slots=True)
class VaultConfig:
    """The key under which view keys are stored.

    `key` is the key itself, 64 hexadecimal digits; without it `key_file` holds it. Only a `default`
    file is made when it is missing.
    """

    key: Secret | None
    key_file: Path
    default: bool


@dataclass(frozen=True, slots=True)
class WebhooksConfig:
    """Where webhooks may go and how patient they are.

    `allow_networks` are connected to although they are not public, also without TLS; `allow_http`
    lets http:// go to public addresses. `concurrency` is requests at a time to one endpoint. An
    endpoint that takes nothing for `pause_after_s` is paused. The log of attempts is kept for
    `log_days` days, and at most `log_attempts` of each endpoint.
    """

    allow_networks: tuple[IPv4Network | IPv6Network, ...]
    allow_http: bool
    concurrency: int
    pause_after_s: int
    log_days: int
    log_attempts: int


@dataclass(frozen=True, slots=True)
class Resolved:
    """A setting's value and where it came from, in words ("default", "tallyd.yml:3").

    `live` settings are applied by SIGHUP.
    """

    value: object
    source: str
    live: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """Everything the daemon is told from outside.

    `coins` holds only chains that are switched on, in a stable order. `warnings`
    are sentences to log at start: nothing in them is fatal. `settings` is every setting by its path
    in the file, for `tallyd check` and for comparing two configurations. `catalogue` has every
    known chain, and of their assets those of the configured network.
    """

    roles: RolesConfig
    server: ServerConfig
    http: HttpConfig
    access: AccessConfig
    database: DatabaseConfig
    coins: Mapping[str, CoinConfig]
    log: LogConfig
    assets: AssetsConfig
    vault: VaultConfig
    webhooks: WebhooksConfig
    catalogue: Catalogue = field(repr=False)
    state_dir: Path
    file: Path | None
    warnings: tuple[str, ...]
    settings: Mapping[str, Resolved] = field(repr=False)


def display_url(url: str, *, keep_path: bool = True) -> str:
    """`url` without user, password, query and fragment, and without path unless `keep_path`."""
    scheme, separator, rest = url.partition("://")
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    # The last @ ends the user part even where a password holds an unescaped slash.
    host, slash, path = rest.rpartition("@")[2].partition("/")
    return f"{scheme}{separator}{host}{slash + path if keep_path else ''}"
