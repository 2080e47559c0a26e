"""The wallets that one public key owns on TON: a contract's address is the hash of its first state.

Nothing has to be deployed before money is sent there; the owner deploys a wallet with the first
message that spends from it. Sources: the contracts (see `ton_code`), for v5r1's wallet id its
README, and for the state's layout StateInit in block.tlb.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from types import MappingProxyType

from pytoniq_core import Builder, Cell

from daemon.keys import ton_code

NETWORKS: Mapping[str, int] = MappingProxyType({"mainnet": -239, "testnet": -3})
"""Network → its global id, which v5r1 wallets hold."""
DEFAULT_SUBWALLET = 698983191
"""The subwallet id that every wallet app uses in workchain 0: the first 32 bits of the hash of the
main network's first state."""
MAX_NUMBER = 2**31 - 1
_MAX_CLIENT_NUMBER = 2**15 - 1
_CLIENT_CONTEXT = 1 << 31
"""v5r1's wallet id: this bit, the workchain (8 bits, 0), the version (8 bits, 0), the number."""


class Wallet(StrEnum):
    """A wallet contract."""

    V4R2 = "v4r2"
    V5R1 = "v5r1"


def wallet_address(key: bytes, wallet: Wallet, *, number: int, network: str) -> bytes:
    """Workchain 0 and account id of the key's wallet `number` (0..2**31-1); 33 bytes.

    0 is the wallet that apps show. v4r2: the subwallet id is DEFAULT_SUBWALLET + number. v5r1: the
    subwallet number up to 32767, which is all that its id has room for; above, the id is the
    number itself, as the contract lets services choose it.
    """
    if not 0 <= number <= MAX_NUMBER:
        raise ValueError(f"there is no wallet {number}: 0 to {MAX_NUMBER} are")
    assert len(key) == 32
    data = Builder()
    if wallet is Wallet.V4R2:
        data.store_uint(0, 32).store_uint(DEFAULT_SUBWALLET + number, 32)
    else:
        # Signatures are allowed, no message was sent yet.
        data.store_bit(1).store_uint(0, 32).store_uint(_v5_id(number, NETWORKS[network]), 32)
    # No plugins or extensions.
    first = data.store_bytes(key).store_bit(0).end_cell()
    state = Builder().store_bits("00110").store_ref(_code(wallet)).store_ref(first).end_cell()
    account_id: bytes = state.hash
    return b"\0" + account_id


def _v5_id(number: int, global_id: int) -> int:
    context = number if number > _MAX_CLIENT_NUMBER else _CLIENT_CONTEXT | number
    return (context ^ global_id) & 0xFFFFFFFF


@cache  # one per contract
def _code(wallet: Wallet) -> Cell:
    return Cell.one_from_boc(ton_code.V4R2 if wallet is Wallet.V4R2 else ton_code.V5R1)
