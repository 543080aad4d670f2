"""The parts of an iteration have the sizes of the whole; traced only, so that it takes no compilation."""

from __future__ import annotations

import jax
import pytest

from benchmarks import finetuning


@pytest.mark.parametrize(
    ("name", "num_modes"), [("finetune", 32), pytest.param("plain", 1, marks=pytest.mark.slow)]
)
def test_parts_do_the_work_of_an_iteration(name: str, num_modes: int) -> None:
    stage = finetuning.main_job(quick=True)[name]
    learner = stage.learner
    state = jax.eval_shape(lambda: jax.tree.map(lambda leaf: leaf[0], finetuning.start(stage)))

    def run(state):
        return {part: fn(*args) for part, (fn, args) in finetuning.parts(learner, state).items()}

    with jax.debug_key_reuse(False):  # all parts start from one state, each as if it were alone
        found = jax.eval_shape(run, state)
    assert stage.num_modes == learner.actor.num_modes == num_modes
    assert found["simulate"][1][0].shape == (4, 64)  # rewards, [T, B]
    assert found["sample"][0].shape == (4, 64, 8, 2)  # chunks, [T, B, H, A]
    assert found["prepare"][0]["advantage"].shape == (4 * 64,)
    after, metrics = jax.eval_shape(learner.train_step, state, ())
    assert found["update"][0] == after.params == state.params
    # an iteration logs what its parts do, and nothing else
    assert set(found["prepare"][2]) | set(found["update"][2]) == set(metrics)
