"""What must hold in the end, when everything is mended and everybody had time."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import trio

from actors.core.invoice import State
from actors.core.webhook import Pause
from tests.sim.backend import Promise
from tests.sim.disk import LOG_ID
from tests.sim.readers import Heard, Reader, StatusReader
from tests.sim.receivers import Receiver
from tests.sim.scheduling import until

if TYPE_CHECKING:
    from tests.sim.history import History

READ_S = 200.0
LATER_S = 9 * 3600
"""Longer than any distance between two attempts of a webhook."""
STATUS = {
    State.PENDING: 0,
    State.SEEN: 1,
    State.EXPIRED: 2,
    State.CANCELLED: 2,
    State.SETTLED: 3,
}
"""GoiPay's numbers."""


async def check_end(history: History) -> None:
    """Raises AssertionError, saying what does not hold."""
    world = history.world
    answered = await until(lambda: all(one.idle for one in world.backends), within_s=READ_S)
    assert answered, "a backend waits for its answer"
    _slow_down(history, 10.0)
    await _deliver(history)
    _slow_down(history, 1.0)
    await history.rest()
    _slow_down(history, 10.0)
    log = world.disk.log
    await until(lambda: all(_has_all(one, len(log)) for one in world.readers), within_s=READ_S)
    world.disk.check()
    _check_addresses(history)
    _check_promises(history)
    events = [
        Heard(one.seq, f"{LOG_ID}-{one.seq}", one.event.kind, str(one.invoice_id), one.version)
        for one in log
    ]
    users = {str(one.terms.invoice_id): one.terms.user_id for one in world.disk.states()}
    for reader in world.readers:
        _check_reader(history, reader, events, users)
    for receiver in history.hooks:
        _check_receiver(history, receiver, events)
    world._bury(world.process)


def _slow_down(history: History, heartbeat_s: float) -> None:
    """Heartbeats are most of what a history costs while it only waits."""
    for one in history.world.chains.values():
        one.node.heartbeat_s = heartbeat_s
        one.node.beat()


def _has_all(reader: Reader, last_seq: int) -> bool:
    return isinstance(reader, StatusReader) or reader.seq >= last_seq


async def _deliver(history: History) -> None:
    """Resume what is paused, and let time pass until nothing is owed to anybody."""
    world = history.world

    def served() -> bool:
        return all(_settled(history, receiver) for receiver in history.hooks)

    for _ in range(4):
        for receiver in history.hooks:
            added = await until(lambda one=receiver: one.webhook_id is not None, within_s=READ_S)
            assert added, "an endpoint cannot be added"
            endpoint = world.disk.webhooks._endpoints[receiver.webhook_id]
            if endpoint.health.paused is not None:
                assert endpoint.health.paused is not Pause.ASKED
                await history._of_webhook("resume", endpoint.id, from_now=False)
        if await until(served, within_s=READ_S):
            return
        world.clock.jump(LATER_S)
        await trio.sleep(70)


def _settled(history: History, receiver: Receiver) -> bool:
    """Nothing is owed to it; its stored cursor may be behind over what it does not want."""
    rows = history.world.disk.webhooks._owed.get(receiver.webhook_id, {}).values()
    return not _missing(history, receiver) and all(row.dead for row in rows)


def _missing(history: History, receiver: Receiver) -> list[int]:
    """Events that it should have and has not, but for those that were given up."""
    disk = history.world.disk
    rows = disk.webhooks._owed.get(receiver.webhook_id, {})
    dead = {row.seq for row in rows.values() if row.dead}
    taken = {*receiver.taken.values()} | dead
    return [
        one.seq
        for one in disk.log[receiver.first_seq :]
        if one.seq not in taken
        and (not receiver.types or one.event.kind in receiver.types)
        and receiver.user_id in (None, disk.state(one.invoice_id).terms.user_id)
    ]


def _check_addresses(history: History) -> None:
    terms = [invoice.terms for invoice in history.world.disk.states()]
    assert len({(one.chain, one.destination) for one in terms}) == len(terms), "an address twice"
    keys = [dict(one.metadata)["key"] for one in terms if one.metadata]
    assert len(set(keys)) == len(keys), "two invoices for one idempotency key"


def _check_promises(history: History) -> None:
    """What a backend was told is recorded, and it is what it asked for."""
    for backend in history.world.backends:
        assert not backend.given_up, "a backend was never answered"
        for promise in backend.promises:
            _check_promise(history, promise, backend.user_id)
        for invoice_id, cancelled in backend.cancelled.items():
            state = history.world.disk.state(invoice_id)
            assert state is not None
            assert not cancelled or state.state is State.CANCELLED


def _check_promise(history: History, promise: Promise, user_id: UUID) -> None:
    invoice = history.world.disk.state(promise.invoice_id)
    assert invoice is not None, f"invoice {promise.invoice_id} was promised, and is lost"
    terms, wish = invoice.terms, promise.wish
    assert terms.user_id == user_id
    assert terms.address == promise.address
    assert (terms.chain, terms.required_base) == (wish.chain, wish.amount_base)
    assert terms.expires_at_ms == terms.created_at_ms + max(10, wish.ttl_s) * 1000
    assert terms.policy == wish.policy
    if wish.confirmations is not None and wish.channel != "goipay":
        assert terms.confirmations == wish.confirmations


def _check_reader(
    history: History, reader: Reader, log: list[Heard], users: dict[str, UUID]
) -> None:
    if isinstance(reader, StatusReader):
        states = {str(i.terms.invoice_id): STATUS[i.state] for i in history.world.disk.states()}
        known = {str(one) for one in history.promised()}
        wrong = {
            one: (status, states[one])
            for one, status in reader.statuses.items()
            if one in known and status != states[one]
        }
        assert not wrong, f"a status reader has other statuses: {wrong}"
        return
    wanted = [
        one
        for one in log
        if (not reader.types or one.type in reader.types)
        and (reader.user_id is None or users[one.invoice_id] == reader.user_id)
    ]
    missing = [one for one in wanted if one not in reader.heard]
    strange = [one for one in reader.heard if one not in wanted]
    assert reader.heard == wanted, (
        f"a {type(reader).__name__} of {reader.user_id} {reader.types} at {reader.seq} of"
        f" {len(log)} lacks {missing[:5]} and has {strange[:5]}"
    )


def _check_receiver(history: History, receiver: Receiver, log: list[Heard]) -> None:
    assert receiver.webhook_id is not None
    missing = _missing(history, receiver)
    assert not missing, f"{receiver.url} lacks {missing[:5]} of {len(log)}"
    ids = {one.id: one.seq for one in log}
    assert receiver.taken.items() <= ids.items(), "a webhook tells what is not in the log"
    rows = history.world.disk.webhooks._owed.get(receiver.webhook_id, {})
    dead = {row.seq for row in rows.values() if row.dead}
    for invoice_id, seqs in receiver.lanes.items():
        in_order = [seq for seq in seqs if seq not in dead]
        assert in_order == sorted(in_order), f"the webhooks of {invoice_id} came out of order"
