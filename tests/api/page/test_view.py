"""What a page says at every moment of an order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from actors.chain_supervisor import ChainState
from actors.core.inputs import TimeReached, TipReached
from actors.core.policy import Band, Policy
from api.page.notes import BEHIND_MS, MAX_NOTES
from api.page.view import Phase, Progress, View
from api.page.words import LANGUAGES, phrase, words
from tests.helpers.invoices import EXPIRES_MS, seen
from tests.helpers.page_moments import (
    HALF,
    LATE_MS,
    MOMENTS,
    NOW_MS,
    health,
    made,
    mined,
    order,
)

SAID: dict[str, tuple[str, str, list[str]]] = {
    # moment: phase, text, notes
    "waiting": ("waiting", "Send 0.5 BTC to the address below.", []),
    "waiting_any": ("waiting", "Send any amount to the address below.", []),
    "waiting_token": ("waiting", "Send 1.000000000000000001 USDT to the address below.", []),
    "waiting_gone_asset": ("waiting", "Send 50000000 base units of GONE to the address below.", []),
    "waiting_unfollowed": ("waiting", "Send 0.5 BTC to the address below.", ["chain_away"]),
    "waiting_unreachable": ("waiting", "Send 0.5 BTC to the address below.", ["chain_away"]),
    "waiting_behind": ("waiting", "Send 0.5 BTC to the address below.", ["chain_away"]),
    "partial": ("partial", "0.3 BTC of 0.5 BTC received, 0.2 BTC to go.", []),
    "checking": (
        "checking",
        "We are checking whether a payment arrived in time. Do not send anything now.",
        [],
    ),
    "late_window": ("late_window", "Payments are accepted until 15 November 2023, 00:13 UTC.", []),
    "late_accepted": (
        "confirming",
        (
            "0.5 BTC arrived and is being confirmed by the network."
            " There is nothing more to do; you may close this page."
        ),
        ["late_accepted"],
    ),
    "finality": (
        "confirming",
        (
            "0.5 BTC arrived. The network has yet to make it final."
            " There is nothing more to do; you may close this page."
        ),
        [],
    ),
    "paid": ("paid", "0.5 BTC received. Thank you!", []),
    "overpaid": ("paid", "0.50000001 BTC received. Thank you!", ["overpaid"]),
    "tolerated": ("paid", "0.49999995 BTC received. Thank you!", []),
    "reversed": (
        "reversed",
        "The network took back a payment that was confirmed already. Please contact the shop.",
        ["double_spent"],
    ),
    "expired": (
        "expired",
        (
            "The time to pay is over and nothing has arrived."
            " Do not send anything to this address any more."
        ),
        [],
    ),
    "expired_partial": (
        "expired",
        (
            "Only 0.3 BTC of 0.5 BTC arrived in time. Do not send anything more; please contact the"
            " shop about your money."
        ),
        [],
    ),
    "expired_late": (
        "expired",
        (
            "The time to pay is over. Do not send anything more; please contact the shop about your"
            " money."
        ),
        ["late"],
    ),
    "cancelled": (
        "cancelled",
        "The shop has cancelled this payment. Do not send anything to this address any more.",
        [],
    ),
    "cancelled_late": (
        "cancelled",
        "The shop has cancelled this payment. Do not send anything to this address any more.",
        ["late"],
    ),
}
WITH_A_NOTE = {
    "refused": "refused",
    "wrong_asset": "wrong_asset",
    "locked": "locked",
    "duplicate": "duplicate",
    "gone_replaced": "replaced",
    "gone_double_spent": "double_spent",
    "gone_evicted": "evicted",
    "gone_failed": "failed",
    "gone_contested": "contested",
}


def view_of(name: str, **changes) -> View:
    return MOMENTS[name]().view(order(**changes))


def notes(view: View) -> list[str]:
    return [note.phrase.key.removeprefix("note_") for note in view.notes]


@pytest.mark.parametrize(("name", "said"), SAID.items())
def test_what_is_said(name, said):
    view = view_of(name)
    text = words("en").text(view.text).replace("\u00a0", " ")
    assert (view.phase.value, text, notes(view)) == said


@pytest.mark.parametrize(("name", "note"), WITH_A_NOTE.items())
def test_money_that_does_not_count_is_said(name, note):
    assert notes(view_of(name)) == [note]


def test_every_phase_and_status_is_looked_at():
    views = [view_of(name) for name in MOMENTS]
    assert {view.phase for view in views} == set(Phase)
    assert {view.status for view in views} == {
        "PENDING", "CONFIRMING", "SUCCESSFUL", "EXPIRED", "CANCELED",
    }  # fmt: skip


@pytest.mark.parametrize("name", MOMENTS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_can_say_every_moment(name, language):
    spoken = words(language)
    view = MOMENTS[name]().view(order(), language)
    for said in (view.headline, view.text, *(note.phrase for note in view.notes)):
        assert spoken.text(said)
        assert spoken.html(said)


# --- how to pay -----------------------------------------------------------------------------------


def test_the_asset_is_named_with_its_chain():
    asked = {name: view_of(name).asset for name in MOMENTS}
    assert asked["waiting"] == "Bitcoin"
    assert asked["waiting_monero"] == "Monero"
    assert asked["waiting_ether"] == "Ether on Ethereum"
    assert asked["waiting_token"] == "USDT on BNB Smart Chain"
    assert asked["waiting_jetton"] == "USDT on TON"
    assert MOMENTS["waiting_token"]().view(order(), "zh").asset == "BNB Smart Chain 上的 USDT"
    assert made(chain="gone", asset="GONE").view(order()).asset == "GONE"


@pytest.mark.parametrize(
    ("chain", "asset", "network", "named"),
    [
        ("btc", "BTC", "main", None),
        ("btc", "BTC", "regtest", "regtest"),
        ("xmr", "XMR", "mainnet", None),
        ("xmr", "XMR", "stagenet", "stagenet"),
        ("ton", "TON", "mainnet", None),
        ("ton", "TON", "testnet", "testnet"),
        ("eth", "ETH", "1", None),
        ("eth", "ETH", "11155111", "Sepolia"),
        ("eth", "ETH", "31337", "Anvil"),
    ],
)
def test_a_test_network_is_said(chain, asset, network, named):
    view = made(chain=chain, asset=asset, network=network).view(order())
    assert view.test_network == named


def test_what_is_still_missing_is_asked_for():
    pay = view_of("partial").instructions
    assert (pay.partial, pay.amount, pay.amount_plain) == (True, "0.2\u00a0BTC", "0.2")
    assert pay.qr == pay.link == "bitcoin:bcrt1qexample?amount=0.2"
    whole = view_of("waiting").instructions
    assert (whole.partial, whole.amount_plain, whole.deadline_ms) == (False, "0.5", EXPIRES_MS)
    assert view_of("waiting_any").instructions.amount is None


def test_a_code_never_leaves_out_the_comment():
    view = view_of("waiting_comment")
    assert view.instructions.memo == "100000308"
    assert "text=100000308" in view.instructions.qr
    assert replace(view.instructions, link=None).qr is None
    assert view_of("waiting_gone_asset").instructions.qr == "bcrt1qexample"


@pytest.mark.parametrize("name", MOMENTS)
def test_an_address_is_shown_only_while_money_helps(name):
    view = view_of(name)
    asks = view.phase in (Phase.WAITING, Phase.PARTIAL, Phase.LATE_WINDOW)
    assert (view.instructions is not None) is asks


# --- confirmations --------------------------------------------------------------------------------


def test_confirmations_are_counted_to_what_is_needed():
    assert view_of("confirming_mempool").progress == Progress(0, 3)
    assert view_of("confirming").progress == Progress(2, 3)
    assert view_of("confirming_none").progress == Progress(0, 3)
    assert view_of("finality").progress is None
    assert view_of("paid").progress is None
    # The slower of two payments decides.
    both = made(
        mined(HALF // 2),
        mined(HALF - HALF // 2, "second", height=101),
        TipReached(102, NOW_MS),
        health=health(tip=102),
    )
    assert both.view(order()).progress == Progress(2, 3)


def test_a_policy_s_depth_is_what_is_counted_to():
    policy = Policy(bands=(Band(1, 6),))
    moment = made(mined(), TipReached(103, NOW_MS), health=health(tip=103), policy=policy)
    assert moment.view(order()).progress == Progress(4, 6)


# --- the chain ------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ChainState)
def test_a_chain_that_is_away_is_said_while_it_matters(state):
    away = state not in (ChainState.CURRENT, ChainState.CATCHING_UP)
    for made_so, told in ((made, away), (lambda **_: MOMENTS["paid"](), False)):
        moment = replace(made_so(), health=health(state))
        assert ("chain_away" in notes(moment.view(order()))) is told


def test_the_reason_is_not_for_customers():
    moment = replace(made(), health=health(ChainState.REFUSED))
    assert "secret" in moment.health.reason
    assert "secret" not in repr(moment.view(order()))


def test_a_chain_that_is_being_read_is_away_after_a_while():
    reading = health(ChainState.CATCHING_UP, as_of_ms=NOW_MS)
    moment = replace(made(), health=reading)
    assert notes(moment.view(order())) == []
    assert moment.view(order()).changes_at_ms == NOW_MS + BEHIND_MS
    later = replace(moment, now_ms=NOW_MS + BEHIND_MS)
    assert notes(later.view(order())) == ["chain_away"]
    assert later.view(order()).changes_at_ms == EXPIRES_MS
    never = replace(moment, health=health(ChainState.CATCHING_UP, as_of_ms=None))
    assert notes(never.view(order())) == ["chain_away"]


# --- time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MOMENTS)
def test_time_alone_changes_nothing_before_it_is_said(name):
    moment = MOMENTS[name]()
    view = moment.view(order())
    until_ms = view.changes_at_ms
    if until_ms is None:
        assert replace(moment, now_ms=moment.now_ms + 10**10).view(order()) == view
        return
    assert until_ms > moment.now_ms
    assert replace(moment, now_ms=until_ms - 1).view(order()) == view
    assert replace(moment, now_ms=until_ms).view(order()) != view


def test_the_end_of_the_time_to_pay():
    policy = Policy(accept_late_s=60)
    moment = made(policy=policy)
    seen_phases = []
    while moment is not None:
        view = moment.view(order())
        seen_phases.append(view.phase)
        until_ms = view.changes_at_ms
        moment = None if until_ms is None else replace(moment, now_ms=until_ms)
    assert seen_phases == [Phase.WAITING, Phase.LATE_WINDOW, Phase.CHECKING]
    assert made(TimeReached(EXPIRES_MS), now_ms=LATE_MS).view(order()).phase is Phase.EXPIRED


# --- back to the shop -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", MOMENTS)
def test_nobody_is_led_away_from_what_he_must_read(name):
    view = view_of(name)
    if view.redirect:
        assert view.back
        assert not view.notes
        assert view.status in ("SUCCESSFUL", "EXPIRED", "CANCELED")
    assert view.redirect is (name in ("paid", "tolerated", "expired", "cancelled"))


def test_the_way_back_is_there_once_nothing_is_left_to_do():
    shop = order().callback_url
    assert {name for name in SAID if view_of(name).back == shop} == {
        name for name, (phase, _, _) in SAID.items()
        if phase in ("confirming", "paid", "reversed", "expired", "cancelled")
    }  # fmt: skip


@pytest.mark.parametrize(
    "url",
    [
        "",
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "java\nscript:alert(1)",
        " https://shop.example",
        "data:text/html,x",
        "//shop.example",
        "/pay",
        "https://",
        "https:///x",
        "http://[::1",
        "https://shop.example/\u202egpj",
        "https://shop.example/a b",
        "https://shop.example/" + "x" * 2048,
        "ftp://shop.example",
    ],
)
def test_a_link_that_is_no_web_page_leads_nowhere(url):
    view = view_of("paid", callback_url=url)
    assert view.back is None
    assert view.redirect is False


@pytest.mark.parametrize(
    "url", ["http://localhost:80/x?y=1#z", "HTTPS://shop.example/ü", "http://[::1]/"]
)
def test_a_web_page_is_led_to(url):
    assert view_of("paid", callback_url=url).back == url


# --- bounds ---------------------------------------------------------------------------------------


def test_the_newest_payments_are_told_of():
    many = [seen(f"tx{n}", n + 1, at_ms=NOW_MS, asset="LTC") for n in range(20)]
    view = made(*many).view(order())
    assert notes(view) == ["wrong_asset"] * MAX_NOTES
    newest = phrase("note_wrong_asset", amount="0.0000002\u00a0LTC", asset="Bitcoin")
    assert view.notes[-1].phrase == newest


def test_a_refusal_s_reason_is_not_repeated():
    assert "script" not in repr(view_of("refused"))


def test_a_replacement_that_paid_is_nobody_s_business():
    assert notes(view_of("replaced_well")) == []
