"""`roles`: what one of several processes does, and what cannot be asked of it."""

import argparse

import pytest

from daemon.config import ConfigError, Flags, RolesConfig, add_flags, flags_from, load_config

POSTGRES = {
    "HOME": "/h",
    "TALLY_DATABASE_URL": "postgresql://u:p@h/tally",
    "BTC_DAEMON_URL": "http://n:1",
}


def roles(environ=POSTGRES, **flags) -> RolesConfig:
    return load_config(Flags(**flags), environ=environ).roles


def refusal(environ, **flags) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(Flags(**flags), environ=environ)
    (problem,) = caught.value.problems
    return str(problem)


def test_without_any_one_process_does_everything():
    found = roles({"HOME": "/h"})
    assert found == RolesConfig((), api=False, deliver=False, watch=())
    assert found.alone


def test_each_way_to_give_them(tmp_path):
    wanted = RolesConfig(("watch:btc", "api"), api=True, deliver=False, watch=("btc",))
    assert roles({**POSTGRES, "TALLY_ROLES": "watch:BTC, api,watch:btc"}) == wanted
    file = tmp_path / "tallyd.yml"
    file.write_text("roles: [watch:btc, api]\n")
    assert roles(config=file) == wanted
    parser = argparse.ArgumentParser()
    add_flags(parser)
    given = parser.parse_args(["--role", "watch:BTC", "-role", "api"])
    assert load_config(flags_from(given), environ=POSTGRES).roles == wanted
    assert not wanted.alone


def test_each_machine_would_make_a_key_of_its_own():
    def warned(environ) -> bool:
        warnings = load_config(Flags(), environ=environ).warnings
        return any("vault.key" in one for one in warnings)

    assert warned({**POSTGRES, "TALLY_ROLES": "api"})
    assert not warned({**POSTGRES, "TALLY_ROLES": "api", "TALLY_VAULT_KEY": "ab" * 32})
    assert not warned(POSTGRES)


def test_a_flag_beats_the_environment():
    found = roles({**POSTGRES, "TALLY_ROLES": "api"}, roles=("deliver",))
    assert found == RolesConfig(("deliver",), api=False, deliver=True, watch=())


def test_sqlite_is_one_process_only():
    text = refusal({"HOME": "/h", "BTC_DAEMON_URL": "http://n:1"}, roles=("api",))
    assert text.startswith("flag -role: roles: ")
    assert "set database.url to postgresql://…, or leave roles out" in text


@pytest.mark.parametrize(
    ("role", "words"),
    [
        ("watch", "write api, deliver, or watch: and a chain, such as watch:btc"),
        ("apis", "write api, deliver"),
        ("watch:", "write api, deliver"),
        ("watch:doge", "there is no chain doge to watch: known are btc, ltc, eth"),
        ("watch:ltc", "watch:ltc needs a node to watch: set coin.ltc.daemon.url"),
    ],
)
def test_what_is_no_role_here(role, words):
    assert words in refusal(POSTGRES, roles=(role,))
