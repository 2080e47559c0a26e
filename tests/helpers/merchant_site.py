"""A small shop on the web, as a merchant would write it from the documents alone.

It sells by Payscrypt's REST calls: "pay" makes an order and sends the browser to its payment page;
a signed webhook says that a status changed, and what it says is never believed, but read back.
It shares no code with the daemon.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import html
import http.client
import itertools
import json
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.helpers.process import wait_until
from tests.helpers.server import Managed

Json = dict[str, Any]
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<link rel="icon" href="data:,"></head><body><main><h1>{title}</h1>{body}</main></body></html>
"""


@dataclass(eq=False)
class Purchase:
    """What the shop knows of one sale."""

    number: str
    """Its `merchant_order_id`."""
    asset: str
    amount_base: int
    order: Json
    """As it was answered when it was made."""
    heard: list[str] = field(default_factory=list)
    """Statuses in the order in which webhooks told them."""
    read_back: list[str] = field(default_factory=list)
    """The status that getPublicOrderById had when each of them came."""

    @property
    def id(self) -> str:
        return str(self.order["id"])

    @property
    def page(self) -> str:
        return str(self.order["redirect_url"])

    @property
    def address(self) -> str:
        return str(self.order["variants"][0])


class MerchantSite(Managed):
    """One shop with its own server; use as a context manager. Nothing of it may fail silently."""

    def __init__(self, api: str) -> None:
        """`api` is the daemon's address; what is only known once there is a merchant comes later.

        That is the API key, the wallets and the secret.
        """
        self.api = api
        self.api_key = ""
        self.wallet_id = 0
        """The one that it sells with."""
        self.wallet_ids: set[int] = set()
        """All of the merchant's."""
        self.secret = ""
        """`whsec_…`, of the webhook that leads here."""
        self.purchases: dict[str, Purchase] = {}
        """By number."""
        self.faults: list[str] = []
        """Webhooks that were not as documented."""
        self._numbers = itertools.count(1)
        self._run = secrets.token_hex(3)
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    @property
    def hook_url(self) -> str:
        return f"{self.url}/hook"

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # --- Payscrypt, as the document has it ---

    def create(self, asset: str, amount_base: int, **more: Any) -> Purchase:
        """Make an order; `more` are further fields of CreateOrderRequest."""
        number = str(more.pop("merchant_order_id", f"{self._run}-{next(self._numbers)}"))
        request = {
            "merchant_order_id": number,
            "asset_name": asset,
            "target_value": str(amount_base),
            "callback_url": f"{self.url}/thanks/{number}",
            "pg_wallet_id": str(self.wallet_id),
            **more,
        }
        request = {name: value for name, value in request.items() if value is not None}
        status, document = self._post("create_order", request, {"apikey": self.api_key})
        if status != 200:
            raise ValueError(f"create_order was answered {status}: {document}")
        purchase = Purchase(number, asset, amount_base, document["order"])
        with self._lock:
            self.purchases[number] = purchase
        return purchase

    def read(self, purchase: Purchase, *, with_payments: bool = False) -> Json:
        """The order as everybody may see it."""
        request = {"id": purchase.id, "with_payments": with_payments}
        status, document = self._post("get_public_order", request, {})
        if status != 200:
            raise ValueError(f"get_public_order was answered {status}: {document}")
        return dict(document["order"])

    def until(self, purchase: Purchase, status: str, *, timeout_s: float = 30.0) -> Json:
        """Wait until the order reads back with that status."""

        def probe() -> Json | None:
            order = self.read(purchase, with_payments=True)
            return order if order["status"] == status else None

        return wait_until(
            probe, f"order {purchase.number} reads back {status}", timeout_s=timeout_s
        )

    def until_value(self, purchase: Purchase, value_base: int) -> None:
        """Wait until the order reads back with so much received."""
        wait_until(
            lambda: int(self.read(purchase)["value"]) == value_base,
            f"{value_base} were received for order {purchase.number}",
        )

    def until_heard(self, purchase: Purchase, *statuses: str, timeout_s: float = 30.0) -> None:
        """Wait until webhooks have told these statuses, in this order and no others."""
        wait_until(
            lambda: purchase.heard == list(statuses),
            f"webhooks told {statuses} of order {purchase.number}",
            timeout_s=timeout_s,
        )

    def _post(self, call: str, request: Json, headers: Mapping[str, str]) -> tuple[int, Json]:
        parts = urlsplit(self.api)
        assert parts.hostname is not None
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(
                "POST",
                f"/apis/pg/{call}",
                body=json.dumps(request),
                headers={"Content-Type": "application/json", **headers},
            )
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    # --- its own pages ---

    def front(self) -> str:
        """A page with a button for each thing on sale."""
        body = "".join(
            f'<form method="post" action="/buy"><input type="hidden" name="asset" value="{asset}">'
            f'<input type="hidden" name="amount" value="{amount}">'
            f'<button id="pay-{asset}">Pay with {asset}</button></form>'
            for asset, amount in PRICES.items()
        )
        return _PAGE.format(title="A small shop", body=body)

    def thanks(self, number: str) -> str:
        """What the payment page leads to. The browser proves nothing, so the order is read."""
        purchase = self.purchases[number]
        if self.read(purchase)["status"] == "SUCCESSFUL":
            return _PAGE.format(title="Thank you", body=f"<p>Order {html.escape(number)} is paid.")
        return _PAGE.format(title="Not paid", body=f"<p>Order {html.escape(number)} is not paid.")

    def take(self, headers: Mapping[str, str], body: bytes) -> int:
        """A webhook; returns the status to answer with."""
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        wanted = hmac.new(key, body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(wanted, headers.get("x-payscrypt-signature", "")):
            self.faults.append(f"a webhook with a wrong signature: {dict(headers)} {body!r}")
            return 401
        told = json.loads(body)
        with self._lock:
            purchase = self.purchases.get(told["merchant_order_id"])
        is_ours = purchase is not None and told["id"] == purchase.id
        if purchase is None or not is_ours or int(told["pg_wallet_id"]) not in self.wallet_ids:
            self.faults.append(f"a webhook of an order that is not ours: {told}")
            return 404
        read_back = self.read(purchase)["status"]
        with self._lock:
            purchase.heard.append(told["status"])
            purchase.read_back.append(read_back)
        return 200


PRICES = {"BTC": 150_000, "ETH": 20_000_000_000_000_000}
"""What the one thing on sale costs, in base units."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser or a daemon that hangs up is no news."""


def _handler(site: MerchantSite) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if path == "/":
                self._say(200, site.front())
            elif path.startswith("/thanks/") and path[8:] in site.purchases:
                self._say(200, site.thanks(path[8:]))
            else:
                self._say(404, _PAGE.format(title="Nothing here", body=""))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/hook":
                headers = {name.lower(): value for name, value in self.headers.items()}
                self._say(site.take(headers, body))
            elif self.path == "/buy":
                given = parse_qs(body.decode())
                bought = site.create(given["asset"][0], int(given["amount"][0]))
                self._say(303, location=bought.page)
            else:
                self._say(404)

        def _say(self, status: int, page: str = "", *, location: str = "") -> None:
            content = page.encode()
            self.send_response(status)
            if location:
                self.send_header("location", location)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name above us
            """The test has it all."""

    return Handler
