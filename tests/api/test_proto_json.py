"""Our proto3 JSON is Google's, on messages and documents drawn at random."""

from __future__ import annotations

import json
import re

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from api.proto_json import FieldError, camel_case, from_json, to_json
from proto.payscrypt import pg
from tests.helpers.google_messages import google_class

MESSAGES = (
    pg.CreateOrderRequest,
    pg.CreateOrderResponse,
    pg.GetPublicOrderByIdRequest,
    pg.GetPublicOrderByIdResponse,
    pg.Order,
    pg.PublicOrder,
    pg.Payment,
    pg.WebhookOrder,
)
_TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
_INT64 = st.integers(-(2**63), 2**63 - 1)


def google(kind):
    return google_class(f"payscrypt.pg.{kind.__name__}")


# --- out ------------------------------------------------------------------------------------------


def filled(message, draw):
    """Some of the fields of a Google message, with values of their types."""
    for field in message.DESCRIPTOR.fields:
        if not draw(st.booleans()):
            continue
        if field.message_type is not None:
            target = getattr(message, field.name)
            if field.is_repeated:
                for _ in range(draw(st.integers(0, 3))):
                    filled(target.add(), draw)
            else:
                target.SetInParent()
                filled(target, draw)
        elif field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(_TEXTS, max_size=3)))
        else:
            value = {
                field.CPPTYPE_STRING: _TEXTS,
                field.CPPTYPE_INT64: _INT64,
                field.CPPTYPE_BOOL: st.booleans(),
                # Also numbers that have no name.
                field.CPPTYPE_ENUM: st.integers(0, 7),
            }[field.cpp_type]
            setattr(message, field.name, draw(value))
    return message


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(MESSAGES), st.data())
def test_what_goes_out_is_what_google_writes(kind, data):
    theirs = filled(google(kind)(), data.draw)
    ours = kind.parse(theirs.SerializeToString())
    expected = json_format.MessageToDict(
        theirs, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    assert to_json(ours) == expected
    assert bytes(from_json(kind, json.loads(json.dumps(to_json(ours))))) == bytes(ours)


# --- in -------------------------------------------------------------------------------------------

_NUMBER_TEXTS = _INT64.map(str) | st.sampled_from(
    ["", "-", "1.5", "1e3", " 1", "0x10", "007", "-0", str(2**63), str(-(2**63) - 1), "NaN", "5x"]
)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats(-1e19, 1e19)
    | st.integers(-(2**70), 2**70).map(float)
    | _TEXTS
    | _NUMBER_TEXTS
    | st.sampled_from(["PENDING", "SUCCESSFUL", "NORMAL"]),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


def documents(kind, depth=2):
    """Documents of the kind's names in both spellings, and others, with any values."""
    fields = google(kind).DESCRIPTOR.fields
    names = [name for one in fields for name in (one.name, one.json_name)]
    entries = st.tuples(st.sampled_from([*names, "nonsense", "code"]), _VALUES)
    nested = []
    for field in fields:
        if depth and field.message_type is not None:
            inner = documents(getattr(pg, field.message_type.name), depth - 1)
            value = st.lists(inner, max_size=2) if field.is_repeated else inner
            nested.append(st.tuples(st.just(field.name), value))
    return st.lists(st.one_of(entries, *nested), max_size=6).map(dict)


def unlike(value):
    """Where Google's Python parser differs from its others: it asks Python's `int` and `float`."""
    if isinstance(value, dict):
        return any(unlike(one) for one in value.values())
    if isinstance(value, list):
        return any(unlike(one) for one in value)
    if not isinstance(value, str):
        return False
    try:
        number = float(value)
    except ValueError:
        return False
    # Of what is no plain number, and of what a float cannot hold, it makes something of its own.
    plain = re.fullmatch(r"-?[0-9]+|-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?", value)
    return plain is None or (abs(number) > 2**53 and not re.fullmatch("-?[0-9]+", value))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(MESSAGES), st.data())
def test_what_comes_in_is_what_google_reads(kind, data):
    document = data.draw(documents(kind))
    if unlike(document):
        return
    try:
        expected = json_format.ParseDict(document, google(kind)(), ignore_unknown_fields=True)
    except json_format.ParseError:
        expected = None
    try:
        found = from_json(kind, document)
    except FieldError:
        assert expected is None or laxly_read(kind, document)
    else:
        assert expected is not None
        assert google(kind).FromString(bytes(found)) == expected


def laxly_read(kind, document):
    """Whether Google's parser leaves something out, or takes nothing for a message, and we refuse.

    It leaves out enum names that it does not know and takes anything that Python makes a number of
    for one; it takes a list or a text for an empty message, and the later of two spellings.
    """
    for field in google(kind).DESCRIPTOR.fields:
        if field.name != field.json_name and {field.name, field.json_name} <= set(document):
            return True
        for name in (field.name, field.json_name):
            value = document.get(name)
            if field.enum_type is not None and not isinstance(value, int | None):
                return True
            if field.enum_type is not None and isinstance(value, bool):
                return True
            if field.message_type is None or value is None:
                continue
            nested = getattr(pg, field.message_type.name)
            for one in value if field.is_repeated and isinstance(value, list) else [value]:
                if not isinstance(one, dict) or laxly_read(nested, one):
                    return True
    return False


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"merchant_order_id": 5}, "merchant_order_id"),
        ({"merchantOrderId": ["x"]}, "merchant_order_id"),
        ({"pg_wallet_id": "1_000"}, "pg_wallet_id"),
        ({"pg_wallet_id": "+1"}, "pg_wallet_id"),
        ({"pg_wallet_id": "\uff11"}, "pg_wallet_id"),
        ({"pg_wallet_id": True}, "pg_wallet_id"),
        ({"pg_wallet_id": 1.5}, "pg_wallet_id"),
        ({"pg_wallet_id": 2**63}, "pg_wallet_id"),
        ({"pg_wallet_id": "9" * 400}, "pg_wallet_id"),
        ({"pg_wallet_id": "1e999"}, "pg_wallet_id"),
        ({"pg_wallet_id": "1e-999"}, "pg_wallet_id"),
        ({"pg_wallet_id": "1.5"}, "pg_wallet_id"),
        ({"pg_wallet_id": "9223372036854775807.5"}, "pg_wallet_id"),
        ({"pg_wallet_id": "Infinity"}, "pg_wallet_id"),
        ({"pg_wallet_id": 1, "pgWalletId": 1}, "pg_wallet_id"),
        ({"asset_name": {}}, "asset_name"),
    ],
)
def test_the_field_of_a_wrong_type_is_named(document, field):
    with pytest.raises(FieldError) as refused:
        from_json(pg.CreateOrderRequest, document)
    assert refused.value.field == field


@pytest.mark.parametrize("value", [7, "7", 7.0, "007", "7.0", "0.7e1", "700E-2"])
def test_integers_may_be_numbers_or_texts(value):
    assert from_json(pg.CreateOrderRequest, {"pgWalletId": value}).pg_wallet_id == 7


def test_names_are_those_of_protoc():
    for kind in MESSAGES:
        for field in google(kind).DESCRIPTOR.fields:
            assert camel_case(field.name) == field.json_name
