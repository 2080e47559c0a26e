"""Every setting there is: its path in the file, its names elsewhere, its default, how to read it.

This table is the only list of settings; the loader and the test of docs/configuration.md read it.
The settings of a chain follow from its entry in the catalogue.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from actors.core.assets import Chain
from daemon.config import values
from daemon.config.schema import LogFormat, TlsMode

ENV_PREFIX = "TALLY_"
_NO_NAME = re.compile(r"[.-]")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `default` is a value, not a text; None means unset.

    `live` settings are applied by SIGHUP. A `secret` one is never repeated in a message. `many`
    accepts a YAML list. `goipay` is the environment name that GoiPay has for it.
    """

    path: str
    parse: values.Parser
    default: object = None
    goipay: str | None = None
    secret: bool = False
    live: bool = False
    many: bool = False

    @property
    def env(self) -> str:
        """Our environment name: TALLY_ and the path in capitals, without its `coin.`."""
        return ENV_PREFIX + _NO_NAME.sub("_", self.path.removeprefix("coin.")).upper()

    @property
    def env_names(self) -> tuple[str, ...]:
        """Ours first: where both are set, ours is meant."""
        return (self.env, self.goipay) if self.goipay else (self.env,)

    @property
    def credential(self) -> str:
        """The name of the systemd credential: our environment name in small letters, no TALLY_."""
        return self.env.removeprefix(ENV_PREFIX).lower()

    @property
    def is_path(self) -> bool:
        return self.parse in (values.path, values.paths)


LOGIN_FAMILIES = frozenset({"bitcoin", "monero"})
"""Whose nodes take user and password; others' stand in the URL, if there are any."""
ZMQ_TOPICS = ("rawtx", "hashblock", "sequence")
LOG_LEVELS = ("debug", "info", "warning", "error")
FINALITIES = ("none", "safe", "finalized")
INTERNAL_WAYS = ("auto", "trace", "debug", "balance", "off")
TON_NETWORKS = ("mainnet", "testnet")
TON_WALLETS = ("v4r2", "v5r1")
TON_INVOICES = ("address", "comment")
_URLS: Mapping[str, values.Parser] = {
    "evm": values.evm_urls,
    "monero": values.monero_urls,
    "ton": values.ton_urls,
}
"""Families whose chains may have several nodes."""
_SLOWEST_POLL_S = 1.0
_FASTEST_POLL_S = 0.25

# GoiPay's level names that we do not have; its fatal and panic are errors that end the process.
_LEVEL_ALIASES = {"trace": "debug", "warn": "warning", "fatal": "error", "panic": "error"}


def _chain_settings(chain: Chain) -> list[Setting]:
    poll_interval_s = min(_SLOWEST_POLL_S, max(_FASTEST_POLL_S, chain.block_time_s))
    return [
        *_coin_settings(chain.id, chain.family, chain.confirmations, poll_interval_s),
        *(_evm_settings(chain) if chain.family == "evm" else ()),
        *(_ton_settings(chain) if chain.family == "ton" else ()),
    ]


def _coin_settings(
    coin: str, family: str, confirmations: int, poll_interval_s: float
) -> list[Setting]:
    at = f"coin.{coin}"
    names = f"{coin.replace('-', '_').upper()}_DAEMON"
    url = _URLS.get(family, values.node_url)
    many = family in _URLS
    rows = [
        # The URL may hold a password or an access key.
        Setting(f"{at}.daemon.url", url, goipay=f"{names}_URL", secret=True, many=many),
        Setting(f"{at}.confirmations", values.whole(0, 2**32 - 1), confirmations, live=True),
        Setting(f"{at}.poll_interval_s", values.seconds(0.1, 3600), poll_interval_s),
        Setting(f"{at}.rpc_timeout_s", values.seconds(1, 3600), 30.0),
        Setting(f"{at}.reorg_limit", values.whole(1, 10_000), 100),
        Setting(f"{at}.settled_watch_depth", values.whole(0, 100_000), 100),
    ]
    if family in LOGIN_FAMILIES:
        rows += [
            Setting(f"{at}.daemon.user", values.text, goipay=f"{names}_USER", live=True),
            Setting(
                f"{at}.daemon.pass",
                values.secret,
                goipay=f"{names}_PASS",
                secret=True,
                live=True,
            ),
        ]
    if family == "bitcoin":
        rows += [
            Setting(f"{at}.cookie_file", values.path, live=True),
            Setting(f"{at}.zmq", values.choice(("auto", "off")), "auto"),
            *(Setting(f"{at}.zmq.{topic}", values.tcp_endpoint) for topic in ZMQ_TOPICS),
        ]
    if family == "monero":
        rows += [
            Setting(f"{at}.zmq", values.choice(("auto", "off")), "auto"),
            Setting(f"{at}.zmq.pub", values.tcp_endpoint),
        ]
    return rows


def _evm_settings(chain: Chain) -> list[Setting]:
    at = f"coin.{chain.id}"
    chain_id = int(chain.networks[0]) if chain.networks else None
    return [
        Setting(f"{at}.chain_id", values.whole(1, 2**63 - 1), chain_id),
        Setting(f"{at}.finality", values.choice(FINALITIES), "none"),
        Setting(f"{at}.internal", values.choice(INTERNAL_WAYS), "auto"),
    ]


def _ton_settings(chain: Chain) -> list[Setting]:
    at = f"coin.{chain.id}"
    return [
        Setting(f"{at}.daemon.api_key", values.secret, secret=True, live=True),
        Setting(f"{at}.network", values.choice(TON_NETWORKS), TON_NETWORKS[0]),
        Setting(f"{at}.streaming", values.choice(("auto", "off")), "auto"),
        Setting(f"{at}.wallet", values.choice(TON_WALLETS), TON_WALLETS[0]),
        Setting(f"{at}.invoices", values.choice(TON_INVOICES), TON_INVOICES[0]),
    ]


_ROWS = [
    Setting("mode", values.choice(("prod", "dev")), goipay="MODE"),
    Setting("roles", values.roles, (), many=True),
    Setting("server.host", values.host, "127.0.0.1", goipay="SERVER_HOST"),
    Setting("server.port", values.whole(0, 65535), 3000, goipay="SERVER_PORT"),
    Setting("server.reflection", values.switch, default=False),
    Setting("server.reveal_view_keys", values.switch, default=False),
    Setting("server.tls.mode", values.choice(list(TlsMode)), "none", goipay="SERVER_TLS_MODE"),
    Setting("server.tls.ca", values.path, goipay="SERVER_TLS_CA"),
    Setting("server.tls.cert", values.path, goipay="SERVER_TLS_CERT", live=True),
    Setting("server.tls.key", values.path, goipay="SERVER_TLS_KEY", live=True),
    Setting("server.tls.client_ca", values.paths, (), live=True, many=True),
    Setting("server.limits.message_bytes", values.whole(1024, 2**30), 4 * 1024 * 1024),
    Setting("server.limits.connections", values.whole(1, 1_000_000), 1024),
    Setting("server.limits.streams_per_connection", values.whole(1, 1_000_000), 1000),
    Setting("server.limits.stream_buffer_bytes", values.whole(4096, 2**30), 1024 * 1024),
    Setting("http.host", values.host, "127.0.0.1"),
    Setting("http.port", values.whole(0, 65535), 8080),
    Setting("http.public_url", values.public_url),
    Setting("http.trusted_proxies", values.networks, (), many=True),
    Setting("access.anonymous", values.choice(("off", "loopback"))),
    Setting("access.mtls_subjects", values.subjects, (), many=True),
    Setting("access.rate_per_s", values.seconds(0, 1_000_000), 100.0),
    Setting("access.burst", values.whole(1, 1_000_000), 200),
    Setting("database.url", values.database_url, secret=True),
    Setting("database.host", values.database_host, goipay="DATABASE_HOST"),
    Setting("database.port", values.whole(1, 65535), 5432, goipay="DATABASE_PORT"),
    Setting("database.user", values.text, goipay="DATABASE_USER"),
    Setting("database.pass", values.secret, goipay="DATABASE_PASS", secret=True),
    Setting("database.name", values.text, goipay="DATABASE_NAME"),
    Setting(
        "log.level",
        values.choice(LOG_LEVELS, aliases=_LEVEL_ALIASES),
        "info",
        goipay="LOG_LEVEL",
        live=True,
    ),
    Setting("log.format", values.choice(list(LogFormat)), "logfmt"),
    Setting("log.file", values.path),
    Setting("assets.file", values.path),
    Setting("vault.key", values.vault_key, secret=True),
    Setting("vault.key_file", values.path),
    Setting("webhooks.allow_networks", values.networks, (), many=True),
    Setting("webhooks.allow_http", values.switch, default=False),
    Setting("webhooks.concurrency", values.whole(1, 256), 8),
    Setting("webhooks.pause_after_s", values.whole(3600, 31_536_000), 432_000),
    Setting("webhooks.log_days", values.whole(1, 3650), 30),
    Setting("webhooks.log_attempts", values.whole(100, 10_000_000), 10_000),
]


class SettingTable:
    """Every setting of one process, by its path in the file: it depends on the known chains.

    `groups` are the paths that only hold others. `families` has the family of each chain that may
    be configured, in the order of the catalogue.
    """

    __slots__ = ("families", "groups", "rows")

    def __init__(self, chains: Iterable[Chain]) -> None:
        chains = list(chains)
        rows = [*_ROWS, *(row for chain in chains for row in _chain_settings(chain))]
        families = {chain.id: chain.family for chain in chains}
        self.families: Mapping[str, str] = MappingProxyType(families)
        self.rows: Mapping[str, Setting] = MappingProxyType({row.path: row for row in rows})
        self.groups = frozenset(
            path.rsplit(".", depth)[0]
            for path in self.rows
            for depth in range(1, path.count(".") + 1)
        )

    def children(self, group: str) -> list[str]:
        """The full paths directly below `group` ("" is the top of the file)."""
        depth = group.count(".") + 1 if group else 0
        below = f"{group}." if group else ""
        known = dict.fromkeys([*self.rows, *sorted(self.groups)])
        return [path for path in known if path.startswith(below) and path.count(".") == depth]
