"""The database is lost, an older backup is restored: every payment on the chain is found again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.helpers.bitcoind import BitcoinNode
from tests.helpers.daemon import Daemon
from tests.helpers.goipay_client import GoiPay
from tests.helpers.hook_server import HookServer
from tests.helpers.postgres import PostgresServer
from tests.helpers.process import wait_until
from tests.helpers.shop import Shop, Ticket, check_log

PRICE_BASE = 200_000
LOCAL = {"TALLY_WEBHOOKS_ALLOW_NETWORKS": "127.0.0.0/8"}


@dataclass
class Story:
    """What customers did, known from the node alone."""

    paid: dict[str, int] = field(default_factory=dict)
    """Invoice → base units that are on the chain or in the mempool."""
    txids: list[str] = field(default_factory=list)

    def pay(self, ticket: Ticket, amount_base: int = PRICE_BASE) -> None:
        self.paid[ticket.id] = self.paid.get(ticket.id, 0) + amount_base
        self.txids.append(ticket.pay(amount_base))

    def fork(self, node: BitcoinNode) -> None:
        """Displace the last blocks, and have every payment in others."""
        node.reorg(2)
        for txid in self.txids:
            found = node.rpc("gettransaction", txid)
            if found["confirmations"] <= 0 and txid not in node.mempool():
                # The wallet had dated it by a height that was gone for a moment.
                node.rpc("sendrawtransaction", found["hex"])
        node.mine()


@pytest.fixture(params=["sqlite", "postgresql", "sqlite to postgresql"])
def engines(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Where the backup comes from, and where it goes to."""
    before, _, after = request.param.partition(" to ")
    return before, after or before


def at(daemon: Daemon, engine: str, server: PostgresServer) -> None:
    """Give the daemon a new and empty database."""
    daemon.extra_env.pop("TALLY_DATABASE_URL", None)
    if engine == "postgresql":
        daemon.extra_env["TALLY_DATABASE_URL"] = server.create_database()


def lose(daemon: Daemon) -> None:
    """A power cut, and the disk with the database is gone."""
    daemon.kill()
    for path in daemon.folder.glob("*.db*"):
        path.unlink()


def command(daemon: Daemon, *arguments: str) -> str:
    ran = daemon.command(*arguments)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def events(daemon: Daemon) -> list[dict[str, object]]:
    page = daemon.http("GET", "/v1/events?after=0&limit=500")[2]
    assert not page["has_more"]
    return page["items"]


@pytest.fixture
def hooks() -> Iterator[HookServer]:
    """A merchant who is told by webhooks."""
    with HookServer() as server:
        yield server


def test_nothing_on_the_chain_is_lost(
    make_daemon,
    btc_node: BitcoinNode,
    postgres_server: PostgresServer,
    engines: tuple[str, str],
    hooks: HookServer,
    tmp_path: Path,
):
    daemon, story = make_daemon(btc_node, env=LOCAL), Story()
    at(daemon, engines[0], postgres_server)
    daemon.start()
    backup = tmp_path / "backup"
    with GoiPay(daemon.grpc_port) as client:
        shop = Shop(daemon, btc_node, client, None)
        assert daemon.http("POST", "/v1/webhooks", {"url": hooks.url})[0] == 201
        known = {name: shop.sell(PRICE_BASE) for name in ("done", "seen", "open", "half", "fork")}
        story.pay(known["done"])
        btc_node.mine()
        known["done"].until_status("CONFIRMED")
        story.pay(known["seen"])
        story.pay(known["half"], PRICE_BASE // 2)
        known["seen"].until_status("PENDING_MEMPOOL")
        command(daemon, "backup", str(backup))

        # All this is in no backup.
        story.pay(known["fork"])
        btc_node.mine()
        known["fork"].until_status("CONFIRMED")
        story.pay(known["open"])
        lost = [shop.sell(PRICE_BASE) for _ in range(3)]
        story.pay(lost[0])
        story.pay(known["half"], PRICE_BASE - PRICE_BASE // 2)
        story.fork(btc_node)
        for name in ("open", "half", "seen", "fork"):
            known[name].until_status("CONFIRMED")
        late = events(daemon)[-1]
        told_of_all(hooks, events(daemon))
    lose(daemon)
    story.pay(known["done"], 70_000)  # nobody is there to see it
    btc_node.mine()

    at(daemon, engines[1], postgres_server)
    command(daemon, "restore", str(backup))
    as_of = json.loads(command(daemon, "audit", "--log", "--json"))
    daemon.start()
    with GoiPay(daemon.grpc_port) as client:
        shop.client = client
        for name, ticket in known.items():
            wanted = str(story.paid[ticket.id])
            ticket.until(lambda one, wanted=wanted: one["received_base"] == wanted, name)
            assert ticket.until_status("CONFIRMED")["flags"]["overpaid"] == (name == "done")
            ticket.check()
        verify_the_limit(daemon, shop, known, lost)
        verify_the_cursor(daemon, as_of["seq"], late)
        check_log(daemon)
        told_of_all(hooks, events(daemon))
    command(daemon, "audit", "--log", "--anchor", as_of["anchor"])


def told_of_all(hooks: HookServer, recorded: list[dict[str, object]]) -> None:
    """Whatever was sent before: no event is left out."""
    wanted = {event["id"] for event in recorded}
    wait_until(lambda: wanted <= {hook.id for hook in hooks.hooks}, "the merchant has every event")


def verify_the_limit(
    daemon: Daemon, shop: Shop, known: dict[str, Ticket], lost: list[Ticket]
) -> None:
    """Invoices of after the backup are not known, and their addresses are nobody else's."""
    for ticket in lost:
        assert daemon.http("GET", f"/v1/invoices/{ticket.id}")[0] == 404
    new = [shop.sell(PRICE_BASE) for _ in range(len(known) + len(lost))]
    given = {ticket.address for ticket in (*known.values(), *lost)}
    assert given.isdisjoint(ticket.address for ticket in new)
    ticket = new[0]
    ticket.pay()
    shop.node.mine()
    assert ticket.until_status("CONFIRMED")["received_base"] == str(PRICE_BASE)


def verify_the_cursor(daemon: Daemon, restored_seq: int, late: dict[str, object]) -> None:
    """Whoever had read what was lost is told from where to read again."""
    status, _, problem = daemon.http("GET", f"/v1/events?after={late['id']}")
    assert status == 422
    told = json.dumps(problem)
    assert "was lost" in told
    born = str(late["id"]).partition("-")[0]
    assert f"{born}-{restored_seq}" in told
    status, _, page = daemon.http("GET", f"/v1/events?after={born}-{restored_seq}")
    assert status == 200
    assert page["items"][0]["seq"] == restored_seq + 1
    assert not page["items"][0]["id"].startswith(born)


def test_a_damaged_file_stops_the_daemon_and_stays_as_it_is(make_daemon, btc_node: BitcoinNode):
    daemon = make_daemon(btc_node)
    daemon.start()
    with GoiPay(daemon.grpc_port) as client:
        shop = Shop(daemon, btc_node, client, None)
        for _ in range(3):
            shop.sell(PRICE_BASE)
    assert daemon.stop()
    (path,) = daemon.folder.glob("*.db")
    data = bytearray(path.read_bytes())
    for start in range(4096, len(data), 4096):
        data[start : start + 16] = bytes(byte ^ 0xFF for byte in data[start : start + 16])
    path.write_bytes(data)
    for arguments in (("run",), ("audit", "--log"), ("backup", str(path.with_name("copy")))):
        ran = daemon.command(*arguments)
        assert ran.returncode in (1, 2)
        assert "is damaged" in ran.stderr
        assert "restore a backup into a new one" in ran.stderr
        assert "Traceback" not in ran.stderr
        assert path.read_bytes() == data
    assert not path.with_name("copy").exists()


def test_a_second_daemon_on_the_file_is_refused(make_daemon, btc_node: BitcoinNode):
    first = make_daemon(btc_node)
    first.start()
    second = make_daemon(btc_node)
    (path,) = first.folder.glob("*.db")
    second.extra_env["TALLY_DATABASE_URL"] = f"sqlite:///{path}"
    second.folder.mkdir(parents=True)
    before = first.http("GET", "/v1/log")[2]
    ran = second.command("run")
    assert ran.returncode == 1
    assert f"is in use by another tallyd (process {first.pid}); stop it" in ran.stderr
    assert first.http("GET", "/v1/log")[2] == before
