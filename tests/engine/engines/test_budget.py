from __future__ import annotations

import pytest

from engine.engines.budget import Budget, Costs, Level, levels_of

LEVELS = levels_of((1, 2, 4))
COSTS = Costs(0.030, {1: 0.015, 2: 0.025, 4: 0.045})
BUDGET_S = 0.080


class Machine:
    """Takes ``slower`` times what was measured."""

    def __init__(self, budget: Budget) -> None:
        self.budget, self.now, self.slower, self.frame = budget, 0.0, 1.0, 0
        self.changes: list[tuple[float, Level]] = []

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            before = level = self.budget.level
            self.frame += 1
            paints = level.steps > 0 and self.frame % level.every == 0
            student_s = self.slower * COSTS.student_s[level.steps] if paints else None
            rest_s = self.slower * COSTS.rest_s
            self.now += max(rest_s + (student_s or 0.0), 1 / 30)
            self.budget.spend(self.now, rest_s, student_s)
            if self.budget.level != before:
                self.changes.append((self.now, self.budget.level))


@pytest.fixture
def machine() -> Machine:
    return Machine(Budget(BUDGET_S, LEVELS, COSTS))


def test_the_levels_go_from_all_steps_to_none():
    assert list(LEVELS) == [Level(4), Level(2), Level(1), Level(1, 2), Level(0)]


@pytest.mark.parametrize(
    ("budget_s", "level"),
    [(0.2, Level(4)), (0.06, Level(2)), (0.05, Level(1)), (0.04, Level(1, 2)), (0.02, Level(0))],
)
def test_it_begins_with_the_most_that_fits(budget_s, level):
    assert Budget(budget_s, LEVELS, COSTS).level == level


def test_a_machine_that_keeps_up_is_left_alone(machine):
    machine.run(60)
    assert not machine.changes
    assert machine.budget.text() == "student at 4 steps"


def test_overrunning_goes_down_at_once_and_as_far_as_needed(machine):
    machine.run(5)
    machine.slower = 1.6
    machine.run(10)
    assert machine.changes[0][0] < 5 + 2.0
    assert machine.changes[-1][0] < 5 + 4.0
    assert machine.budget.level == Level(1)
    assert machine.budget.text() == "student at 1 step: the machine is busy"


def test_when_nothing_else_helps_there_is_depth_only(machine):
    machine.slower = 5
    machine.run(30)
    assert machine.budget.level == Level(0)
    assert machine.budget.text() == "depth only: the machine is busy"


def test_with_room_again_it_goes_up_step_by_step_and_later_than_it_went_down(machine):
    machine.slower = 5
    machine.run(20)
    machine.changes.clear()
    machine.slower = 0.8
    machine.run(60)
    assert [level for _, level in machine.changes] == [Level(1, 2), Level(1), Level(2), Level(4)]
    assert machine.changes[0][0] > 24


def test_just_enough_room_is_not_enough_to_go_up(machine):
    """No flapping between two levels of which one is a little too much."""
    machine.slower = 1.1  # 82 ms at the best level
    machine.run(120)
    assert [level for _, level in machine.changes] == [Level(2)]


def test_a_level_that_does_not_hold_is_tried_again_ever_later(machine):
    for _ in range(20):
        machine.slower = 1.5
        machine.run(4)
        machine.slower = 0.8
        machine.run(8)
    before, after = (
        sum(start <= when < start + 60 for when, _ in machine.changes) for start in (0, machine.now - 60)
    )
    assert after < before / 2
    machine.run(200)
    assert machine.budget.level == Level(4)


def test_a_pause_says_nothing(machine):
    machine.run(5)
    machine.now += 100
    machine.budget.spend(machine.now, 10.0, 10.0)
    assert machine.budget.level == Level(4)


def test_a_student_that_is_done_meanwhile_rises_again_when_there_is_room():
    budget = Budget(BUDGET_S, levels_of((1, 2)), Costs(0.050, {1: 0.0002, 2: 0.015}))
    for frame in range(600):
        is_busy = frame < 40
        waited_s = 0.015 if budget.level.steps == 2 else 0.001  # five times of next to nothing
        budget.spend(0.1 * frame, 0.075 if is_busy else 0.050, waited_s)
        if frame == 40:
            assert budget.level == Level(1)
    assert budget.level == Level(2)


def test_where_the_rest_alone_overruns_the_student_beside_it_is_lessened_level_by_level():
    budget = Budget(BUDGET_S, levels_of((1,)), Costs(0.050, {1: 0.0}))
    slower_by_s = {Level(1): 0.045, Level(1, 2): 0.020, Level(0): 0.0}  # what the student takes from it
    seen = [budget.level]
    for frame in range(60):
        budget.spend(0.1 * frame, 0.050 + slower_by_s[budget.level], 0.0 if budget.level.steps else None)
        if budget.level != seen[-1]:
            seen.append(budget.level)
    assert seen[:2] == [Level(1), Level(1, 2)]
    assert Level(0) not in seen


def test_the_last_painting_of_a_student_that_was_taken_off_may_still_be_waited_for():
    budget = Budget(0.02, LEVELS, COSTS)
    assert budget.level == Level(0)
    budget.spend(0.1, 0.015, 0.001)
    assert budget.level == Level(0)
