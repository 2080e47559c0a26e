"""`tallyd orders …`: merchants' orders, as the running daemon has them."""

from __future__ import annotations

import argparse
from typing import Any
from urllib.parse import quote, urlencode

from daemon.commands.access import columns
from daemon.commands.asking import ask, group
from daemon.config import Config


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = group(commands, "orders", "merchants' orders")
    made = command("show", _show, "one order, and what came for it")
    made.add_argument("id", metavar="ORDER", help="its id, as createOrder answered it")
    made = command("find", _find, "the orders of a merchant's number, the newest first")
    made.add_argument("user", metavar="MERCHANT", help="the merchant's id")
    made.add_argument("number", metavar="NUMBER", help="what the merchant calls the order")
    made = command("cancel", _cancel, "withdraw one to which nothing was paid")
    made.add_argument("id", metavar="ORDER", help="its id, as createOrder answered it")


def _show(config: Config, arguments: argparse.Namespace) -> int:
    order = ask(config, "GET", _path(arguments))
    for line in _lines(order):
        print(line)
    return 0


def _find(config: Config, arguments: argparse.Namespace) -> int:
    query = urlencode({"user_id": arguments.user, "merchant_order_id": arguments.number})
    rows = [("ORDER", "STATUS", "RECEIVED", "CREATED", "INVOICE")]
    rows += [
        (one["id"], one["status"], _received(one["invoice"]), one["created_at"], _invoice_id(one))
        for one in ask(config, "GET", f"/v1/orders?{query}")["items"]
    ]
    for line in columns(rows):
        print(line)
    return 0


def _cancel(config: Config, arguments: argparse.Namespace) -> int:
    ask(config, "POST", _path(arguments, "/cancel"))
    print(f"order {arguments.id} is cancelled; its address stays watched")
    return 0


def _path(arguments: argparse.Namespace, more: str = "") -> str:
    return f"/v1/orders/{quote(arguments.id, safe='')}{more}"


def _lines(order: dict[str, Any]) -> list[str]:
    invoice = order["invoice"]
    # What the shop wrote is foreign text: nothing of it may move the terminal's cursor.
    rows = {
        "Order": order["id"],
        "Number": f"{order['merchant_order_id']!r}, attempt {order['attempt']}",
        "Merchant": f"{order['user_id']} {order['merchant_name']!r}",
        "Wallet": str(order["wallet_id"]),
        "Status": f"{order['status']}, {order['confirmations']} of"
        f" {invoice['confirmations_required']} confirmations",
        "Amount": _received(invoice),
        "Address": invoice["address"],
        "Created": order["created_at"],
        "Expires": invoice["expires_at"],
        "About": repr(order["description"]),
        "Sends to": repr(order["callback_url"]),
        "Page": order["page_url"],
        "Invoice": f"{_invoice_id(order)} (`tallyd invoice show` says why it is as it is)",
    }
    found = [f"{name:<9} {value}" for name, value in rows.items()]
    payments = [
        f"  {one['outpoint']}  {one['amount']} {one['asset']}  {one['state']},"
        f" {one['confirmations']} confirmations{', late' if one['late'] else ''}"
        for one in invoice["payments"]
    ]
    return [*found, "", "Payments", *(payments or ["  none"])]


def _received(invoice: dict[str, Any]) -> str:
    return f"{invoice['received']} of {invoice['amount']} {invoice['asset']}"


def _invoice_id(order: dict[str, Any]) -> str:
    return str(order["invoice"]["id"])
