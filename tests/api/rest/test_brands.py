"""How a merchant's payment pages look, over REST; and the list of merchants."""

from __future__ import annotations

from base64 import b64encode
from uuid import UUID, uuid4

import pytest

from actors.brand_book import Brand
from actors.logo import MAX_BYTES
from tests.actors.test_logo import GIF, KNOWN, SVG, png
from tests.api.rest.test_access import Counter
from tests.helpers.problems import places, problem_of

NOTHING = {"name": None, "colour": None, "logo": None, "logo_type": None}


def place(user_id):
    return f"/v1/users/{user_id}/brand"


def text(data):
    return b64encode(data).decode()


async def test_a_brand_is_set_read_replaced_and_removed(client, house):
    user_id = await house.user()
    assert await (await client.get(place(user_id))).get_json() == NOTHING
    given = {"name": "Café Zürich 🛒", "colour": "#1D4ed8", "logo": text(png())}
    answer = await client.put(place(user_id), json=given)
    told = {**given, "colour": "#1d4ed8", "logo_type": "image/png"}
    assert (answer.status_code, await answer.get_json()) == (200, told)
    assert await (await client.get(place(user_id))).get_json() == told
    stored = await house.store.brands.brand(user_id)
    assert stored == Brand(
        user_id=user_id,
        name="Café Zürich 🛒",
        colour="#1d4ed8",
        logo=png(),
        logo_type="image/png",
    )
    await client.put(place(user_id), json={"name": "Plain", "logo": None})
    assert await (await client.get(place(user_id))).get_json() == {**NOTHING, "name": "Plain"}
    assert (await client.delete(place(user_id))).status_code == 204
    assert await (await client.get(place(user_id))).get_json() == NOTHING
    acts = [one.act for one in await house.store.acts(before=None, limit=9)]
    assert [(one.act, one.target, one.detail) for one in acts] == [
        ("brand.removed", str(user_id), ""),
        ("brand.set", str(user_id), "'Plain', no colour"),
        (
            "brand.set",
            str(user_id),
            f"'Café Zürich 🛒', #1d4ed8, image/png of {len(png())} bytes",
        ),
    ]


@pytest.mark.parametrize("media_type", KNOWN)
async def test_a_logo_is_what_it_is_whatever_it_is_called(client, house, media_type):
    user_id = await house.user()
    data = KNOWN[media_type][0]
    answer = await client.put(place(user_id), json={"logo": text(data)})
    assert (await answer.get_json())["logo_type"] == media_type


async def test_the_largest_logo_fits(client, house):
    user_id = await house.user()
    comment = b"!\xfe" + (b"\xff" + b"x" * 255) * 127
    data = GIF[:-1] + comment + bytes([MAX_BYTES - len(GIF) - len(comment) - 2])
    data += b"y" * (MAX_BYTES - len(data) - 2) + b"\0;"
    assert len(data) == MAX_BYTES
    answer = await client.put(place(user_id), json={"logo": text(data)})
    assert answer.status_code == 200, await answer.get_json()
    answer = await client.put(place(user_id), json={"logo": text(data + b"\0")})
    problem = await problem_of(answer, 422, "INVALID_REQUEST")
    assert "32 KB" in problem["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("body", "pointer", "words"),
    [
        ({"name": ""}, "#/name", "1 to 100"),
        ({"name": " \t"}, "#/name", "1 to 100"),
        ({"name": "x" * 101}, "#/name", "1 to 100"),
        ({"name": "a\nb"}, "#/name", "U+000A"),
        ({"name": "tab\x00"}, "#/name", "U+0000"),
        ({"name": "\u202egnp.exe"}, "#/name", "U+202E"),
        ({"name": 5}, "#/name", "must be a text"),
        ({"colour": "red"}, "#/colour", "#1d4ed8"),
        ({"colour": "#fff"}, "#/colour", "six hexadecimal"),
        ({"colour": "#1d4ed8;x:url(//evil)"}, "#/colour", "six hexadecimal"),
        ({"color": "#ffffff"}, "#/color", "did you mean 'colour'"),
        ({"logo": "<svg>"}, "#/logo", "base64"),
        ({"logo": ""}, "#/logo", "no picture"),
        ({"logo": text(SVG)}, "#/logo", "is SVG"),
        ({"logo": text(b"%PDF-1.7")}, "#/logo", "no picture"),
        ({"logo": text(png(9999))}, "#/logo", "9999 x 1 pixels"),
        ({"logo": text(png()).replace("=", "")[:-1]}, "#/logo", "base64"),
        ({"logo": f"data:image/png;base64,{text(png())}"}, "#/logo", "base64"),
        ({"logo_type": "image/png"}, "#/logo_type", "not known here"),
    ],
)
async def test_what_cannot_be_meant_is_refused_in_words(client, house, body, pointer, words):
    user_id = await house.user()
    problem = await problem_of(await client.put(place(user_id), json=body), 422, "INVALID_REQUEST")
    assert places(problem) == [pointer]
    assert words in problem["errors"][0]["detail"]
    assert await house.store.brands.brand(user_id) is None


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_nobody_has_no_brand(client, house, method):
    body = {} if method == "PUT" else None
    for owner, reason in ((uuid4(), "NO_SUCH_USER"), ("me", "INVALID_USER_ID")):
        answer = await client.open(place(owner), method=method, json=body)
        await problem_of(answer, 404, reason)
    assert await house.store.acts(before=None, limit=9) == ()


async def test_names_of_every_script_are_names(client, house):
    user_id = await house.user()
    for name in ("متجر الزاوية", "می\u200cدیدم", "角の店", "👩\u200d🍳 & Söhne <b>", "e\u0301"):
        answer = await client.put(place(user_id), json={"name": name})
        assert answer.status_code == 200, name
    assert (await answer.get_json())["name"] == "é"


async def test_a_restricted_key_has_its_own_brand_only(house):
    counter = Counter(house)
    mine, theirs = await house.user(), await house.invoicing.register_user()
    headers = await counter.key("admin", user_id=mine)
    reader = await counter.key("read", user_id=mine)
    assert (await counter.ask("PUT", place(mine), headers, {"name": "Mine"}))[0] == 200
    assert (await counter.ask("GET", place(mine), reader))[1]["name"] == "Mine"
    assert (await counter.ask("PUT", place(mine), reader, {"name": "x"}))[0] == 403
    for method, body in (("GET", None), ("PUT", {"name": "x"}), ("DELETE", None)):
        hidden = await counter.ask(method, place(theirs), headers, body)
        absent = await counter.ask(method, place(uuid4()), headers, body)
        assert (hidden[0], hidden[1]["reason"]) == (404, "NO_SUCH_USER")
        assert (absent[0], absent[1]["reason"]) == (404, "NO_SUCH_USER")
    assert await house.store.brands.brand(theirs) is None


# --- merchants ------------------------------------------------------------------------------------


async def test_merchants_are_listed_with_their_names(client, house):
    ids = [UUID(int=number) for number in (5, 1, 3)]
    for user_id in ids:
        await house.invoicing.register_user(user_id)
    await client.put(place(ids[1]), json={"name": "One"})
    first = await (await client.get("/v1/users?limit=2")).get_json()
    assert first["items"] == [
        {"id": str(UUID(int=1)), "name": "One"},
        {"id": str(UUID(int=3)), "name": None},
    ]
    rest = await (await client.get(f"/v1/users?after={first['next']}")).get_json()
    assert rest == {"items": [{"id": str(UUID(int=5)), "name": None}], "next": None}


async def test_a_restricted_key_gets_no_list_of_merchants(house):
    counter = Counter(house)
    headers = await counter.key("admin", user_id=await house.user())
    assert (await counter.ask("GET", "/v1/users", headers))[0] == 403
