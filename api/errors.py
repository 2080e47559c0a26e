"""How a call can be refused: one table for every wire.

A refusal of the core, or a failure of the store, becomes an Answer: a kind (gRPC status, HTTP
status, title, reason code), the exact text that GoiPay clients compare with, and a detail for
people. `api.grpc` and `api.rest` give it their form; no other module knows a status code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

from actors.core.outcomes import (
    AmountRefused,
    AssetDisabled,
    KeyInUse,
    KeyRefused,
    MetadataRefused,
    NoKey,
    NoSuchInvoice,
    NoSuchUser,
    NotCancellable,
    PolicyRefused,
    Refusal,
    UnknownAsset,
    UserExists,
)
from actors.outbox import CursorRefused
from actors.ports import PersistentError, TransientError

INVALID_ARGUMENT, FAILED_PRECONDITION, INTERNAL = 3, 9, 13
"""Status codes of gRPC (grpc/doc/statuscodes.md); GoiPay answers with the first and the last."""

ALREADY_EXISTS, PERMISSION_DENIED, RESOURCE_EXHAUSTED, ABORTED, UNAUTHENTICATED = 6, 7, 8, 10, 16

INVALID_USER_ID = "Invalid userId (invalid UUID)."
INVALID_PAYMENT_ID = "Invalid paymentId (invalid UUID)."
INVOICE_FAILED = "An error occurred while handling invoice."
QUERY_FAILED = "An error occurred while executing a SQL query."


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to be refused."""

    reason: str
    """For programs: `USER_EXISTS`. The same on every wire."""
    http: int
    title: str
    """Says what happened in general; the same for every answer of this kind (RFC 9457)."""
    advice: str
    """What the caller can do about it."""
    grpc: int = INTERNAL
    retry_after_s: int | None = None

    @property
    def slug(self) -> str:
        return self.reason.lower().replace("_", "-")


KINDS: Mapping[str, Kind] = {
    kind.reason: kind
    for kind in (
        Kind(
            "USER_EXISTS",
            409,
            "The user exists already",
            "Register another id, or go on with the user that is there.",
            INVALID_ARGUMENT,
        ),
        Kind(
            "NO_SUCH_USER",
            404,
            "No such user",
            "Register the user first, and check the id.",
            INVALID_ARGUMENT,
        ),
        Kind(
            "INVALID_USER_ID",
            404,
            "Not a user id",
            "A user id is a UUID: 36 characters, or 32 hexadecimal digits.",
            INVALID_ARGUMENT,
        ),
        Kind(
            "NO_SUCH_INVOICE",
            404,
            "No such invoice",
            "Check the id; invoices are never deleted.",
            INVALID_ARGUMENT,
        ),
        Kind(
            "INVALID_INVOICE_ID",
            404,
            "Not an invoice id",
            "An invoice id is a UUID: 36 characters, or 32 hexadecimal digits.",
            INVALID_ARGUMENT,
        ),
        Kind(
            "KEY_REFUSED",
            422,
            "The key cannot be used",
            "Give an extended public key of the account (Monero: private view key and public"
            " spend key); `tallyd keys preview` shows what a key gives. No key of the request was"
            " stored.",
            INVALID_ARGUMENT,
        ),
        Kind(
            "KEY_IN_USE",
            409,
            "The key belongs to another user",
            "Give every user a key (an account) of its own: with the same key two users would be"
            " given the same addresses.",
        ),
        Kind(
            "NO_KEY",
            409,
            "The user has no key for this chain",
            "Set the user's key first, then create the invoice.",
        ),
        Kind(
            "UNKNOWN_ASSET",
            422,
            "Unknown asset",
            "Ask for one of the assets that `GET /v1/assets` lists.",
        ),
        Kind(
            "ASSET_DISABLED",
            503,
            "The asset cannot be used now",
            "Its chain is not configured, or its node has not answered; `GET /v1/chains` says why.",
            retry_after_s=30,
        ),
        Kind(
            "AMOUNT_REFUSED",
            422,
            "The amount cannot be asked for",
            "Give an amount of 0 or more; 0 asks for any amount.",
            INVALID_ARGUMENT,
        ),
        Kind(
            "POLICY_REFUSED",
            422,
            "The policy cannot be used",
            "Mend what the detail says; docs/invoice-states.md says what policies do.",
            INVALID_ARGUMENT,
        ),
        Kind(
            "METADATA_REFUSED",
            422,
            "The metadata cannot be kept",
            "Keep less with the invoice: texts by name, at most 4 KB as JSON.",
            INVALID_ARGUMENT,
        ),
        Kind(
            "NOT_CANCELLABLE",
            409,
            "The invoice cannot be cancelled",
            "Only an invoice that waits and has received nothing can be cancelled.",
            FAILED_PRECONDITION,
        ),
        Kind(
            "UNAUTHENTICATED",
            401,
            "The caller is not known",
            "Send `Authorization: Bearer` and an API key; `tallyd access add` makes one.",
            UNAUTHENTICATED,
        ),
        Kind(
            "FORBIDDEN",
            403,
            "The caller may not do this",
            "Use a key with the scope that the detail names.",
            PERMISSION_DENIED,
        ),
        Kind(
            "RATE_LIMITED",
            429,
            "Too many requests",
            "Wait for the seconds that Retry-After says (gRPC: RetryInfo).",
            RESOURCE_EXHAUSTED,
        ),
        Kind(
            "IDEMPOTENCY_KEY_REUSED",
            409,
            "The idempotency key was used for something else",
            "Send the same input again, or another key for another input.",
            ALREADY_EXISTS,
        ),
        Kind(
            "IDEMPOTENCY_KEY_AT_WORK",
            409,
            "The first request with this idempotency key is not finished",
            "Send the same request again in a moment.",
            ABORTED,
            retry_after_s=1,
        ),
        Kind(
            "IDEMPOTENCY_KEY_REFUSED",
            400,
            "This is no idempotency key",
            "Give 1 to 200 characters of printable ASCII, for example a UUID.",
            INVALID_ARGUMENT,
        ),
        Kind(
            "NO_SUCH_WALLET",
            404,
            "No such wallet",
            "Check the number; `GET /v1/wallets` lists those that there are.",
        ),
        Kind(
            "WALLET_REFUSED",
            422,
            "The wallet cannot be so",
            "Mend what `errors` lists; nothing was stored.",
            INVALID_ARGUMENT,
        ),
        Kind(
            "TOO_MANY_WALLETS",
            409,
            "There are too many wallets",
            "Change one of those that there are; archived ones count, and can be restored.",
        ),
        Kind(
            "NO_SUCH_ORDER",
            404,
            "No such order",
            "Check the id: it is the one that createOrder answered, not the shop's own number.",
        ),
        Kind(
            "NO_SUCH_KEY",
            404,
            "No such API key",
            "Check the prefix; `GET /v1/keys` lists those that there are.",
        ),
        Kind(
            "NO_SUCH_WEBHOOK",
            404,
            "No such webhook",
            "Check the id; `GET /v1/webhooks` lists those that there are.",
        ),
        Kind(
            "INVALID_WEBHOOK_ID",
            404,
            "Not a webhook id",
            "A webhook id is a UUID: 36 characters, or 32 hexadecimal digits.",
        ),
        Kind(
            "WEBHOOK_URL_REFUSED",
            422,
            "Webhooks cannot be sent to this URL",
            "Give an https URL on a public address, or ask whoever runs the daemon to allow it.",
        ),
        Kind(
            "TOO_MANY_WEBHOOKS",
            409,
            "There are too many webhooks",
            "Remove those that are not used any more.",
        ),
        Kind(
            "CANNOT_REDELIVER",
            422,
            "This cannot be sent again",
            "Take event ids from the log of attempts, and ask for less at once.",
        ),
        Kind(
            "STORE_UNAVAILABLE",
            503,
            "The database cannot be used now",
            "Nothing was stored. Try again in a moment.",
            retry_after_s=1,
        ),
        Kind(
            "OPERATOR_NEEDED",
            503,
            "The daemon needs its operator",
            "Nothing was stored. The daemon's log says what has to be mended.",
            retry_after_s=30,
        ),
        Kind(
            "INVALID_REQUEST",
            422,
            "The request is not valid",
            "Mend what `errors` lists; nothing was stored.",
            INVALID_ARGUMENT,
        ),
        Kind(
            "CURSOR_REFUSED",
            422,
            "The cursor cannot be used",
            "Give the `seq` or `id` of the last event that you have.",
            INVALID_ARGUMENT,
        ),
        Kind("MALFORMED_JSON", 400, "The body is not JSON", "Send one JSON object in UTF-8."),
        Kind("BAD_REQUEST", 400, "The request cannot be understood", "See the detail."),
        Kind("NOT_FOUND", 404, "Nothing is here", "The paths that exist are listed at /docs."),
        Kind(
            "METHOD_NOT_ALLOWED",
            405,
            "The method is not allowed here",
            "The Allow header lists the methods of this path.",
        ),
        Kind("BODY_TIMEOUT", 408, "The body did not arrive in time", "Send the request again."),
        Kind("BODY_TOO_LARGE", 413, "The body is too large", "Send a smaller request."),
        Kind(
            "NOT_JSON",
            415,
            "The body has an unsupported media type",
            "Send `Content-Type: application/json`.",
        ),
        Kind(
            "TOO_MANY_WAITING",
            503,
            "Too many requests are waiting",
            "Ask without `wait`, or again in a moment.",
            retry_after_s=5,
        ),
        Kind(
            "BUG",
            500,
            "The daemon failed",
            "This is a fault of tallyd, not of the request; the daemon's log has the details.",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One refusal, in words."""

    kind: Kind
    detail: str
    """What happened this time, for people; never a key or a credential."""
    goipay: str = ""
    """GoiPay's exact text; empty where GoiPay has no such refusal."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """The values concerned, for programs."""


def answer(refusal: Refusal) -> Answer:
    """The answer to an expected refusal."""
    match refusal:
        case UserExists():
            return _answer(
                "USER_EXISTS",
                f"User {refusal.user_id} is registered already.",
                "Invalid userId (user exists).",
                user_id=str(refusal.user_id),
            )
        case NoSuchUser():
            return _answer(
                "NO_SUCH_USER",
                f"There is no user {refusal.user_id}.",
                "Invalid userId (user does not exist).",
                user_id=str(refusal.user_id),
            )
        case NoSuchInvoice():
            return _answer(
                "NO_SUCH_INVOICE",
                f"There is no invoice {refusal.invoice_id}.",
                invoice_id=str(refusal.invoice_id),
            )
        case KeyRefused():
            return _answer(
                "KEY_REFUSED",
                f"The {refusal.chain.upper()} key ({refusal.field}): {refusal.reason}.",
                _key_text(refusal),
                chain=refusal.chain,
                field=refusal.field,
            )
        case KeyInUse():
            return _answer(
                "KEY_IN_USE",
                f"The {refusal.chain.upper()} key belongs to another user.",
                QUERY_FAILED,
                chain=refusal.chain,
            )
        case AmountRefused():
            return _answer(
                "AMOUNT_REFUSED",
                f"The amount is refused: {refusal.reason}.",
                "Invoice amount can't be below 0.",
            )
        case PolicyRefused() | MetadataRefused() | NotCancellable():
            return _terms_answer(refusal)
        case NoKey() | UnknownAsset() | AssetDisabled():
            return _asset_answer(refusal)
        case _:
            assert_never(refusal)


def failure(error: TransientError | PersistentError) -> Answer:
    """The answer when the world failed: nothing has happened then."""
    reason = "STORE_UNAVAILABLE" if isinstance(error, TransientError) else "OPERATOR_NEEDED"
    return _answer(reason, str(error), QUERY_FAILED)


def invalid_user_id() -> Answer:
    return _answer("INVALID_USER_ID", KINDS["INVALID_USER_ID"].advice, INVALID_USER_ID)


def invalid_invoice_id() -> Answer:
    return _answer("INVALID_INVOICE_ID", KINDS["INVALID_INVOICE_ID"].advice, INVALID_PAYMENT_ID)


def _terms_answer(refusal: PolicyRefused | MetadataRefused | NotCancellable) -> Answer:
    match refusal:
        case PolicyRefused():
            return _answer(
                "POLICY_REFUSED", f"The policy is refused: {refusal.reason}.", INVOICE_FAILED
            )
        case MetadataRefused():
            return _answer(
                "METADATA_REFUSED", f"The metadata is refused: {refusal.reason}.", INVOICE_FAILED
            )
        case NotCancellable():
            return _answer(
                "NOT_CANCELLABLE",
                f"Invoice {refusal.invoice_id} is {refusal.state}, or money has come to it.",
                invoice_id=str(refusal.invoice_id),
                state=refusal.state,
            )


def cursor_refused(refusal: CursorRefused) -> Answer:
    reason = refusal.reason
    return _answer("CURSOR_REFUSED", f"{reason[:1].upper()}{reason[1:]}.", cursor=refusal.cursor)


def invalid_webhook_id() -> Answer:
    return _answer("INVALID_WEBHOOK_ID", KINDS["INVALID_WEBHOOK_ID"].advice)


def _asset_answer(refusal: NoKey | UnknownAsset | AssetDisabled) -> Answer:
    match refusal:
        case NoKey():
            return _answer(
                "NO_KEY",
                f"User {refusal.user_id} has given no key for {refusal.chain.upper()}.",
                INVOICE_FAILED,
                user_id=str(refusal.user_id),
                chain=refusal.chain,
            )
        case UnknownAsset():
            return _answer(
                "UNKNOWN_ASSET",
                f"This daemon knows no asset {refusal.asset!r}.",
                INVOICE_FAILED,
                asset=refusal.asset,
            )
        case AssetDisabled():
            return _answer(
                "ASSET_DISABLED",
                f"{refusal.asset} cannot be used now: {refusal.reason}.",
                INVOICE_FAILED,
                asset=refusal.asset,
            )


def _answer(reason: str, detail: str, goipay: str = "", **facts: str) -> Answer:
    return Answer(KINDS[reason], detail, goipay, facts)


def _key_text(refusal: KeyRefused) -> str:
    match refusal.chain, refusal.field:
        case "xmr", "privViewKey":
            return "Invalid XMR private view key."
        case "xmr", _:
            return "Invalid XMR public spend key."
        case "ton", _:
            return "Invalid TON public key."
        case chain, _:
            return f"Invalid {chain.upper()} master public key."
