"""What a process in roles says of itself, and what it reads of accounts that others made."""

from types import SimpleNamespace

from actors.chain_standing import watch_duty
from actors.remote_webhooks import DELIVER
from daemon.config import Flags, load_config
from daemon.keys import Keyring, Vault
from daemon.roles import Roles
from tests.helpers.duties import DutyBoard
from tests.helpers.goipay_calls import XMR_SPEND, XMR_VIEW
from tests.helpers.house import BTC_KEY, VAULT_KEY, House, open_house

CONFIG = {
    "HOME": "/h",
    "TALLY_DATABASE_URL": "postgresql://u:p@h/tally",
    "TALLY_VAULT_KEY": "ab" * 32,
    "BTC_DAEMON_URL": "http://n:1",
    "XMR_DAEMON_URL": "http://n:2",
}


def roles(*names: str, board: DutyBoard, **ground) -> Roles:
    config = load_config(Flags(roles=names), environ=CONFIG)
    return Roles(SimpleNamespace(config=config, **ground), board.member())


async def test_the_status_line_says_what_is_done_and_what_is_waited_for():
    board = DutyBoard()
    one = roles("watch:btc", "watch:xmr", "deliver", "api", board=board)
    assert one.status() == (
        "api, standing by for watch:btc, standing by for watch:xmr, standing by for deliver"
    )
    await one.duties.take(watch_duty("btc"), holder="one")
    await one.duties.take(DELIVER, holder="one")
    assert one.status() == "api, holding watch:btc, standing by for watch:xmr, holding deliver"
    assert roles("api", board=board).status() == "api"


async def test_everybody_knows_who_holds_what(autojump_clock):
    board = DutyBoard()
    one, other = roles("watch:btc", board=board), roles("api", board=board)
    assert other.holders() == {"watch:btc": None, "watch:xmr": None, "deliver": None}
    await one.duties.take(watch_duty("btc"), holder="one")
    await one.duties.report(watch_duty("btc"), b"")
    (standing,) = [said for said in other.holders().values() if said is not None]
    assert (standing.duty, standing.holder) == ("watch:btc", "one")


class Counted:
    """A store that counts how often an account is read."""

    def __init__(self, house: House) -> None:
        self.reads = 0
        self._store = house.store

    async def account_by_id(self, account_id):
        self.reads += 1
        return await self._store.account_by_id(account_id)


async def test_the_view_key_of_an_account_that_others_made_is_read_once(autojump_clock):
    async with open_house(chains=("btc",)) as house:
        user_id = await house.user(xmr=f"{XMR_VIEW}:{XMR_SPEND}", btc=BTC_KEY)
        account = await house.store.account(user_id, "xmr")
        other = await house.store.account(user_id, "btc")
        keyring = Keyring(Vault(VAULT_KEY, warn=house.log.warning))
        store = Counted(house)
        one = roles("watch:xmr", board=DutyBoard(), store=store, keyring=keyring)
        assert keyring.monero.view_keys("xmr").keys() == ()
        for _ in range(2):
            await one._know_account(account.id)
        assert keyring.monero.view_keys("xmr").keys() == (bytes.fromhex(XMR_VIEW),)
        await one._know_account(other.id)
        assert store.reads == 2
