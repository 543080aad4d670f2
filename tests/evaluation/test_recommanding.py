"""Re-commanding, in a world in which a command works for a sequence or does not."""

from __future__ import annotations

import numpy as np
import pytest

from mmbc_jax.evaluation.recommanding import by_trial, in_turn, kept, random_scores

R, B, Z = 2, 6, 3
WORKS = np.zeros((R, Z), bool)
WORKS[0, 2] = WORKS[1, 0] = True
ALL = np.ones((R, Z), bool)


class World:
    """Remembers what it was commanded."""

    def __init__(self):
        self.asked = []

    def __call__(self, label, z):
        assert z.shape == (R, B)
        self.asked.append((label, z.copy()))
        return np.take_along_axis(WORKS, z, axis=1)


def test_the_best_that_has_not_failed_comes_next():
    """Values prefer 0, then 1, then 2. Run 0 needs all three, run 1 none; after the third nothing is left to try."""
    world = World()
    counts = in_turn(world, lambda label: np.broadcast_to([3.0, 2.0, 1.0], (R, B, Z)), 4, ALL)
    assert counts.tolist() == [[0, B], [0, B], [B, B], [B, B]]
    assert [z[0, 0] for _, z in world.asked] == [0, 1, 2, 2]
    assert [z[1, 0] for _, z in world.asked] == [0, 0, 0, 0]
    assert [label for label, _ in world.asked] == [f"attempt{i}" for i in range(4)]


def test_where_every_command_has_failed_all_are_open_again():
    asked = []

    def never(label, z):
        asked.append(int(z[0, 0]))
        return np.zeros(z.shape, bool)

    counts = in_turn(never, lambda label: np.array([[[2.0, 1.0]]]), 5, np.ones((1, 2), bool))
    assert counts.tolist() == [[0]] * 5
    assert asked == [0, 1, 0, 1, 0]


def test_values_are_those_of_the_new_start():
    """The order turns round at the second attempt; what has failed stays out."""
    world = World()
    orders = {"attempt0": [3.0, 2.0, 1.0], "attempt1": [3.0, 1.0, 2.0]}
    in_turn(world, lambda label: np.broadcast_to(orders[label], (R, B, Z)), 2, ALL)
    assert world.asked[1][1][0, 0] == 2


def test_random_orders_are_orders():
    """Without replacement: within Z attempts each sequence has tried every command, and no two orders need agree."""
    world = World()
    counts = in_turn(world, random_scores(0, R, B, Z), Z, ALL)
    assert counts[-1].tolist() == [B, B]
    tried = np.stack([z[0] for _, z in world.asked])
    needed = (tried == 2).argmax(0)  # attempts before the one that works
    assert counts[:, 0].tolist() == [int((needed <= i).sum()) for i in range(Z)]
    assert len(set(map(tuple, tried.T))) > 1


@pytest.mark.parametrize("trials", [1, 2, 5])
def test_each_command_is_tried_equally_often(trials):
    """In calls of 6 episodes, the last of which may count in part."""
    world = World()
    wins, best = by_trial(world, ALL, B, trials)
    np.testing.assert_array_equal(wins, trials * WORKS)
    assert best.tolist() == [2, 0]
    assert len(world.asked) == -(-trials * Z // B)


def test_commands_that_were_merged_away_are_never_given():
    """Run 0 has 1 and 2 left, run 1 all three: best values and trials are of these, and so is what opens again."""
    there = np.array([[False, True, True], [True, True, True]])
    world = World()
    counts = in_turn(world, lambda label: np.broadcast_to([3.0, 2.0, 1.0], (R, B, Z)), 4, there)
    assert [z[0, 0] for _, z in world.asked] == [1, 2, 2, 2]
    assert counts.tolist() == [[0, B], [B, B], [B, B], [B, B]]
    never = in_turn(lambda label, z: np.zeros(z.shape, bool), random_scores(0, R, B, Z), 3, there)
    assert never.tolist() == [[0, 0]] * 3
    world = World()
    wins, best = by_trial(world, there, B, 4)
    assert wins.tolist() == [[0, 0, 4], [4, 0, 0]]
    assert best.tolist() == [2, 0]
    assert all((z[0] != 0).all() for _, z in world.asked)
    none = by_trial(lambda label, z: np.zeros(z.shape, bool), there, B, 1)[1]
    assert none.tolist() == [1, 0]  # the lowest there is


def test_what_was_kept_is_commanded_on():
    world = World()
    assert kept(world, np.array([1, 0]), B, 3).tolist() == [[0, B]] * 3
    assert all((z == np.array([[1], [0]])).all() for _, z in world.asked)
