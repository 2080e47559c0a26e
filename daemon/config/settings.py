"""Every setting there is: its path in the file, its names elsewhere, its default, how to read it.

This table is the only list of settings; the loader, the reload plan and the test of
docs/configuration.md read it. A further chain is one more row in `COINS`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from daemon.config import values
from daemon.config.schema import LogFormat, TlsMode

ENV_PREFIX = "TALLY_"


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
        return ENV_PREFIX + self.path.removeprefix("coin.").replace(".", "_").upper()

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


@dataclass(frozen=True, slots=True)
class CoinTraits:
    """What differs between chains in the file: a login, Bitcoin's extras, sensible defaults."""

    confirmations: int
    poll_interval_s: float = 1.0
    login: bool = False
    bitcoin_family: bool = False


COINS: Mapping[str, CoinTraits] = {
    "btc": CoinTraits(confirmations=2, login=True, bitcoin_family=True),
    "ltc": CoinTraits(confirmations=6, login=True, bitcoin_family=True),
    "xmr": CoinTraits(confirmations=10, login=True),
    "eth": CoinTraits(confirmations=12),
    "bnb": CoinTraits(confirmations=15),
    "ton": CoinTraits(confirmations=1),
}
DRIVERS = frozenset({"btc", "ltc"})
ZMQ_TOPICS = ("rawtx", "hashblock", "sequence")
LOG_LEVELS = ("debug", "info", "warning", "error")

# GoiPay's level names that we do not have; its fatal and panic are errors that end the process.
_LEVEL_ALIASES = {"trace": "debug", "warn": "warning", "fatal": "error", "panic": "error"}


def _coin_settings(coin: str, traits: CoinTraits) -> list[Setting]:
    at = f"coin.{coin}"
    names = f"{coin.upper()}_DAEMON"
    rows = [
        # The URL may hold a password or an access key.
        Setting(f"{at}.daemon.url", values.node_url, goipay=f"{names}_URL", secret=True),
        Setting(f"{at}.confirmations", values.whole(0, 2**32 - 1), traits.confirmations, live=True),
        Setting(f"{at}.poll_interval_s", values.seconds(0.1, 3600), traits.poll_interval_s),
        Setting(f"{at}.rpc_timeout_s", values.seconds(1, 3600), 30.0),
        Setting(f"{at}.reorg_limit", values.whole(1, 10_000), 100),
        Setting(f"{at}.settled_watch_depth", values.whole(0, 100_000), 100),
    ]
    if traits.login:
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
    if traits.bitcoin_family:
        rows += [
            Setting(f"{at}.cookie_file", values.path, live=True),
            Setting(f"{at}.zmq", values.choice(("auto", "off")), "auto"),
            *(Setting(f"{at}.zmq.{topic}", values.tcp_endpoint) for topic in ZMQ_TOPICS),
        ]
    return rows


_ROWS = [
    Setting("mode", values.choice(("prod", "dev")), goipay="MODE"),
    Setting("server.host", values.host, "127.0.0.1", goipay="SERVER_HOST"),
    Setting("server.port", values.whole(0, 65535), 3000, goipay="SERVER_PORT"),
    Setting("server.reflection", values.switch, default=False),
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
]
for _coin, _traits in COINS.items():
    _ROWS += _coin_settings(_coin, _traits)

SETTINGS: Mapping[str, Setting] = {row.path: row for row in _ROWS}
GROUPS: frozenset[str] = frozenset(
    path.rsplit(".", depth)[0] for path in SETTINGS for depth in range(1, path.count(".") + 1)
)


def children(group: str) -> list[str]:
    """The full paths directly below `group` ("" is the top of the file)."""
    depth = group.count(".") + 1 if group else 0
    below = f"{group}." if group else ""
    known = dict.fromkeys([*SETTINGS, *sorted(GROUPS)])
    return [path for path in known if path.startswith(below) and path.count(".") == depth]
