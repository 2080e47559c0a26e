"""What is agreed of a request and a user's default."""

from __future__ import annotations

from uuid import UUID

import pytest

from actors.core.outcomes import MetadataRefused, PolicyRefused
from actors.core.policy import EMPTY, Band, Policy
from actors.new_invoice import Agreement, NewInvoice, agree

BANDS = Policy(bands=(Band(100, 1), Band(1000, 6)), tolerance_bps=5)
NO_BANDS = Policy(tolerance_bps=5)


def wanted(amount_base: int = 100, **changes) -> NewInvoice:
    return NewInvoice(UUID(int=1), "BTC", amount_base, 60_000, **changes)


@pytest.mark.parametrize(
    ("request_", "default", "confirmations", "counts", "policy"),
    [
        (wanted(), None, None, False, None),
        (wanted(), EMPTY, None, False, None),
        (wanted(confirmations=3), None, 3, True, None),
        (wanted(), NO_BANDS, None, False, NO_BANDS),
        # The band of the amount, none below the first.
        (wanted(100), BANDS, 1, True, BANDS),
        (wanted(1000), BANDS, 6, True, BANDS),
        (wanted(99), BANDS, None, False, BANDS),
        # Nobody knows the band of an open amount yet, but confirmations are counted.
        (wanted(0), BANDS, None, True, BANDS),
        (wanted(0), NO_BANDS, None, False, NO_BANDS),
        # A number takes the place of a default's bands: GoiPay's clients always send one.
        (wanted(confirmations=0), BANDS, 0, True, NO_BANDS),
        (wanted(policy=EMPTY), BANDS, None, False, None),
        (wanted(policy=NO_BANDS), BANDS, None, False, NO_BANDS),
        (wanted(policy=NO_BANDS, confirmations=2), BANDS, 2, True, NO_BANDS),
    ],
)
def test_the_request_decides_then_the_default(request_, default, confirmations, counts, policy):
    assert agree(request_, default) == Agreement(confirmations, counts, policy, ())


def test_what_contradicts_itself_is_refused():
    assert isinstance(agree(wanted(policy=BANDS, confirmations=1)), PolicyRefused)
    assert isinstance(agree(wanted(policy=Policy(tolerance_bps=-1))), PolicyRefused)


@pytest.mark.parametrize(("letters", "fits"), [(4088, True), (4089, False)])
def test_metadata_are_measured_in_bytes_of_compact_json(letters, fits):
    agreed = agree(wanted(metadata={"k": "x" * letters}))
    assert isinstance(agreed, Agreement if fits else MetadataRefused)
    two_bytes_each = agree(wanted(metadata={"k": "ж" * (letters // 2)}))
    assert isinstance(two_bytes_each, Agreement)
    assert isinstance(agree(wanted(metadata={"k": "ж" * letters})), MetadataRefused)
