"""Constants that bound what a policy can say go by the range of all demonstrations, not of a sample in [-1, 1]."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.learning import Parts
from mmbc_jax.core.types import PolicySpec
from mmbc_jax.data.windows import Windows
from mmbc_jax.learners._cloning import clone
from mmbc_jax.policies._common import extent
from mmbc_jax.policies.ibc import BOX
from mmbc_jax.policies.wrappers.coordinates import in_coordinates

from ._toys import batch, build, hparams, moved

SPEC = PolicySpec(obs_dim=3, action_dim=2, chunk_len=4)
MANY = 9000  # windows, more than a policy is initialised with, and more than two blocks


@functools.cache
def chunks():
    """Small chunks, and a single one that `bc` does not show a policy at `init`, four times as large."""
    rows = np.random.default_rng(0).uniform(-0.25, 0.25, (MANY, 4, 2)).astype(np.float32)
    rows[1] = 1.0
    return jnp.asarray(rows)


@pytest.mark.parametrize("coordinates", ["path", "whitened"])
def test_coordinates_are_scaled_by_every_window(coordinates):
    """The errors of chunks that diffusion's clip cut went up to .88."""
    policy = in_coordinates(build("diffusion"), coordinates)
    one = jnp.zeros(MANY, jnp.int32)
    windows = Windows(jnp.zeros((MANY, 3)), chunks(), jnp.ones((MANY, 4)), one, one, one)
    learner = registry.build("learner", plugin("learner", "bc"), Parts(SPEC, 4, policy=policy))
    hp = {f"bc.{name}": jnp.asarray(1.0) for name in registry.find("learner", "bc").hparams}
    state = jax.jit(lambda key: learner.init(key, hp, None, (windows, {})))(jax.random.key(0))
    v = clone(state)
    y = np.asarray(policy.modelled(v, windows.chunk))
    assert np.abs(y).max() == pytest.approx(1.0, abs=1e-4)
    np.testing.assert_array_equal(v.stats["inner"]["bound"], np.ones((4, 2)))


def test_extent_is_of_all_windows_and_at_least_one():
    sample = batch().replace(chunk=chunks()[:5])
    np.testing.assert_array_equal(extent(sample), np.ones((4, 2)))
    wide = sample.replace(every=chunks().at[3, 1, 0].set(-7.0))
    np.testing.assert_array_equal(extent(wide), np.ones((4, 2)) + 6.0 * (np.arange(8) == 2).reshape(4, 2))


def test_estimates_of_a_diffusion_reach_the_ends_of_its_data():
    data = batch().replace(chunk=3.0 * jnp.ones((5, 4, 2)))
    for clip, end in ((1.0, 3.0), (0.5, 1.5)):
        policy = build("diffusion", clip=clip)
        field = policy.field(moved(policy, data), data.obs)
        found, _ = field.denoise(1e4 * jnp.ones((5, 4, 2)), jnp.asarray(0.5))
        np.testing.assert_allclose(np.abs(found), end)


def test_the_box_of_an_energy_holds_its_data():
    data = batch(size=64)
    data = data.replace(chunk=data.chunk.at[..., 1].multiply(5.0), mask=jnp.ones((64, 4)))
    policy = build("ibc", negatives=64, refine_steps=0, steps=2, temperature=100.0)
    v = moved(policy, data)
    ends = np.asarray(extent(data))
    assert (ends[:, 0] == 1.0).all()
    assert (ends[:, 1] > 4.0).all()
    found = np.asarray(policy.candidates(v, data.obs, jax.random.key(0), data, hparams("ibc")))
    reached = np.abs(found[1:]).max((0, 1))
    np.testing.assert_allclose(reached, BOX * ends, rtol=0.02)
    w = policy.base_distribution(v, data.obs).sample(seed=jax.random.key(1))
    np.testing.assert_allclose(np.abs(w["x0"]).max(0), ends, rtol=0.1)
    drawn = np.abs(np.asarray(policy.transport(v, data.obs, w))).max(0)
    np.testing.assert_allclose(drawn, BOX * ends, rtol=1e-5)  # so hot that every number meets a wall
