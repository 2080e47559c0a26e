"""Merchants at the real daemon: what docs/payscrypt.md shows is run; commands, keys, refusals."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from argparse import _SubParsersAction
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from daemon.__main__ import main, parser
from tests.actors.test_logo import SVG, png
from tests.helpers.daemon import ROOT, TALLYD, Daemon
from tests.helpers.goipay_calls import XMR_SPEND, XMR_VIEW
from tests.helpers.monero_coinbase import base_times, new_scalar
from tests.helpers.ports import free_port
from tests.helpers.process import wait_until
from tests.helpers.shop import KEYS_GIVEN, new_key
from tests.helpers.webhook_fleet import ALLOW_LOOPBACK

PAGE = (ROOT / "docs" / "payscrypt.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [text for language, text in BLOCKS if language == "sh"]
((RECEIVER,),) = [[text for language, text in BLOCKS if language == "python"]]
PRICE_BASE = 1_500_000
NO_STRANGERS = {"TALLY_ACCESS_ANONYMOUS": "off"}


def test_the_page_has_nothing_that_is_not_run():
    assert [language for language, _ in BLOCKS] == [
        *["sh"] * 4,
        *["python", "sh", "json", "sh"],
        "nginx",
    ]
    table = PAGE.rpartition("\n## ")[2]
    (groups,) = (one for one in parser()._actions if isinstance(one, _SubParsersAction))
    for group in ("merchants", "wallets", "orders"):
        (known,) = (
            one for one in groups.choices[group]._actions if isinstance(one, _SubParsersAction)
        )
        assert set(re.findall(rf"`{group} ([a-z]+)", table)) == set(known.choices)


class Shell:
    """The page's commands one after the other in one shell's variables, aimed at the daemon."""

    def __init__(self, daemon: Daemon, folder: Path, aim: dict[str, str], **env: str) -> None:
        self.folder = folder
        self._aim = {"http://127.0.0.1:8080": daemon.url, **aim}
        path = f"{TALLYD.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._env = {**daemon.environment(), **env, "PATH": path}
        (folder / "variables").touch()

    def aimed(self, text: str) -> str:
        for written, meant in self._aim.items():
            text = text.replace(written, meant)
        return text

    def run(self, text: str) -> str:
        """What the commands print."""
        script = f"set -eua\n. ./variables\n{self.aimed(text)}\nexport -p >variables\n"
        done = subprocess.run(
            ["sh", "-c", script],
            cwd=self.folder,
            env=self._env,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"{text}\n{done.stderr}"
        return done.stdout

    def value(self, name: str) -> str:
        return self.run(f'printf %s "${name}"')


def test_a_shop_is_set_up_as_the_page_says_and_an_order_is_paid(
    make_daemon, btc_node, tmp_path, request
):
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "logo.png").write_bytes(png(64, 32))
    daemon = make_daemon(btc_node, env=ALLOW_LOOPBACK | NO_STRANGERS)
    port = free_port()
    hook = {"https://shop.example/hooks/orders": f"http://127.0.0.1:{port}/hooks/orders"}
    # Without it each command would make a key for the moment, which takes seconds.
    operator = said(daemon, "access", "add", "--name", "operator", "--scope", "admin")
    daemon.start()
    keys = {"BTC_XPUB": new_key(), "LTC_XPUB": new_key(), "TALLYD_API_KEY": operator}
    shell = Shell(daemon, folder, hook, **keys)
    *setting_up, order, looking = COMMANDS
    for text in setting_up:
        assert shell.run(text).count("\n") <= 10
    output = folder / "output"
    with output.open("w") as written:
        receiver = subprocess.Popen(
            [sys.executable, "-u", "-c", shell.aimed(RECEIVER).replace("9000", str(port))],
            env={"SECRET": shell.value("SECRET")},
            stdout=written,
            stderr=subprocess.STDOUT,
        )

    def stop() -> None:
        receiver.kill()
        receiver.wait()

    request.addfinalizer(stop)
    shell.run(order)
    made = json.loads((folder / "order.json").read_text())["order"]
    (shown,) = [json.loads(text)["order"] for language, text in BLOCKS if language == "json"]
    assert set(made) == set(shown)
    for name in ("type", "asset_name", "target_value", "target_confirmations", "status", "value"):
        assert made[name] == shown[name], name
    assert made["redirect_url"] == f"{daemon.url}/pay/{made['id']}"
    assert int(made["expired_at"]) - int(made["created_at"]) == 30 * 60
    (address,) = made["variants"]
    btc_node.pay(address, PRICE_BASE)

    asked = f"/apis/pg/get_public_order?id={made['id']}"
    wait_until(
        lambda: daemon.http("GET", asked)[2]["order"]["status"] == "CONFIRMING",
        "the order is covered",
    )
    assert "ship" not in output.read_text()
    btc_node.mine(2)
    wait_until(lambda: output.read_text().count("ship A-17\n") == 1, "the shop ships")
    told = shell.run(looking)
    assert '"status":"SUCCESSFUL"' in told
    assert re.search(r"^Status +SUCCESSFUL, [2-9] of 2 confirmations$", told, re.MULTILINE)
    assert re.search(rf"^{made['id']} +SUCCESSFUL +0.015 of 0.015 BTC", told, re.MULTILINE)
    page = daemon.http("GET", f"/pay/{made['id']}")
    assert page[0] == 200
    assert "Corner Shop" in page[2]
    shown = shell.run('tallyd merchants show "$MERCHANT"')
    for what in ("Corner Shop", "#0f766e", "image/png", "Web shop", "shop.example", "payscrypt"):
        assert what in shown
    assert shell.value("KEY") not in daemon.log.read_text()


# --- commands -------------------------------------------------------------------------------------


def command(daemon: Daemon, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
    """`tallyd` with the daemon's settings, in this process: starting one takes seconds."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, daemon.environment(), clear=True),
        mock.patch.object(sys, "stdin", io.StringIO(stdin)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = main(arguments)
    return status, out.getvalue(), err.getvalue()


def said(daemon: Daemon, *arguments: str, stdin: str = "") -> str:
    status, out, err = command(daemon, *arguments, stdin=stdin)
    assert status == 0, err
    return out.strip()


def refused(daemon: Daemon, *arguments: str) -> str:
    status, out, err = command(daemon, *arguments)
    assert (status, out) == (1, "")
    return err


@pytest.fixture(params=["sqlite", "postgres"])
def daemon(request, make_daemon, btc_node):
    env = dict(ALLOW_LOOPBACK)
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_server").create_database()
        env["TALLY_DATABASE_URL"] = url
    running = make_daemon(btc_node, env=env)
    running.start()
    return running


def test_merchants_wallets_and_orders_by_commands(daemon, tmp_path):
    merchant = said(daemon, "merchants", "add", "--name", "Corner Shop")
    other = said(daemon, "merchants", "add")
    listed = said(daemon, "merchants", "list").splitlines()
    assert sorted(listed[1:]) == sorted([f"{merchant}  Corner Shop", other])
    logo = tmp_path / "logo.svg"  # what it is called does not matter
    logo.write_bytes(png(8, 8))
    brand = ("merchants", "brand", merchant)
    shown = said(daemon, *brand, "--colour", "#0F766E", "--logo", str(logo))
    assert shown.splitlines() == [
        "Name    Corner Shop",
        "Colour  #0f766e",
        f"Logo    image/png, {len(png(8, 8))} bytes",
    ]
    assert "Colour  none" in said(daemon, *brand, "--without", "colour", "--name", "Kiosk")
    logo.write_bytes(SVG)
    assert "is SVG" in refused(daemon, *brand, "--logo", str(logo))
    logo.write_bytes(png() + b"\0" * 32_768)
    assert "more than 32768 bytes" in refused(daemon, *brand, "--logo", str(logo))
    assert "No such file" in refused(daemon, *brand, "--logo", str(tmp_path / "none"))
    assert "both" in refused(daemon, *brand, "--name", "x", "--without", "name")
    key = new_key()
    add = ("wallets", "add", merchant, "--name", "Web shop")
    wallet = said(daemon, *add, "--key", "btc=-", "--asset", "BTC,confirmations=1", stdin=key)
    assert wallet == "1"
    assert key not in said(daemon, "wallets", "show", wallet)
    said(daemon, "wallets", "change", wallet, "--key", f"xmr={XMR_VIEW}:{XMR_SPEND}")
    changed = said(
        daemon, "wallets", "change", wallet, "--asset", "BTC,expires=2h", "--asset", "XMR"
    )
    assert re.search(r"^BTC +default +7200 s$", changed, re.MULTILINE)
    assert "btc, xmr" in changed
    for wrong, says in (
        (("--key", key), "CHAIN=KEY"),
        (("--asset", "BTC,confirm=1"), "cannot be read"),
        (("--asset", "DOGE"), "'DOGE'"),
        (("--key", "btc=nonsense"), "BTC key"),
        ((), "nothing is to be changed"),
    ):
        told = refused(daemon, "wallets", "change", wallet, *wrong)
        assert says in told
        assert key not in told
    foreign = ("wallets", "add", other, "--name", "n", "--key", f"btc={key}")
    assert "belongs to another user" in refused(daemon, *foreign)
    rows = said(daemon, "wallets", "list", "--user", merchant).splitlines()
    assert len(rows) == 2
    assert said(daemon, "wallets", "list", "--user", other).count("\n") == 0
    order = place(daemon, merchant, wallet, "A-17")
    assert "A-17" in said(daemon, "orders", "show", order)
    assert "cancelled" in said(daemon, "orders", "cancel", order)
    assert re.search(
        rf"^{order} +CANCELED", said(daemon, "orders", "find", merchant, "A-17"), re.MULTILINE
    )
    assert "no order '17'" in refused(daemon, "orders", "show", "17")
    said(daemon, "wallets", "archive", wallet)
    assert "archived" in said(daemon, "wallets", "list")
    assert place(daemon, merchant, wallet, "A-18") == "wallet not found"
    said(daemon, "wallets", "restore", wallet)
    trail = said(daemon, "audit-trail")
    for act in (
        "brand.set",
        "wallet.added",
        "wallet.changed",
        "wallet.archived",
        "order.cancelled",
    ):
        assert act in trail
    assert XMR_VIEW not in trail + daemon.log.read_text()
    assert "Kiosk" in said(daemon, "merchants", "show", merchant)


def test_keys_of_a_wallet_are_known_to_the_running_daemon(make_daemon, xmr_node, xmr_wallet):
    """Also the private view key of another account than the merchant's own, and a later one."""
    daemon = make_daemon(xmr_node)
    daemon.start()
    merchant = said(daemon, "merchants", "add")
    own, first, second = (monero_keys() for _ in range(3))
    given = {"xmr": own}
    assert daemon.http("PUT", f"/v1/users/{merchant}/keys", given)[0] == 204
    wallet = said(
        daemon,
        *("wallets", "add", merchant, "--name", "Web shop", "--key", "xmr=-"),
        *("--asset", "XMR,confirmations=1"),
        stdin=first,
    )
    orders = [place(daemon, merchant, wallet, "A", asset="XMR")]
    said(daemon, "wallets", "change", wallet, "--key", "xmr=-", stdin=second)
    orders += [place(daemon, merchant, wallet, "B", asset="XMR")]
    addresses = [read(daemon, order)["invoice"]["address"] for order in orders]
    for address, keys in zip(addresses, (first, second), strict=True):
        assert address in said(daemon, "keys", "preview", "XMR", *keys.split(":"))
        xmr_wallet.pay(address, PRICE_BASE)
    xmr_node.mine()
    for order in orders:
        wait_until(
            lambda order=order: read(daemon, order)["status"] == "SUCCESSFUL",
            "the order is paid",
            timeout_s=60,
        )
    assert "of 1 confirmations" in said(daemon, "orders", "show", orders[0])


def monero_keys() -> str:
    """Of a fresh wallet, as they are given."""
    view_key = new_scalar()
    KEYS_GIVEN.add(view_key.hex())
    return f"{view_key.hex()}:{base_times(new_scalar()).hex()}"


def read(daemon: Daemon, order: str) -> dict[str, Any]:
    status, _, found = daemon.http("GET", f"/v1/orders/{order}")
    assert status == 200, found
    return dict(found)


def place(daemon: Daemon, merchant: str, wallet: str, number: str, *, asset: str = "BTC") -> str:
    """A new order's id, or the message with which it was refused; by a key made for it."""
    wanted = {"name": "site", "scopes": ["read", "write"], "user_id": merchant}
    status, _, key = daemon.http("POST", "/v1/keys", wanted)
    assert status == 201, key
    bearer = {"Authorization": f"Bearer {key['key']}"}
    assert daemon.http("GET", f"/v1/wallets/{wallet}", headers=bearer)[0] == 200
    body = {
        "merchant_order_id": number,
        "asset_name": asset,
        "target_value": str(PRICE_BASE),
        "pg_wallet_id": wallet,
    }
    shown = {"apikey": key["key"]}
    _, _, made = daemon.http("POST", "/apis/pg/create_order", body, shown)
    assert daemon.http("DELETE", f"/v1/keys/{key['prefix']}")[0] == 204
    status, headers, _ = daemon.http("POST", "/apis/pg/create_order", body, shown)
    assert (status, headers["grpc-code"]) == (401, "16")
    assert daemon.http("GET", f"/v1/wallets/{wallet}", headers=bearer)[0] == 401
    return str(made["order"]["id"] if "order" in made else made["message"])
