"""Reading transactions back from a TON test peer."""

import base64
from typing import Any

from pytoniq_core import Address, Cell, begin_cell

from tests.helpers.ton import TonAddress, TonPeer
from tests.helpers.ton_shapes import v3_faults

BY_BLOCK = "/api/v3/transactionsByMasterchainBlock"


def mined(peer: TonPeer, account: TonAddress, *, at: int | None = None) -> list[dict[str, Any]]:
    """Mine unless told where, and return that block's transactions of one account, in order."""
    seqno = peer.mine()[0].seqno if at is None else at
    told = peer.get(BY_BLOCK, seqno=seqno, limit=1000, sort="asc")
    assert not list(v3_faults(told, "Transactions"))
    return [one for one in told["transactions"] if one["account"] == account.address]


def body_of(transaction: dict[str, Any]) -> Cell:
    return Cell.one_from_boc(base64.b64decode(transaction["in_msg"]["message_content"]["body"]))


def address_boc(address: TonAddress) -> str:
    """Return a cell with nothing but an address, as get methods take it: base64."""
    cell = begin_cell().store_address(Address(address.address)).end_cell()
    return base64.b64encode(cell.to_boc()).decode()
