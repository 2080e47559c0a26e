"""Which account holds an owner's jettons: computed, and proved with the jetton's master contract.

Every owner has a jetton wallet of his own, whose address is the hash of its initial code and data
(TEP-74). Masters lay the data out in different ways; a layout counts when it gives the addresses
that the master itself gives (get_wallet_address) for owners of our choice. So no payment is taken
from a wallet that only looks like one of the master's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import NoReturn

import trio
from pytoniq_core.boc import Builder, Cell

from actors.core.assets import Asset
from actors.ports import Log, PersistentError, TransientError
from daemon.drivers import ton_wire as wire
from daemon.drivers.jsonrpc_words import RpcError
from daemon.drivers.ton_cells import (
    ACCOUNT_BYTES,
    CellError,
    address_bits,
    address_boc,
    read_address,
    read_cell,
    read_decimals,
)
from daemon.drivers.ton_rpc import TonRpc
from daemon.drivers.ton_wire import TonWireError

PROBES = tuple(bytes(1) + sha256(b"tallyd probe %d" % number).digest() for number in range(2))
"""Owners that a master is asked for."""
_STATE_INIT = bytes.fromhex("020134")
"""Two references; no split depth, not special, with code and data, no libraries (block.tlb)."""
CHECK_AGAIN_S = 300.0
_JETTON_DATA = 5
"""Results of get_jetton_data: supply, mintable, admin, content, wallet code."""

Layout = Callable[[bytes, bytes, Cell], Cell]
"""(owner, master, code) → a new wallet's data."""


def _tep74(owner: bytes, master: bytes, code: Cell) -> Cell:
    """The reference implementation: balance, owner, master, code."""
    builder = Builder().store_coins(0)
    return address_bits(address_bits(builder, owner), master).store_ref(code).end_cell()


def _stablecoin(owner: bytes, master: bytes, _code: Cell) -> Cell:
    """USDT and others with a status: status, balance, owner, master."""
    builder = Builder().store_uint(0, 4).store_coins(0)
    return address_bits(address_bits(builder, owner), master).end_cell()


def _bare(owner: bytes, master: bytes, _code: Cell) -> Cell:
    """Balance, owner, master."""
    return address_bits(address_bits(Builder().store_coins(0), owner), master).end_cell()


LAYOUTS: Mapping[str, Layout] = {"TEP-74": _tep74, "stablecoin": _stablecoin, "bare": _bare}


class WalletAddress:
    """Gives the jetton wallet of an owner.

    The cells are made once, by the library; of each owner only the bits of his address and two
    hashes are new: 4 µs in place of 61.
    """

    def __init__(self, layout: Layout, *, master: bytes, code: Cell) -> None:
        blank = layout(bytes(ACCOUNT_BYTES), master, code)
        # Set in one of the two and not in the other: where the owner is.
        filled = layout(b"\xff" * ACCOUNT_BYTES, master, code)
        size = len(blank.data)
        self._blank = int.from_bytes(blank.data, "big")
        mask = self._blank ^ int.from_bytes(filled.data, "big")
        self._shift = (mask & -mask).bit_length() - 1
        assert mask >> self._shift == (1 << 8 * ACCOUNT_BYTES) - 1, "the owner is in one piece"
        bits = len(blank.bits)
        self._size = size
        self._head = bytes((len(blank.refs), bits // 8 + size))
        depths = b"".join(ref.get_depth(0).to_bytes(2, "big") for ref in blank.refs)
        self._tail = depths + b"".join(ref.get_hash(0) for ref in blank.refs)
        self._init_head = (
            _STATE_INIT
            + code.get_depth(0).to_bytes(2, "big")
            + blank.get_depth(0).to_bytes(2, "big")
            + code.get_hash(0)
        )
        self._workchain = master[:1]

    def of(self, owner: bytes) -> bytes:
        """The account (33 bytes) of the owner's (33 bytes) wallet."""
        data = self._blank | int.from_bytes(owner, "big") << self._shift
        cell = self._head + data.to_bytes(self._size, "big") + self._tail
        return self._workchain + sha256(self._init_head + sha256(cell).digest()).digest()


@dataclass(frozen=True, slots=True)
class Jetton:
    """A jetton whose wallets can be told."""

    asset: str
    layout: str
    wallet: WalletAddress


class _RefusedError(Exception):
    """The asset cannot be used; the text says why."""

    def __init__(self, reason: str, *, is_wrong: bool = False) -> None:
        super().__init__(reason)
        self.is_wrong = is_wrong
        """Whether its amounts would be wrong."""


class Jettons:
    """The configured jettons, as far as their masters are what the asset file says."""

    def __init__(self, rpc: TonRpc, assets: Sequence[Asset], *, log: Log) -> None:
        self._rpc = rpc
        self._assets = [asset for asset in assets if asset.contract is not None]
        self._log = log
        self.disabled: dict[str, str] = {}
        """Asset id → why it cannot be asked for, for people."""
        self.usable: tuple[Jetton, ...] = ()
        self.is_checked = False

    async def check(self) -> None:
        """Ask the masters. Raises TransientError and PersistentError.

        A jetton with other decimals is not counted at all. One whose master does not answer as it
        should has only no new invoices, if it did before: a server that is mistaken for a moment
        must not lose a payment.
        """
        disabled, usable = {}, {}
        before = {jetton.asset: jetton for jetton in self.usable}
        for asset in self._assets:
            try:
                usable[asset.id] = await self._check(asset)
            except _RefusedError as refused:
                disabled[asset.id] = str(refused)
                if asset.id in before and not refused.is_wrong:
                    usable[asset.id] = before[asset.id]
        for asset_id, reason in disabled.items():
            if self.disabled.get(asset_id) != reason:
                self._log.error("asset disabled", asset=asset_id, reason=reason)
        for asset_id in self.disabled.keys() - disabled.keys():
            self._log.info("asset enabled again", asset=asset_id)
        self.disabled = disabled
        # The same objects as before where nothing changed: all wallets were told with them.
        found = tuple(
            before[asset_id] if _same(before.get(asset_id), jetton) else jetton
            for asset_id, jetton in usable.items()
        )
        if found != self.usable:
            self.usable = found
        self.is_checked = True

    async def run_checks(self) -> NoReturn:
        """Ask again, now and then, about what is disabled: a server may have been mistaken."""
        while True:
            await trio.sleep(CHECK_AGAIN_S)
            if self.disabled:
                with suppress(TransientError, PersistentError):
                    await self.check()

    async def _check(self, asset: Asset) -> Jetton:
        assert asset.contract is not None, "a jetton has a master"
        master = asset.contract
        where = f"the jetton master {wire.raw_address(master)} of {asset.id}"
        if len(master) != ACCOUNT_BYTES:
            raise _RefusedError(f"the contract of {asset.id} in the asset file is no TON address")
        data = await self._ask(master, "get_jetton_data", (), where)
        if len(data) < _JETTON_DATA:
            raise _RefusedError(f"{where} does not answer get_jetton_data as TEP-74 wants it")
        try:
            decimals = read_decimals(data[3][1])
            code = read_cell(data[4][1])
        except CellError as error:
            raise _RefusedError(f"{where} answers garbage to get_jetton_data: {error}") from None
        if decimals is None:
            decimals = await self._rpc.jetton_decimals(master)
        if decimals is None:
            raise _RefusedError(f"{where} does not tell its decimals")
        if decimals != asset.exponent:
            raise _RefusedError(
                f"{where} has {decimals} decimals, but the asset file says {asset.exponent}",
                is_wrong=True,
            )
        return await self._find_layout(asset.id, master, code, where)

    async def _find_layout(self, asset: str, master: bytes, code: Cell, where: str) -> Jetton:
        told = []
        for owner in PROBES:
            found = await self._ask(master, "get_wallet_address", (address_boc(owner),), where)
            try:
                told.append(read_address(found[0][1] if found else ""))
            except CellError as error:
                raise _RefusedError(
                    f"{where} answers garbage to get_wallet_address: {error}"
                ) from None
        for name, layout in LAYOUTS.items():
            wallet = WalletAddress(layout, master=master, code=code)
            if [wallet.of(owner) for owner in PROBES] == told:
                return Jetton(asset, name, wallet)
        raise _RefusedError(
            f"{where} derives its wallets' addresses in none of the ways that tallyd knows"
            f" ({', '.join(LAYOUTS)}), so payments to them could not be told"
        )

    async def _ask(
        self, master: bytes, method: str, args: tuple[str, ...], where: str
    ) -> list[tuple[str, str]]:
        try:
            exit_code, stack = await self._rpc.run(master, method, args)
        except RpcError as error:
            raise _RefusedError(f"{where} does not answer {method}: {error}") from None
        except TonWireError as error:
            raise _RefusedError(f"{where} answers garbage to {method}: {error}") from None
        if exit_code not in {0, 1}:
            raise _RefusedError(
                f"{where} does not answer {method} (exit code {exit_code}): is it a jetton of"
                f" TON's {self._rpc.network.name}?"
            )
        return stack


def _same(before: Jetton | None, now: Jetton) -> bool:
    return before is not None and all(before.wallet.of(o) == now.wallet.of(o) for o in PROBES)
