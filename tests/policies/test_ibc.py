from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy import special

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.nn.backbone import observe
from mmbc_jax.policies.ibc import BOX, info_nce

from ._toys import POINT, batch, build, draw, fit, hparams, moved, two_points


class Bowl(nn.Module):
    """E(chunk) = curvature / 2 |chunk - .3|^2."""

    def observe(self, obs):
        return obs

    def __call__(self, chunk, obs):
        return self.read(chunk, obs)

    @nn.compact
    def read(self, chunk, features):
        curvature = self.param("curvature", nn.initializers.constant(4.0), ())
        return 0.5 * curvature * jnp.square(chunk - 0.3).sum((-2, -1))[..., None]


def bowl(**fields):
    return dataclasses.replace(build("ibc", **fields), network=Bowl())


def test_info_nce_of_a_table_of_energies():
    # -log of exp(-1) / (exp(-1) + exp(0) + exp(-2)) and of exp(0) / (exp(0) + 2 exp(-log 2)) = 1 / 2
    table = jnp.array([[1.0, 0.0], [0.0, np.log(2)], [2.0, np.log(2)]])
    expected = [1 + np.log(np.exp(-1) + 1 + np.exp(-2)), np.log(2)]
    np.testing.assert_allclose(info_nce(table), expected, rtol=1e-6)
    # equal energies tell nothing: log (1 + N)
    np.testing.assert_allclose(info_nce(jnp.zeros((8, 1))), [np.log(8)], rtol=1e-6)


def test_loss_against_scipy_on_the_same_candidates():
    policy, data, hp = bowl(refine_steps=2, negatives=6), batch(), hparams("ibc")
    v = jax.jit(policy.init)(jax.random.key(0), data)
    loss = jax.jit(lambda v, key: policy.loss(v, key, data, hp))(v, jax.random.key(1))
    candidates = np.asarray(policy.candidates(v, data.obs, jax.random.key(1), data, hp))
    energy = 2.0 * np.square(candidates - 0.3).sum((-2, -1))
    expected = -special.log_softmax(-energy, 0)[0]
    expected[1] = 0  # nothing recorded
    np.testing.assert_allclose(loss.per_example, expected, rtol=1e-4, atol=1e-5)


def test_candidates():
    policy, data = bowl(refine_steps=0, negatives=400), batch()
    v = jax.jit(policy.init)(jax.random.key(0), data)
    hp = {"min_perturbation": jnp.asarray(0.02), "max_perturbation": jnp.asarray(0.02)}
    candidates = np.asarray(policy.candidates(v, data.obs, jax.random.key(2), data, hp))
    chunk, recorded = np.asarray(data.chunk), np.asarray(data.mask) == 1
    assert candidates.shape == (401, 5, 4, 2)
    np.testing.assert_array_equal(candidates[0], chunk)
    assert (candidates[:, ~recorded] == chunk[~recorded]).all()
    assert np.abs(candidates).max() <= BOX
    uniform, near = candidates[1:201][:, recorded], candidates[201:][:, recorded] - chunk[recorded]
    # 200 draws of 14 recorded actions in two dimensions: 5600 numbers of variance BOX^2 / 3 and .02^2.
    # Standard error of a variance: sqrt((kurtosis - 1) / n) of it, kurtosis 1.8 and 3
    assert abs(uniform.var() / (BOX**2 / 3) - 1) < 5 * np.sqrt(0.8 / 5600)
    assert abs(near.var() / 0.02**2 - 1) < 5 * np.sqrt(2.0 / 5600)


def test_scales_of_the_perturbation_are_log_uniform():
    policy = bowl(refine_steps=0, negatives=2000)
    data = batch().replace(chunk=jnp.zeros((5, 4, 2)), mask=jnp.ones((5, 4)))
    v = jax.jit(policy.init)(jax.random.key(0), data)
    hp = {"min_perturbation": jnp.asarray(0.001), "max_perturbation": jnp.asarray(0.1)}
    near = np.asarray(policy.candidates(v, data.obs, jax.random.key(3), data, hp))[1001:]
    # E log |s z|: the mean of the logs of both bounds, plus E log |z| = -(gamma + log 2) / 2; per scale eight
    # z. Variance: log(100)^2 / 12 of the scale plus pi^2 / 8 / 8 of the z, over 5000 scales
    expected = 0.5 * np.log(0.001 * 0.1) - 0.5 * (np.euler_gamma + np.log(2))
    error = np.sqrt((np.log(100) ** 2 / 12 + np.pi**2 / 64) / 5000)
    assert abs(np.log(np.abs(near)).mean() - expected) < 5 * error


def test_refined_negatives_are_constants_nearer_to_the_well():
    policy, data, hp = bowl(refine_steps=5, temperature=0.0), batch(), hparams("ibc")
    v = jax.jit(policy.init)(jax.random.key(0), data)

    def total(v, policy):
        return policy.candidates(v, data.obs, jax.random.key(4), data, hp)[33:].sum()

    gradient = jax.grad(lambda params: total(v.replace(params=params), policy))(v.params)
    assert gradient["curvature"] == 0.0
    plain = dataclasses.replace(policy, options=policy.options.replace(refine_steps=0))
    moved_on, before = (
        np.asarray(p.candidates(v, data.obs, jax.random.key(4), data, hp))[33:, 2:] for p in (policy, plain)
    )
    assert (np.abs(moved_on - 0.3) <= np.abs(before - 0.3) + 1e-6).all()
    assert np.abs(moved_on - 0.3).mean() < 0.8 * np.abs(before - 0.3).mean()


def test_dynamics_against_a_loop():
    policy, data = bowl(steps=4, first_step=0.2, last_step=0.025, max_move=0.3, temperature=0.5), batch()
    v = jax.jit(policy.init)(jax.random.key(0), data)
    w, chunk = draw(policy, v, data.obs)
    assert np.abs(w["x0"]).max() <= 1
    x = np.asarray(w["x0"])
    for i, eta in enumerate([0.2, 0.1, 0.05, 0.025]):
        move = 0.3 * np.tanh(eta * 4.0 * (x - 0.3) / 0.3)
        x = np.clip(x - move + np.sqrt(2 * 0.5 * eta) * np.asarray(w["path"])[:, i], -BOX, BOX)
    np.testing.assert_allclose(chunk, x, rtol=1e-4, atol=1e-5)


def test_dynamics_sample_the_energy():
    # N(.3, 1 / 25): far from the box, and from small steps exp(-E) itself. Euler's stationary variance is
    # (1 / 25) / (1 - eta 25 / 2) = .0405 at eta = .001; 5 sigma of 8000 draws are .04 of it
    policy = bowl(steps=400, first_step=1e-3, last_step=1e-3, max_move=10.0)
    v = jax.jit(policy.init)(jax.random.key(0), batch())
    v = v.replace(params={"curvature": jnp.asarray(25.0)})
    _, chunk = draw(policy, v, jnp.zeros((1000, 3)))
    assert abs(chunk.mean() - 0.3) < 5 * np.sqrt(0.0405 / 8000)
    assert abs(chunk.var() / 0.0405 - 1) < 5 * np.sqrt(2 / 8000)


@pytest.mark.slow
def test_both_modes_are_sampled():
    policy = build("ibc", POINT, hidden=(32, 32))
    v = fit(policy, two_points(0.5, 64), hparams("ibc"), steps=300, learning_rate=1e-2)
    _, chunk = draw(policy, v, jnp.zeros((1000, 1)))
    # uniform starts have .18 within .2 of either point; what a plateau holds is missing from the sum
    near = [(np.abs(chunk - point) < 0.2).mean() for point in (-0.8, 0.8)]
    assert min(near) > 0.3
    assert sum(near) > 0.8
    features = observe(policy.network, v.params, jnp.zeros((3, 1)))
    energy = policy.energy(v, features, jnp.array([-0.8, 0.0, 0.8])[:, None, None])
    assert energy[1] > max(energy[0], energy[2]) + 1


def test_energy_sees_the_observation():
    policy, data = build("ibc"), batch()
    v = moved(policy, data)
    energy, other = (
        policy.energy(v, observe(policy.network, v.params, obs), data.chunk) for obs in (data.obs, -data.obs)
    )
    assert energy.shape == (5,)
    assert not np.allclose(energy, other)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("policy.negatives", {"negatives": 7}),
        ("policy.negatives", {"negatives": 0}),
        ("policy.refine_steps", {"refine_steps": -1}),
        ("policy.min_perturbation", {"min_perturbation": 0.0}),
        ("policy.max_perturbation", {"max_perturbation": 0.01}),
        ("policy.steps", {"steps": 0}),
        ("policy.last_step", {"last_step": 0.0}),
        ("policy.first_step", {"first_step": 1e-5}),
        ("policy.max_move", {"max_move": 0.0}),
        ("policy.temperature", {"temperature": -1.0}),
    ],
)
def test_impossible_values_are_refused(field, fields):
    with pytest.raises(ConfigError, match=field):
        build("ibc", **fields)
