"""The command line of `tallyd audit`: what can be asked, how it is answered, and no secrets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.core.chain_view import ChainView
from actors.ports import ChainCursor, PersistentError
from daemon.__main__ import main
from daemon.audit import coin_audit
from daemon.commands import audit_chain
from daemon.commands.audit_chain import PAGE, Refused, Wanted, with_node
from daemon.config import Flags, load_config
from daemon.store import open_store
from tests.helpers.fake_chain import FakeChain
from tests.helpers.invoices import CREATED_MS
from tests.helpers.ledger import grow
from tests.helpers.virtual_clock import VirtualClock

NODE = "http://audit:hush@127.0.0.1:1"
USER = "00000000-0000-0000-0000-000000000002"
AMOUNT = 50_000_000


def chain(name: str = "btc") -> FakeChain:
    """Every time the same one: block 31 pays invoice 1."""
    made = FakeChain(name, clock=VirtualClock(), height=30)
    made.pay((1).to_bytes(22, "big"), AMOUNT)
    made.mine(count=3)
    return made


async def fill(url: str, count: int) -> None:
    async with open_store(url, on_commit=lambda _facts: None) as store:
        for number in range(1, count + 1):
            await grow(store, number)
        await grow(store, count + 1, chain="ltc", asset="LTC")
        blocks = tuple(block for block, _ in chain().blocks)
        await store.save_cursor(
            ChainCursor("btc", "regtest", blocks[0].hash, ChainView(blocks[-10:]), CREATED_MS)
        )


@pytest.fixture(autouse=True)
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with two invoices in bitcoin and one in litecoin, and a node for the former."""
    found = f"sqlite:///{tmp_path / 'tally.db'}"
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("TALLY_DATABASE_URL", found)
    monkeypatch.setenv("BTC_DAEMON_URL", NODE)
    monkeypatch.setattr(audit_chain, "open_source", lambda coin, *_, **__: chain(coin.coin))
    monkeypatch.setattr(coin_audit, "PAUSE_S", 0)
    trio.run(fill, found, 2)
    return found


def audit(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = main(["audit", *arguments])
    told = capsys.readouterr()
    assert "hush" not in told.out + told.err
    return status, told.out + told.err


def findings(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    status = main(["audit", "--json", *arguments])
    return status, json.loads(capsys.readouterr().out)


def test_differences_are_a_table_and_a_document(capsys):
    status, told = audit(capsys, "--coin", "btc")
    assert status == 1
    head, first, second, empty, summary, advice = told.splitlines()
    assert head.split()[:3] == ["INVOICE", "COIN", "DIFFERS"]
    assert first.split()[1:4] == ["btc", "unrecorded", "nothing"]
    assert "0.5 BTC in block 31 " in first
    assert second.split()[1:4] == ["btc", "state", "pending"]
    assert empty == ""
    assert summary == (
        "btc: 2 differences: 2 invoices, 1 payments in blocks 0 to 33 of http://127.0.0.1:1"
    )
    assert "tallyd audit --log" in advice
    status, document = findings(capsys, "--coin", "BTC")
    assert (status, document["clean"], document["differences"]) == (1, False, 2)
    (coin,) = document["coins"]
    assert (coin["invoices"], coin["payments"], coin["error"]) == (2, 1, None)
    assert (coin["from_height"], coin["to_height"], coin["trusted"]) == (0, 33, {})
    first = document["findings"][0]
    assert (first["kind"], first["coin"], first["log"]) == ("unrecorded", "btc", "nothing")
    assert len(first["txid"]) == 64
    assert first["address"].startswith("bcrt1q")


def test_only_what_was_asked_for_is_looked_at(capsys):
    assert audit(capsys, "--coin", "btc", "--user", USER)[0] == 1
    other = "00000000-0000-4000-8000-000000000000"
    assert audit(capsys, "--coin", "btc", "--user", other) == (0, "btc: no invoices\n")
    assert audit(capsys, "--coin", "btc", "--until", "2023-11-14") == (0, "btc: no invoices\n")
    assert audit(capsys, "--coin", "btc", "--since", "2023-11-15T00:00:00Z")[0] == 0
    assert audit(capsys, "--coin", "btc", "--since", "2023-11-14", "--until", "2023-11-15")[0] == 1


def test_invoices_of_coins_without_a_node_are_not_passed_over_in_silence(capsys):
    status, told = audit(capsys, "--since", "2023-11-14")
    assert status == 1
    assert "ltc: 1 invoices were not looked at: set coin.ltc.daemon.url" in told
    status, document = findings(capsys, "--until", "2023-11-14")
    assert (status, document["clean"], document["not_set_up"]) == (0, True, {})


def test_what_could_not_be_looked_at_is_no_difference_and_not_clean(capsys, monkeypatch):
    broken = PersistentError("coin.btc.daemon.url: HTTP 401")

    def refusing(*_, **__):
        made = chain()
        made.fail_with = broken
        return made

    monkeypatch.setattr(audit_chain, "open_source", refusing)
    status, told = audit(capsys, "--coin", "btc")
    assert (status, told) == (2, "btc: could not look: coin.btc.daemon.url: HTTP 401\n")
    status, document = findings(capsys, "--coin", "btc")
    assert (status, document["clean"]) == (2, None)
    assert document["coins"][0]["error"] == str(broken)
    monkeypatch.setenv("TALLY_DATABASE_URL", "sqlite:////nowhere/tally.db")
    status, told = audit(capsys, "--coin", "btc")
    assert (status, "database.url" in told) == (2, True)
    status, document = findings(capsys)
    assert (status, document["clean"], "database.url" in document["error"]) == (2, None, True)


def test_many_differences_are_counted_and_not_all_listed(capsys, monkeypatch):
    monkeypatch.setattr(coin_audit, "MAX_FINDINGS", 1)
    status, told = audit(capsys, "--coin", "btc")
    assert status == 1
    assert "… and 1 more differences" in told
    assert findings(capsys)[1]["differences"] == 2


def test_more_invoices_than_fit_into_a_page(capsys, url, monkeypatch):
    assert PAGE > 1
    monkeypatch.setattr(audit_chain, "PAGE", 1)
    assert findings(capsys)[1]["coins"][0]["invoices"] == 2
    assert findings(capsys, "--until", "2023-11-14")[1]["coins"][0]["invoices"] == 0


def test_what_cannot_be_asked(capsys, monkeypatch):
    status, told = audit(capsys, "--coin", "doge")
    assert (status, "set coin.doge.daemon.url, or name one of btc" in told) == (2, True)
    monkeypatch.setenv("LTC_DAEMON_URL", NODE)
    status, told = audit(capsys, "--node", NODE)
    assert (status, "say which with --coin" in told) == (2, True)
    status, told = audit(capsys, "--coin", "btc", "--node", "ftp://audit:hush@127.0.0.1")
    assert (status, "--node: write a whole http or https URL" in told) == (2, True)
    assert audit(capsys, "--coin", "btc", "--node", NODE)[0] == 1
    for arguments, words in {
        ("--log", "--coin", "btc", "--user", USER): "leave out --coin, --user",
        ("--anchor", f"1:{'00' * 32}"): "add --log",
        ("--since", "yesterday"): "must be an RFC 3339 instant",
        ("--user", "me"): "a UUID of 36 characters",
    }.items():
        with pytest.raises(SystemExit) as caught:
            main(["audit", *arguments])
        assert caught.value.code == 2
        assert words in capsys.readouterr().err


def test_another_node_is_asked_as_who_the_configured_one_is_asked_as(tmp_path):
    environ = {
        "HOME": "/h",
        "STATE_DIRECTORY": str(tmp_path),
        "BTC_DAEMON_URL": NODE,
        "XMR_DAEMON_URL": "http://shop:word@127.0.0.1:1,http://127.0.0.1:2",
        "ETH_DAEMON_URL": "ws://127.0.0.1:1/key",
        "TON_DAEMON_URL": "http://127.0.0.1:1",
        "TALLY_TON_API_KEY": "abc",
    }
    coins = load_config(Flags(), environ=environ).coins
    asked = {
        ("btc", "http://h:2"): "http://audit:hush@h:2",
        ("btc", "http://me:mine@h:2"): "http://me:mine@h:2",
        ("xmr", "http://h:2"): "http://shop:word@h:2",
        ("eth", "wss://h/other"): "wss://h/other",
        ("ton", "https://h:2"): "https://h:2",
    }
    for (coin, url), wanted in asked.items():
        (node,) = with_node(coins[coin], url).nodes
        assert node.reveal() == wanted
    assert len(with_node(coins["eth"], "ws://a,ws://b").nodes) == 2
    with pytest.raises(Refused, match="write a whole"):
        with_node(coins["xmr"], "ws://h")
    assert Wanted().coins == ()
