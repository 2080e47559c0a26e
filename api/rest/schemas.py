"""JSON Schemas of what the API answers: the `components` of the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.chain_supervisor import ChainState
from api.convert import STATE_OF_WORD
from api.errors import KINDS
from api.rest.brands import BRAND_SCHEMA
from api.rest.keys import KEY_SCHEMAS
from api.rest.orders import ORDER_SCHEMAS
from api.rest.pay import PAGE_SCHEMAS
from api.rest.payscrypt import PAYSCRYPT_SCHEMAS
from api.rest.policies import policy_schema
from api.rest.represent import PAYMENT_STATES
from api.rest.users import USER_PAGE_SCHEMA
from api.rest.wallets import WALLET_SCHEMAS
from api.rest.webhook_views import WEBHOOK_SCHEMAS

Schema = dict[str, Any]

_HEX = "^[0-9a-f]+$"


def _text(about: str, **more: object) -> Schema:
    return {"type": "string", "description": about, **more}


def _uuid(about: str) -> Schema:
    return _text(about, format="uuid")


def _instant(about: str) -> Schema:
    return _text(about, format="date-time")


def _hash(about: str) -> Schema:
    return _text(about, pattern=_HEX)


def _flag(about: str) -> Schema:
    return {"type": "boolean", "description": about}


def _whole(about: str, minimum: int = 0) -> Schema:
    return {"type": "integer", "minimum": minimum, "description": about}


def _maybe(schema: Schema) -> Schema:
    """The same or null."""
    return {**schema, "type": [schema["type"], "null"]}


def _money(name: str, about: str) -> dict[str, Schema]:
    return {
        name: _maybe(
            _text(
                f"{about}: an exact decimal; null when the asset has left the catalogue.",
                pattern=r"^[0-9]+(\.[0-9]+)?$",
            )
        ),
        f"{name}_base": _text(f"{about}, in base units.", pattern="^[0-9]+$"),
    }


def _object(properties: dict[str, Schema], *, about: str = "") -> Schema:
    """An object that always has all of its properties."""
    schema: Schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {**schema, "description": about} if about else schema


def _items(name: str) -> Schema:
    return {"type": "array", "items": ref(name)}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_PAYMENT = _object(
    {
        "outpoint": _text("Transaction and output: `txid:index`."),
        "txid": _hash("The transaction."),
        "index": _whole("The output's index in it."),
        "asset": _text("What was paid."),
        **_money("amount", "How much"),
        "state": _text(
            "`mempool`: seen, in no block; `included`: in a block; the others: gone.",
            enum=list(PAYMENT_STATES),
        ),
        "late": _flag(
            "Came, or was unlocked, after the deadline: not credited unless it is `accepted`."
        ),
        "accepted": _flag("It is late, and the policy credits it all the same."),
        "replaceable": _flag("It signals that it may be replaced, and the policy asks for that."),
        "first_seen_at": _instant("When it was first known."),
        "height": _maybe(_whole("Its block's height.")),
        "block_hash": _maybe(_hash("Its block.")),
        "confirmations": _whole("0 in the mempool, 1 in the tip block."),
        "replaced_by": _maybe(_hash("The transaction that took its place, where known.")),
        "unlock_height": _maybe(_whole("It is locked, and not credited, below this height.")),
        "unlock_at": _maybe(_instant("It is locked, and not credited, until then.")),
        "duplicate": _flag(
            "Another payment has the same one-time key: this one counts for nothing."
        ),
        "spendable_at_height": _maybe(
            _whole(
                "The chain's height at which the money can be moved; null where nothing keeps it."
            )
        ),
    },
    about="One output to the invoice's address.",
)
_REFUSED = _object(
    {
        "outpoint": _text("Transaction and output: `txid:index`."),
        "txid": _hash("The transaction."),
        "index": _whole("The output's index in it."),
        "asset": _text("What it claims to pay."),
        "reason": _text("Why it is no payment, for people."),
    },
    about="ALARM: an output to the invoice's address that is no money.",
)
_INVOICE = _object(
    {
        "id": _uuid("The invoice."),
        "user_id": _uuid("Its user."),
        "asset": _text("What is asked for."),
        "chain": _text("The chain it is paid on."),
        "network": _text("The chain's network, as its node calls it."),
        "address": _text(
            "Where to pay; it belongs to this invoice alone, for ever, unless there is a `memo`."
        ),
        "memo": _maybe(
            _text(
                "What the payer must say with the payment (TON's comment), exactly: money without"
                " it belongs to no invoice. Null where the address is enough."
            )
        ),
        "payment_uri": _maybe(
            _text(
                "A link, or QR code, that fills in address, missing amount and memo in the payer's"
                " wallet, while there is something to pay: BIP 21, ERC-681, `monero:`, `ton:`."
            )
        ),
        "status": _text(
            "`PENDING`: waiting; `PENDING_MEMPOOL`: paid, waiting for confirmations; `CONFIRMED`,"
            " `EXPIRED` and `CANCELLED` are final.",
            enum=list(STATE_OF_WORD),
        ),
        "flags": _object(
            {
                "underpaid": _flag("Some money came, less than was asked for."),
                "overpaid": _flag("More money came than was asked for."),
                "late": _flag("Some of the money came, or was unlocked, after the deadline."),
                "reversed": _flag("ALARM: money that had confirmed the invoice is gone again."),
                "refused": _flag("ALARM: outputs came that claim an amount which nothing proves."),
            }
        ),
        **_money("amount", "What is asked for; 0 is any amount"),
        **_money("received", "All money in mempool and chain"),
        **_money("credited", "The part that came in time (or is accepted late), and not locked"),
        **_money("confirmed", "The credited part that is deep enough"),
        **_money("due", "What is still missing; 0 once the invoice is closed"),
        "confirmations_required": _whole("Depth at which money counts as final."),
        "txid": _maybe(_hash("The newest transaction that counts.")),
        "created_at": _instant("Creation."),
        "expires_at": _instant("The deadline: what is seen by then is in time."),
        "confirmed_at": _maybe(_instant("When it was confirmed.")),
        "updated_at": _instant("When the last fact was recorded."),
        "version": _whole("How many facts were recorded.", 1),
        "payments": _items("Payment"),
        "refused": _items("RefusedOutput"),
        "policy": {
            "oneOf": [ref("Policy"), {"type": "null"}],
            "description": "What was agreed beyond the plain rules; null for nothing.",
        },
        "accepted_until": _instant(
            "Until when money counts: `expires_at`, and the time in which the policy accepts late"
            " money."
        ),
        "metadata": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "What it was created with.",
        },
    },
    about="One address, one amount, one deadline, and what came.",
)
_CHAIN = _object(
    {
        "chain": _text("The chain's id."),
        "state": _text("`current` is well.", enum=[state.value for state in ChainState]),
        "reason": _maybe(_text("Why it is not current, for people.")),
        "network": _maybe(_text("The network that addresses are made for.")),
        "height": _maybe(_whole("The newest block that every invoice was told of.")),
        "block_hash": _maybe(_hash("That block.")),
        "node_height": _maybe(_whole("The node's tip.")),
        "as_of": _maybe(_instant("All that the node knew then has been told.")),
        "software": _maybe(_text("The node's name and version.")),
        "push": _maybe(_text("How the node's news arrive.")),
        "pruned_below": _maybe(_whole("The lowest block that the node still has.")),
    },
    about="How a chain is.",
)
_DUTY = _object(
    {
        "holder": _text("The process that holds it."),
        "age_s": {"type": "number", "minimum": 0, "description": "Since it last said so."},
    },
    about="What one process does for all, where several share a database; null: none does now.",
)
_ACT = _object(
    {
        "id": _whole("Its position in the trail.", 1),
        "at": _instant("When."),
        "actor": _text("Who: `key:PREFIX`, `mtls:SUBJECT`, `cli` or `anonymous`."),
        "address": _text("From where; `local` is the command line."),
        "act": _text("What: `user.registered`, `key.revoked`."),
        "target": _text("On what: an id, or the prefix of a key."),
        "detail": _text("More, for people."),
    },
    about="One administrative act.",
)
_PROBLEM = {
    "type": "object",
    "description": "What went wrong (RFC 9457).",
    "properties": {
        "type": _text("The kind, with its description.", format="uri-reference"),
        "title": _text("The kind, in words."),
        "status": _whole("The HTTP status.", 400),
        "detail": _text("What happened this time."),
        "instance": _text("The path of the request.", format="uri-reference"),
        "reason": _text("The kind, for programs.", enum=list(KINDS)),
        "advice": _text("What can be done about it."),
        "facts": {"type": "object", "additionalProperties": {"type": "string"}},
        "errors": {
            "type": "array",
            "description": "Everything that is wrong with the request.",
            "items": {
                "type": "object",
                "properties": {
                    "detail": _text("What is wrong."),
                    "pointer": _text("Where in the body (RFC 6901)."),
                    "parameter": _text("Which query parameter."),
                },
                "required": ["detail"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["type", "title", "status", "detail", "instance", "reason", "advice"],
    "additionalProperties": False,
}

SCHEMAS: Mapping[str, Schema] = {
    "User": _object({"id": _uuid("The user.")}),
    "Invoice": _INVOICE,
    "Payment": _PAYMENT,
    "RefusedOutput": _REFUSED,
    "Policy": policy_schema(),
    "InvoicePage": _object(
        {
            "items": _items("Invoice"),
            "next": _maybe(_text("The cursor of the next page; null on the last.")),
        }
    ),
    "Event": _object(
        {
            "seq": _whole("Position in the daemon's log.", 1),
            "version": _whole("Position in the invoice's history.", 1),
            "type": _text("What was recorded: `payment.seen`, `invoice.settled`, …"),
            "at": _instant("When it was recorded."),
            "data": {"type": "object", "description": "The fact's own fields."},
        },
        about="One recorded fact.",
    ),
    "History": _object({"items": _items("Event")}),
    "LogEvent": _object(
        {
            "id": _text("`<log>-<seq>`: what to de-duplicate by, the same on every channel."),
            "seq": _whole("Position in the daemon's log.", 1),
            "type": _text("What was recorded: `payment.seen`, `invoice.settled`, …"),
            "at": _instant("When it was recorded."),
            "invoice_id": _uuid("The invoice."),
            "user_id": _uuid("Its user."),
            "version": _whole("Position in the invoice's history.", 1),
            "asset": _text("The invoice's asset."),
            "data": {"type": "object", "description": "The fact's own fields."},
        },
        about="One recorded fact, with what it is about.",
    ),
    "EventPage": _object(
        {
            "items": _items("LogEvent"),
            "next_after": _whole("The cursor of the next page: `after`."),
            "has_more": _flag("Whether there may be more already."),
        }
    ),
    "Explanation": _object(
        {
            "id": _uuid("The invoice."),
            "status": _text("Its status.", enum=list(STATE_OF_WORD)),
            "reasons": {
                "type": "array",
                "minItems": 1,
                "items": _object(
                    {
                        "code": _text("The reason, for programs."),
                        "text": _text("The reason, in words."),
                    }
                ),
            },
        }
    ),
    "Asset": _object(
        {
            "id": _text("The asset's id."),
            "chain": _text("Its chain."),
            "symbol": _text("Its symbol."),
            "name": _text("Its name."),
            "exponent": _whole("Decimals."),
            "contract": _maybe(_text("A token's contract.")),
            "enabled": _flag("Whether an invoice can ask for it."),
            "reason": _maybe(_text("Why it is not enabled, for people.")),
        }
    ),
    "Assets": _object({"items": _items("Asset")}),
    "Chain": _CHAIN,
    "Chains": _object({"items": _items("Chain")}),
    "LogTip": _object(
        {
            "log_id": _text("What event ids begin with."),
            "seq": _whole("The newest event's number; 0 in an empty log."),
            "hash": _text("Its link: SHA-256 in hexadecimal.", pattern="^[0-9a-f]{64}$"),
            "anchor": _text("Both, as `tallyd audit --log --anchor` takes them."),
        }
    ),
    "Alive": _object({"status": _text("Always `ok`.", const="ok")}),
    "Readiness": _object(
        {
            "ready": _flag("Whether all is well."),
            "store": _object(
                {
                    "ready": _flag("Whether the store answers."),
                    "reason": _maybe(_text("Why not, for people.")),
                }
            ),
            "chains": {"type": "object", "additionalProperties": ref("Chain")},
            "roles": {"type": "array", "items": _text("What this process does, beside others.")},
            "duties": {"type": "object", "additionalProperties": _maybe(_DUTY)},
        }
    ),
    "AuditPage": _object(
        {
            "items": {"type": "array", "items": _ACT},
            "next": _maybe(_whole("`before` of the next page; null on the last.", 1)),
        }
    ),
    **WEBHOOK_SCHEMAS,
    "UserPage": USER_PAGE_SCHEMA,
    "Brand": BRAND_SCHEMA,
    **WALLET_SCHEMAS,
    **ORDER_SCHEMAS,
    **KEY_SCHEMAS,
    **PAYSCRYPT_SCHEMAS,
    **PAGE_SCHEMAS,
    "Problem": _PROBLEM,
}
