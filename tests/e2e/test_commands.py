"""The other commands of `tallyd`, as an operator meets them."""

import pytest
from bip_utils import Bip32Slip10Secp256k1

from tests.helpers.bitcoind import BitcoinNode
from tests.helpers.goipay_client import GoiPay
from tests.helpers.shop import Shop, leaks

AMOUNT = 8_901_234
SIGNET_KEY = (
    "tpubDCUURn3yPT4P3SkrUq9rG1RyJK6BGhmrovvSAF61LHLCZhNUMRw7FANPmhGuDWXo3GMkc6C4ZFGBuPMrovjdnXhtJf"
    "QE3uK3s6QzFuiQaz9"
)


def test_check_says_that_all_is_well_beside_the_running_daemon(daemons):
    for store, daemon in daemons.items():
        done = daemon.command("check")
        assert done.returncode == 0, done.stdout
        assert "FAILED" not in done.stdout
        for wanted in (
            "Knots",
            "LitecoinCore",
            "network regtest",
            "in sync",
            "zmq hashblock,rawtx,sequence",
            "long-poll, poll 0.2s",
            "no transaction index is needed",
            "events",
        ):
            assert wanted in done.stdout
        assert not leaks(done.stdout + done.stderr, daemon), store


def test_check_names_a_node_that_is_down_and_goes_on(make_daemon, ltc_node):
    daemon = make_daemon(ltc_node, env={"BTC_DAEMON_URL": "http://127.0.0.1:1"})
    done = daemon.command("check")
    assert done.returncode == 1
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 1
    assert "coin.btc.daemon.url" in failed[0]
    assert "refused" in failed[0]
    assert "LitecoinCore" in done.stdout


def test_check_warns_of_a_pruned_node_and_the_daemon_refuses_what_it_cannot_read(make_daemon):
    """`-fastprune` makes block files small, so that few blocks are enough to prune."""
    with BitcoinNode("btc", extra=("-prune=1", "-fastprune")) as node:
        node.fund()
        daemon = make_daemon(node)
        daemon.start()
        read_up_to = node.height()
        assert daemon.stop()
        node.rpc("generatetodescriptor", 600, "raw(51)")
        pruned_at = node.rpc("pruneblockchain", node.height() - 300)
        assert pruned_at > read_up_to
        done = daemon.command("check")
        assert done.returncode == 1
        assert "pruned: keeps blocks from" in done.stdout
        assert "coin.btc.daemon.url" in done.stdout
        daemon.start(ready=False)
        ready = daemon.http("GET", "/readyz")[2]["chains"]["btc"]
        while ready["state"] == "starting":
            ready = daemon.http("GET", "/readyz")[2]["chains"]["btc"]
        assert ready["state"] == "refused"
        assert "pruned" in ready["reason"]
        assert ready["height"] == read_up_to


def test_keys_preview_shows_the_first_addresses(make_daemon):
    daemon = make_daemon()
    done = daemon.command("keys", "preview", "BTC", SIGNET_KEY)
    assert done.returncode == 0
    for wanted in ("P2WPKH", "0/1", "tb1qqdcfs9s5gjsnmazcsqfe2h6gwzwdu2eufesk8h"):
        assert wanted in done.stdout
    assert SIGNET_KEY not in done.stdout
    piped = daemon.command("keys", "preview", "BTC", "-", stdin=f"{SIGNET_KEY}\n")
    assert piped.stdout == done.stdout


@pytest.mark.parametrize("form", ["xprv", "wif", "words"])
def test_keys_preview_refuses_a_private_key_and_does_not_repeat_it(form, make_daemon):
    secret = {
        "xprv": str(Bip32Slip10Secp256k1.FromSeed(bytes(32)).PrivateKey().ToExtended()),
        "wif": "KwDiBf89QgGbjEhKnhXJuH7LrciVrZi3qYjgd9M7rFU73sVHnoWn",
        "words": " ".join(["abandon"] * 11 + ["about"]),
    }[form]
    done = make_daemon().command("keys", "preview", "BTC", secret)
    assert done.returncode == 1
    assert done.stderr.startswith("tallyd: ")
    assert secret not in done.stderr + done.stdout
    assert secret[:12] not in done.stderr + done.stdout


def test_migrate_makes_the_database_and_can_be_repeated(make_daemon, postgres_url):
    for daemon in (make_daemon(), make_daemon(env={"TALLY_DATABASE_URL": postgres_url})):
        first, second = daemon.command("migrate"), daemon.command("migrate")
        assert first.returncode == second.returncode == 0, first.stderr
        assert "schema" in first.stdout
        assert first.stdout == second.stdout
        assert not leaks(first.stdout + first.stderr, daemon)


def test_invoice_show_tells_the_history_and_why(daemons, clients, btc_node):
    for store, daemon in daemons.items():
        shop = Shop(daemon, btc_node, *clients[store])
        ticket = shop.sell(AMOUNT)
        done = daemon.command("invoice", "show", ticket.id)
        assert done.returncode == 0, done.stderr
        for wanted in (ticket.id, ticket.address, "0.08901234 BTC", "nothing_received"):
            assert wanted in done.stdout
        txid = ticket.pay(AMOUNT - 100_000)
        ticket.until(lambda one: one["payments"], "the payment is seen")
        done = daemon.command("invoice", "show", ticket.id)
        for wanted in ("underpaid", "0.001", txid, "payment.seen"):
            assert wanted in done.stdout
        assert not leaks(done.stdout + done.stderr, daemon)
        unknown = daemon.command("invoice", "show", shop.user_id)
        assert unknown.returncode == 1
        assert shop.user_id in unknown.stdout + unknown.stderr


@pytest.mark.parametrize("command", ["run", "check", "migrate"])
def test_a_mistake_in_the_configuration_is_shown_with_its_place(command, make_daemon, tmp_path):
    config = tmp_path / "tallyd.yml"
    config.write_text(
        "server:\n  prot: 3000\ncoin:\n  btc:\n    daemon:\n      url: http://u:hidden-word@h:x/\n"
    )
    done = make_daemon().command(command, "-config", str(config))
    assert done.returncode == 78
    assert f"{config}:2:3: server.prot: unknown setting; did you mean port?" in done.stderr
    assert f"{config}:6:" in done.stderr
    assert "hidden-word" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_without_a_command_it_runs_and_asked_for_its_version_it_tells(make_daemon):
    daemon = make_daemon(arguments=())
    daemon.start()
    with GoiPay(daemon.grpc_port) as client:
        client.register()
    assert daemon.command("--version").stdout.startswith("tallyd ")
    assert daemon.command("no-such-command").returncode == 2
