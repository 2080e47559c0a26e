"""Orders at every moment that a payment page can show, made of the facts that lead there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from actors.chain_supervisor import ChainHealth, ChainState
from actors.core.assets import Asset, Catalogue
from actors.core.chain_events import OutPoint, RefusedOutput, Removal
from actors.core.inputs import (
    CancelAsked,
    ChainShortened,
    OutputsRefused,
    TimeReached,
    TipReached,
    TxRemoved,
)
from actors.core.invoice import Invoice
from actors.core.policy import Policy
from actors.order_book import Order
from api.page.view import View, page_view
from api.page.words import words
from tests.helpers.house import CATALOGUE as HOUSE_CATALOGUE
from tests.helpers.invoices import (
    CREATED_MS,
    EXPIRES_MS,
    History,
    block,
    included,
    seen,
    txid,
)

NOW_MS = CREATED_MS + 60_000
LATE_MS = EXPIRES_MS + 60_000
USDT_BNB = bytes.fromhex("55d398326f99059ff775485246999027b3197955")
CATALOGUE = Catalogue(
    chains=HOUSE_CATALOGUE.chains.values(),
    assets=(
        *HOUSE_CATALOGUE.assets.values(),
        Asset("USDT_BEP20", "bnb", "USDT", "Tether USD", 18, USDT_BNB),
    ),
)
EVM_ADDRESS = "0x8ba1f109551bD432803012645Ac136ddd64DBA72"
HALF = 50_000_000
"""What the invoices ask for: 0.5 BTC."""


def order(**changes: Any) -> Order:
    plain = Order(
        id=4_711_000_000_000_001,
        invoice_id=UUID(int=1),
        user_id=UUID(int=2),
        wallet_id=1,
        merchant_order_id="A-1",
        attempt=1,
        description="Two coffees",
        callback_url="https://shop.example/thanks?order=1&x=2",
        merchant_name="Café Blau",
        created_at_ms=CREATED_MS,
    )
    return replace(plain, **changes)


def health(state: ChainState = ChainState.CURRENT, *, tip: int | None = 100, **changes: Any):
    plain = ChainHealth(
        chain="btc",
        state=state,
        reason="http://user:secret@node:8332 refuses",
        network="main",
        tip=None if tip is None else block(tip),
        node_height=tip,
        as_of_ms=NOW_MS,
        software=None,
        push=None,
        pruned_below=None,
    )
    return replace(plain, **changes)


@dataclass(frozen=True)
class Moment:
    invoice: Invoice
    health: ChainHealth | None
    now_ms: int

    def view(self, of: Order, language: str = "en") -> View:
        return page_view(of, self.invoice, words=words(language), **self.told())

    def told(self) -> dict[str, Any]:
        """As the keyword arguments of the functions that show it."""
        return {"health": self.health, "now_ms": self.now_ms, "catalogue": CATALOGUE}


CURRENT = health()


def made(
    *inputs: Any, now_ms: int = NOW_MS, health: ChainHealth | None = CURRENT, **terms: Any
) -> Moment:
    history = History(**{"network": "main", **terms})
    history.tell_all(*inputs)
    return Moment(history.invoice, health, now_ms)


def paid(amount_base: int = HALF, name: str = "tx", **changes: Any):
    return seen(name, amount_base, at_ms=NOW_MS, **changes)


def mined(amount_base: int = HALF, name: str = "tx", *, height: int = 100, **changes: Any):
    return included(name, amount_base, into=block(height), at_ms=NOW_MS, **changes)


def gone(reason: Removal):
    return TxRemoved(txid("tx"), reason, None, NOW_MS)


TIP = TipReached(102, NOW_MS)
SETTLED = (mined(), TIP)
EXPIRED = TimeReached(EXPIRES_MS)
LATE = seen("late", HALF, at_ms=LATE_MS)
ACCEPTED = Policy(accept_late_s=3600)

MOMENTS: dict[str, Callable[[], Moment]] = {
    "waiting": made,
    "waiting_any": lambda: made(required_base=0),
    "waiting_regtest": lambda: made(network="regtest"),
    "waiting_unfollowed": lambda: made(health=None),
    "waiting_unreachable": lambda: made(health=health(ChainState.UNREACHABLE)),
    "waiting_behind": lambda: made(health=health(ChainState.CATCHING_UP, as_of_ms=0)),
    "waiting_gone_asset": lambda: made(asset="GONE"),
    "waiting_token": lambda: made(
        chain="bnb", asset="USDT_BEP20", network="56", address=EVM_ADDRESS, required_base=10**18 + 1
    ),
    "waiting_ether": lambda: made(chain="eth", asset="ETH", network="1", address=EVM_ADDRESS),
    "waiting_monero": lambda: made(
        chain="xmr", asset="XMR", network="stagenet", address="8" + "B" * 94
    ),
    "waiting_comment": lambda: made(
        chain="ton",
        asset="TON",
        network="mainnet",
        address="UQ" + "A" * 46,
        memo="100000308",
    ),
    "waiting_jetton": lambda: made(
        chain="ton", asset="USDT_TON", network="testnet", address="UQ" + "A" * 46
    ),
    "partial": lambda: made(paid(30_000_000)),
    "checking": lambda: made(now_ms=LATE_MS),
    "late_window": lambda: made(now_ms=LATE_MS, policy=ACCEPTED),
    "late_accepted": lambda: made(LATE, now_ms=LATE_MS, policy=ACCEPTED),
    "confirming_mempool": lambda: made(paid()),
    "confirming": lambda: made(mined(), TipReached(101, NOW_MS), health=health(tip=101)),
    "confirming_none": lambda: made(mined(), health=None),
    "finality": lambda: made(mined(), finality="safe"),
    "paid": lambda: made(*SETTLED),
    "overpaid": lambda: made(mined(HALF + 1), TIP),
    "tolerated": lambda: made(mined(HALF - 5), TIP, policy=Policy(tolerance_base=10)),
    "reversed": lambda: made(*SETTLED, ChainShortened(99, NOW_MS), gone(Removal.DOUBLE_SPENT)),
    "expired": lambda: made(EXPIRED, now_ms=LATE_MS),
    "expired_partial": lambda: made(paid(30_000_000), EXPIRED, now_ms=LATE_MS),
    "expired_late": lambda: made(EXPIRED, LATE, now_ms=LATE_MS),
    "cancelled": lambda: made(CancelAsked(NOW_MS)),
    "cancelled_late": lambda: made(CancelAsked(NOW_MS), LATE, now_ms=LATE_MS),
    "refused": lambda: made(
        OutputsRefused(
            (RefusedOutput(OutPoint(txid("bad"), 0), b"to", "BTC", "<script>unproved</script>"),),
            NOW_MS,
        )
    ),
    "wrong_asset": lambda: made(paid(asset="LTC")),
    "locked": lambda: made(paid(unlock_height=500)),
    "duplicate": lambda: made(
        paid(20_000_000, one_time_key=b"k"), paid(20_000_000, "other", one_time_key=b"k")
    ),
    **{f"gone_{one.value}": lambda one=one: made(paid(), gone(one)) for one in Removal},
    "replaced_well": lambda: made(paid(), seen("next", HALF, at_ms=NOW_MS, replaces=("tx",))),
}
