"""The table of refusals: complete, and with GoiPay's exact texts."""

from __future__ import annotations

from http import HTTPStatus
from typing import get_args
from uuid import UUID

import pytest

from actors.core.outcomes import (
    AmountRefused,
    AssetDisabled,
    KeyInUse,
    KeyRefused,
    MetadataRefused,
    NoKey,
    NoSuchInvoice,
    NoSuchUser,
    NotCancellable,
    PolicyRefused,
    Refusal,
    UnknownAsset,
    UserExists,
)
from actors.ports import PersistentError, TransientError
from api.errors import KINDS, answer, failure, invalid_invoice_id, invalid_user_id

USER = UUID(int=1)
SQL = "An error occurred while executing a SQL query."
HANDLING = "An error occurred while handling invoice."

TABLE = [
    (UserExists(USER), 3, "Invalid userId (user exists).", 409),
    (NoSuchUser(USER), 3, "Invalid userId (user does not exist).", 404),
    (KeyRefused("btc", "masterPubKey", "no"), 3, "Invalid BTC master public key.", 422),
    (KeyRefused("ltc", "masterPubKey", "no"), 3, "Invalid LTC master public key.", 422),
    (KeyRefused("eth", "masterPubKey", "no"), 3, "Invalid ETH master public key.", 422),
    (KeyRefused("bnb", "masterPubKey", "no"), 3, "Invalid BNB master public key.", 422),
    (KeyRefused("xmr", "privViewKey", "no"), 3, "Invalid XMR private view key.", 422),
    (KeyRefused("xmr", "pubSpendKey", "no"), 3, "Invalid XMR public spend key.", 422),
    (KeyRefused("ton", "masterPubKey", "no"), 3, "Invalid TON public key.", 422),
    (KeyInUse("btc"), 13, SQL, 409),
    (NoKey(USER, "btc"), 13, HANDLING, 409),
    (UnknownAsset("XYZ"), 13, HANDLING, 422),
    (AssetDisabled("BTC", "no node"), 13, HANDLING, 503),
    (AmountRefused("below 0"), 3, "Invoice amount can't be below 0.", 422),
    (NoSuchInvoice(USER), 3, "", 404),
    (PolicyRefused("no"), 3, HANDLING, 422),
    (MetadataRefused("no"), 3, HANDLING, 422),
    (NotCancellable(USER, "settled"), 9, "", 409),
]


@pytest.mark.parametrize(("refusal", "code", "text", "http"), TABLE)
def test_each_refusal_has_its_codes_and_its_text(refusal, code, text, http):
    told = answer(refusal)
    assert (told.kind.grpc, told.goipay, told.kind.http) == (code, text, http)
    assert told.detail.endswith(".")


def test_no_refusal_of_the_core_is_forgotten():
    assert {type(row[0]) for row in TABLE} == set(get_args(Refusal))


def test_malformed_ids_have_goipays_texts():
    assert invalid_user_id().goipay == "Invalid userId (invalid UUID)."
    assert invalid_invoice_id().goipay == "Invalid paymentId (invalid UUID)."


def test_failures_of_the_world_say_so_and_when_to_come_again():
    soon = failure(TransientError("database.url is locked"))
    later = failure(PersistentError("the disk is read-only"))
    assert (soon.kind.grpc, soon.goipay, soon.kind.http) == (13, SQL, 503)
    assert soon.detail == "database.url is locked"
    assert soon.kind.retry_after_s == 1
    assert (later.kind.reason, later.kind.retry_after_s) == ("OPERATOR_NEEDED", 30)


def test_every_kind_is_a_real_status_with_a_title_and_advice():
    assert len({kind.slug for kind in KINDS.values()}) == len(KINDS)
    for reason, kind in KINDS.items():
        assert kind.reason == reason
        assert HTTPStatus(kind.http) >= HTTPStatus.BAD_REQUEST
        assert kind.title
        assert kind.advice.endswith(".")
        again_soon = kind.http == 503 or reason == "IDEMPOTENCY_KEY_AT_WORK"
        assert (kind.retry_after_s is not None) == again_soon
