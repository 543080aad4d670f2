"""The controller's loop against the evaluator's own episodes, and real-time chunking against its formula."""

from __future__ import annotations

import dataclasses
import math
import threading
from concurrent.futures import Executor, Future

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.observations import ObsSpec
from mmbc_jax.deploy.history import Past
from mmbc_jax.deploy.inputs import RequestError
from mmbc_jax.deploy.realtime import RealTime, joined, soft_mask
from mmbc_jax.envs import wrappers
from mmbc_jax.runs.restored import restore
from tests.deploy._loaded import loaded
from tests.toys.landscape import finished_run, unchecked
from tests.toys.products import spared


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
        pytest.param(
            *("finetune", {"deterministic": True}, [("evaluation.deterministic", "True")]),
            marks=pytest.mark.slow,
        ),
        ("bc", {"hold_noise": True}, [("evaluation.hold", "True")]),
        ("bc", {"execute": 2, "ensemble": 0.3}, [("evaluation.ensemble", "0.3"), ("chunk.execute", "2")]),
    ],
)
@spared("bc-settings2*")
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


OBS = np.array([0.1, -0.2], np.float32)


def test_a_drawn_command_is_held_until_reset_and_else_drawn_anew():
    held = loaded("finetune").controller(execute=1, key=7)
    assert held.command is None
    commands, actions = [], []
    for _ in range(6):
        held.reset()
        actions.append(held.act(OBS))
        commands.append(held.command)
        held.act(OBS)
        assert held.command == commands[-1]
    assert set(commands) == {0, 1}
    anew = loaded("finetune").controller(execute=1, key=7, hold_mode=False)
    anew.act(OBS)
    assert anew.command is None
    again = loaded("finetune").controller(execute=1, key=7)
    np.testing.assert_array_equal(again.act(OBS), actions[0])
    assert actions[0].shape == (2,)
    held.reset(z=1)
    held.act(OBS)
    assert held.command == 1


def test_held_noise_is_the_same_at_every_decision():
    held = loaded("bc").controller(execute=1, hold_noise=True, key=3)
    drawn = loaded("bc").controller(execute=1, key=3)
    np.testing.assert_array_equal(held.act(OBS), held.act(OBS))
    assert (drawn.act(OBS) != drawn.act(OBS)).any()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"execute": 0}, "execute = 0 must be from 1 to 4"),
        ({"execute": 5}, "execute = 5 must be from 1 to 4"),
        ({"execute": True}, "execute = True must be"),
        ({"ensemble": -1.0}, "ensemble = -1.0 must be at least 0"),
        ({"ensemble": 0.1}, "ensemble: plans do not overlap: execute = 4 must be below 4"),
        ({"realtime": True}, "realtime: plans do not overlap"),
        ({"execute": 2, "ensemble": 0.1, "realtime": True}, "ensemble and realtime do not go together"),
    ],
)
def test_settings_that_cannot_be(settings, said):
    with pytest.raises(RequestError, match=said):
        loaded("bc").controller(**settings)


class ByHand(Executor):
    """Runs what it was given when it is told to."""

    def submit(self, fn, /, *args, **kwargs):
        self.future, self.work = Future(), fn
        return self.future

    def finish(self):
        self.future.set_result(self.work())


def chunk(first):
    return first + np.arange(8.0).reshape(1, 8, 1)


def test_real_time_enters_the_next_chunk_where_time_is():
    """H = 8, the next chunk asked for after 3 actions, there 2 control steps later; against the paper's formula."""
    executor = ByHand()
    runner = RealTime(8, 3, executor)
    chunks = iter([chunk(0.0), chunk(100.0), chunk(200.0)])

    def act():
        return runner.act(lambda: lambda: next(chunks)).item()

    assert [act() for _ in range(5)] == [0, 1, 2, 3, 4]  # the second is asked for at action 3
    executor.finish()
    played = [act() for _ in range(3)]
    assert runner.delay == 2
    left, expected = 8 - 3, []
    for i in (2, 3, 4):
        c = (left - i) / (left - 2 + 1)
        weight = c * (math.exp(c) - 1) / (math.e - 1)
        expected.append(weight * (3 + i) + (1 - weight) * (100 + i))
    np.testing.assert_allclose(played, expected, rtol=1e-6)
    executor.finish()  # asked for at action 3 of the second, as soon as that was played
    assert runner.waits == 0


def test_a_soft_mask_falls_from_one_to_zero():
    weight = soft_mask(8, 6, 2)
    assert (weight[:2] == 1).all()
    assert (weight[6:] == 0).all()
    assert (np.diff(weight[1:7]) < 0).all()
    assert soft_mask(4, 2, 2).tolist() == [1, 1, 0, 0]
    np.testing.assert_array_equal(
        joined(chunk(0.0), chunk(5.0), 8, 0), chunk(5.0)
    )  # nothing of the old is left


def test_real_time_waits_where_the_old_chunk_has_run_out():
    ready = threading.Event()
    runner = RealTime(4, 2)

    def late():
        assert ready.wait(30)
        return chunk(100.0)[:, :4]

    samples = iter([lambda: chunk(0.0)[:, :4], late])
    played = [runner.act(lambda: next(samples)).item() for _ in range(4)]
    assert played == [0, 1, 2, 3]
    threading.Timer(0.05, ready.set).start()
    assert runner.act(lambda: next(samples)).item() == 102
    assert (runner.waits, runner.delay) == (1, 2)
    runner.stop()


def test_a_controller_in_real_time():
    """What it plays are the policy's own chunks under the controller's keys, the first of them alone at first."""
    waiting = loaded("finetune").controller(execute=2, key=5, z=1)
    expected = [waiting.act(OBS) for _ in range(2)]
    controller = loaded("finetune").controller(execute=2, key=5, z=1, realtime=True)
    executor = ByHand()
    controller._runner._executor = executor
    found = [controller.act(OBS) for _ in range(3)]
    np.testing.assert_array_equal(found[:2], expected)
    executor.finish()
    assert controller.act(OBS).shape == (2,)
    assert (controller.delay, controller.waits) == (1, 0)
    controller.reset()
    np.testing.assert_array_equal(controller.reset(key=5) or controller.act(OBS), expected[0])


def test_what_fails_in_the_thread_is_raised():
    runner = RealTime(4, 2)
    samples = iter([lambda: chunk(0.0)[:, :4], lambda: 1 / 0])
    played = [runner.act(lambda: next(samples)) for _ in range(2)]
    assert len(played) == 2
    with pytest.raises(ZeroDivisionError):
        [runner.act(lambda: next(samples)) for _ in range(3)]
    runner.stop()


def test_what_was_observed_stays_where_the_caller_fills_the_same_array_again():
    past, pos = Past(ObsSpec.vector(2), 3), np.zeros((1, 2), np.float32)
    for step in range(4):
        pos[:] = step
        seen = past.seen({"state": pos})
        if step == 0:
            first = seen
    np.testing.assert_array_equal(seen, [[1, 1, 2, 2, 3, 3]])
    np.testing.assert_array_equal(first, np.zeros((1, 6)))
    alone, pos = Past(ObsSpec.vector(2), 1), np.zeros((1, 2), np.float32)
    kept = alone.seen({"state": pos})
    pos += 1
    np.testing.assert_array_equal(kept, [[0, 0]])


@pytest.mark.parametrize("settings", [{}, {"ensemble": 0.1, "execute": 2}, {"deterministic": True}])
def test_a_controller_that_was_warmed_up_compiles_no_policy_in_the_loop(settings):
    traced = []

    def act(subject, key, obs, z):
        traced.append(obs.shape)
        return jnp.zeros((*obs.shape[:-1], 4, 2))

    policy = dataclasses.replace(loaded("finetune"), act={False: act, True: act})
    controller = policy.controller(**settings).warm_up()
    assert traced == [(1, 2)]
    for _ in range(5):
        controller.act(OBS)
    assert traced == [(1, 2)]
