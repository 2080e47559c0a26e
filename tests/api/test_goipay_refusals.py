"""Every refusal of the GoiPay contract: code, exact text, and the order of the checks."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from actors.ports import PersistentError, TransientError
from tests.helpers.faulty_store import FaultyStore
from tests.helpers.goipay_calls import XMR_SPEND, XMR_VIEW, Calls, Refused, goipay
from tests.helpers.house import BTC_KEY, EVM_KEY, LTC_KEY, TON_KEY, House, open_house

INVALID_UUID = "Invalid userId (invalid UUID)."
NO_USER = "Invalid userId (user does not exist)."
BELOW_0 = "Invoice amount can't be below 0."
HANDLING = "An error occurred while handling invoice."
SQL = "An error occurred while executing a SQL query."
STRANGER = "6f4a2b1e-0c3d-4e5f-8a9b-7c6d5e4f3a2b"
NO_UUIDS = ["", "x", STRANGER[:-1], STRANGER + "0", "{" + STRANGER + "}", "urn:uuid:" + STRANGER]

# BIP-32 test vector 1: a private key that the whole world knows.
XPRV = (
    "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtR"
    "BeJgk33yuGBxrMPHi"
)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house(make_store=FaultyStore) as running:
        yield running


@pytest.fixture
async def call(house: House) -> AsyncIterator[Calls]:
    async with goipay(house) as calls:
        yield calls


def of(answer: object) -> tuple[int, str]:
    assert isinstance(answer, Refused), f"not refused: {answer}"
    return answer.code, answer.text


async def nothing_stored(house: House) -> bool:
    return await house.store.last_seq() == 0


async def test_register_makes_a_uuid_or_takes_one_in_canonical_form(call: Calls):
    made = (await call("RegisterUser")).userId
    assert str(UUID(made)) == made
    wanted = uuid4()
    assert (await call("RegisterUser", userId=wanted.hex.upper())).userId == str(wanted)
    assert of(await call("RegisterUser", userId=str(wanted))) == (
        3,
        "Invalid userId (user exists).",
    )


@pytest.mark.parametrize("user_id", NO_UUIDS)
@pytest.mark.parametrize(
    "rpc", ["RegisterUser", "UpdateCryptoKeys", "GetCryptoKeys", "CreateInvoice"]
)
async def test_a_malformed_user_id_is_refused_everywhere(rpc: str, user_id: str, call: Calls):
    answer = await call(rpc, userId=user_id)
    assert of(answer) == (3, INVALID_UUID)
    assert answer.reason == "INVALID_USER_ID"


@pytest.mark.parametrize("rpc", ["UpdateCryptoKeys", "GetCryptoKeys", "CreateInvoice"])
async def test_an_unknown_user_is_refused(rpc: str, call: Calls):
    answer = await call(rpc, userId=STRANGER)
    assert of(answer) == (3, NO_USER)
    assert (answer.reason, STRANGER in answer.detail) == ("NO_SUCH_USER", True)


BAD = {"masterPubKey": "bad"}
BAD_XMR = {"privViewKey": "bad", "pubSpendKey": "bad"}
BAD_SPEND = {"privViewKey": XMR_VIEW, "pubSpendKey": "02" + "00" * 31}
KEYS = [
    ({"xmrReq": BAD_XMR, "btcReq": BAD, "ltcReq": BAD, "ethReq": BAD, "bnbReq": BAD},
     "Invalid XMR private view key."),
    ({"xmrReq": BAD_SPEND, "btcReq": BAD, "ltcReq": BAD, "ethReq": BAD, "bnbReq": BAD},
     "Invalid XMR public spend key."),
    ({"btcReq": BAD, "ltcReq": BAD, "ethReq": BAD, "bnbReq": BAD},
     "Invalid BTC master public key."),
    ({"ltcReq": BAD, "ethReq": BAD, "bnbReq": BAD}, "Invalid LTC master public key."),
    ({"ethReq": BAD, "bnbReq": BAD}, "Invalid ETH master public key."),
    ({"bnbReq": BAD}, "Invalid BNB master public key."),
    ({"tonReq": BAD}, "Invalid TON public key."),
    ({"btcReq": {"masterPubKey": BTC_KEY}, "bnbReq": {}}, "Invalid BNB master public key."),
    ({"btcReq": {}}, "Invalid BTC master public key."),
    ({"btcReq": {"masterPubKey": XPRV}}, "Invalid BTC master public key."),
    ({"ltcReq": {"masterPubKey": XPRV}}, "Invalid LTC master public key."),
    ({"ethReq": {"masterPubKey": XPRV}}, "Invalid ETH master public key."),
    ({"xmrReq": {"privViewKey": "ff" * 32, "pubSpendKey": XMR_SPEND}},
     "Invalid XMR private view key."),
    ({"tonReq": {"masterPubKey": "0" * 63 + "g"}}, "Invalid TON public key."),
    ({"tonReq": {"masterPubKey": TON_KEY * 2}}, "Invalid TON public key."),
    ({"btcReq": {"masterPubKey": BTC_KEY}, "tonReq": {}}, "Invalid TON public key."),
    ({"bnbReq": BAD, "tonReq": BAD}, "Invalid BNB master public key."),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "text"), KEYS)
async def test_keys_are_checked_in_order_and_none_is_stored(
    keys: dict[str, object], text: str, call: Calls, house: House
):
    user_id = await house.invoicing.register_user()
    answer = await call("UpdateCryptoKeys", userId=str(user_id), **keys)
    assert of(answer) == (3, text)
    assert answer.reason == "KEY_REFUSED"
    for chain in ("xmr", "btc", "ltc", "eth", "bnb", "ton"):
        assert await house.store.account(user_id, chain) is None


async def test_no_private_key_is_repeated_in_answer_or_log(call: Calls, house: House):
    user_id = str(await house.invoicing.register_user())
    answers = [
        await call("UpdateCryptoKeys", userId=user_id, btcReq={"masterPubKey": XPRV}),
        await call("UpdateCryptoKeys", userId=user_id, xmrReq={"privViewKey": "ff" * 32}),
        await call("UpdateCryptoKeys", userId=user_id,
                   xmrReq={"privViewKey": XMR_VIEW, "pubSpendKey": XMR_SPEND}),
    ]  # fmt: skip
    said = f"{answers} {house.log.lines} {call.running.log.entries}"
    for secret in (XPRV[8:40], "ff" * 16, XMR_VIEW[:16]):
        assert secret not in said


async def test_good_keys_of_every_coin_are_taken_as_often_as_they_come(call: Calls, house: House):
    user_id = await house.invoicing.register_user()
    keys = {
        "xmrReq": {"privViewKey": XMR_VIEW, "pubSpendKey": XMR_SPEND},
        "btcReq": {"masterPubKey": BTC_KEY},
        "ltcReq": {"masterPubKey": LTC_KEY},
        "ethReq": {"masterPubKey": EVM_KEY},
        "bnbReq": {"masterPubKey": EVM_KEY},
        "tonReq": {"masterPubKey": TON_KEY.upper()},
    }
    for _ in range(2):
        answer = await call("UpdateCryptoKeys", userId=str(user_id), **keys)
        assert not isinstance(answer, Refused), answer
    for chain in ("xmr", "btc", "ltc", "eth", "bnb", "ton"):
        assert await house.store.account(user_id, chain) is not None
    account = await house.store.account(user_id, "ton")
    assert (account.key, account.secret) == (TON_KEY, None)


async def test_view_keys_are_stored_sealed_and_returned_only_where_that_is_allowed(house: House):
    user_id = await house.user(xmr=f"{XMR_VIEW}:{XMR_SPEND}")
    stranger = str(await house.invoicing.register_user())
    account = await house.store.account(user_id, "xmr")
    assert account is not None
    assert account.secret is not None
    for stored in (account.secret, account.key.encode()):
        assert bytes.fromhex(XMR_VIEW) not in stored
        assert XMR_VIEW.encode() not in stored
    async with goipay(house) as call:
        assert not (await call("GetCryptoKeys", userId=str(user_id))).HasField("xmrKeys")
    async with goipay(house, reveals=True) as call:
        keys = (await call("GetCryptoKeys", userId=str(user_id))).xmrKeys
        assert (keys.privViewKey, keys.pubSpendKey) == (XMR_VIEW, XMR_SPEND)
        assert not (await call("GetCryptoKeys", userId=stranger)).HasField("xmrKeys")
        assert of(await call("GetCryptoKeys", userId=STRANGER)) == (3, NO_USER)
        said = f"{house.log.lines} {call.running.log.entries}"
    assert XMR_VIEW[:16] not in said


async def test_what_a_vault_that_does_not_open_answers(house: House):
    user_id = await house.user(xmr=f"{XMR_VIEW}:{XMR_SPEND}")
    account = await house.store.account(user_id, "xmr")
    assert account is not None
    assert house.keyring.vault.check([replace(account, chain="other")]) is not None
    async with goipay(house, reveals=True) as call:
        for rpc in ("GetCryptoKeys", "UpdateCryptoKeys"):
            keys = {"privViewKey": XMR_VIEW, "pubSpendKey": XMR_SPEND}
            more = {"xmrReq": keys, "btcReq": {"masterPubKey": BTC_KEY}} if "Update" in rpc else {}
            answer = await call(rpc, userId=str(user_id), **more)
            assert of(answer) == (13, SQL)
            assert answer.reason == "OPERATOR_NEEDED"
            assert "vault.key" in str(answer.detail)
    assert await house.store.account(user_id, "btc") is None


async def test_the_same_monero_keys_of_another_user_are_refused(call: Calls, house: House):
    await house.user(xmr=f"{XMR_VIEW}:{XMR_SPEND}")
    other = str(await house.invoicing.register_user())
    keys = {"privViewKey": XMR_VIEW.upper(), "pubSpendKey": XMR_SPEND}
    answer = await call("UpdateCryptoKeys", userId=other, xmrReq=keys)
    assert (of(answer), answer.reason) == ((13, SQL), "KEY_IN_USE")


async def test_an_update_without_keys_succeeds(call: Calls, house: House):
    user_id = str(await house.invoicing.register_user())
    assert not isinstance(await call("UpdateCryptoKeys", userId=user_id), Refused)


async def test_a_key_of_another_user_is_refused(call: Calls, house: House):
    await house.user()
    other = str(await house.invoicing.register_user())
    answer = await call("UpdateCryptoKeys", userId=other, btcReq={"masterPubKey": BTC_KEY})
    assert (of(answer), answer.reason) == ((13, SQL), "KEY_IN_USE")


@pytest.mark.parametrize("amount", [-1.0, -5e-324, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("user_id", ["x", STRANGER])
async def test_an_impossible_amount_comes_before_the_user(
    amount: float, user_id: str, call: Calls, house: House
):
    answer = await call("CreateInvoice", userId=user_id, coin=1, amount=amount)
    assert (of(answer), answer.reason) == ((3, BELOW_0), "AMOUNT_REFUSED")
    assert await nothing_stored(house)


@pytest.mark.parametrize(
    ("coin", "reason"),
    [(99, "UNKNOWN_ASSET"), (0, "ASSET_DISABLED"), (4, "ASSET_DISABLED"), (5, "UNKNOWN_ASSET"),
     (3, "ASSET_DISABLED"), (2, "NO_KEY"), (2**31 - 1, "UNKNOWN_ASSET"), (-1, "UNKNOWN_ASSET")],
)  # fmt: skip
async def test_a_coin_that_cannot_be_used_is_refused_with_the_reason_beside(
    coin: int, reason: str, call: Calls, house: House
):
    user_id = await house.user(btc=BTC_KEY)
    unknown = await call("CreateInvoice", userId=STRANGER, coin=coin, amount=1)
    assert of(unknown) == (3, NO_USER)
    answer = await call("CreateInvoice", userId=str(user_id), coin=coin, amount=1)
    assert (of(answer), answer.reason) == ((13, HANDLING), reason)
    assert answer.detail
    assert await nothing_stored(house)


async def test_absurd_numbers_are_accepted_without_overflow(call: Calls, house: House):
    user_id = str(await house.user())
    answer = await call(
        "CreateInvoice",
        userId=user_id,
        coin=1,
        amount=1.7976931348623157e308,
        timeout=2**64 - 1,
        confirmations=2**32 - 1,
    )
    (read,) = (await call("GetInvoices", paymentIds=[answer.paymentId])).invoices
    assert read.expiresAt.ToJsonString() == "9999-12-31T23:59:59.999Z"
    assert read.confirmationsRequired == 2**32 - 1
    assert read.requiredAmount == 1.7976931348623157e308


@pytest.mark.parametrize("wanted_s", [0, 1, 9, 10])
async def test_a_short_timeout_is_raised_to_ten_seconds(wanted_s: int, call: Calls, house: House):
    answer = await call(
        "CreateInvoice", userId=str(await house.user()), coin=1, amount=1, timeout=wanted_s
    )
    (read,) = (await call("GetInvoices", paymentIds=[answer.paymentId])).invoices
    assert read.expiresAt.ToMilliseconds() - read.createdAt.ToMilliseconds() == 10_000


@pytest.mark.parametrize(("amount", "required"), [(0.0, 0.0), (-0.0, 0.0), (1e-9, 1e-8)])
async def test_zero_is_any_amount_and_dust_is_rounded_up(
    amount: float, required: float, call: Calls, house: House
):
    answer = await call(
        "CreateInvoice", userId=str(await house.user()), coin=1, amount=amount, timeout=60
    )
    (read,) = (await call("GetInvoices", paymentIds=[answer.paymentId])).invoices
    assert math.copysign(1, read.requiredAmount) == 1
    assert read.requiredAmount == required


async def test_addresses_are_the_contracts_and_never_come_twice(call: Calls, house: House):
    user_id = str(await house.user())
    given = [
        (await call("CreateInvoice", userId=user_id, coin=1, amount=1)).address for _ in range(3)
    ]
    assert given[0] == "bcrt1qqdcfs9s5gjsnmazcsqfe2h6gwzwdu2eutsfms7"
    assert len(set(given)) == 3


async def test_get_invoices_answers_in_order_and_leaves_unknown_ids_out(call: Calls, house: House):
    user_id = str(await house.user())
    first, second = [
        (await call("CreateInvoice", userId=user_id, coin=coin, amount=1)).paymentId
        for coin in (1, 2)
    ]
    wanted = [second, STRANGER, first.upper(), first.replace("-", "")]
    read = (await call("GetInvoices", paymentIds=wanted)).invoices
    assert [one.id for one in read] == [second, first, first]
    assert list((await call("GetInvoices")).invoices) == []
    answer = await call("GetInvoices", paymentIds=[first, "x"])
    assert of(answer) == (3, "Invalid paymentId (invalid UUID).")
    many = await call("GetInvoices", paymentIds=[first] * 10_001)
    assert many.code == 3


@pytest.mark.parametrize("error", [TransientError("locked"), PersistentError("read-only")])
@pytest.mark.parametrize(
    ("rpc", "method"),
    [("RegisterUser", "add_user"), ("UpdateCryptoKeys", "has_user"), ("GetCryptoKeys", "has_user"),
     ("CreateInvoice", "has_user"), ("GetInvoices", "invoice")],
)  # fmt: skip
async def test_a_store_that_fails_is_an_sql_error_with_its_reason(
    rpc: str, method: str, error: Exception, call: Calls, house: House,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    async def fail(*args: object, **more: object) -> None:
        raise error

    monkeypatch.setattr(house.store, method, fail)
    fields = {"paymentIds": [STRANGER]} if rpc == "GetInvoices" else {"userId": STRANGER}
    answer = await call(rpc, **fields)
    persistent_text = HANDLING if rpc == "CreateInvoice" else SQL
    transient = isinstance(error, TransientError)
    assert of(answer) == (13, SQL if transient else persistent_text)
    assert answer.reason == ("STORE_UNAVAILABLE" if transient else "OPERATOR_NEEDED")
    assert answer.detail == str(error)


async def test_an_invoice_that_could_not_be_stored_is_not_there(call: Calls, house: House):
    user_id = str(await house.user())
    assert isinstance(house.store, FaultyStore)
    house.store.fail("append", TransientError("the disk is full"))
    answer = await call("CreateInvoice", userId=user_id, coin=1, amount=1)
    assert (of(answer), answer.reason) == ((13, SQL), "STORE_UNAVAILABLE")
    assert await nothing_stored(house)
    again = await call("CreateInvoice", userId=user_id, coin=1, amount=1)
    assert not isinstance(again, Refused)
