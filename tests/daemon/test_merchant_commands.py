"""`tallyd merchants`, `wallets` and `orders` as they are typed: what they ask the daemon for."""

from __future__ import annotations

import io

import pytest

from daemon.__main__ import main
from daemon.commands import merchants, orders, wallets
from daemon.commands.asking import RefusedError
from tests.actors.test_logo import png

WALLET = {
    "id": 3,
    "user_id": "u",
    "name": "Web shop",
    "chains": ["btc"],
    "assets": [{"asset": "BTC", "confirmations": None, "expires_in_s": None}],
    "created_at": "2026-11-20T00:00:00Z",
    "archived_at": None,
}
BRAND = {"name": "Shop", "colour": "#0f766e", "logo": None, "logo_type": None}


class Asked:
    """What a daemon was asked, and what it answers: by method and path, or an error."""

    def __init__(self, answers):
        self.answers = answers
        self.calls = []

    def __call__(self, _config, method, path, body=None):
        self.calls.append((method, path, body))
        found = self.answers[f"{method} {path}"]
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def asked(monkeypatch):
    def answer(**answers):
        made = Asked({name.replace("_", " ", 1): value for name, value in answers.items()})
        for module in (merchants, wallets, orders):
            monkeypatch.setattr(module, "ask", made)
        return made

    return answer


@pytest.mark.parametrize(
    ("given", "body"),
    [
        ("BTC", {"asset": "BTC"}),
        ("BTC,confirmations=0", {"asset": "BTC", "confirmations": 0}),
        ("XMR,expires=90", {"asset": "XMR", "expires_in_s": 90}),
        (
            "XMR,expires=2h,confirmations=5",
            {"asset": "XMR", "expires_in_s": 7200, "confirmations": 5},
        ),
        ("BTC,expires=1d", {"asset": "BTC", "expires_in_s": 86_400}),
    ],
)
def test_assets_are_read(asked, given, body, capsys):
    daemon = asked(**{"POST_/v1/users/u/wallets": WALLET})
    assert main(["wallets", "add", "u", "--name", "n", "--asset", given]) == 0
    assert daemon.calls == [("POST", "/v1/users/u/wallets", {"name": "n", "assets": [body]})]
    assert capsys.readouterr().out == "3\n"


@pytest.mark.parametrize(
    "given",
    ["BTC,", "BTC,confirmations", "BTC,confirmations=-1", "BTC,confirmations=²", "BTC,expires=0m",
     "BTC,expires=5w", "BTC,expires=", "BTC,x=1", "BTC confirmations=1,expires"],
)  # fmt: skip
def test_assets_that_cannot_be_read_are_not_asked_for(asked, given, capsys):
    daemon = asked()
    assert main(["wallets", "add", "u", "--name", "n", "--asset", given]) == 1
    assert "confirmations=2,expires=15m" in capsys.readouterr().err
    assert daemon.calls == []


def test_keys_come_from_the_command_a_variable_or_standard_input(asked, monkeypatch):
    daemon = asked(**{"PATCH_/v1/wallets/3": WALLET})
    monkeypatch.setenv("LTC_XPUB", "from a variable")
    monkeypatch.setattr("sys.stdin", io.StringIO("from standard input\nmore\n"))
    keys = ("btc=plain", "ltc=env:LTC_XPUB", "eth=-", "xmr=a:b=c")
    arguments = [word for key in keys for word in ("--key", key)]
    assert main(["wallets", "change", "3", *arguments, "--without-key", "ton"]) == 0
    assert daemon.calls[0][2]["keys"] == {
        "btc": "plain",
        "ltc": "from a variable",
        "eth": "from standard input",
        "xmr": "a:b=c",
        "ton": None,
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--key", "xprv-secret"), "CHAIN=KEY"),
        (("--key", "btc=xprv-secret", "--key", "btc=xprv-secret"), "twice"),
        (("--key", "btc=xprv-secret", "--without-key", "btc"), "both"),
        ((), "nothing is to be changed"),
    ],
)
def test_keys_that_cannot_be_meant_are_refused_and_not_repeated(asked, arguments, says, capsys):
    daemon = asked()
    assert main(["wallets", "change", "3", *arguments]) == 1
    told = capsys.readouterr()
    assert says in told.err
    assert "xprv-secret" not in told.err + told.out
    assert daemon.calls == []


def test_a_brand_keeps_what_is_not_named(asked, tmp_path, capsys):
    logo = tmp_path / "logo"
    logo.write_bytes(png())
    path = "/v1/users/a%2Fb/brand"
    daemon = asked(**{f"GET_{path}": BRAND, f"PUT_{path}": {**BRAND, "name": None}})
    assert main(["merchants", "brand", "a/b", "--logo", str(logo), "--without", "name"]) == 0
    ((_, _, body),) = [call for call in daemon.calls if call[0] == "PUT"]
    assert set(body) == {"colour", "logo"}
    assert body["colour"] == "#0f766e"
    assert capsys.readouterr().out.startswith("Name    none\n")
    daemon.calls.clear()
    assert main(["merchants", "brand", "a/b"]) == 0
    assert [call[0] for call in daemon.calls] == ["GET"]


def test_a_merchant_whose_name_is_refused_is_registered_all_the_same(asked, capsys):
    refused = RefusedError("name must be shorter.")
    asked(**{"POST_/v1/users": {"id": "u-1"}, "PUT_/v1/users/u-1/brand": refused})
    assert main(["merchants", "add", "--name", "x" * 200]) == 1
    told = capsys.readouterr()
    assert "name must be shorter" in told.err
    assert "tallyd merchants brand u-1 --name" in told.err
    assert told.out == ""


def test_every_page_of_merchants_is_listed(asked, capsys):
    asked(
        **{
            "GET_/v1/users?limit=500": {"items": [{"id": "a", "name": "A"}], "next": "a"},
            "GET_/v1/users?limit=500&after=a": {"items": [{"id": "b", "name": None}], "next": None},
        }
    )
    assert main(["merchants", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["a  A", "b"]


def test_foreign_words_move_no_cursor(asked, capsys):
    payment = {
        "outpoint": "aa:1",
        "amount": "0.1",
        "asset": "BTC",
        "state": "mempool",
        "confirmations": 0,
        "late": True,
    }
    order = {
        "id": "9",
        "user_id": "u",
        "wallet_id": 3,
        "merchant_order_id": "A-17",
        "attempt": 1,
        "status": "EXPIRED",
        "confirmations": 0,
        "description": "two\nlines",
        "callback_url": "",
        "merchant_name": "\x1b[2J",
        "created_at": "c",
        "page_url": "/pay/9",
        "invoice": {
            "id": "i",
            "confirmations_required": 2,
            "received": "0.1",
            "amount": "0.2",
            "asset": "BTC",
            "address": "bc1",
            "expires_at": "e",
            "payments": [payment],
        },
    }
    asked(**{"GET_/v1/orders/9": order})
    assert main(["orders", "show", "9"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "two\\nlines" in shown
    assert "aa:1  0.1 BTC  mempool, 0 confirmations, late" in shown
