"""Two processes take requests for one store, and a third watches: the same is made once."""

from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio

from actors.chain_desk import ChainDesk
from actors.chain_standing import watch_duty
from actors.core.invoice import Invoice
from actors.idempotency import Idempotency
from actors.invoicing import Invoicing, NewInvoice
from actors.new_order import NewOrder
from actors.orders import FINISH_WITHIN_S, OrderReused, Orders, PlacedOrder
from actors.ports import TransientError
from actors.remote_chain import RemoteChain
from actors.repeats import Repeats
from api.access import IN_PROCESS
from tests.helpers.duties import DutyBoard
from tests.helpers.house import BTC_KEY, CATALOGUE, House, open_house
from tests.helpers.orders import make_wallet


@dataclass
class Door:
    """One process that takes requests."""

    invoicing: Invoicing
    orders: Orders
    repeats: Repeats


@asynccontextmanager
async def two_doors():
    board = DutyBoard()
    async with open_house(chains=("btc",)) as house, trio.open_nursery() as nursery:
        watcher = board.member()
        await watcher.take(watch_duty("btc"), holder="the one that watches")

        async def know(_account_id: int) -> None:
            await trio.lowlevel.checkpoint()

        desk = ChainDesk(
            house.supervisors["btc"],
            duties=watcher,
            store=house.store,
            know_account=know,
            log=house.log,
        )
        await desk.greet()
        nursery.start_soon(desk.run)
        yield house, [_door(house, board) for _ in range(2)]
        nursery.cancel_scope.cancel()


def _door(house: House, board: DutyBoard) -> Door:
    supervisor = house.supervisors["btc"]
    chain = RemoteChain(
        supervisor.chain,
        policy=supervisor.policy,
        duties=board.member(),
        store=house.store,
        cursor=None,
    )
    invoicing = Invoicing(
        store=house.store,
        deriver=house.keyring,
        catalogue=CATALOGUE,
        chains={"btc": chain},
        clock=house.clock,
    )
    idempotency = Idempotency(house.store, clock=house.clock, log=house.log)
    return Door(
        invoicing,
        Orders(invoicing, store=house.store, clock=house.clock, alone=False),
        Repeats(invoicing, idempotency),
    )


async def at_once(*calls):
    """What came of each; a TransientError is an outcome as well."""
    outcomes = [None] * len(calls)

    async def note(number, call) -> None:
        try:
            outcomes[number] = await call()
        except TransientError as error:
            outcomes[number] = error

    async with trio.open_nursery() as nursery:
        for number, call in enumerate(calls):
            nursery.start_soon(note, number, call)
    return outcomes


async def test_a_key_at_both_doors_makes_one_invoice(autojump_clock):
    async with two_doors() as (house, doors):
        user_id = await house.user()
        wanted = NewInvoice(user_id, "BTC", 1000, 600_000, 1)
        made = await at_once(
            *(
                lambda door=door: door.repeats.create_invoice(wanted, caller=IN_PROCESS, key="k")
                for door in doors
            )
        )
        assert isinstance(made[0], Invoice)
        assert made[0] == made[1]
        again = await doors[1].repeats.create_invoice(wanted, caller=IN_PROCESS, key="k")
        assert again == made[0]
        assert await house.store.last_seq() == 1


def _ask(door: Door, wallet, amount_base: int, **more):
    wanted = NewOrder(
        merchant_order_id="A-17",
        asset_name="BTC",
        target_value=str(amount_base),
        pg_wallet_id=wallet.id,
        **more,
    )
    return lambda: door.orders.create(wanted, caller=IN_PROCESS)


async def test_an_order_at_both_doors_is_one_order(autojump_clock):
    async with two_doors() as (house, doors):
        wallet = await make_wallet(house, await house.user(), btc=BTC_KEY)
        made = await at_once(*(_ask(door, wallet, 1000) for door in doors))
        assert isinstance(made[0], PlacedOrder)
        assert (made[0].order, made[0].invoice) == (made[1].order, made[1].invoice)
        assert await house.store.last_seq() == 1


async def test_two_amounts_at_two_doors_are_one_order_and_a_refusal(autojump_clock):
    async with two_doors() as (house, doors):
        wallet = await make_wallet(house, await house.user(), btc=BTC_KEY)
        made = await at_once(_ask(doors[0], wallet, 1000), _ask(doors[1], wallet, 2000))
        assert sorted(type(one).__name__ for one in made) == ["OrderReused", "PlacedOrder"]
        assert OrderReused("A-17") in made
        assert await house.store.last_seq() == 1


async def test_two_descriptions_at_two_doors_are_not_two_orders(autojump_clock):
    async with two_doors() as (house, doors):
        wallet = await make_wallet(house, await house.user(), btc=BTC_KEY)
        asked = [
            _ask(door, wallet, 1000, description=text)
            for door, text in zip(doors, "ab", strict=True)
        ]
        made = await at_once(*asked)
        assert await house.store.last_seq() == 1
        placed = [one for one in made if isinstance(one, PlacedOrder)]
        assert len(placed) == 1
        (other,) = [ask for ask, one in zip(asked, made, strict=True) if one is not placed[0]]
        assert await at_once(other) == [OrderReused("A-17")]


async def test_an_order_that_another_process_left_half_made_is_replaced_after_a_while(
    autojump_clock,
):
    async with two_doors() as (house, doors):
        wallet = await make_wallet(house, await house.user(), btc=BTC_KEY)
        await _claimed(doors[0], wallet)
        other = _ask(doors[1], wallet, 1000, description="b")
        with pytest.raises(TransientError, match="with other parameters"):
            await other()
        await trio.sleep(FINISH_WITHIN_S)
        placed = await other()
        assert isinstance(placed, PlacedOrder)
        assert placed.order.attempt == 2


async def _claimed(door: Door, wallet) -> None:
    """An order's row without its invoice, as a process leaves it that is killed."""

    async def killed(*_args, **_kwargs):
        raise TransientError("killed")

    door.invoicing.create_invoice = killed
    with pytest.raises(TransientError, match="killed"):
        await _ask(door, wallet, 1000, description="a")()
