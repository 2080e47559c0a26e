"""A TON test peer: toncenter's API in front of a real TVM (tests/nodes/ton), for tests and demo.

Everything blocks: asynchronous code calls it through ``trio.to_thread.run_sync``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.helpers.process import wait_until
from tests.helpers.ton_server import TonPeerError, TonServer

COIN_BASE = 10**9  # nanotons
FUNDS_BASE = 10**6 * COIN_BASE
"""What the paying wallet has at the start."""

WalletVersion = Literal["v4r2", "v5r1"]
JettonKind = Literal["standard", "stablecoin", "odd"]
Place = Literal["inline", "ref", "none"]

__all__ = ["TonAddress", "TonBlock", "TonPeer", "TonPeerError", "TonWallet", "wait_for_seqno"]


@dataclass(frozen=True)
class TonAddress:
    """One account: raw with capital letters as toncenter v3 writes it, and both friendly forms."""

    address: str
    bounceable: str
    non_bounceable: str

    @property
    def account(self) -> bytes:
        """Workchain (1 byte, signed) and account id (32 bytes)."""
        workchain, _, hexed = self.address.partition(":")
        return int(workchain).to_bytes(1, "big", signed=True) + bytes.fromhex(hexed)


@dataclass(frozen=True)
class TonWallet(TonAddress):
    """A wallet that the peer has the key of."""

    public_key: str
    """In hex."""


@dataclass(frozen=True)
class TonBlock:
    """A masterchain block; the hash in hex, as the driver has it after decoding."""

    seqno: int
    root_hash: str
    tx_count: int


class TonPeer(TonServer):
    """One peer; use as a context manager, or start() and close().

    It makes blocks on mine() only, unless auto_mine() says otherwise: what is paid waits in the
    mempool. ``options`` are those of server.js: ``v3``, ``v2``, ``ws``, ``pending`` (offered or
    not), ``v2_style`` (cpp, python), ``api_key``, ``rate_per_s``, ``lag_v3``, ``lag_v2``,
    ``repeat``, ``empty_unknown``, ``ws_addresses``; change them later with set(). The chain, keys
    and jettons are on disk after stop(), the mempool is not; the port stays over restart().
    """

    def __init__(
        self,
        *,
        network: Literal["mainnet", "testnet"] = "mainnet",
        first: int = 1,
        datadir: Path | None = None,
        **options: Any,
    ) -> None:
        super().__init__(network=network, first=first, datadir=datadir, **options)
        self._payer: TonWallet | None = None

    # --- blocks ---

    def height(self) -> int:
        return int(self.command("state")["seqno"])

    def tip(self) -> str:
        """Return the root hash of the last masterchain block, in hex."""
        return str(self.command("state")["root_hash"])

    def mempool(self) -> list[str]:
        """Return the normalised hashes of the external messages that wait."""
        return list(self.command("state")["mempool"])

    def mine(self, count: int = 1, *, now: int | None = None) -> list[TonBlock]:
        """Make masterchain blocks, the mempool into the first; no message may be refused."""
        told = self.command("mine", count=count, **({} if now is None else {"now": now}))
        assert not told["rejected"], told["rejected"]
        return [TonBlock(**block) for block in told["blocks"]]

    def auto_mine(self, interval_s: float | None, *, flood: int = 0) -> None:
        """Make a block every so often, with ``flood`` transactions of strangers; None ends it."""
        interval_ms = None if interval_s is None else round(interval_s * 1000)
        self.command("auto", interval_ms=interval_ms, flood=flood)

    def transactions(self, seqno: int) -> list[dict[str, Any]]:
        """Return a block's transactions in toncenter's order: hash, account, lt, ext_hash."""
        return list(self.command("block", seqno=seqno)["transactions"])

    # --- wallets and payments ---

    @property
    def payer(self) -> TonWallet:
        """The wallet that pays when nothing else is said."""
        if self._payer is None:
            self._payer = self.wallet("payer", balance_base=0)
            if self.balance(self._payer) == 0:  # not after a restart
                self.wallet("payer", balance_base=FUNDS_BASE)
        return self._payer

    def wallet(
        self,
        name: str,
        *,
        version: WalletVersion = "v4r2",
        subwallet: int | None = None,
        seed: bytes | None = None,
        balance_base: int = 0,
        deploy: bool = False,
    ) -> TonWallet:
        """Return a wallet by its key (of the name, or of ``seed``), with added funds from nowhere.

        It is deployed by its first payment, or with ``deploy`` in the next block.
        """
        more: dict[str, Any] = {} if subwallet is None else {"subwallet": subwallet}
        if seed is not None:
            more["seed"] = seed.hex()
        balance = str(balance_base)
        told = self.command(
            "wallet", name=name, version=version, balance_base=balance, deploy=deploy, **more
        )
        return TonWallet(**told)

    def derived(
        self,
        public_key: bytes,
        *,
        version: WalletVersion = "v4r2",
        subwallet: int | None = None,
        network: str | None = None,
    ) -> TonAddress:
        """Return the wallet address that ``@ton/ton`` derives: by v4r2's id, v5r1's number."""
        more: dict[str, Any] = {} if subwallet is None else {"subwallet": subwallet}
        told = self.command(
            "address", public_key=public_key.hex(), version=version, network=network, **more
        )
        return TonAddress(**told)

    def balance(self, address: TonAddress | str) -> int:
        return int(self.command("balance", address=_text(address))["balance_base"])

    def pay(
        self,
        to: TonAddress | str,
        amount_base: int,
        *,
        comment: str | None = None,
        bounce: bool = False,
        body: Mapping[str, Any] | None = None,
        sender: TonWallet | None = None,
    ) -> str:
        """Send TON; returns the external message's normalised hash, which is in the mempool.

        ``body`` instead of a comment, as of makeBody in cells.js: ``{"bare": text}`` without the
        prefix, ``{"encrypted": hex}``, ``{"boc": base64}``, ``{"op": "transfer_notification", …}``.
        """
        content = body or ({} if comment is None else {"comment": comment})
        return self.pay_many(
            [{"to": _text(to), "amount_base": str(amount_base), "bounce": bounce, "body": content}],
            sender=sender,
        )

    def pay_many(
        self, messages: Sequence[Mapping[str, Any]], *, sender: TonWallet | None = None
    ) -> str:
        """Send up to four payments in one external message, 255 with v5r1; returns its hash."""
        source = (sender or self.payer).address
        return str(self.command("pay", **{"from": source}, messages=list(messages))["ext_hash"])

    def drop(self, ext_hash: str) -> None:
        """Have the mempool forget a message, as when it expires."""
        assert self.command("drop", ext_hash=ext_hash)["dropped"], "it is not in the mempool"

    def flood(self, count: int = 0, items: Sequence[Mapping[str, Any]] = ()) -> None:
        """Put transactions into the next block that no TVM ran, for load and for oddities.

        ``count`` of strangers, then ``items``: ``to``, ``from``, ``amount_base`` (text), ``body``,
        ``bounce``, ``bounced``, ``aborted``, ``bounce_phase``; ``patch`` is merged into what v3
        shows of it, ``patch_v2`` into what v2 shows.
        """
        self.command("flood", count=count, items=list(items))

    # --- jettons ---

    def create_jetton(
        self,
        kind: JettonKind = "standard",
        *,
        decimals: int = 6,
        symbol: str = "USDT",
        salt: int = 0,
        admin: TonWallet | None = None,
    ) -> TonAddress:
        """Return a new master. Another ``salt``: the same in every respect but its address.

        ``stablecoin`` has the layout of USDT and its wallet code in a library; the published
        contract says 9 decimals on chain whatever ``decimals`` is.
        ``odd`` derives wallet addresses as no other does, and mints nothing.
        """
        owner = (admin or self.payer).address
        told = self.command(
            "jetton", kind=kind, decimals=decimals, symbol=symbol, name=symbol, salt=salt,
            admin=owner,
        )  # fmt: skip
        told.pop("kind")
        return TonAddress(**told)

    def mint(self, jetton: TonAddress, to: TonAddress | str, amount_base: int) -> str:
        """Have the master mint; returns the external message's hash, in the mempool."""
        told = self.command(
            "mint", minter=jetton.address, to=_text(to), amount_base=str(amount_base)
        )
        return str(told["ext_hash"])

    def jetton_wallet(self, jetton: TonAddress, owner: TonAddress | str) -> TonAddress:
        """Return the jetton wallet that the master derives, whether it exists or not."""
        told = self.command("jetton_wallet", minter=jetton.address, owner=_text(owner))
        return TonAddress(**told)

    def pay_jetton(
        self,
        jetton: TonAddress,
        to: TonAddress | str,
        amount_base: int,
        *,
        comment: str | None = None,
        place: Place = "inline",
        payload: Mapping[str, Any] | None = None,
        forward_base: int = 1,
        sender: TonWallet | None = None,
    ) -> str:
        """Send jettons as a wallet application does; returns the external message's hash.

        The comment is in the forward payload, inline or in a reference; ``payload`` instead, as
        of storeForwardPayload in cells.js. ``forward_base`` 0: the owner gets no notification.
        """
        content = payload or ({} if comment is None else {"comment": comment})
        told = self.command(
            "jetton_transfer",
            **{"from": (sender or self.payer).address},
            minter=jetton.address,
            to=_text(to),
            amount_base=str(amount_base),
            forward_base=str(forward_base),
            payload={"place": place, **content},
        )
        return str(told["ext_hash"])

    def jetton_balance(self, jetton: TonAddress, owner: TonAddress | str) -> int:
        told = self.command("jetton_balance", minter=jetton.address, owner=_text(owner))
        return int(told["balance_base"])


def wait_for_seqno(peer: TonPeer, seqno: int) -> None:
    """Wait for a peer that makes blocks by itself."""
    wait_until(lambda: peer.height() >= seqno, f"masterchain block {seqno} is there")


def _text(address: TonAddress | str) -> str:
    return address if isinstance(address, str) else address.address
