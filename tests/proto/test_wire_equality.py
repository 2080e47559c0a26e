"""Our generated messages and Google's protobuf agree byte for byte."""

import datetime as dt
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.grpc.codec import decode
from proto.goipay.crypto import v1 as crypto
from proto.goipay.invoice import v1 as invoice
from proto.goipay.user import v1 as user
from proto.standard.google.rpc import ErrorInfo
from proto.standard.grpc.reflection import v1 as reflection
from tests.helpers.google_messages import google_class

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
# The one known difference: betterproto2 leaves -0.0 out, Google's protobuf sends it.
doubles = st.floats(allow_nan=False).filter(lambda x: x != 0 or math.copysign(1, x) > 0)
instants = st.datetimes(timezones=st.just(dt.UTC)) | st.none()
uint32, uint64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)

INVOICES = st.builds(
    invoice.Invoice,
    id=texts,
    crypto_address=texts,
    coin=st.sampled_from(crypto.CoinType),
    required_amount=doubles,
    actual_amount=doubles,
    confirmations_required=uint32,
    created_at=instants,
    confirmed_at=instants,
    status=st.sampled_from(invoice.InvoiceStatusType),
    expires_at=instants,
    tx_id=texts,
    user_id=texts,
)
KEYS = [
    crypto.BtcKeysUpdateRequest,
    crypto.LtcKeysUpdateRequest,
    crypto.EthKeysUpdateRequest,
    crypto.BnbKeysUpdateRequest,
    crypto.TonKeysUpdateRequest,
]


def keys(kind):
    return st.none() | st.builds(kind, master_pub_key=texts)


MESSAGES = {
    "invoice.v1.Invoice": INVOICES,
    "invoice.v1.CreateInvoiceRequest": st.builds(
        invoice.CreateInvoiceRequest,
        user_id=texts,
        coin=st.sampled_from(crypto.CoinType),
        amount=doubles,
        timeout=uint64,
        confirmations=uint32,
    ),
    "invoice.v1.CreateInvoiceResponse": st.builds(
        invoice.CreateInvoiceResponse, payment_id=texts, address=texts
    ),
    "invoice.v1.InvoiceStatusStreamRequest": st.builds(invoice.InvoiceStatusStreamRequest),
    "invoice.v1.InvoiceStatusStreamResponse": st.builds(
        invoice.InvoiceStatusStreamResponse, invoice=INVOICES | st.none()
    ),
    "invoice.v1.GetInvoicesRequest": st.builds(
        invoice.GetInvoicesRequest, payment_ids=st.lists(texts, max_size=4)
    ),
    "invoice.v1.GetInvoicesResponse": st.builds(
        invoice.GetInvoicesResponse, invoices=st.lists(INVOICES, max_size=3)
    ),
    "user.v1.RegisterUserRequest": st.builds(user.RegisterUserRequest, user_id=st.none() | texts),
    "user.v1.RegisterUserResponse": st.builds(user.RegisterUserResponse, user_id=texts),
    "user.v1.UpdateCryptoKeysRequest": st.builds(
        user.UpdateCryptoKeysRequest,
        user_id=texts,
        xmr_req=st.none()
        | st.builds(crypto.XmrKeysUpdateRequest, priv_view_key=texts, pub_spend_key=texts),
        btc_req=keys(KEYS[0]),
        ltc_req=keys(KEYS[1]),
        eth_req=keys(KEYS[2]),
        bnb_req=keys(KEYS[3]),
        ton_req=keys(KEYS[4]),
    ),
    "user.v1.GetCryptoKeysResponse": st.builds(
        user.GetCryptoKeysResponse,
        xmr_keys=st.none() | st.builds(crypto.XmrKeys, priv_view_key=texts, pub_spend_key=texts),
    ),
    "google.rpc.ErrorInfo": st.builds(
        ErrorInfo,
        reason=texts,
        domain=texts,
        # More than one entry has no order on the wire.
        metadata=st.dictionaries(texts, texts, max_size=1),
    ),
    "grpc.reflection.v1.ServerReflectionRequest": st.builds(
        reflection.ServerReflectionRequest, host=texts, file_by_filename=texts
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
@given(data=st.data())
def test_both_write_and_read_the_same_bytes(name, data):
    ours = data.draw(MESSAGES[name])
    wire = bytes(ours)
    theirs = google_class(name).FromString(wire)
    assert theirs.SerializeToString(deterministic=True) == wire
    assert decode(wire, type(ours)) == ours


def test_the_numbers_of_the_contract():
    assert {coin.name: coin.value for coin in crypto.CoinType}.items() >= {
        ("XMR", 0), ("BTC", 1), ("LTC", 2), ("ETH", 3), ("TON", 4), ("USDT_ERC20", 5),
        ("ARB_ERC20", 17), ("BNB", 18), ("BSCUSD_BEP20", 19), ("BTCB_BEP20", 24),
        ("ETH_BEP20", 32), ("CAKE_BEP20", 41),
    }  # fmt: skip
    assert len(crypto.CoinType) == 42
    assert [status.name for status in invoice.InvoiceStatusType] == [
        "PENDING", "PENDING_MEMPOOL", "EXPIRED", "CONFIRMED",
    ]  # fmt: skip
    fields = google_class("invoice.v1.Invoice").DESCRIPTOR.fields
    assert [(field.name, field.number) for field in fields] == [
        ("id", 1), ("cryptoAddress", 2), ("coin", 3), ("requiredAmount", 4), ("actualAmount", 5),
        ("confirmationsRequired", 6), ("createdAt", 7), ("confirmedAt", 8), ("status", 9),
        ("expiresAt", 10), ("txId", 11), ("userId", 12),
    ]  # fmt: skip
    fields = google_class("user.v1.UpdateCryptoKeysRequest").DESCRIPTOR.fields
    assert [(field.name, field.number) for field in fields] == [
        ("userId", 1), ("xmrReq", 2), ("btcReq", 3), ("ltcReq", 4), ("ethReq", 5),
        ("bnbReq", 6), ("tonReq", 7),
    ]  # fmt: skip


def test_the_instant_of_nothing_travels():
    """GoiPay sends an unset confirmedAt as the first instant of year 1."""
    nothing = dt.datetime(1, 1, 1, tzinfo=dt.UTC)
    wire = bytes(invoice.Invoice(confirmed_at=nothing))
    assert google_class("invoice.v1.Invoice").FromString(wire).confirmedAt.seconds == -62135596800
