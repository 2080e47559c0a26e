"""Settings put together into a `Config`, with the checks that need more than one of them."""

import ipaddress
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from actors.core.assets import Chain
from daemon.catalogue import AssetTable
from daemon.config.problems import Problem
from daemon.config.schema import (
    AccessConfig,
    AssetsConfig,
    CoinConfig,
    Config,
    DatabaseConfig,
    EvmConfig,
    GrpcLimits,
    HttpConfig,
    LogConfig,
    LogFormat,
    MoneroConfig,
    NodeUrl,
    Resolved,
    RolesConfig,
    Secret,
    ServerConfig,
    TlsConfig,
    TlsMode,
    TonConfig,
    VaultConfig,
    WebhooksConfig,
    ZmqConfig,
)
from daemon.config.settings import LOGIN_FAMILIES, ZMQ_TOPICS, SettingTable

T = TypeVar("T")


def build(
    settings: Mapping[str, Resolved],
    *,
    table: SettingTable,
    assets: AssetTable,
    state_dir: Path,
    file: Path | None,
    warnings: list[str],
    problems: list[Problem],
) -> Config | None:
    """Check the settings against each other; None when `problems` is not empty in the end."""
    builder = _Builder(settings, table, problems, warnings)
    server = builder.server()
    http = builder.http(server)
    database = builder.database(state_dir)
    coins = builder.coins(assets.chains)
    config = Config(
        roles=builder.roles(database, coins),
        server=server,
        http=http,
        access=builder.access(server, file),
        database=database,
        coins=coins,
        log=builder.log(),
        assets=AssetsConfig(file=builder.optional("assets.file", Path)),
        vault=builder.vault(state_dir),
        webhooks=builder.webhooks(),
        catalogue=assets.catalogue(builder.networks()),
        state_dir=state_dir,
        file=file,
        warnings=tuple(warnings),
        settings=dict(settings),
    )
    return None if problems else config


class _Builder:
    def __init__(
        self,
        settings: Mapping[str, Resolved],
        table: SettingTable,
        problems: list[Problem],
        warnings: list[str],
    ) -> None:
        self._settings = settings
        self._table = table
        self._problems = problems
        self._warnings = warnings

    def value(self, path: str, kind: type[T]) -> T:
        value = self._settings[path].value
        assert isinstance(value, kind), path
        return value

    def optional(self, path: str, kind: type[T]) -> T | None:
        return None if self._settings[path].value is None else self.value(path, kind)

    def _given(self, path: str) -> bool:
        return self._settings[path].source != "default"

    def _refuse(self, path: str, message: str) -> None:
        source = self._settings[path].source
        where = "configuration" if source == "default" else source
        self._problems.append(Problem(where, path, message))

    def server(self) -> ServerConfig:
        mode = self.optional("mode", str)
        tls = self._tls()
        name = self.value("server.host", str)
        if tls.mode is TlsMode.NONE and not _is_loopback(name):
            self._warnings.append(
                f"gRPC listens on {name} without TLS: API keys and invoices can be read on their"
                " way there; set server.tls.mode to tls or mtls"
            )
        reflection = self.value("server.reflection", bool)
        return ServerConfig(
            host=name,
            port=self.value("server.port", int),
            reflection=reflection or (mode == "dev" and not self._given("server.reflection")),
            reveal_view_keys=self._reveals_view_keys(),
            tls=tls,
            limits=GrpcLimits(
                message_bytes=self.value("server.limits.message_bytes", int),
                connections=self.value("server.limits.connections", int),
                streams_per_connection=self.value("server.limits.streams_per_connection", int),
                stream_buffer_bytes=self.value("server.limits.stream_buffer_bytes", int),
            ),
        )

    def _reveals_view_keys(self) -> bool:
        reveals = self.value("server.reveal_view_keys", bool)
        if reveals:
            self._warnings.append(
                "server.reveal_view_keys is on: GetCryptoKeys hands out Monero's private view keys"
                " to every client of the gRPC API; switch it off as soon as no client needs it"
            )
        return reveals

    def _tls(self) -> TlsConfig:
        mode = TlsMode(self.value("server.tls.mode", str))
        client_ca: list[Path] = list(self.value("server.tls.client_ca", tuple))
        tls = TlsConfig(
            mode=mode,
            cert=self.optional("server.tls.cert", Path),
            key=self.optional("server.tls.key", Path),
            ca=self.optional("server.tls.ca", Path),
            client_ca=tuple(client_ca),
        )
        if mode is TlsMode.NONE:
            if tls.cert or client_ca:
                self._warnings.append(
                    "server.tls.mode is none: the certificates in server.tls are not used and "
                    "gRPC is served in plain text"
                )
            return tls
        for path, file in (("server.tls.cert", tls.cert), ("server.tls.key", tls.key)):
            if file is None:
                self._refuse(path, f"is needed when server.tls.mode is {mode}")
            else:
                self._check_readable(path, file)
        if mode is TlsMode.MTLS:
            if not client_ca:
                self._refuse(
                    "server.tls.client_ca",
                    "is needed when server.tls.mode is mtls: name the authority of your clients' "
                    "certificates here or with -client-ca",
                )
            for file in client_ca:
                self._check_readable("server.tls.client_ca", file)
        return tls

    def _check_readable(self, path: str, file: Path) -> None:
        try:
            with file.open("rb"):
                return
        except OSError as error:
            self._refuse(path, f"{file} can not be read: {error.strerror or error}")

    def http(self, server: ServerConfig) -> HttpConfig:
        http = HttpConfig(
            host=self.value("http.host", str),
            port=self.value("http.port", int),
            public_url=self.optional("http.public_url", str),
            trusted_proxies=self.value("http.trusted_proxies", tuple),
        )
        if http.port and (http.host, http.port) == (server.host, server.port):
            self._refuse("http.port", f"is the same as server.port ({http.port}): choose another")
        if not _is_loopback(http.host):
            self._warnings.append(
                f"HTTP listens on {http.host} without TLS: API keys and invoices can be read on"
                " their way there; put a reverse proxy with TLS in front of it"
            )
        return http

    def access(self, server: ServerConfig, file: Path | None) -> AccessConfig:
        """Without a file, and without a word on it, whoever is on this machine may do all."""
        anonymous = self.optional("access.anonymous", str)
        if anonymous is None:
            anonymous = "loopback" if file is None else "off"
        subjects = self.value("access.mtls_subjects", tuple)
        if subjects and server.tls.mode is not TlsMode.MTLS:
            self._refuse(
                "access.mtls_subjects",
                f"needs server.tls.mode mtls, and that is {server.tls.mode}: without it no client"
                " shows a certificate",
            )
        return AccessConfig(
            anonymous=anonymous == "loopback",
            subjects=subjects,
            rate_per_s=self.value("access.rate_per_s", float),
            burst=self.value("access.burst", int),
        )

    def database(self, state_dir: Path) -> DatabaseConfig:
        url = self.optional("database.url", Secret)
        parts = [f"database.{name}" for name in ("host", "name", "user", "pass")]
        given = [path for path in parts if self._given(path)]
        if url is not None:
            if given:
                source = self._settings["database.url"].source
                self._warnings.append(
                    f"database.url ({source}) is used; {', '.join(given)} are ignored"
                )
            return DatabaseConfig(url=url)
        if not given:
            return DatabaseConfig(url=Secret(f"sqlite:///{state_dir / 'tallyd.db'}"))
        for path in ("database.host", "database.name"):
            if path not in given:
                self._refuse(path, f"is needed because {given[0]} is set (PostgreSQL)")
        return DatabaseConfig(url=Secret(self._postgres_url()))

    def _postgres_url(self) -> str:
        user = self.optional("database.user", str)
        password = self.optional("database.pass", Secret)
        login = quote(user or "", safe="")
        if password is not None:
            login += ":" + quote(password.reveal(), safe="")
        name = quote(self.optional("database.name", str) or "", safe="")
        host = self.optional("database.host", str) or ""
        port = self.value("database.port", int)
        at = "@" if login else ""
        if host.startswith("/"):
            # libpq takes the folder of a Unix socket as host, which an URL can not hold in place.
            folder = quote(host, safe="")
            return f"postgresql+psycopg://{login}{at}/{name}?host={folder}&port={port}"
        if ":" in host:
            host = f"[{host}]"
        return f"postgresql+psycopg://{login}{at}{host}:{port}/{name}"

    def roles(self, database: DatabaseConfig, coins: Mapping[str, CoinConfig]) -> RolesConfig:
        names: tuple[str, ...] = self.value("roles", tuple)
        watch = tuple(name.partition(":")[2] for name in names if name.startswith("watch:"))
        if names and database.is_sqlite:
            self._refuse(
                "roles",
                "several processes can share a PostgreSQL database only: set database.url to"
                " postgresql://…, or leave roles out and let one process do everything",
            )
        for chain in watch:
            if chain not in self._table.families:
                known = ", ".join(self._table.families)
                self._refuse("roles", f"there is no chain {chain} to watch: known are {known}")
            elif chain not in coins:
                self._refuse(
                    "roles", f"watch:{chain} needs a node to watch: set coin.{chain}.daemon.url"
                )
        if names and not self._given("vault.key") and not self._given("vault.key_file"):
            self._warnings.append(
                "roles are set and vault.key is not: the processes of one tallyd need the same key,"
                " and each machine would make its own in its state folder; set vault.key"
            )
        return RolesConfig(names=names, api="api" in names, deliver="deliver" in names, watch=watch)

    def vault(self, state_dir: Path) -> VaultConfig:
        key = self.optional("vault.key", Secret)
        file = self.optional("vault.key_file", Path)
        if key is not None and file is not None:
            self._refuse("vault.key_file", "and vault.key are both set: keep only one of them")
        return VaultConfig(
            key=key,
            key_file=file or state_dir / "vault.key",
            default=key is None and file is None,
        )

    def webhooks(self) -> WebhooksConfig:
        return WebhooksConfig(
            allow_networks=self.value("webhooks.allow_networks", tuple),
            allow_http=self.value("webhooks.allow_http", bool),
            concurrency=self.value("webhooks.concurrency", int),
            pause_after_s=self.value("webhooks.pause_after_s", int),
            log_days=self.value("webhooks.log_days", int),
            log_attempts=self.value("webhooks.log_attempts", int),
        )

    def networks(self) -> dict[str, str]:
        """Of each chain that has a setting for it, switched on or not, the network it is on."""
        found = {}
        for coin, family in self._table.families.items():
            if family == "ton":
                found[coin] = self.value(f"coin.{coin}.network", str)
            elif family == "evm":
                chain_id = self.optional(f"coin.{coin}.chain_id", int)
                if chain_id is not None:
                    found[coin] = str(chain_id)
        return found

    def coins(self, chains: Mapping[str, Chain]) -> dict[str, CoinConfig]:
        enabled: dict[str, CoinConfig] = {}
        for coin, family in self._table.families.items():
            nodes = self._nodes(coin, family)
            if nodes:
                enabled[coin] = self._coin(chains[coin], nodes)
        if not enabled:
            self._warnings.append(
                "no coin is switched on, so no invoice can be created: set coin.btc.daemon.url "
                "(BTC_DAEMON_URL) or another coin's"
            )
        return enabled

    def _nodes(self, coin: str, family: str) -> tuple[NodeUrl, ...]:
        """The nodes of a coin, none if it is switched off, with the users to log in as."""
        at = f"coin.{coin}.daemon"
        value = self._settings[f"{at}.url"].value
        if value is None:
            return ()
        if family not in LOGIN_FAMILIES:
            nodes: tuple[NodeUrl, ...] = self.value(f"{at}.url", tuple)
            return self._keyed(at, nodes) if family == "ton" else nodes
        user = self.optional(f"{at}.user", str)
        password = self.optional(f"{at}.pass", Secret)
        if isinstance(value, NodeUrl):
            return (NodeUrl(value.url, user or value.user, password or value.password),)
        nodes = self.value(f"{at}.url", tuple)
        # Of several nodes each may have a login of its own; the settings are for the others.
        return tuple(
            node if node.user or node.password else NodeUrl(node.url, user, password)
            for node in nodes
        )

    def _keyed(self, at: str, nodes: tuple[NodeUrl, ...]) -> tuple[NodeUrl, ...]:
        """TON's nodes, the preferred one with the API key: no other gets to see it."""
        key = self.optional(f"{at}.api_key", Secret)
        first, *others = nodes
        if key is None:
            return nodes
        if first.user is not None or first.password is not None:
            self._refuse(f"{at}.api_key", f"and a key in {at}.url are both set: keep only one")
        return (NodeUrl(first.url, None, key), *others)

    def _coin(self, chain: Chain, nodes: tuple[NodeUrl, ...]) -> CoinConfig:
        at = f"coin.{chain.id}"
        bitcoin = chain.family == "bitcoin"
        user, password = nodes[0].user, nodes[0].password
        login = chain.family in LOGIN_FAMILIES
        cookie_file = self.optional(f"{at}.cookie_file", Path) if bitcoin else None
        if cookie_file is not None and (user is not None or password is not None):
            self._refuse(
                f"{at}.cookie_file", "and a user or password are both set: keep only one of them"
            )
        elif login and any(node.password is not None and node.user is None for node in nodes):
            self._refuse(f"{at}.daemon.user", f"is needed because {at}.daemon.pass is set")
        confirmations = self.value(f"{at}.confirmations", int)
        return CoinConfig(
            chain=replace(chain, confirmations=confirmations),
            nodes=nodes,
            cookie_file=cookie_file,
            zmq=self._zmq(at) if bitcoin else ZmqConfig(enabled=False, endpoints={}),
            evm=self._evm(at) if chain.family == "evm" else None,
            monero=self._monero(at) if chain.family == "monero" else None,
            ton=self._ton(at) if chain.family == "ton" else None,
            poll_interval_s=self.value(f"{at}.poll_interval_s", float),
            rpc_timeout_s=self.value(f"{at}.rpc_timeout_s", float),
            reorg_limit=self.value(f"{at}.reorg_limit", int),
            settled_watch_depth=self.value(f"{at}.settled_watch_depth", int),
        )

    def _evm(self, at: str) -> EvmConfig:
        chain_id = self.optional(f"{at}.chain_id", int)
        if chain_id is None:
            self._refuse(
                f"{at}.chain_id",
                f"is needed because {at}.daemon.url is set: the asset file names no networks of"
                " this chain",
            )
        finality = self.value(f"{at}.finality", str)
        return EvmConfig(
            chain_id=chain_id or 0,
            finality=None if finality == "none" else finality,
            internal=self.value(f"{at}.internal", str),
        )

    def _monero(self, at: str) -> MoneroConfig:
        endpoint = self.optional(f"{at}.zmq.pub", str)
        if endpoint is not None and self.value(f"{at}.zmq", str) == "off":
            self._refuse(f"{at}.zmq", f"is off, but {at}.zmq.pub is set")
        return MoneroConfig(zmq_pub=endpoint)

    def _ton(self, at: str) -> TonConfig:
        return TonConfig(
            network=self.value(f"{at}.network", str),
            streaming=self.value(f"{at}.streaming", str) == "auto",
            wallet=self.value(f"{at}.wallet", str),
            comments=self.value(f"{at}.invoices", str) == "comment",
        )

    def _zmq(self, at: str) -> ZmqConfig:
        found = {topic: self.optional(f"{at}.zmq.{topic}", str) for topic in ZMQ_TOPICS}
        endpoints = {topic: endpoint for topic, endpoint in found.items() if endpoint is not None}
        enabled = self.value(f"{at}.zmq", str) == "auto"
        if endpoints and not enabled:
            self._refuse(f"{at}.zmq", f"is off, but {at}.zmq.{next(iter(endpoints))} is set")
        return ZmqConfig(enabled=enabled, endpoints=endpoints)

    def log(self) -> LogConfig:
        return LogConfig(
            level=self.value("log.level", str),
            format=LogFormat(self.value("log.format", str)),
            file=self.optional("log.file", Path),
        )


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
