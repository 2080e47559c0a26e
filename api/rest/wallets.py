"""`/v1/wallets`: the sets of keys and assets from which merchants' orders are paid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from actors.core.assets import Catalogue
from actors.core.outcomes import KeyRefused, NoSuchUser, UnknownAsset
from actors.core.policy import MAX_CONFIRMATIONS
from actors.invoicing import MIN_TTL_MS
from actors.wallets import (
    MAX_EXPIRY_MS,
    MAX_NAME,
    NoSuchWallet,
    Wallet,
    WalletAsset,
    WalletRefusal,
    WalletRefused,
)
from api.convert import format_instant
from api.errors import KINDS, Answer, answer
from api.rest import fields
from api.rest import json_schema as schema
from api.rest.edge import Edge
from api.rest.fields import Field, Shape, UnfitError, described, shown
from api.rest.operation import Incoming, Operation, Reply, Success
from api.rest.problems import Fault, Problem
from api.rest.users import key_fields

MAX_ASSETS = 500
PAGE = 100
MAX_PAGE = 500
_ONE = "/v1/wallets/{wallet_id}"
_OF_USER = "/v1/users/{user_id}/wallets"
_WORDS = {"wallet_id": "The wallet's number, the `pg_wallet_id` of orders."}
_USER_REFUSALS = ("NO_SUCH_USER", "INVALID_USER_ID")
_REFUSALS = ("KEY_REFUSED", "KEY_IN_USE", "UNKNOWN_ASSET", "WALLET_REFUSED")
_POINTERS = {"confirmations": "assets", "expiry": "assets"}
"""Where in the body the fields of `WalletRefused` stand, if not under their own names."""


class WalletOperations:
    """Makes, shows, changes and archives wallets."""

    def __init__(self, edge: Edge) -> None:
        self._wallets = edge.wallets
        self._invoicing = edge.invoicing
        self._audit = edge.audit
        self._fields = _Fields(edge.invoicing.catalogue)

    def operations(self) -> tuple[Operation, ...]:
        return (*self._of_users(), *self._of_one())

    def _of_users(self) -> tuple[Operation, ...]:
        wallets = (Success(200, "The wallets.", "Wallets"),)
        in_order = "By number, archived ones too."
        return (
            Operation(
                id="addWallet",
                method="POST",
                path=_OF_USER,
                tag="Wallets",
                summary="Make a wallet",
                about=(
                    "For orders: a set of keys, one for each chain, and the assets that can be"
                    " asked for. The same key again is the same account, whose addresses go on;"
                    " the user's own keys stay as they are. Without `assets` it has every asset of"
                    " its keys' chains."
                ),
                handle=self._add,
                body=Shape((_required(_NAME), self._fields.keys, self._fields.assets)),
                example={"name": "Web shop", **self._fields.example},
                successes=(Success(201, "The wallet.", "Wallet"),),
                refusals=(*_USER_REFUSALS, *_REFUSALS, "TOO_MANY_WALLETS"),
            ),
            Operation(
                id="listWalletsOfUser",
                method="GET",
                path=_OF_USER,
                tag="Wallets",
                summary="List a merchant's wallets",
                about=in_order,
                handle=self._list_of_user,
                successes=wallets,
                refusals=_USER_REFUSALS,
            ),
            Operation(
                id="listWallets",
                method="GET",
                path="/v1/wallets",
                tag="Wallets",
                summary="List wallets",
                about=in_order,
                handle=self._list,
                query=Shape((_AFTER, _LIMIT)),
                shared=True,
                successes=(Success(200, "A page of wallets.", "WalletPage"),),
            ),
        )

    def _of_one(self) -> tuple[Operation, ...]:
        wallet = (Success(200, "The wallet, as it is now.", "Wallet"),)

        def one(**more: Any) -> Operation:
            refusals = ("NO_SUCH_WALLET", *more.pop("refusals", ()))
            return Operation(
                path=f"{_ONE}{more.pop('more_path', '')}",
                path_words=_WORDS,
                tag="Wallets",
                shared=True,
                successes=wallet,
                refusals=refusals,
                **more,
            )

        return (
            one(id="getWallet", method="GET", summary="Read a wallet", handle=self._read),
            one(
                id="changeWallet",
                method="PATCH",
                summary="Change a wallet",
                about=(
                    "What is left out stays. `keys` replaces the keys of the chains that it names,"
                    " null takes one out; `assets` is the whole list. Orders that exist keep their"
                    " address, confirmations and time to pay."
                ),
                handle=self._change,
                body=Shape((_NAME, self._fields.changed_keys, self._fields.assets)),
                example={"name": "Web shop"},
                refusals=_REFUSALS,
            ),
            one(
                id="archiveWallet",
                method="POST",
                more_path="/archive",
                summary="Take no new orders with a wallet",
                about="For new orders there is no such wallet then; those that exist go on.",
                handle=self._archive,
            ),
            one(
                id="restoreWallet",
                method="POST",
                more_path="/restore",
                summary="Take orders with an archived wallet again",
                handle=self._restore,
            ),
        )

    # --- handlers ---------------------------------------------------------------------------------

    async def _add(self, incoming: Incoming) -> Reply:
        body = incoming.body
        outcome = await self._wallets.add(
            incoming.ids["user_id"],
            name=body["name"],
            keys=list(body.get("keys", {}).items()),
            assets=body.get("assets"),
        )
        wallet = _good(outcome)
        detail = f"user {wallet.user_id}, {', '.join(wallet.accounts) or 'no keys'}"
        await self._record(incoming, "added", wallet, detail)
        return Reply(201, wallet_json(wallet), headers={"Location": f"/v1/wallets/{wallet.id}"})

    async def _list_of_user(self, incoming: Incoming) -> Reply:
        user_id = incoming.ids["user_id"]
        found = await self._wallets.find(user_id)
        if not found and not await self._invoicing.has_user(user_id):
            raise Problem(answer(NoSuchUser(user_id)))
        return Reply(document={"items": [wallet_json(one) for one in found]})

    async def _list(self, incoming: Incoming) -> Reply:
        limit = incoming.query.get("limit", PAGE)
        # One more than the page shows whether there is another.
        found = await self._wallets.find(
            incoming.caller.user_id, after=incoming.query.get("after", 0), limit=limit + 1
        )
        page = found[:limit]
        return Reply(
            document={
                "items": [wallet_json(one) for one in page],
                "next": page[-1].id if len(found) > limit else None,
            }
        )

    async def _read(self, incoming: Incoming) -> Reply:
        return Reply(document=wallet_json(await self._mine(incoming)))

    async def _change(self, incoming: Incoming) -> Reply:
        wallet, body = await self._mine(incoming), incoming.body
        if not body:
            return Reply(document=wallet_json(wallet))
        keys: Mapping[str, str | None] = body.get("keys", {})
        outcome = await self._wallets.change(
            wallet.id,
            name=body.get("name"),
            keys=[(chain, text) for chain, text in keys.items() if text is not None],
            without=[chain for chain, text in keys.items() if text is None],
            assets=body.get("assets"),
        )
        changed = _good(outcome)
        what = [name for name in body if name != "keys"] + [f"key of {chain}" for chain in keys]
        await self._record(incoming, "changed", changed, ", ".join(what))
        return Reply(document=wallet_json(changed))

    async def _archive(self, incoming: Incoming) -> Reply:
        return await self._switch(incoming, "archived", archived=True)

    async def _restore(self, incoming: Incoming) -> Reply:
        return await self._switch(incoming, "restored", archived=False)

    async def _switch(self, incoming: Incoming, act: str, *, archived: bool) -> Reply:
        before = await self._mine(incoming)
        after = _good(await self._wallets.archive(before.id, archived=archived))
        if after != before:
            await self._record(incoming, act, after)
        return Reply(document=wallet_json(after))

    async def _mine(self, incoming: Incoming) -> Wallet:
        """The wallet; for a caller restricted to a user no other user's exists."""
        word = incoming.words["wallet_id"]
        number = fields.number_in_path(word)
        found = NoSuchWallet(0) if number is None else await self._wallets.look(number)
        if isinstance(found, NoSuchWallet) or not incoming.caller.sees(found.user_id):
            raise Problem(Answer(KINDS["NO_SUCH_WALLET"], f"There is no wallet {shown(word)}."))
        return found

    async def _record(self, incoming: Incoming, act: str, wallet: Wallet, detail: str = "") -> None:
        await self._audit.record(
            incoming.caller, f"wallet.{act}", target=str(wallet.id), detail=detail
        )


def wallet_json(wallet: Wallet) -> dict[str, Any]:
    """A wallet without its keys: who may read orders need not see every address to come."""
    archived_at_ms = wallet.archived_at_ms
    return {
        "id": wallet.id,
        "user_id": str(wallet.user_id),
        "name": wallet.name,
        "chains": sorted(wallet.accounts),
        "assets": [
            {
                "asset": one.asset,
                "confirmations": one.confirmations,
                "expires_in_s": None if one.expiry_ms is None else one.expiry_ms // 1000,
            }
            for one in wallet.assets
        ],
        "created_at": format_instant(wallet.created_at_ms),
        "archived_at": None if archived_at_ms is None else format_instant(archived_at_ms),
    }


def _good(outcome: Wallet | WalletRefusal) -> Wallet:
    """The wallet; ends the request if it was refused."""
    if not isinstance(outcome, Wallet):
        _refuse(outcome)
    return outcome


def _refuse(refusal: WalletRefusal) -> NoReturn:
    match refusal:
        case NoSuchWallet():
            detail = f"There is no wallet {refusal.wallet_id}."
            raise Problem(Answer(KINDS["NO_SUCH_WALLET"], detail))
        case WalletRefused(field="wallets"):
            detail = f"The merchant's wallets {refusal.reason}."
            raise Problem(Answer(KINDS["TOO_MANY_WALLETS"], detail))
        case WalletRefused():
            detail = f"{refusal.field} {refusal.reason}"
            pointer = f"#/{_POINTERS.get(refusal.field, refusal.field)}"
            raise Problem(
                Answer(KINDS["WALLET_REFUSED"], f"The wallet: {detail}."),
                (Fault(detail, pointer=pointer),),
            )
        case KeyRefused():
            told = answer(refusal)
            raise Problem(told, (Fault(told.detail, pointer=f"#/keys/{refusal.chain}"),))
        case UnknownAsset():
            told = answer(refusal)
            raise Problem(told, (Fault(told.detail, pointer="#/assets"),))
        case _:
            raise Problem(answer(refusal))


# --- fields ---------------------------------------------------------------------------------------


class _Fields:
    """What a wallet holds, as far as it depends on the daemon's chains and assets."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._keys = Shape(key_fields(catalogue))
        assets = tuple(catalogue.assets)
        known = Field(
            "asset",
            fields.choice(assets),
            fields.schema_of_choice(assets),
            "What can be asked for.",
            required=True,
        )
        self._asset = Shape((known, _CONFIRMATIONS, _EXPIRES))
        self.keys = self._keys_field(removable=False)
        self.changed_keys = self._keys_field(removable=True)
        self.assets = Field(
            "assets",
            self._read_assets,
            {"type": "array", "maxItems": MAX_ASSETS, "items": self._asset.schema()},
            "What orders can ask for. An asset may be listed before there is a key for its chain;"
            " orders for it are refused until then.",
        )
        first = [{"asset": asset, "confirmations": 2, "expires_in_s": 900} for asset in assets[:1]]
        self.example = {"assets": first}

    def _keys_field(self, *, removable: bool) -> Field:
        properties = {one.name: described(one) for one in self._keys.fields}
        if removable:
            properties = {
                name: {**one, "type": [one["type"], "null"]} for name, one in properties.items()
            }

        def read(value: Any) -> dict[str, str | None]:
            values = _nested(self._keys, value)
            if removable:
                return {chain: values.get(chain) for chain in value}
            return values

        return Field(
            "keys",
            read,
            {"type": "object", "additionalProperties": False, "properties": properties},
            "Watch-only keys by chain, all or none of them stored; never shown again.",
        )

    def _read_assets(self, value: Any) -> tuple[WalletAsset, ...]:
        if not isinstance(value, list) or len(value) > MAX_ASSETS:
            raise UnfitError(f"must be a list of at most {MAX_ASSETS} assets")
        found = [_nested(self._asset, one) for one in value]
        return tuple(
            WalletAsset(
                one["asset"],
                one.get("confirmations"),
                one["expires_in_s"] * 1000 if "expires_in_s" in one else None,
            )
            for one in found
        )


def _nested(shape: Shape, value: Any) -> dict[str, Any]:
    """The values of an object within the body. Raises UnfitError with all that is wrong."""
    if not isinstance(value, dict):
        raise UnfitError(f"must be a JSON object, not {type(value).__name__}")
    values, faults = shape.read(value, lambda _, detail: Fault(detail))
    if faults:
        raise UnfitError("is refused: " + "; ".join(fault.detail for fault in faults))
    return values


def _name(value: Any) -> str:
    name = fields.text(value)
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise UnfitError(f"must have 1 to {MAX_NAME} printable characters, not {shown(name)}")
    return name


def _required(one: Field) -> Field:
    return Field(one.name, one.read, one.schema, one.about, required=True)


_AFTER = Field(
    "after",
    fields.whole_text(1, fields.MAX_INTEGER),
    {"type": "integer", "minimum": 1},
    "What `next` of the page before named.",
)
_LIMIT = Field(
    "limit",
    fields.whole_text(1, MAX_PAGE),
    {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": PAGE},
    "Wallets on a page.",
)
_NAME = Field(
    "name", _name, {"type": "string", "minLength": 1, "maxLength": MAX_NAME}, "For people."
)
_CONFIRMATIONS = Field(
    "confirmations",
    fields.whole(0, MAX_CONFIRMATIONS),
    {"type": ["integer", "null"], "minimum": 0, "maximum": MAX_CONFIRMATIONS},
    "Blocks that its orders wait for; otherwise the user's policy for the asset decides, or the"
    " chain's default.",
)
_MIN_S, _MAX_S = MIN_TTL_MS // 1000, MAX_EXPIRY_MS // 1000
_EXPIRES = Field(
    "expires_in_s",
    fields.whole(_MIN_S, _MAX_S),
    {"type": ["integer", "null"], "minimum": _MIN_S, "maximum": _MAX_S},
    "Seconds to pay; otherwise 900, for Monero 1800.",
)
_WALLET: dict[str, schema.Schema] = {
    "id": schema.whole("The wallet's number, the `pg_wallet_id` of orders.", 1),
    "user_id": schema.uuid("The merchant."),
    "name": schema.text("For people."),
    "chains": schema.array({"type": "string"}, "Those that it has a key for."),
    "assets": schema.array(
        schema.whole_object(
            {
                "asset": schema.text("What can be asked for."),
                "confirmations": schema.or_null(schema.whole("Null: the default.")),
                "expires_in_s": schema.or_null(schema.whole("Null: the default.")),
            }
        ),
        "In the order given.",
    ),
    "created_at": schema.instant("Creation."),
    "archived_at": schema.or_null(schema.instant("No new orders since then; null: it is open.")),
}
WALLET_SCHEMAS: dict[str, schema.Schema] = {
    "Wallet": schema.whole_object(_WALLET),
    "Wallets": schema.page("Wallet", "By number."),
    "WalletPage": schema.page(
        "Wallet",
        "By number.",
        next=schema.or_null(schema.whole("`after` of the next page; null on the last.", 1)),
    ),
}
