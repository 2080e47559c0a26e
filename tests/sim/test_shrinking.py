"""A failing plan is made smaller without losing its failure."""

from tests.sim.plan import chains_of, draw
from tests.sim.shrinking import shrunk


def test_what_a_failure_does_not_need_is_left_out():
    plan = [("mine", 0, number, 0) for number in range(40)]
    needed = {("mine", 0, 7, 0), ("mine", 0, 31, 0)}
    played = []

    def fails(part):
        played.append(part)
        return needed <= {*part}

    assert {*shrunk(plan, fails)} == needed
    assert len(played) < 60, "halves are left out before single steps"


def test_a_plan_that_needs_all_stays_as_it_is():
    plan = [("mine", 0, number, 0) for number in range(5)]
    assert shrunk(plan, lambda part: len(part) == 5) == plan


def test_a_seed_is_one_plan():
    assert draw(4711) == draw(4711)
    assert draw(4711) != draw(4712)


def test_a_plan_names_its_chains_also_within_one_moment():
    inside = (("pay", 2, 1, 100),)
    assert chains_of([("user",), ("together", False, inside)]) == ["xmr"]
    assert chains_of([("create", 5, 1, 100), ("wait", 5)]) == ["eth"]
