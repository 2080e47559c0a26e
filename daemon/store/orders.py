"""`actors.order_book.OrderBook` on SQLite and PostgreSQL, and in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import asdict
from functools import partial
from typing import Protocol, TypeVar
from uuid import UUID

import trio
from sqlalchemy import ColumnElement, Connection, insert, or_, select

from actors.order_book import Order
from daemon.store.schema import orders

T = TypeVar("T")

_AT_ONCE = 500
"""Values in one statement: below every limit on parameters."""


class _Run(Protocol):
    def __call__(self, run: Callable[[Connection], T], /) -> Awaitable[T]: ...


class SqlOrders:
    """The part of a store that keeps orders."""

    def __init__(self, *, write: _Run, read: _Run) -> None:
        self._write = write
        self._read = read

    async def claim_order(self, order: Order) -> Order | None:
        return await self._write(partial(_claim, order=order))

    async def order(self, order_id: int) -> Order | None:
        return await self._read(partial(_first, which=orders.c.id == order_id))

    async def order_of_invoice(self, invoice_id: UUID) -> Order | None:
        return await self._read(partial(_first, which=orders.c.invoice_id == invoice_id))

    async def orders_of_invoices(self, invoice_ids: Collection[UUID]) -> tuple[Order, ...]:
        return await self._read(partial(_of_invoices, invoice_ids=list(invoice_ids)))

    async def newest_order(self, user_id: UUID, merchant_order_id: str) -> Order | None:
        return await self._read(partial(_first, which=_named(user_id, merchant_order_id)))

    async def attempts(
        self, user_id: UUID, merchant_order_id: str, *, limit: int
    ) -> tuple[Order, ...]:
        which = _named(user_id, merchant_order_id)
        return await self._read(partial(_newest, which=which, limit=limit))


class MemoryOrders:
    """The same in memory."""

    def __init__(self) -> None:
        self._orders: dict[int, Order] = {}
        self._by_invoice: dict[UUID, Order] = {}
        self._by_name: dict[tuple[UUID, str], dict[int, Order]] = {}

    async def claim_order(self, order: Order) -> Order | None:
        await trio.lowlevel.checkpoint()
        attempts = self._by_name.setdefault((order.user_id, order.merchant_order_id), {})
        if order.attempt in attempts:
            return attempts[order.attempt]
        if order.id in self._orders or order.invoice_id in self._by_invoice:
            return None
        attempts[order.attempt] = order
        self._orders[order.id] = self._by_invoice[order.invoice_id] = order
        return order

    async def order(self, order_id: int) -> Order | None:
        await trio.lowlevel.checkpoint()
        return self._orders.get(order_id)

    async def order_of_invoice(self, invoice_id: UUID) -> Order | None:
        await trio.lowlevel.checkpoint()
        return self._by_invoice.get(invoice_id)

    async def orders_of_invoices(self, invoice_ids: Collection[UUID]) -> tuple[Order, ...]:
        await trio.lowlevel.checkpoint()
        return tuple(self._by_invoice[one] for one in invoice_ids if one in self._by_invoice)

    async def newest_order(self, user_id: UUID, merchant_order_id: str) -> Order | None:
        await trio.lowlevel.checkpoint()
        attempts = self._by_name.get((user_id, merchant_order_id))
        return attempts[max(attempts)] if attempts else None

    async def attempts(
        self, user_id: UUID, merchant_order_id: str, *, limit: int
    ) -> tuple[Order, ...]:
        await trio.lowlevel.checkpoint()
        found = self._by_name.get((user_id, merchant_order_id), {})
        return tuple(found[number] for number in sorted(found, reverse=True)[:limit])


def _named(user_id: UUID, merchant_order_id: str) -> ColumnElement[bool]:
    return (orders.c.user_id == user_id) & (orders.c.merchant_order_id == merchant_order_id)


def _first(connection: Connection, which: ColumnElement[bool]) -> Order | None:
    return next(iter(_newest(connection, which, 1)), None)


def _of_invoices(connection: Connection, invoice_ids: list[UUID]) -> tuple[Order, ...]:
    found: list[Order] = []
    for start in range(0, len(invoice_ids), _AT_ONCE):
        part = invoice_ids[start : start + _AT_ONCE]
        rows = connection.execute(select(orders).where(orders.c.invoice_id.in_(part)))
        found += (Order(**row._asdict()) for row in rows)
    return tuple(found)


def _newest(connection: Connection, which: ColumnElement[bool], limit: int) -> tuple[Order, ...]:
    query = select(orders).where(which).order_by(orders.c.attempt.desc()).limit(limit)
    return tuple(Order(**row._asdict()) for row in connection.execute(query))


def _claim(connection: Connection, order: Order) -> Order | None:
    same = _named(order.user_id, order.merchant_order_id) & (orders.c.attempt == order.attempt)
    known = _first(connection, same)
    if known is not None:
        return known
    taken = or_(orders.c.id == order.id, orders.c.invoice_id == order.invoice_id)
    if _first(connection, taken) is not None:
        return None
    connection.execute(insert(orders).values(**asdict(order)))
    return order
