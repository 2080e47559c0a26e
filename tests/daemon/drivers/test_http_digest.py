"""HTTP Digest: the RFCs' own examples, monerod's challenges, and servers that misbehave."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.drivers.http_digest import DigestSession, challenges

_RFC7616 = (
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={algorithm}, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
    'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
_RFC2617 = (
    'Digest realm="testrealm@host.com", qop="auth,auth-int",'
    ' nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
)
_MONEROD = (
    'Digest qop="auth",algorithm=MD5,realm="monero-rpc",nonce="Tm9uY2U=",stale=false',
    'Digest qop="auth",algorithm=MD5-sess,realm="monero-rpc",nonce="Tm9uY2U=",stale=false',
)


def session(
    user: str = "Mufasa", password: str = "Circle of Life", cnonce: str = "c"
) -> DigestSession:
    return DigestSession(user, password, make_cnonce=lambda: cnonce)


def fields(header: str | None) -> dict[str, str]:
    assert header is not None
    assert header.startswith("Digest ")
    return {name: value.strip('"') for name, value in re.findall(r'(\w+)=("[^"]*"|[^,]+)', header)}


def md5(*parts: str) -> str:
    return hashlib.md5(":".join(parts).encode()).hexdigest()


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_example_of_rfc_7616(algorithm: str, response: str) -> None:
    own = session(cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ")
    assert own.authorization("GET", "/dir/index.html") is None
    assert own.challenged([_RFC7616.format(algorithm=algorithm)])
    assert fields(own.authorization("GET", "/dir/index.html")) == {
        "username": "Mufasa",
        "realm": "http-auth@example.org",
        "uri": "/dir/index.html",
        "algorithm": algorithm,
        "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        "nc": "00000001",
        "cnonce": "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        "qop": "auth",
        "response": response,
        "opaque": "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS",
    }


def test_the_example_of_rfc_2617() -> None:
    own = session(password="Circle Of Life", cnonce="0a4f113b")
    assert own.challenged([_RFC2617])
    said = fields(own.authorization("GET", "/dir/index.html"))
    assert said["response"] == "6629fae49393a05397450978507c4ef1"
    assert "algorithm" not in said


def test_without_qop_as_in_rfc_2069() -> None:
    own = session("u", "p")
    assert own.challenged(['Digest realm="r", nonce="n"'])
    said = fields(own.authorization("POST", "/x"))
    assert said["response"] == md5(md5("u", "r", "p"), "n", md5("POST", "/x"))
    assert said.keys() == {"username", "realm", "nonce", "uri", "response"}


def test_the_session_kind_opens_with_the_first_cnonce() -> None:
    cnonces = iter("abc")
    own = DigestSession("u", "p", make_cnonce=lambda: next(cnonces))
    assert own.challenged([_MONEROD[1]])
    for count in ("00000001", "00000002"):
        said = fields(own.authorization("POST", "/x"))
        a1 = md5(md5("u", "monero-rpc", "p"), "Tm9uY2U=", "a")
        assert said["cnonce"] == "a"
        assert said["nc"] == count
        assert said["response"] == md5(a1, "Tm9uY2U=", count, "a", "auth", md5("POST", "/x"))


def test_the_count_rises_and_a_new_nonce_begins_it_anew() -> None:
    own = session()
    assert own.challenged(_MONEROD)
    counts = [fields(own.authorization("POST", "/x"))["nc"] for _ in range(11)]
    assert counts[0] == "00000001"
    assert counts[10] == "0000000b"
    own.accepted()
    assert own.challenged([_MONEROD[0].replace("Tm9u", "Tm9v").replace("=false", "=true")])
    said = fields(own.authorization("POST", "/x"))
    assert said["nc"] == "00000001"
    assert said["nonce"] == "Tm9vY2U="


def test_of_monerods_two_the_plain_one_is_taken_and_of_others_the_strongest() -> None:
    own = session()
    assert own.challenged(_MONEROD)
    assert fields(own.authorization("POST", "/x"))["algorithm"] == "MD5"
    own = session()
    assert own.challenged([*_MONEROD, _RFC7616.format(algorithm="SHA-256")])
    assert fields(own.authorization("POST", "/x"))["algorithm"] == "SHA-256"


def test_a_wrong_password_is_not_tried_again() -> None:
    own = session()
    assert own.challenged(_MONEROD)
    own.authorization("POST", "/x")
    assert not own.challenged(_MONEROD)


def test_a_nonce_that_served_before_is_renewed_even_if_not_called_stale() -> None:
    own = session()
    assert own.challenged(_MONEROD)
    for _ in range(3):
        own.authorization("POST", "/x")
        own.accepted()
    assert own.challenged(_MONEROD)
    own.authorization("POST", "/x")
    assert not own.challenged(_MONEROD)


def test_a_server_that_calls_every_nonce_stale_does_not_keep_us_for_ever() -> None:
    own = session()
    stale = [_MONEROD[0].replace("=false", "=true")]
    tries = 0
    while own.challenged(stale):
        own.authorization("POST", "/x")
        tries += 1
    assert tries == 2


@pytest.mark.parametrize(
    "headers",
    [
        [],
        ['Basic realm="nginx"'],
        ["Negotiate YWJj=="],
        ['Digest realm="r", qop="auth"'],
        ['Digest realm="r", nonce="n", qop="auth-int"'],
        ['Digest realm="r", nonce="n", qop="auth", algorithm=SHA-512-256'],
        ['Digest realm="r", nonce="n", algorithm=MD5-sess'],
        ['Digest realm="r\u00e9", nonce="n"'],
        ['Digest realm="r", nonce="n\r\nX-Evil: 1"'],
    ],
)
def test_what_we_can_or_will_not_answer(headers: list[str]) -> None:
    own = session()
    assert not own.challenged(headers)
    assert own.authorization("POST", "/x") is None


def test_several_challenges_in_one_header_and_quoted_quotes() -> None:
    header = r'Basic realm="a, Digest nonce=1", DIGEST Realm="say \"hi\" \\", NONCE="n", qop=auth'
    (found,) = challenges(header)
    assert found.realm == 'say "hi" \\'
    own = session('us"er\\')
    assert own.challenged([header])
    said = own.authorization("POST", "/x")
    assert said is not None
    assert r'username="us\"er\\", realm="say \"hi\" \\"' in said


@pytest.mark.parametrize("user", ["us\ner", "us\x00er", "us\u00e9r"])
def test_a_user_that_no_header_can_hold(user: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII") as caught:
        DigestSession(user, "secret")
    assert user not in str(caught.value)


@given(st.text(max_size=300) | st.text('Digest nonce="=,\\ aq', max_size=300))
def test_no_challenge_does_harm(text: str) -> None:
    own = session()
    for header in (text, f'Digest nonce="n", {text}'):
        if own.challenged([header]):
            said = own.authorization("POST", "/x")
            assert said is not None
            assert said.isascii()
            assert said.isprintable()
