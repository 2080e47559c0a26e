"""Every row of the contract's table of errors over the wire, and that nothing is stored by any."""

import math
import uuid

import grpc
import pytest
from bip_utils import Bip32Slip10Secp256k1

from tests.helpers.goipay_client import GoiPay, enum_number, message
from tests.helpers.shop import new_key

INVALID = grpc.StatusCode.INVALID_ARGUMENT
INTERNAL = grpc.StatusCode.INTERNAL
NOT_A_UUID = "Invalid userId (invalid UUID)."
NO_USER = "Invalid userId (user does not exist)."
BELOW = "Invoice amount can't be below 0."
FAILED = "An error occurred while handling invoice."
QUERY = "An error occurred while executing a SQL query."
VIEW = "8aa763d1c8d9da4ca75cb6ca22a021b5cca376c1367be8d62bcc9cdf4b926009"
SPEND = "38e9908d33d034de0ba1281aa7afe3907b795cea14852b3d8fe276e8931cb130"
XPRV = str(Bip32Slip10Secp256k1.FromSeed(bytes(range(32))).PrivateKey().ToExtended())
BAD_UUIDS = [
    "",
    "x",
    "{0b4f2f3e-6c1c-4f0e-9b57-3f2a7a1f9d10}",
    "0b4f2f3e6c1c-4f0e-9b57-3f2a7a1f9d10",
]


@pytest.fixture(params=["sqlite", "postgres"])
def client(request, daemons, clients):
    """The number of facts in the log is the same after the test as before."""
    opened, _ = clients[request.param]
    daemon = daemons[request.param]
    before = last_seq(daemon)
    yield opened
    assert last_seq(daemon) == before


def last_seq(daemon):
    text = daemon.http("GET", "/metrics")[2]
    return next(line for line in text.splitlines() if line.startswith("tallyd_log_events_total"))


@pytest.fixture
def user(client):
    return client.register()


def refusal(client: GoiPay, rpc: str, **fields):
    with pytest.raises(grpc.RpcError) as caught:
        client.call(rpc, **fields)
    error = caught.value
    assert "tally-reason" in dict(error.trailing_metadata())
    return error.code(), error.details()


def key(coin: str, text: str):
    return {
        f"{coin}Req": message(f"crypto.v1.{coin.capitalize()}KeysUpdateRequest")(masterPubKey=text)
    }


def monero(view: str, spend: str):
    return {
        "xmrReq": message("crypto.v1.XmrKeysUpdateRequest")(privViewKey=view, pubSpendKey=spend)
    }


def coin(name: str) -> int:
    return enum_number("crypto.v1.CoinType", name)


def test_register_user(client, user):
    for text in BAD_UUIDS:
        assert refusal(client, "RegisterUser", userId=text) == (INVALID, NOT_A_UUID)
    exists = (INVALID, "Invalid userId (user exists).")
    assert refusal(client, "RegisterUser", userId=user) == exists
    assert refusal(client, "RegisterUser", userId=user.upper()) == exists
    assert refusal(client, "RegisterUser", userId=user.replace("-", "")) == exists
    own = uuid.uuid4()
    assert client.register(own.hex.upper()) == str(own)


def test_update_crypto_keys(client, user):
    nobody = str(uuid.uuid4())
    for text in BAD_UUIDS:
        assert refusal(client, "UpdateCryptoKeys", userId=text) == (INVALID, NOT_A_UUID)
    assert refusal(client, "UpdateCryptoKeys", userId=nobody, **key("btc", "x")) == (
        INVALID,
        NO_USER,
    )
    for name in ("btc", "ltc", "eth", "bnb"):
        for text in ("", "x", XPRV, new_key()[:-1]):
            assert refusal(client, "UpdateCryptoKeys", userId=user, **key(name, text)) == (
                INVALID,
                f"Invalid {name.upper()} master public key.",
            )
    for view, spend, what in (
        ("zz", SPEND, "private view"),
        ("ff" * 32, SPEND, "private view"),
        (VIEW, SPEND[:-2], "public spend"),
        (VIEW, "02" + "00" * 31, "public spend"),
    ):
        assert refusal(client, "UpdateCryptoKeys", userId=user, **monero(view, spend)) == (
            INVALID,
            f"Invalid XMR {what} key.",
        )
    client.call("UpdateCryptoKeys", userId=user)  # without keys it succeeds


def test_keys_are_checked_in_order_and_stored_all_or_none(client, user):
    bad = {name: key(name, "x") for name in ("btc", "ltc", "eth", "bnb")}
    everything = monero("x", "x") | bad["btc"] | bad["ltc"] | bad["eth"] | bad["bnb"]
    for name in ("XMR private view", "BTC master public", "LTC master public", "ETH master public"):
        assert refusal(client, "UpdateCryptoKeys", userId=user, **everything) == (
            INVALID,
            f"Invalid {name} key.",
        )
        everything.pop(f"{name[:3].lower()}Req")
    good = key("btc", new_key())
    code, text = refusal(client, "UpdateCryptoKeys", userId=user, **good, **bad["bnb"])
    assert (code, text) == (INVALID, "Invalid BNB master public key.")
    # The good key of the refused call was not kept.
    asked = {"userId": user, "coin": coin("BTC"), "amount": 1.0, "timeout": 60}
    assert refusal(client, "CreateInvoice", **asked) == (INTERNAL, FAILED)


def test_a_key_of_another_user_is_refused(client, user):
    shared = new_key()
    client.set_keys(user, btc=shared)
    client.set_keys(user, btc=shared)  # the same again is nothing new
    other = client.register()
    answered = refusal(client, "UpdateCryptoKeys", userId=other, **key("btc", shared))
    assert answered == (INTERNAL, QUERY)


def test_create_invoice(client, user):
    nobody = str(uuid.uuid4())
    for amount in (-1.0, -1e-300, math.nan, math.inf, -math.inf):
        # The amount comes before any look at the user.
        asked = {"userId": "x", "coin": coin("BTC"), "amount": amount}
        assert refusal(client, "CreateInvoice", **asked) == (INVALID, BELOW)
    for text in BAD_UUIDS:
        assert refusal(client, "CreateInvoice", userId=text, amount=1.0) == (INVALID, NOT_A_UUID)
    assert refusal(client, "CreateInvoice", userId=nobody, amount=1.0) == (INVALID, NO_USER)
    for number in (coin("BTC"), coin("XMR"), coin("ETH"), coin("USDT_ERC20"), 41, 42, 2**31 - 1):
        asked = {"userId": user, "coin": number, "amount": 1.0, "timeout": 60}
        assert refusal(client, "CreateInvoice", **asked) == (INTERNAL, FAILED)


def test_deprecated_calls(client, user):
    assert refusal(client, "GetCryptoKeys", userId="x") == (INVALID, NOT_A_UUID)
    assert refusal(client, "GetCryptoKeys", userId=str(uuid.uuid4())) == (INVALID, NO_USER)
    assert not client.call("GetCryptoKeys", userId=user).HasField("xmrKeys")
    assert refusal(client, "GetInvoices", paymentIds=[user, "x"]) == (
        INVALID,
        "Invalid paymentId (invalid UUID).",
    )
    assert client.get(user, str(uuid.uuid4())) == []


def test_malformed_and_oversized_messages(client):
    raw = client.channel.unary_unary("/user.v1.UserService/RegisterUser")
    for body in (b"\x0a\x05abc", b"\x08\x01", b"\x0a\x01\xff", b"\x00", b"\xff" * 20):
        with pytest.raises(grpc.RpcError) as caught:
            raw(body, timeout=30)
        assert caught.value.code() is INVALID
    with pytest.raises(grpc.RpcError) as caught:
        raw(b"\x0a\xff\xff\xff\x02" + b"x" * (5 * 2**20), timeout=30)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
