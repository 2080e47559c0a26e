"""A merchant who sells through payment pages: set up at a real daemon, paid on real nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from tests.helpers.anvil import AnvilNode
from tests.helpers.bitcoind import BitcoinNode
from tests.helpers.browser import Browser, Page
from tests.helpers.daemon import ROOT, Daemon
from tests.helpers.merchant_site import MerchantSite, Purchase
from tests.helpers.shop import Json, new_key, pay_many
from tests.helpers.tcp_proxy import CuttingProxy

NEEDED = {"BTC": 2, "ETH": 3}
"""Confirmations."""
AMOUNTS = {"BTC": 150_000, "ETH": 30_000_000_000_000_000}
PICTURES = ROOT / ".cache" / "screenshots"
"""Where the page's are kept: each run replaces those of the one before."""
SHORT_S = 10
"""The shortest time to pay that there is."""


class PayDesk:
    """The merchant's side and the customer's wallet."""

    def __init__(
        self,
        daemon: Daemon,
        site: MerchantSite,
        browser: Browser,
        nodes: Mapping[str, BitcoinNode | AnvilNode],
    ) -> None:
        """`nodes` by asset."""
        self.daemon = daemon
        self.site = site
        self.browser = browser
        self.nodes = dict(nodes)
        self.user_id = self._admin("POST", "/v1/users", {})["id"]
        self._keys = {"btc": new_key(), "eth": new_key()}
        self.usual = self.wallet("usual", expires_in_s=1800)
        self.hurried = self.wallet("hurried", expires_in_s=SHORT_S)
        site.wallet_ids = {self.usual, self.hurried}
        site.wallet_id = self.usual
        wanted = {"name": "the shop's site", "scopes": ["write"], "user_id": self.user_id}
        site.api_key = self._admin("POST", "/v1/keys", wanted)["key"]
        hook = {"url": site.hook_url, "form": "payscrypt", "user_id": self.user_id}
        site.secret = self._admin("POST", "/v1/webhooks", hook)["secret"]

    # --- the merchant ---

    def wallet(self, name: str, *, expires_in_s: int) -> int:
        assets = [
            {"asset": asset, "confirmations": needed, "expires_in_s": expires_in_s}
            for asset, needed in NEEDED.items()
        ]
        body = {"name": name, "keys": self._keys, "assets": assets}
        return int(self._admin("POST", f"/v1/users/{self.user_id}/wallets", body)["id"])

    def brand(self, **brand: str) -> None:
        self._admin("PUT", f"/v1/users/{self.user_id}/brand", brand)

    def order(self, asset: str = "BTC", *, short: bool = False, **more: Any) -> Purchase:
        if short:
            more = {"pg_wallet_id": str(self.hurried), **more}
        return self.site.create(asset, AMOUNTS[asset], **more)

    def cancel(self, purchase: Purchase) -> None:
        self._admin("POST", f"/v1/invoices/{self.invoice(purchase)['id']}/cancel", {})

    def invoice(self, purchase: Purchase) -> Json:
        """The order, as the operator sees it."""
        listed = self._admin("GET", f"/v1/invoices?user_id={self.user_id}&limit=500")["items"]
        (found,) = [one for one in listed if one["address"] == purchase.address]
        return dict(found)

    # --- the customer ---

    def pay(self, purchase: Purchase, amount_base: int | None = None) -> str:
        wanted = purchase.amount_base if amount_base is None else amount_base
        return self.nodes[purchase.asset].pay(purchase.address, wanted)

    def pay_many(self, payments: Mapping[Purchase, int]) -> None:
        """Of bitcoin, in one transaction."""
        node = self.nodes["BTC"]
        assert isinstance(node, BitcoinNode)
        pay_many(node, {purchase.address: base for purchase, base in payments.items()})

    def mine(self, asset: str = "BTC", blocks: int = 1) -> None:
        self.nodes[asset].mine(blocks)

    def settle(self, purchase: Purchase) -> None:
        """Mine what is missing, one block at a time, until the order is paid."""
        self.site.until(purchase, "CONFIRMING")
        for _ in range(NEEDED[purchase.asset]):
            self.mine(purchase.asset)
        self.site.until(purchase, "SUCCESSFUL")

    @contextmanager
    def page(self, purchase: Purchase, *, lang: str = "en", **options: Any) -> Iterator[Page]:
        """The order's page in a browser; nothing may have gone wrong in it at the end."""
        with self.browser.page(lang=lang, **options) as page:
            page.open(purchase.page)
            yield page
            page.check()

    @contextmanager
    def line(self) -> Iterator[Line]:
        """A network between a page and the daemon that can be cut."""
        target = ("127.0.0.1", self.daemon.http_port)
        with CuttingProxy(target) as proxy, self.browser.allow(f"127.0.0.1:{proxy.port}"):
            yield Line(proxy)

    def _admin(self, method: str, path: str, body: Json | None = None) -> Json:
        status, _, document = self.daemon.http(method, path, body)
        assert status in (200, 201), (method, path, document)
        return dict(document)


class Line:
    """What a page reaches the daemon by."""

    def __init__(self, proxy: CuttingProxy) -> None:
        self._proxy = proxy

    def address(self, purchase: Purchase) -> str:
        """The order's page by this way."""
        return f"http://127.0.0.1:{self._proxy.port}{urlsplit(purchase.page).path}"

    def cut(self, page: Page) -> None:
        """Pull the cable; the browser notices, as it does of its machine's own."""
        self._proxy.cut_all()
        page.evaluate("dispatchEvent(new Event('offline')) && undefined")

    def mend(self, page: Page) -> None:
        self._proxy.allow()
        page.evaluate("dispatchEvent(new Event('online')) && undefined")


def until_phase(page: Page, phase: str, *, timeout_s: float = 30.0) -> None:
    page.until(
        f"document.querySelector('#live')?.dataset.phase === '{phase}'",
        f"the page is {phase}",
        timeout_s=timeout_s,
    )
