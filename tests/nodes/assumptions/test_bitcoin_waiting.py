"""What the driver assumes of the calls that wait for a block. Docstrings say what."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tests.helpers.bitcoind import BitcoinNode, Family
from tests.helpers.process import wait_until
from tests.nodes.assumptions.spare import families, spare_node


def in_background(
    threads: ThreadPoolExecutor, node: BitcoinNode, method: str, *params: Any
) -> Future[Any]:
    """Start a call that waits; returns when the node is at it."""
    call = threads.submit(node.rpc, method, *params)
    wait_until(
        lambda: any(c["method"] == method for c in node.rpc("getrpcinfo")["active_commands"]),
        f"the node is at {method}",
    )
    return call


def ended_by(call: Future[Any], act: Callable[[], object]) -> Any:
    """Act until the call ends: the node may look at its tip a moment after it lists the call."""
    while not call.done():
        act()
        try:
            return call.result(timeout=1)
        except TimeoutError:
            continue
    return call.result()


def test_waitfornewblock_returns_the_new_tip(
    node: BitcoinNode, threads: ThreadPoolExecutor
) -> None:
    """A waiting `waitfornewblock` answers {hash, height} as soon as the tip changes."""
    mined: list[str] = []
    call = in_background(threads, node, "waitfornewblock", 60_000)
    answer = ended_by(call, lambda: mined.extend(node.mine_empty()))
    assert answer["hash"] in mined
    assert answer["height"] == node.height() - mined[::-1].index(answer["hash"])


def test_waitfornewblock_gives_the_current_tip_when_time_is_up(node: BitcoinNode) -> None:
    """Its timeout is in ms and its answer then has the same shape: only comparing tells news."""
    answer = node.rpc("waitfornewblock", 1)
    assert answer == {"hash": node.tip(), "height": node.height()}


def test_waitfornewblock_does_not_know_what_the_caller_missed(
    node: BitcoinNode, threads: ThreadPoolExecutor
) -> None:
    """Blocks before the call do not end it, so a block between two calls is learnt too late."""
    node.mine_empty(2)
    height = node.height()
    call = in_background(threads, node, "waitfornewblock", 60_000)
    assert ended_by(call, node.mine_empty)["height"] > height


def test_waitforblockheight_answers_at_once_for_a_height_already_there(node: BitcoinNode) -> None:
    """`waitforblockheight(last seen + 1)` closes that gap: what is there already ends the wait."""
    seen = node.height()
    node.mine_empty(2)
    answer = node.rpc("waitforblockheight", seen + 1, 600_000)
    assert answer == {"hash": node.tip(), "height": seen + 2}


def test_waitforblockheight_gives_the_current_tip_when_time_is_up(node: BitcoinNode) -> None:
    """A height not reached is no error."""
    answer = node.rpc("waitforblockheight", node.height() + 1, 1)
    assert answer == {"hash": node.tip(), "height": node.height()}


def test_waitforblock_gives_the_current_tip_when_time_is_up(node: BitcoinNode) -> None:
    """A hash that never comes, here an impossible one, is no error."""
    answer = node.rpc("waitforblock", "00" * 32, 1)
    assert answer == {"hash": node.tip(), "height": node.height()}


def test_bitcoin_s_waitfornewblock_takes_the_tip_the_caller_knows(btc_node: BitcoinNode) -> None:
    """Knots' second parameter `current_tip` closes the gap for equal heights too."""
    known = btc_node.tip()
    btc_node.mine_empty()
    answer = btc_node.rpc("waitfornewblock", 600_000, known)
    assert answer["hash"] == btc_node.tip()


def test_waitfornewblock_tells_of_a_rewound_tip(
    node: BitcoinNode, threads: ThreadPoolExecutor
) -> None:
    """`invalidateblock` ends the wait with the lower tip."""
    node.mine_empty(3)
    tip, height = node.tip(), node.height()
    below = node.rpc("getblockhash", height - 1)
    call = in_background(threads, node, "waitfornewblock", 10_000)
    node.rpc("invalidateblock", tip)
    try:
        assert call.result(timeout=30) == {"hash": below, "height": height - 1}
    finally:
        node.rpc("reconsiderblock", tip)


@families
def test_a_stopping_node_ends_the_wait_with_its_tip(
    family: Family, threads: ThreadPoolExecutor
) -> None:
    """Stopping answers a waiting call at once, as if time were up."""
    with spare_node(family) as node:
        tip = node.tip()
        call = in_background(threads, node, "waitfornewblock", 0)
        node.rpc("stop")
        assert call.result(timeout=30) == {"hash": tip, "height": 0}
