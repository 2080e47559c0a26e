"""`tallyd keys preview` as it is typed: where the keys come from."""

import io

import pytest

from daemon.__main__ import main
from tests.daemon.keys.monero_samples import ADDRESSES, SPEND, VIEW
from tests.daemon.keys.samples import ZPUB


@pytest.fixture
def typed(capsys, monkeypatch):
    """Run it; returns the status, and what it printed."""

    def run(*arguments, stdin="", **variables):
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        status = main(["keys", "preview", *arguments])
        shown = capsys.readouterr()
        return status, shown.out + shown.err

    return run


@pytest.mark.parametrize(
    "given",
    [
        ((VIEW, SPEND), ""),
        ((f"{VIEW}:{SPEND}",), ""),
        (("-", SPEND), f"{VIEW}\n"),
        (("-",), f"{VIEW}:{SPEND}\n"),
        (("env:MY_VIEW_KEY", SPEND), ""),
        (("env:MY_VIEW_KEY", "-"), f"{SPEND}\n"),
    ],
)
def test_monero_keys_come_from_arguments_standard_input_and_variables(typed, given):
    arguments, stdin = given
    more = ("--network", "mainnet", "--count", "1")
    status, shown = typed("XMR", *arguments, *more, stdin=stdin, MY_VIEW_KEY=VIEW)
    assert status == 0, shown
    assert ADDRESSES[0, 1] in shown
    assert VIEW[:8] not in shown


def test_an_unset_variable_is_an_empty_key(typed):
    status, shown = typed("XMR", "env:NOT_SET_ANYWHERE", SPEND)
    assert (status, "one of the keys is missing" in shown) == (1, True)


def test_other_coins_take_one_key_from_the_same_places(typed):
    for arguments, stdin in (((ZPUB,), ""), (("-",), f"{ZPUB}\n"), (("env:MY_KEY",), "")):
        status, shown = typed("BTC", *arguments, "--network", "main", stdin=stdin, MY_KEY=ZPUB)
        assert status == 0
        assert "bc1qnjg0jd8228aq7egyzacy8cys3knf9xvrerkf9g" in shown
    status, shown = typed("BTC", ZPUB, SPEND)
    assert (status, "only XMR takes two keys" in shown) == (1, True)


def test_what_is_refused_is_not_repeated(typed):
    status, shown = typed("XMR", SPEND, VIEW)
    assert status == 1
    assert "the wrong way round" in shown
    assert VIEW[:8] not in shown
