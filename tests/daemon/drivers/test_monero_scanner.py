"""The scanner beside the event loop: complete whatever happens to its processes, and then gone."""

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from actors.ports import TransientError
from daemon.drivers import monero_scan, monero_scanner, monero_worker
from daemon.drivers.monero_scanner import Scanner
from tests.helpers import monero_reference as reference
from tests.helpers.monero_reference import Output, Transaction, Wallet, encode, scalar_bytes

dice = random.Random(1_399)
WALLET = Wallet.make(dice)
VIEW_KEYS = tuple(scalar_bytes(dice.randrange(1, reference.L)) for _ in range(40))
VIEW_KEYS = (*VIEW_KEYS[:25], scalar_bytes(WALLET.view), *VIEW_KEYS[25:])
DESTINATION = encode(WALLET.address(0, 1).spend)
_POINTS = [encode(reference.base(dice.randrange(reference.L))) for _ in range(20)]
PAID = 7


def a_tx():
    outputs = [Output(dice.choice(_POINTS), 0, dice.randrange(256)) for _ in range(2)]
    return Transaction(tuple(outputs), (dice.choice(_POINTS),))


# A second or so of work for one core with all view keys; one output is ours.
TXS = [a_tx() for _ in range(250)]
TXS[PAID] = reference.send([(WALLET.address(0, 1), 1)], dice)


def children():
    """Process ids of the workers that this process has; zombies have no command line any more."""
    tasks = Path("/proc/self/task").iterdir()
    pids = [pid for task in tasks for pid in (task / "children").read_text().split()]
    return [int(pid) for pid in pids if b"monero_worker" in _command_line(pid)]


def _command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def at_once(txs, view_keys):
    packed = b"".join(piece.packed for piece in monero_scan.pieces(txs))
    found = monero_scan.unpack(monero_scan.scan(packed, view_keys))
    return sorted(found, key=lambda each: (each.tx, each.output, each.view_key))


async def until(condition):
    while not condition():
        await trio.lowlevel.checkpoint()


@pytest.fixture(scope="module")
def everything():
    return at_once(TXS, VIEW_KEYS)


@pytest.fixture
async def scanner():
    before = children()
    scanner = Scanner(workers=2)
    yield scanner
    await scanner.aclose()
    assert children() == before
    assert scanner.statistics().workers == 0


# --- results --------------------------------------------------------------------------------------


async def test_finds_the_same_as_a_scan_in_one_piece(scanner, everything):
    found = await scanner.scan(TXS, VIEW_KEYS)

    assert found == everything
    assert (PAID, 0, 25, DESTINATION) in [
        (each.tx, each.output, each.view_key, each.destination) for each in found
    ]
    now = scanner.statistics()
    assert (now.scans, now.inline, now.deaths, now.busy) == (1, 0, 0, 0)
    assert now.orders > 10
    assert now.workers == 2
    assert now.candidates == len(found)


async def test_makes_small_scans_at_once(scanner):
    found = await scanner.scan(TXS[PAID : PAID + 1], VIEW_KEYS[25:26])

    assert [each.destination for each in found] == [DESTINATION]
    assert scanner.statistics().inline == 1
    assert scanner.statistics().workers == 0


@pytest.mark.parametrize("workers", [0, 1])
async def test_tells_of_an_output_once_though_its_key_is_named_twice(workers):
    tx = reference.send([(WALLET.address(0, 1), 1)], dice)
    tx = replace(tx, additional_keys=tx.tx_keys)
    scanner = Scanner(workers=workers)

    found = await scanner.scan([tx] * 40, VIEW_KEYS[20:30])
    await scanner.aclose()

    ours = [each.tx for each in found if each.destination == DESTINATION]
    assert ours == list(range(40))


async def test_needs_no_workers_if_told_so(everything):
    scanner = Scanner(workers=0)

    assert await scanner.scan(TXS[:20], VIEW_KEYS) == at_once(TXS[:20], VIEW_KEYS)
    assert scanner.statistics().workers == 0
    await scanner.aclose()


@pytest.mark.parametrize(("txs", "keys"), [([], VIEW_KEYS), (TXS, ()), ([], ())])
async def test_finds_nothing_in_nothing(scanner, txs, keys):
    assert await scanner.scan(txs, keys) == []


async def test_serves_many_scans_at_a_time(scanner, everything):
    results = {}

    async def scan(first):
        results[first] = await scanner.scan(TXS[first : first + 50], VIEW_KEYS)

    async with trio.open_nursery() as nursery:
        for first in range(0, 250, 50):
            nursery.start_soon(scan, first)

    assert scanner.statistics().workers <= 2
    found = [(first + each.tx, each.destination) for first in results for each in results[first]]
    assert sorted(found) == sorted((each.tx, each.destination) for each in everything)


def test_cuts_work_into_bounded_orders():
    many = VIEW_KEYS * 30
    work = monero_scan.pieces(TXS[:5])
    orders = list(monero_scanner._orders(work, many))

    seen = set()
    for order in orders:
        count = int.from_bytes(order.content[:4], "little")
        assert count <= monero_scanner.KEYS_PER_ORDER
        assert order.first_view_key + count <= len(many)
        tx = order.content[4 + 32 * count :][:4]
        seen.update((tx, order.first_view_key + each) for each in range(count))
        assert len(order.content) < 100_000
    assert {key for _, key in seen} == set(range(len(many)))


# --- faults ---------------------------------------------------------------------------------------


async def test_gives_work_out_again_when_workers_are_killed(scanner, everything):
    async def killer():
        for _ in range(2):
            await until(lambda: scanner.statistics().busy == 2)
            os.kill(children()[0], signal.SIGKILL)
            deaths = scanner.statistics().deaths
            await until(lambda: scanner.statistics().deaths > deaths)  # noqa: B023 - awaited here

    async with trio.open_nursery() as nursery:
        nursery.start_soon(killer)
        found = await scanner.scan(TXS, VIEW_KEYS)
        nursery.cancel_scope.cancel()

    assert found == everything
    assert scanner.statistics().deaths >= 1


async def test_replaces_workers_that_died_between_scans(everything):
    # More of them than one order may cost.
    scanner = Scanner(workers=monero_scanner.ATTEMPTS + 1)
    await scanner.scan(TXS, VIEW_KEYS)
    assert scanner.statistics().workers > monero_scanner.ATTEMPTS
    for pid in children():
        os.kill(pid, signal.SIGKILL)
    await until(lambda: not children())
    orders = scanner.statistics().orders

    assert await scanner.scan(TXS[:2], VIEW_KEYS) == [each for each in everything if each.tx < 2]
    assert scanner.statistics().orders == orders + 1
    await scanner.aclose()


async def test_fails_when_workers_keep_dying(scanner, monkeypatch):
    command = (sys.executable, "-c", "import os; os.read(0, 4); os._exit(1)")
    monkeypatch.setattr(monero_scanner, "WORKER_COMMAND", command)

    with pytest.raises(TransientError, match="3 processes for scanning Monero ended"):
        await scanner.scan(TXS, VIEW_KEYS)


async def test_says_so_when_no_process_can_be_started(scanner, monkeypatch):
    monkeypatch.setattr(monero_scanner, "WORKER_COMMAND", ("/nowhere/python",))

    with pytest.raises(TransientError, match="could be started: No such file"):
        await scanner.scan(TXS, VIEW_KEYS)


async def test_ends_its_workers_when_cancelled(scanner, everything):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scanner.scan, TXS, VIEW_KEYS)
        await until(lambda: scanner.statistics().busy == 2)
        nursery.cancel_scope.cancel()

    assert scanner.statistics().busy == 0
    assert len(children()) == scanner.statistics().workers
    # What was cancelled leaves no answer behind for who comes next.
    assert await scanner.scan(TXS, VIEW_KEYS) == everything


async def test_fails_scans_when_it_is_closed():
    before = children()
    scanner = Scanner(workers=2)
    outcomes = []

    async def scan():
        try:
            outcomes.append(await scanner.scan(TXS, VIEW_KEYS))
        except trio.ClosedResourceError as error:
            outcomes.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(scan)
        nursery.start_soon(scan)
        await until(lambda: scanner.statistics().busy == 2)
        await scanner.aclose()
        assert children() == before

    assert [type(each) for each in outcomes] == [trio.ClosedResourceError] * 2
    with pytest.raises(trio.ClosedResourceError):
        await scanner.scan(TXS, VIEW_KEYS)
    await scanner.aclose()


async def test_closes_though_its_workers_are_stuck():
    before = children()
    scanner = Scanner(workers=2)

    async def scan():
        with pytest.raises(trio.ClosedResourceError):
            await scanner.scan(TXS, VIEW_KEYS)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(scan)
        await until(lambda: scanner.statistics().busy == 2)
        for pid in children():
            os.kill(pid, signal.SIGSTOP)
        await scanner.aclose()

    assert children() == before


# --- the worker -----------------------------------------------------------------------------------


def run_worker(orders):
    return subprocess.run(
        monero_scanner.WORKER_COMMAND, input=orders, capture_output=True, check=False
    )


def test_worker_ends_with_its_input():
    done = run_worker(b"")

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_worker_answers_in_turn_and_drops_half_an_order():
    packed = b"".join(piece.packed for piece in monero_scan.pieces(TXS[:10]))
    order = monero_worker.frame(monero_worker.order(packed, VIEW_KEYS[20:30]))
    answer = monero_worker.frame(monero_scan.scan(packed, VIEW_KEYS[20:30]))

    done = run_worker(order * 2 + order[:-1])

    assert done.stdout == answer * 2
    assert done.returncode == 0


@pytest.mark.parametrize(
    "orders",
    [b"\xff" * 64, monero_worker.frame(b"\x01\x00\x00\x00" + b"\xaa" * 40)],
    ids=["no-frame", "no-order"],
)
def test_worker_says_what_ends_it_and_none_of_what_it_read(orders):
    done = run_worker(orders)

    assert done.returncode == 70
    assert done.stdout == b""
    assert done.stderr in (
        b"tallyd: a process that scans for Monero ends: ValueError\n",
        b"tallyd: a process that scans for Monero ends: error\n",
    )


def test_worker_leaves_its_end_to_who_started_it():
    packed = b"".join(piece.packed for piece in monero_scan.pieces(TXS[:3]))
    order = monero_worker.frame(monero_worker.order(packed, VIEW_KEYS))
    answer = monero_worker.frame(monero_scan.scan(packed, VIEW_KEYS))
    with subprocess.Popen(
        monero_scanner.WORKER_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        worker.stdin.write(order)
        worker.stdin.flush()
        assert worker.stdout.read(len(answer)) == answer
        worker.send_signal(signal.SIGINT)
        worker.send_signal(signal.SIGTERM)
        worker.stdin.write(order)
        worker.stdin.close()
        assert worker.stdout.read() == answer
    assert worker.returncode == 0
