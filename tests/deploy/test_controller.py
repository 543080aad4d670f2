"""The controller's loop against the evaluator's own episodes, and real-time chunking against its formula."""

from __future__ import annotations

import functools
import threading
from concurrent.futures import Executor, Future

import jax
import numpy as np
import pytest

import mmbc_jax
from mmbc_jax.deploy.inputs import RequestError
from mmbc_jax.deploy.realtime import RealTime, joined, soft_mask
from mmbc_jax.envs import wrappers
from mmbc_jax.runs.restored import restore
from tests.toys.landscape import finished_run, unchecked


@functools.cache
def loaded(stage):
    return mmbc_jax.load(finished_run(), stage)


def played(stage, controller, reset_keys, commands):
    """Paths [B, L, 2] of episodes that a controller plays, one control step after another."""
    setup = restore(finished_run(), stage, []).setup
    env = wrappers.make(setup.bare_env, 1, autoreset=None, path=True)
    step = jax.jit(env.step)
    state = jax.jit(env.reset)(reset_keys)
    controller.reset(commands)
    low, high = np.array(loaded(stage).spec.low), np.array(loaded(stage).spec.high)
    paths = [np.asarray(state.info["path"][:, -1])]
    for _ in range(setup.env_spec.episode_length):
        action = controller.act(np.asarray(state.obs))
        box = (action - (low + high) / 2) / ((high - low) / 2)
        state = step(state, box[:, None].astype(np.float32))
        paths.append(np.asarray(state.info["path"][:, -1]))
    return np.stack(paths, 1), np.asarray(state.metrics["success"] > 0)


@pytest.mark.parametrize(
    ("stage", "settings", "overrides"),
    [
        ("finetune", {}, []),
        ("finetune", {"deterministic": True}, [("evaluation.deterministic", "True")]),
        ("bc", {"hold_noise": True}, [("evaluation.hold", "True")]),
        ("bc", {"execute": 2, "ensemble": 0.3}, [("evaluation.ensemble", "0.3"), ("chunk.execute", "2")]),
    ],
)
def test_a_loop_is_the_evaluators(stage, settings, overrides):
    """Same keys, same commands: the same paths, through physical units and back."""
    restored = restore(finished_run(), stage, overrides)
    evaluator = restored.stage.evaluator()
    with unchecked():
        subjects = restored.stage.subject(restored.state, restored.keys(f"evaluate/{stage}"))
        subject = jax.tree.map(lambda leaf: leaf[0], subjects)
        expected = jax.jit(evaluator.run)(subject, None)
    key_reset, key_decide = jax.random.split(jax.random.clone(subject.key))
    controller = loaded(stage).controller(key=key_decide, **settings)
    with unchecked():
        paths, success = played(stage, controller, jax.random.split(key_reset, 8), np.asarray(expected.z))
    shown = expected.path.shape[0]
    assert np.ptp(np.asarray(expected.path[:, -1]), axis=0).max() > 0.05  # they do not all go one way
    np.testing.assert_allclose(paths[:shown], expected.path, atol=2e-5)
    np.testing.assert_array_equal(success, expected.success)

