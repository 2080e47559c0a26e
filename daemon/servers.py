"""The two listeners, gRPC and HTTP: opened together, stopped before anything below them."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Self

import trio

from actors.ports import PersistentError, TransientError
from api.grpc.gatekeeper import gatekeeper
from api.grpc.goipay import InvoiceService, UserService
from api.grpc.health import NOT_SERVING, SERVING
from api.grpc.limits import Limits
from api.grpc.payscrypt import PgApi
from api.grpc.server import ListenError, Server
from api.grpc.tally import InvoiceService as TallyInvoiceService
from api.grpc.tls import TlsSettingsError, server_context
from api.payscrypt_calls import PayscryptCalls
from api.rest.app import create_app
from api.rest.edge import Edge
from api.rest.serving import HttpListenError, serve
from daemon.clock import SystemClock
from daemon.config import Config, ServerConfig, TlsMode
from daemon.house import House
from daemon.logging import get_logger
from daemon.roles import Roles

CLOSED = "Stream has been closed."
"""What GoiPay tells the readers of its stream when it stops."""

LOOK_AT_DUTIES_EVERY_S = 1.0


class Servers:
    """Both APIs of one house."""

    def __init__(self, config: Config, house: House) -> None:
        """Raises PersistentError when the certificates cannot be used."""
        self._config = config
        self._house = house
        self._stop_http = trio.Event()
        self._tls = _tls(config.server)
        invoices = InvoiceService(house.invoicing, hub=house.hub)
        users = UserService(
            house.invoicing,
            audit=house.audit,
            reveal=house.keyring.monero.reveal if config.server.reveal_view_keys else None,
        )
        exact = TallyInvoiceService(
            house.invoicing, house.repeats, outbox=house.outbox, clock=SystemClock()
        )
        limits = config.server.limits
        orders = PgApi(
            PayscryptCalls(house.orders, house.invoicing.catalogue), public_url=self.public_url
        )
        self.grpc = Server(
            [users, invoices, exact, orders],
            reflection=config.server.reflection,
            limits=Limits(
                connections=limits.connections,
                streams_per_connection=limits.streams_per_connection,
                message_bytes=limits.message_bytes,
                stream_outbound_bytes=limits.stream_buffer_bytes,
            ),
            tls=self._tls,
            interceptors=[gatekeeper(house.gate)],
            log=get_logger("api.grpc"),
            closed_texts={"/invoice.v1.InvoiceService/InvoiceStatusStream": CLOSED},
            parts=house.roles.holders() if house.roles else (),
        )
        self.grpc_address = ""
        self.http_address = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Self]:
        """Listen on both; the block may be left after `stop`."""
        config, house = self._config, self._house
        edge = Edge(
            invoicing=house.invoicing,
            hub=house.hub,
            outbox=house.outbox,
            clock=SystemClock(),
            log=get_logger("api.rest"),
            metrics=house.metrics.render,
            store_ready=self._store_ready,
            version=version("tallyd"),
            gate=house.gate,
            access_book=house.store,
            audit=house.audit,
            repeats=house.repeats,
            webhooks=house.webhooks,
            wallets=house.wallets,
            orders=house.orders,
            brands=house.brands,
            roles=house.roles.names if house.roles else (),
            duties=house.roles.holders if house.roles else dict,
            public_url=config.http.public_url,
            trusted_proxies=config.http.trusted_proxies,
        )
        async with trio.open_nursery() as nursery:
            try:
                bound = await nursery.start(self.grpc.serve, config.server.host, config.server.port)
                self.grpc_address = _text(bound[0])
                serve_http = partial(
                    serve,
                    create_app(edge),
                    config.http.host,
                    config.http.port,
                    shutdown=self._stop_http,
                )
                bound = await nursery.start(serve_http)
                self.http_address = _text(bound[0])
            except (ListenError, HttpListenError) as error:
                raise PersistentError(str(error)) from error
            self.grpc.health.set(SERVING)
            if house.roles is not None:
                nursery.start_soon(self._tell_of_duties, house.roles)
            yield self
            nursery.cancel_scope.cancel()

    async def _tell_of_duties(self, roles: Roles) -> None:
        """Keep true what health says of duties: whether some process holds them."""
        told: dict[str, bool] = {}
        while True:
            for duty, standing in roles.holders().items():
                held = standing is not None
                if told.get(duty) != held:
                    told[duty] = held
                    self.grpc.health.set(SERVING if held else NOT_SERVING, duty)
            await trio.sleep(LOOK_AT_DUTIES_EVERY_S)

    def public_url(self) -> str:
        """Where customers are sent who did not ask us: no slash at the end."""
        http = self._config.http
        # gRPC listens first.
        return http.public_url or f"http://{self.http_address or _text((http.host, http.port))}"

    async def stop(self, *, grace_s: float) -> None:
        """End streams with their status and requests with their answers, within `grace_s`."""
        async with trio.open_nursery() as nursery:
            self._stop_http.set()
            nursery.start_soon(lambda: self.grpc.shutdown(grace_s=grace_s))

    def reread_certificates(self, server: ServerConfig) -> None:
        """Use the certificate files as they are now, for new connections.

        Raises PersistentError when they cannot be used; then the old ones stay.
        """
        fresh = _tls(server)
        if fresh is not None:
            self.grpc.use_tls(fresh)

    async def _store_ready(self) -> str | None:
        try:
            await self._house.store.last_seq()
        except (TransientError, PersistentError) as error:
            return str(error)
        return None


def _tls(server: ServerConfig) -> ssl.SSLContext | None:
    tls = server.tls
    if tls.mode is TlsMode.NONE:
        return None
    assert tls.cert is not None, "the configuration names a certificate for TLS"
    assert tls.key is not None, "the configuration names a key for TLS"
    try:
        return server_context(
            certificate=tls.cert,
            key=tls.key,
            client_cas=tls.client_ca if tls.mode is TlsMode.MTLS else (),
        )
    except TlsSettingsError as error:
        raise PersistentError(str(error)) from error


def _text(address: tuple[object, ...]) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
