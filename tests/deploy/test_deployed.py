"""A loaded policy against the evaluator's decision, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmbc_jax
from mmbc_jax.core.errors import CheckpointError, UserError
from mmbc_jax.core.keys import seeded
from mmbc_jax.core.observations import ObsEntry, ObsSpec
from mmbc_jax.deploy.inputs import RequestError, as_rows, as_words
from mmbc_jax.runs.restored import restore
from tests.deploy._loaded import loaded
from tests.toys.landscape import finished_run, unchecked
from tests.toys.products import spared

RNG = np.random.default_rng(0)
OBS = RNG.normal(size=(3, 2)).astype(np.float32)


def test_importing_the_package_imports_nothing_else():
    code = "import sys, mmbc_jax; print([m for m in ('jax', 'numpy', 'flax') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        mmbc_jax.lode  # noqa: B018


@pytest.mark.parametrize(("stage", "z"), [("bc", [0, 0, 0]), ("finetune", [1, 0, 1])])
@spared("bc-z0")
def test_a_chunk_is_the_evaluators_in_physical_units(stage, z):
    """Of three observations, which are padded to four; and of one."""
    restored = restore(finished_run(), stage, [])
    with unchecked():
        subjects = restored.stage.subject(restored.state, restored.keys("any"))
        subject = jax.tree.map(lambda leaf: leaf[0], subjects)
        act = restored.stage.evaluator().act
        key = jax.random.key(5)
        answer = act(subject, key, subject.normalizer.normalize_obs(jnp.asarray(OBS)), jnp.asarray(z))
    spec = restored.setup.env_spec
    low, high = np.array(spec.action_low), np.array(spec.action_high)
    expected = np.clip(low + (np.asarray(answer) + 1) / 2 * (high - low), low, high)
    with unchecked():
        found = loaded(stage)(OBS, z=z, key=key)
        one = loaded(stage)(OBS[0].tolist(), z=z[0], key=5)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(one, expected[0], atol=1e-6)
    assert np.abs(found).max() <= 0.15
    ours = loaded(stage)(jnp.asarray(OBS), z=z, key=5)
    assert isinstance(ours, jax.Array)
    np.testing.assert_allclose(ours, found, atol=1e-6)


def test_a_program_for_every_power_of_two():
    traced = []

    def act(subject, key, obs, z):
        traced.append(obs.shape)
        return jnp.zeros((*obs.shape[:-1], 4, 2))

    policy = dataclasses.replace(loaded("finetune"), act={False: act, True: act})
    for batch in (4, 3, 1, 4, 2, 1):
        assert policy(np.zeros((batch, 2))).shape == (batch, 4, 2)
    assert traced == [(4, 2), (1, 2), (2, 2)]


def test_a_command_that_nobody_gives_is_drawn_as_in_training():
    policy = loaded("finetune")
    many = np.repeat(OBS[:1], 64, 0)
    z = policy.draw(9, (64,))
    assert 16 < z.sum() < 48
    np.testing.assert_array_equal(policy(many, key=9), policy(many, z=z, key=9))
    assert (policy(many, z=1 - z, key=9) != policy(many, key=9)).any()


def test_without_a_key_every_call_draws_anew_and_a_stream_repeats():
    policies = [mmbc_jax.load(finished_run(), "bc", key=4) for _ in range(2)]
    first, second = policies[0](OBS[0]), policies[0](OBS[0])
    assert (first != second).any()
    np.testing.assert_array_equal(policies[1](OBS[0]), first)


@pytest.mark.parametrize("stage", ["bc", "finetune"])
def test_without_chance(stage):
    policy = loaded(stage)
    chunks = [policy(OBS, z=0, key=key, deterministic=True) for key in (1, 2)]
    np.testing.assert_array_equal(*chunks)
    assert (chunks[0] != policy(OBS, z=0, key=1)).any()


def merged(policy):
    """The policy with its command 0 merged away."""
    subject = policy.subject.replace(reward={"alive": jnp.array([0.0, 1.0])})
    return dataclasses.replace(policy, subject=subject, spec=dataclasses.replace(policy.spec, commands=(1,)))


def test_commands_that_merging_left_dead_are_refused_and_never_drawn():
    policy = merged(loaded("finetune"))
    with pytest.raises(RequestError, match=r"z = 0: stage finetune has z 1 \(merging left these\)"):
        policy(OBS[0], z=0)
    assert (policy.draw(0, (64,)) == 1).all()
    np.testing.assert_array_equal(policy(OBS, key=2), policy(OBS, z=1, key=2))


def test_keys_in_their_three_forms():
    words = np.asarray(jax.random.key_data(seeded(7)))
    for key in (7, np.int64(7), jax.random.key(7), words):
        np.testing.assert_array_equal(as_words(key), words)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"obs": np.zeros(3)}, r"observation state has shape \[3\], must be \[2\], or that with one leading"),
        ({"obs": np.zeros((2, 2, 2))}, r"has shape \[2, 2, 2\]"),
        ({"obs": np.zeros((0, 2))}, r"has shape \[0, 2\]"),
        ({"obs": [0.0, np.nan]}, "holds numbers that are not finite"),
        ({"obs": ["a", "b"]}, "has type <U1, must be numbers"),
        ({"obs": [[1.0], [1.0, 2.0]]}, "is no array of numbers"),
        ({"obs": OBS, "z": 2}, "z = 2: stage finetune has z 0, 1$"),
        ({"obs": OBS, "z": -1}, "z = -1: stage finetune has z 0, 1"),
        ({"obs": OBS, "z": 0.5}, "z = 0.5 must be a whole number, or one for each of 3"),
        ({"obs": OBS, "z": [0, 1]}, r"z = \[0, 1\] must be a whole number"),
        ({"obs": OBS, "key": -1}, "key = -1 must be a key of jax.random.key, or a seed"),
        ({"obs": OBS, "key": "0"}, "key = '0' must be"),
    ],
)
def test_what_a_call_refuses(arguments, said):
    with pytest.raises(RequestError, match=said):
        loaded("finetune")(**arguments)


SCENE = ObsSpec.of({"camera": ObsEntry((4, 6, 3), "image"), "state": ObsEntry((2,))})
PIXELS = np.zeros((5, 4, 6, 3), np.uint8)


def test_observations_with_images():
    rows, batch, single = as_rows(SCENE, {"camera": PIXELS, "state": np.zeros((5, 2))})
    assert (batch, single, rows["camera"].dtype, rows["state"].dtype) == (5, False, np.uint8, np.float32)
    rows, batch, single = as_rows(SCENE, {"camera": PIXELS[0], "state": [1, 2]})
    assert (batch, single, rows["camera"].shape) == (1, True, (1, 4, 6, 3))


@pytest.mark.parametrize(
    ("obs", "said"),
    [
        (np.zeros(2), "the observation is a ndarray, must be a dict of camera, state"),
        ({"state": np.zeros(2)}, "the observation is entries state, must be a dict of camera, state"),
        ({"camera": PIXELS / 255, "state": np.zeros((5, 2))}, "camera has type float64, must be uint8"),
        ({"camera": PIXELS, "state": np.zeros(2)}, "batches .*must have the same"),
        ({"camera": PIXELS[:, :3], "state": np.zeros((5, 2))}, r"must be \[4, 6, 3\]"),
    ],
)
def test_observations_with_images_that_are_none(obs, said):
    with pytest.raises(RequestError, match=said):
        as_rows(SCENE, obs)


def test_seeds_stages_and_steps():
    first, other = loaded("finetune"), mmbc_jax.load(finished_run(), seed=4)
    assert (first.spec.seed, other.spec.seed, other.spec.stage) == (3, 4, "finetune")
    assert (first(OBS, z=0, key=0) != other(OBS, z=0, key=0)).any()
    assert "checkpoints/finetune" in str(other.notes[-1])
    early = mmbc_jax.load(finished_run() / "checkpoints" / "bc", step=3)
    assert (early.spec.step, early.final, loaded("bc").final) == (3, False, True)
    assert [mode.success for mode in early.modes()] == [None]
    assert (early(OBS, key=0) != loaded("bc")(OBS, key=0)).any()


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"seed": 0}, UserError, "seed 0 must be one of 3, 4"),
        ({"point": 1}, UserError, "point 1 must be from 0 to 0"),
        ({"step": 99}, CheckpointError, "has no step 99; it has "),
        ({"stage": "plain"}, CheckpointError, "holds no checkpoint of a stage"),
        ({"stage": "tune"}, CheckpointError, "known are bc"),
    ],
)
def test_what_cannot_be_loaded(settings, error, said):
    with pytest.raises(error, match=said):
        mmbc_jax.load(finished_run(), **settings)


def test_modes_are_the_summarys():
    found = json.loads((finished_run() / "summary.json").read_text())["stages"]["finetune"]
    modes = mmbc_jax.load(finished_run(), seed=4).modes()
    assert [mode.z for mode in modes] == [0, 1]
    for mode in modes:
        assert mode.success == found["success_per_z"]["per_seed"][1][mode.z]
        assert list(mode.ci95) == found["wilson95_per_z"]["per_seed"][1][mode.z]
        counts = found["z_mode_table"]["per_seed"][1][mode.z]
        assert mode.episodes == sum(counts) == 4
        assert mode.picture.name == "trajectories_finetune.png"
        if sum(counts[:-1]):
            best = int(np.argmax(counts[:-1]))
            assert mode.label == ("NE", "NW", "SW", "SE")[best]
            assert mode.control == counts[best] / sum(counts[:-1])
        else:
            assert (mode.label, mode.control) == ("", None)
    assert any(mode.label for mode in modes)
    assert [mode.z for mode in merged(loaded("finetune")).modes()] == [1]


def test_of_one_command_the_one_is_played_whether_it_is_given_or_not():
    seen = []

    def act(subject, key, obs, z):
        jax.debug.callback(lambda value: seen.append(value.tolist()), z)
        return jnp.zeros((*obs.shape[:-1], 4, 2))

    policy = dataclasses.replace(loaded("bc"), act={False: act, True: act})
    assert policy.spec.num_modes == 1
    for z in (None, 0):
        np.asarray(policy(OBS[:2], z, 1))
    jax.effects_barrier()
    assert seen == [[0, 0]] * 2
