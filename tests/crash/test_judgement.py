"""What a story calls lost, doubled and wrong; and how kills are dealt out to stories."""

import pytest

from tests.crash import hooks
from tests.crash.__main__ import KILLS_PER_STORY, figures, tasks
from tests.crash.findings import Finding, compare, some
from tests.crash.story import Outcome
from tests.helpers.log_readers import Told

LOG = [
    Told(seq, f"db-{seq}", "payment.seen", f"invoice {seq % 2}", "user", {}) for seq in (1, 2, 3)
]


def kinds(got):
    return [(finding.kind, finding.count) for finding in compare("a reader", got, LOG)]


def test_the_same_is_nothing():
    assert kinds(LOG) == []
    assert compare("a reader", [], []) == []


@pytest.mark.parametrize(
    ("got", "wanted"),
    [
        (LOG[:1], [("lost", 2)]),
        ([*LOG, LOG[1]], [("doubled", 1)]),
        ([*LOG, LOG[2]._replace(seq=4, id="db-4")], [("wrong", 1)]),
        ([*LOG[:2], LOG[2]._replace(type="payment.included")], [("wrong", 1)]),
        ([*LOG[:2], LOG[2]._replace(id="other-3")], [("lost", 1), ("wrong", 1)]),
        ([LOG[1], LOG[0], LOG[2]], [("wrong", 1)]),
    ],
    ids=["two missing", "one twice", "one more", "told otherwise", "another log", "out of order"],
)
def test_each_difference_has_its_name(got, wanted):
    assert kinds(got) == wanted


def test_a_finding_counts_all_and_names_some():
    (finding,) = some("lost", "it lacks", range(20))
    assert finding.count == 20
    assert str(finding) == "lost: it lacks: 0, 1, 2, 3, 4, …"
    assert some("lost", "it lacks", []) == []


def test_webhooks_are_in_order_for_each_invoice_alone():
    in_order = {one.id: one for one in (LOG[1], LOG[0], LOG[2])}
    assert hooks._out_of_order(in_order) == []
    assert hooks._out_of_order({one.id: one for one in (LOG[2], LOG[0])}) == [1]


@pytest.mark.parametrize("kills", [1, 2, 9, 50, 300])
def test_kills_are_dealt_out(kills):
    wanted = tasks(kills, ("sqlite", "postgres"), 7)
    assert sum(task.kills for task in wanted) == kills
    assert all(1 <= task.kills <= KILLS_PER_STORY for task in wanted)
    assert [task.seed for task in wanted] == list(range(7, 7 + len(wanted)))
    assert {task.database for task in wanted} == (
        {"sqlite"} if kills == 1 else {"sqlite", "postgres"}
    )


def test_the_command_that_plays_it_again_makes_one_story():
    (task,) = tasks(KILLS_PER_STORY, ("postgres",), 4711)
    assert task.again == "make crash SEED=4711 KILLS=25 DATABASE=postgres"


def test_figures_add_up():
    one = Outcome(1, recoveries_s=[3.0, 1.0], findings=[Finding("lost", "this", 2)])
    other = Outcome(2, recoveries_s=[2.0], findings=[Finding("wrong", "that")])
    one.counts.update({"kills": 4, "blocks mined": 3})
    other.counts.update({"kills": 5})
    found = figures([one, other], 90.0)
    assert (found["kills"], found["blocks_mined"], found["minutes"]) == (9, 3, 1.5)
    assert (found["lost"], found["doubled"], found["wrong"]) == (2, 0, 1)
    assert (found["recovery_s_p50"], found["recovery_s_max"]) == (2.0, 3.0)
