"""Nothing malformed becomes a message."""

import gzip
from dataclasses import dataclass

import betterproto2
import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from hypothesis import example, given
from hypothesis import strategies as st

from api.grpc.codec import PREFIX, Encoded, decode, inflate
from api.grpc.wire import MAX_DEPTH, MalformedError, check, read_varint
from proto.goipay.crypto.v1 import BtcKeysUpdateRequest, CoinType
from proto.goipay.invoice.v1 import CreateInvoiceRequest, Invoice, InvoiceStatusStreamResponse
from proto.goipay.user.v1 import RegisterUserRequest, UpdateCryptoKeysRequest
from proto.standard.google.rpc import ErrorInfo
from proto.standard.grpc.reflection.v1 import ExtensionNumberResponse, ServerReflectionRequest
from tests.helpers.google_messages import google_class

MALFORMED = {
    "cut off in a varint": (RegisterUserRequest, b"\x0a\x80"),
    "cut off in a text": (RegisterUserRequest, b"\x0a\x05ab"),
    "cut off in a key": (RegisterUserRequest, b"\x80"),
    "field number 0": (RegisterUserRequest, b"\x02\x01a"),
    "field number too large": (RegisterUserRequest, b"\xf8\xff\xff\xff\xff\x01\x00"),
    "varint where text is declared": (RegisterUserRequest, b"\x08\x05"),
    "text where a varint is declared": (CreateInvoiceRequest, b"\x12\x01a"),
    "fixed32 where a double is declared": (CreateInvoiceRequest, b"\x1d\x00\x00\x00\x00"),
    "cut off in a double": (CreateInvoiceRequest, b"\x19\x00\x00"),
    "a group": (RegisterUserRequest, b"\x0b\x0c"),
    "an unknown group": (RegisterUserRequest, b"\x7b\x7c"),
    "wire type 7": (RegisterUserRequest, b"\x7f"),
    "an unknown field cut off": (RegisterUserRequest, b"\x7a\x05a"),
    "a varint of eleven bytes": (CreateInvoiceRequest, b"\x20" + b"\xff" * 10 + b"\x01"),
    "a varint beyond 64 bits": (CreateInvoiceRequest, b"\x20" + b"\xff" * 9 + b"\x02"),
    "text that is not UTF-8": (RegisterUserRequest, b"\x0a\x02\xc3\x28"),
    "damage in a nested message": (UpdateCryptoKeysRequest, b"\x1a\x02\x08\x05"),
    "damage in a map entry": (ErrorInfo, b"\x1a\x02\x08\x05"),
    "damage in a Timestamp": (Invoice, b"\x3a\x02\x0a\x00"),
    "two of a oneof": (ServerReflectionRequest, b"\x1a\x01a\x22\x01b"),
    "a packed field cut off": (ExtensionNumberResponse, b"\x12\x01\x80"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_bytes_are_refused(case):
    message_type, wire = MALFORMED[case]
    with pytest.raises(MalformedError):
        check(wire, message_type)
    with pytest.raises(GRPCError) as caught:
        decode(wire, message_type)
    assert caught.value.status is Status.INVALID_ARGUMENT
    assert message_type.__name__ in caught.value.message


def test_well_formed_oddities_are_accepted():
    assert decode(b"", RegisterUserRequest).user_id is None
    assert decode(b"\x0a\x00", RegisterUserRequest).user_id == ""
    assert decode(b"\x0a\x01a\x0a\x01b", RegisterUserRequest).user_id == "b"
    assert decode(b"\x78\x05\x0a\x01a", RegisterUserRequest).user_id == "a"
    assert decode(b"\x10\xe7\x07", CreateInvoiceRequest).coin not in list(CoinType)
    assert decode(b"\x10\x05\x12\x02\x06\x07", ExtensionNumberResponse).extension_number == [
        5, 6, 7,
    ]  # fmt: skip


def test_an_instant_that_python_cannot_hold_is_refused():
    with pytest.raises(GRPCError, match="not a valid Invoice"):
        decode(b"\x3a\x0a\x08" + b"\xff" * 8 + b"\x7f", Invoice)


@dataclass(eq=False, repr=False)
class Node(betterproto2.Message):
    child: "Node | None" = betterproto2.field(1, betterproto2.TYPE_MESSAGE, optional=True)  # noqa: RUF009 - how betterproto2 declares


def nested(depth):
    body = b""
    for _ in range(depth - 1):
        length = betterproto2.encode_varint(len(body))
        body = b"\x0a" + length + body
    return body


def test_nesting_is_bounded():
    check(nested(MAX_DEPTH), Node)
    with pytest.raises(MalformedError, match="nested deeper"):
        check(nested(MAX_DEPTH + 1), Node)


@given(st.binary(max_size=60))
@example(b"\x0a\x0b\x12\x09\x0a\x07bitcoin")
def test_what_is_accepted_google_accepts_too(data):
    for message_type, name in (
        (InvoiceStatusStreamResponse, "invoice.v1.InvoiceStatusStreamResponse"),
        (UpdateCryptoKeysRequest, "user.v1.UpdateCryptoKeysRequest"),
        (CreateInvoiceRequest, "invoice.v1.CreateInvoiceRequest"),
    ):
        try:
            message = decode(data, message_type)
        except GRPCError:
            pass
        else:
            google_class(name).FromString(data)
            assert type(message) is message_type


@given(st.integers(0, 2**64 - 1))
def test_varints_read_back(value):
    data = betterproto2.encode_varint(value)
    assert read_varint(data, 0, len(data)) == (value, len(data))


def test_an_encoded_message_compresses_once_and_only_if_it_helps():
    long = Encoded.of(RegisterUserRequest(user_id="x" * 5000))
    packed = long.gzipped
    assert packed is long.gzipped
    assert len(packed) < 100
    assert packed[0] == 1
    assert inflate(packed[PREFIX.size :], limit_bytes=6000) == long.frame[PREFIX.size :]
    short = Encoded.of(BtcKeysUpdateRequest(master_pub_key="x"))
    assert short.gzipped == short.frame


def test_a_gzip_bomb_is_stopped_at_the_limit():
    bomb = gzip.compress(bytes(50_000_000))
    with pytest.raises(GRPCError, match="exceeds the limit of 1000 bytes") as caught:
        inflate(bomb, limit_bytes=1000)
    assert caught.value.status is Status.RESOURCE_EXHAUSTED
    assert len(inflate(gzip.compress(bytes(1000)), limit_bytes=1000)) == 1000


SQUEEZED = gzip.compress(b"abc", mtime=0)


@pytest.mark.parametrize("data", [b"", b"no gzip", SQUEEZED[:-4], SQUEEZED + b"x"])
def test_damaged_gzip_is_an_invalid_argument(data):
    with pytest.raises(GRPCError) as caught:
        inflate(data, limit_bytes=1000)
    assert caught.value.status is Status.INVALID_ARGUMENT
