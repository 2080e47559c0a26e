"""`/v1/users/{user_id}/brand`: a merchant's name, colour and logo on payment pages."""

from __future__ import annotations

import binascii
import re
import unicodedata
from base64 import b64decode, b64encode
from typing import Any

from actors.brand_book import Brand
from actors.core.outcomes import NoSuchUser
from actors.logo import MAX_BYTES, LogoError, logo_type
from api.errors import answer
from api.rest import fields
from api.rest import json_schema as schema
from api.rest.edge import Edge
from api.rest.fields import Field, Shape, UnfitError, shown
from api.rest.operation import Incoming, Operation, Reply, Success
from api.rest.problems import Problem

MAX_NAME = 100
MAX_LOGO_TEXT = (MAX_BYTES + 2) // 3 * 4
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that turn the direction of what follows: with them one name can look like another."""
_NO_TEXT = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})


class Brands:
    """Shows and changes brands."""

    def __init__(self, edge: Edge) -> None:
        self._brands = edge.brands
        self._invoicing = edge.invoicing
        self._audit = edge.audit
        self._clock = edge.clock

    def operations(self) -> tuple[Operation, ...]:
        path = "/v1/users/{user_id}/brand"
        refusals = ("NO_SUCH_USER", "INVALID_USER_ID")
        return (
            Operation(
                id="getBrand",
                method="GET",
                path=path,
                tag="Users",
                summary="Read the merchant's brand",
                about="Nulls where nothing is set. All of it is public on payment pages.",
                handle=self._read,
                successes=(Success(200, "The brand.", "Brand"),),
                refusals=refusals,
            ),
            Operation(
                id="setBrand",
                method="PUT",
                path=path,
                tag="Users",
                summary="Set the merchant's brand",
                about=(
                    "What payment pages are headed with. The whole brand is replaced: what is left"
                    " out is removed."
                ),
                handle=self._set,
                body=Shape((_NAME, _COLOUR_FIELD, _LOGO)),
                example={"name": "Corner Shop", "colour": "#1d4ed8"},
                successes=(Success(200, "The brand, as it is now.", "Brand"),),
                refusals=refusals,
            ),
            Operation(
                id="removeBrand",
                method="DELETE",
                path=path,
                tag="Users",
                summary="Remove the merchant's brand",
                handle=self._remove,
                successes=(Success(204, "There is none now."),),
                refusals=refusals,
            ),
        )

    async def _read(self, incoming: Incoming) -> Reply:
        user_id = incoming.ids["user_id"]
        found = await self._brands.brand(user_id)
        if found is None and not await self._invoicing.has_user(user_id):
            raise Problem(answer(NoSuchUser(user_id)))
        return Reply(document=brand_json(found or Brand(user_id=user_id)))

    async def _set(self, incoming: Incoming) -> Reply:
        body = incoming.body
        logo: bytes | None = body.get("logo")
        brand = Brand(
            user_id=incoming.ids["user_id"],
            name=body.get("name", ""),
            colour=body.get("colour"),
            logo=logo,
            logo_type=None if logo is None else logo_type(logo),
        )
        picture = "" if logo is None else f", {brand.logo_type} of {len(logo)} bytes"
        detail = f"{brand.name!r}, {brand.colour or 'no colour'}{picture}"
        await self._store(incoming, brand, "brand.set", detail)
        return Reply(document=brand_json(brand))

    async def _remove(self, incoming: Incoming) -> Reply:
        await self._store(incoming, Brand(user_id=incoming.ids["user_id"]), "brand.removed")
        return Reply(204)

    async def _store(self, incoming: Incoming, brand: Brand, act: str, detail: str = "") -> None:
        refusal = await self._brands.set_brand(brand, at_ms=self._clock.now_ms())
        if refusal is not None:
            raise Problem(answer(refusal))
        await self._audit.record(incoming.caller, act, target=str(brand.user_id), detail=detail)


def brand_json(brand: Brand) -> dict[str, Any]:
    return {
        "name": brand.name or None,
        "colour": brand.colour,
        "logo": None if brand.logo is None else b64encode(brand.logo).decode(),
        "logo_type": brand.logo_type,
    }


# --- fields ---------------------------------------------------------------------------------------


def _name(value: Any) -> str:
    name = fields.text(value).strip()
    if not name or len(name) > MAX_NAME:
        raise UnfitError(f"must have 1 to {MAX_NAME} characters, not {shown(value)}")
    for one in name:
        if one in _TURNS or unicodedata.category(one) in _NO_TEXT:
            raise UnfitError(
                f"has the character U+{ord(one):04X}, which cannot be seen on a page and changes"
                " how the rest looks: leave it out"
            )
    return unicodedata.normalize("NFC", name)


def _colour(value: Any) -> str:
    if _COLOUR.fullmatch(fields.text(value)) is None:
        raise UnfitError(
            f"must be # and six hexadecimal digits, such as #1d4ed8, not {shown(value)}"
        )
    return str(value).lower()


def _logo(value: Any) -> bytes:
    if len(fields.text(value)) > MAX_LOGO_TEXT:
        raise UnfitError(f"is too large: at most {MAX_BYTES} bytes (32 KB) are possible")
    try:
        data = b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise UnfitError("must be the picture's bytes in base64, without line breaks") from None
    try:
        logo_type(data)
    except LogoError as error:
        raise UnfitError(str(error)) from None
    return data


_NAME = Field(
    "name",
    _name,
    {"type": "string", "minLength": 1, "maxLength": MAX_NAME},
    "The merchant's name, as customers know it.",
)
_COLOUR_FIELD = Field(
    "colour",
    _colour,
    {"type": "string", "pattern": "^#[0-9a-fA-F]{6}$"},
    "The page's accent: `#rrggbb`. Where text on it could not be read, the page adjusts it.",
)
_LOGO = Field(
    "logo",
    _logo,
    {"type": "string", "contentEncoding": "base64", "maxLength": MAX_LOGO_TEXT},
    "PNG, JPEG, WebP or GIF that stands still, at most 32 KB and 2048 pixels a side, in base64."
    " What it is is told by its content. SVG is refused: it can hold programs.",
)
BRAND_SCHEMA: schema.Schema = schema.whole_object(
    {
        "name": schema.or_null(schema.text("The merchant's name.")),
        "colour": schema.or_null(schema.text("`#rrggbb`, in lower case.")),
        "logo": schema.or_null(schema.text("The picture.", contentEncoding="base64")),
        "logo_type": schema.or_null(schema.text("Its media type.")),
    }
)
