"""Default policies, invoices with a policy and metadata, and cancelling, over REST."""

from __future__ import annotations

from uuid import UUID, uuid4

import orjson
import pytest

from actors.core.policy import Band, Policy
from actors.invoicing import NewInvoice
from actors.ports import TransientError
from tests.api.rest.test_invoices import create, created, read
from tests.helpers.problems import places, problem_of

FULL = {
    "bands": [{"from_base": "0", "confirmations": 1}, {"from_base": "1000", "confirmations": 4}],
    "rbf_confirmations": 1,
    "tolerance_base": "50",
    "tolerance_bps": 100,
    "accept_late_s": 3600,
}


def place(user_id, asset="BTC"):
    return f"/v1/users/{user_id}/policies/{asset}"


async def acts(house):
    return [one.act for one in await house.store.acts(before=None, limit=10)]


# --- defaults -------------------------------------------------------------------------------------


async def test_a_default_is_set_read_replaced_and_removed(client, house):
    user_id = await house.user()
    assert await (await client.get(place(user_id))).get_json() == {}
    written = await client.put(place(user_id), json=FULL)
    assert (written.status_code, await written.get_json()) == (200, FULL)
    assert await (await client.get(place(user_id))).get_json() == FULL
    assert await (await client.get(place(user_id, "LTC"))).get_json() == {}
    await client.put(place(user_id), json={"tolerance_bps": 5, "tolerance_base": None})
    assert await (await client.get(place(user_id))).get_json() == {"tolerance_bps": 5}
    assert (await client.delete(place(user_id))).status_code == 204
    assert await (await client.get(place(user_id))).get_json() == {}
    audit = [(one.act, one.target, one.detail) for one in await acts(house)]
    assert audit == [
        ("policy.removed", str(user_id), "BTC"),
        ("policy.set", str(user_id), "BTC"),
        ("policy.set", str(user_id), "BTC"),
    ]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_an_unknown_user_or_asset_has_none(client, house, method):
    body = {} if method == "PUT" else None
    answer = await client.open(place(uuid4()), method=method, json=body)
    await problem_of(answer, 404, "NO_SUCH_USER")
    for owner, reason, status in (
        (await house.user(), "UNKNOWN_ASSET", 422),
        (uuid4(), "NO_SUCH_USER", 404),
        ("nobody", "INVALID_USER_ID", 404),
    ):
        answer = await client.open(place(owner, "DOGE"), method=method, json=body)
        await problem_of(answer, status, reason)
    assert await acts(house) == []


@pytest.mark.parametrize(
    ("body", "pointer", "words"),
    [
        ({"bands": 5}, "#/bands", "must be a list"),
        ({"bands": [5]}, "#/bands", "must be a JSON object"),
        ({"bands": [{"from_base": 1}]}, "#/bands", "confirmations is missing"),
        ({"bands": [{"from": 1, "confirmations": 1}]}, "#/bands", "did you mean 'from_base'"),
        ({"bands": FULL["bands"][::-1]}, "#", "order the bands"),
        ({"tolerance_base": 0.5}, "#/tolerance_base", "whole number of base units"),
        ({"tolerance_bps": 10_001}, "#/tolerance_bps", "from 0 to 10000"),
        ({"accept_late": 5}, "#/accept_late", "did you mean 'accept_late_s'"),
    ],
)
async def test_a_policy_that_cannot_be_meant_is_refused_in_words(
    client, house, body, pointer, words
):
    user_id = await house.user()
    problem = await problem_of(await client.put(place(user_id), json=body), 422, "INVALID_REQUEST")
    assert places(problem) == [pointer]
    assert words in problem["errors"][0]["detail"]
    assert await house.store.policies.policy(user_id, "BTC") is None


# --- invoices with a policy -----------------------------------------------------------------------


async def test_an_invoice_has_the_default_of_its_moment(client, house):
    user_id = await house.user()
    plain = await created(client, user_id)
    assert (plain["policy"], plain["accepted_until"]) == (None, plain["expires_at"])
    await client.put(place(user_id), json=FULL)
    made = await created(client, user_id)
    assert (made["policy"], made["confirmations_required"]) == (FULL, 4)
    assert made["accepted_until"] > made["expires_at"]
    await client.delete(place(user_id))
    assert (await read(client, made["id"]))["policy"] == FULL
    assert (await read(client, plain["id"]))["policy"] is None


async def test_the_request_overrides_the_default(client, house):
    user_id = await house.user()
    await client.put(place(user_id), json=FULL)
    own = await created(client, user_id, policy={"accept_late_s": 5})
    assert (own["policy"], own["confirmations_required"]) == ({"accept_late_s": 5}, 2)
    assert (await created(client, user_id, policy={}))["policy"] is None
    counted = await created(client, user_id, confirmations=7)
    assert counted["confirmations_required"] == 7
    assert counted["policy"] == {k: v for k, v in FULL.items() if k != "bands"}
    small = await created(client, user_id, amount=..., amount_base="999")
    assert small["confirmations_required"] == 1
    anything = await created(client, user_id, amount="0")
    assert anything["confirmations_required"] == 1


async def test_a_policy_and_a_number_that_contradict_each_other_are_refused(client, house):
    answer = await create(client, await house.user(), confirmations=1, policy=FULL)
    problem = await problem_of(answer, 422, "POLICY_REFUSED")
    assert "give one of them" in problem["detail"]


async def test_a_nested_mistake_is_told_with_the_others(client, house):
    user_id = await house.user()
    answer = await create(
        client, user_id, amount=..., amount_base=-1, policy={"tolerance_bps": "1"}
    )
    problem = await problem_of(answer, 422, "INVALID_REQUEST")
    assert sorted(places(problem)) == ["#/amount_base", "#/policy"]
    again = await create(client, user_id, policy={"bands": FULL["bands"][::-1]})
    assert (
        "order the bands"
        in (await problem_of(again, 422, "INVALID_REQUEST"))["errors"][0]["detail"]
    )


async def test_what_the_policy_made_of_a_payment_is_shown(client, house):
    user_id = await house.user()
    made = await created(
        client, user_id, confirmations=1, policy={"tolerance_base": "100", "accept_late_s": 60}
    )
    invoice = (await house.store.invoice(UUID(made["id"]))).invoice
    await house.paid(invoice, 1_499_950)
    seen = await read(client, made["id"])
    assert (seen["status"], seen["due"], seen["flags"]["underpaid"]) == (
        "PENDING_MEMPOOL",
        "0",
        True,
    )
    assert (seen["payments"][0]["accepted"], seen["payments"][0]["replaceable"]) == (False, False)
    await house.mined(invoice)
    assert (await read(client, made["id"]))["status"] == "CONFIRMED"
    events = await (await client.get(f"/v1/invoices/{made['id']}/events")).get_json()
    policies = [one["data"].get("policies") for one in events["items"]]
    named = {"name": "underpayment_tolerance", "missing_base": "50", "tolerance_base": "100"}
    assert [one for one in policies if one] == [[named], [named]]


# --- metadata -------------------------------------------------------------------------------------


async def test_metadata_come_back_as_they_were_given(client, house):
    given = {"order": "A-17", "": "", "ж": '"\\\n', "b": "2", "a": "1"}
    user_id = await house.user()
    made = await created(client, user_id, metadata=given)
    assert made["metadata"] == given
    assert list((await read(client, made["id"]))["metadata"]) == list(given)
    assert (await created(client, user_id))["metadata"] == {}


async def test_metadata_have_4_kilobytes(client, house):
    user_id = await house.user()
    frame = len(orjson.dumps({"k": ""}))
    await created(client, user_id, metadata={"k": "x" * (4096 - frame)})
    answer = await create(client, user_id, metadata={"k": "x" * (4097 - frame)})
    problem = await problem_of(answer, 422, "METADATA_REFUSED")
    assert "4097 bytes as JSON; at most 4096" in problem["detail"]


@pytest.mark.parametrize("given", [5, [], {"a": 1}, {"a": None}, {"a": {"b": "c"}}])
async def test_metadata_are_texts_by_name(client, house, given):
    problem = await problem_of(
        await create(client, await house.user(), metadata=given), 422, "INVALID_REQUEST"
    )
    assert places(problem) == ["#/metadata"]


# --- cancelling -----------------------------------------------------------------------------------


async def test_what_waits_is_cancelled_once_and_stays_so(client, house):
    made = await created(client, await house.user())
    for _ in range(2):
        answer = await client.post(f"/v1/invoices/{made['id']}/cancel")
        cancelled = await answer.get_json()
        assert (answer.status_code, cancelled["status"]) == (200, "CANCELLED")
        assert cancelled["due"] == "0"
    assert cancelled["version"] == 2
    assert await read(client, made["id"]) == cancelled
    assert [one.act for one in await acts(house)] == ["invoice.cancelled"]
    why = await (await client.get(f"/v1/invoices/{made['id']}/explain")).get_json()
    assert (why["status"], why["reasons"][0]["code"]) == ("CANCELLED", "cancelled")
    invoice = (await house.store.invoice(UUID(made["id"]))).invoice
    await house.paid(invoice, 1_500_000)
    after = await read(client, made["id"])
    assert (after["status"], after["credited"], after["flags"]["late"]) == ("CANCELLED", "0", True)
    listed = await (await client.get("/v1/invoices?status=CANCELLED")).get_json()
    assert [one["id"] for one in listed["items"]] == [made["id"]]
    none = await (await client.get("/v1/invoices?status=EXPIRED")).get_json()
    assert none["items"] == []


async def test_what_has_received_something_is_not_cancelled(client, house):
    made = await created(client, await house.user())
    invoice = (await house.store.invoice(UUID(made["id"]))).invoice
    await house.paid(invoice, 1)
    problem = await problem_of(
        await client.post(f"/v1/invoices/{made['id']}/cancel"), 409, "NOT_CANCELLABLE"
    )
    assert problem["facts"]["state"] == "pending"
    await house.paid(invoice, 2_000_000)
    problem = await problem_of(
        await client.post(f"/v1/invoices/{made['id']}/cancel"), 409, "NOT_CANCELLABLE"
    )
    assert problem["facts"]["state"] == "seen"
    assert await acts(house) == []


async def test_what_is_not_there_is_not_cancelled(client):
    await problem_of(await client.post(f"/v1/invoices/{uuid4()}/cancel"), 404, "NO_SUCH_INVOICE")


async def test_the_core_refuses_what_a_wire_let_through(house):
    user_id = await house.user()
    refused = await house.invoicing.set_policy(user_id, "BTC", Policy(tolerance_base=-1))
    assert "below 0" in refused.reason
    policy = Policy(bands=(Band(1, 1), Band(1, 2)))
    refused = await house.invoicing.create_invoice(
        NewInvoice(user_id, "BTC", 5, 60_000, policy=policy)
    )
    assert "order the bands" in refused.reason
    refused = await house.invoicing.create_invoice(
        NewInvoice(user_id, "BTC", 5, 60_000, metadata={"half": "\ud800"})
    )
    assert "Unicode" in refused.reason


async def test_a_chain_that_is_switched_off_cancels_nothing(client, house):
    made = await created(client, await house.user())
    supervisors = dict(house.invoicing.chains)
    house.invoicing.chains = {}
    problem = await problem_of(
        await client.post(f"/v1/invoices/{made['id']}/cancel"), 503, "ASSET_DISABLED"
    )
    house.invoicing.chains = supervisors
    assert "coin.btc.daemon.url is not set" in problem["detail"]


async def test_an_invoice_whose_actor_fails_is_not_said_to_be_cancelled(client, house, monkeypatch):
    made = await created(client, await house.user())

    async def lost(_invoice_id):
        """The actor crashed again and again, and set the invoice aside."""

    monkeypatch.setattr(house.supervisors["btc"], "cancel", lost)
    with pytest.raises(TransientError, match="could not be cancelled"):
        await house.invoicing.cancel(UUID(made["id"]))
    await problem_of(
        await client.post(f"/v1/invoices/{made['id']}/cancel"), 503, "STORE_UNAVAILABLE"
    )
