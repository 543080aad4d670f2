"""Every actor and every discriminator of the package keeps its contract."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import Batch, PolicySpec
from mmbc_jax.ops.policy_gradient import clipped_surrogate
from tests.toys.noise_policy import NoisePolicy
from tests.toys.products import spared

SPEC = PolicySpec(obs_dim=3, action_dim=1, chunk_len=2)
MODES, HORIZON, ROWS = 3, 5, 4000
VARIANTS = {
    "steer in a box": ("steer", {"box": 1.5}),
    "gaussian in the cube, by step": ("gaussian", {"squash": True, "ratio": "step"}),
    "denoise by ddim, z in the field": ("denoise", {"chain": "ddim", "modes": "field"}),
    "flow_sde with the flow's marginals, z in both": ("flow_sde", {"noise": "sde", "modes": "both"}),
    "residual without a head": ("residual", {"steered": False}),
}
NO_DENSITY = {"cfm_ratio": "its ratio is of losses, which bound likelihoods and are none"}
ACTORS = [*sorted(registry.available("actor")), *VARIANTS]
DISCRIMINATORS = sorted(registry.available("discriminator"))


@functools.cache
def policies():
    """What an actor may need: noise of a chunk's shape, a field, a density."""
    flow = built_policy("flow", plugin("policy", "flow", hidden=(8,)), plugin("sampler", "euler", steps=2))
    return NoisePolicy(SPEC), flow, built_policy("gaussian", plugin("policy", "gaussian", hidden=(8,)), None)


def built_policy(name, cfg, sampler):
    def prior(shape):
        return registry.build("prior", plugin("prior", "normal"), shape, spec=SPEC)

    made = registry.build("sampler", sampler) if sampler is not None else None
    return registry.build("policy", cfg, SPEC, prior=prior, sampler=made)


@functools.cache
def built(name, modes=MODES):
    """(actor, its reference policy): the first of `policies` that it accepts."""
    name, fields = VARIANTS.get(name, (name, {}))
    cfg = plugin("actor", name, **fields)
    if "hidden" in cfg:
        cfg.hidden = (8,)
    for policy in policies():
        try:
            return registry.build("actor", cfg, spec=SPEC, policy=policy, num_modes=modes), policy
        except ConfigError as error:
            refused = error
    raise refused


def actor(name):
    return built(name)[0]


@functools.cache
def reference(name):
    batch = Batch(jnp.zeros((2, 3)), jnp.zeros((2, 2, 1)), jnp.ones((2, 2)))
    return jax.jit(built(name)[1].init)(jax.random.key(0), batch)


@functools.cache
def discriminator(name):
    cfg = plugin("discriminator", name)
    if "hidden" in cfg:
        cfg.hidden = (8,)
    return registry.build("discriminator", cfg, SPEC.obs, MODES, HORIZON)


@functools.cache
def acted(name):
    """(params, obs, z, chunk, info) of ROWS decisions."""
    key_init, key_obs, key_z, key_act = jax.random.split(jax.random.key(1), 4)
    params = jax.jit(actor(name).init)(key_init, reference(name))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda p: p + 0.02 * rng.standard_normal(p.shape, np.float32), params)
    obs = jax.random.uniform(key_obs, (ROWS, 3), minval=-1, maxval=1)
    z = jax.random.randint(key_z, (ROWS,), 0, MODES)
    chunk, info = jax.jit(actor(name).act)(params, reference(name), key_act, obs, z)
    return params, obs, z, chunk, info


@functools.cache
def log_ratio(name):
    return jax.jit(actor(name).log_ratio)


@pytest.mark.parametrize("name", ACTORS)
@spared("denoise by*", "flow_sde with*", "steer in a box")
def test_actor_shapes(name):
    params, obs, z, chunk, info = acted(name)
    assert chunk.shape == (ROWS, 2, 1)
    assert np.isfinite(chunk).all()
    ratio = log_ratio(name)(params, reference(name), obs, z, info)
    assert ratio.shape[:-1] == (ROWS,)
    assert ratio.ndim == 2
    entropy = jax.jit(actor(name).entropy)(params, reference(name), obs, z)
    assert entropy.shape == (ROWS,)
    assert np.isfinite(entropy).all()
    assert jax.tree.leaves(info)
    assert all(leaf.shape[0] == ROWS for leaf in jax.tree.leaves(info))


@pytest.mark.parametrize("name", ACTORS)
def test_log_ratio_is_zero_at_unchanged_parameters(name):
    params, obs, z, _, info = acted(name)
    np.testing.assert_allclose(log_ratio(name)(params, reference(name), obs, z, info), 0.0, atol=2e-5)


@pytest.mark.parametrize("name", ACTORS)
@spared("denoise by*", "flow_sde with*", "steer in a box", "gaussian in*")
def test_acting_is_a_function_of_its_key(name):
    params, obs, z, chunk, _ = acted(name)
    act = jax.jit(actor(name).act)
    key = jax.random.key(5)
    first, _ = act(params, reference(name), key, obs[:8], z[:8])
    second, _ = act(params, reference(name), jax.random.clone(key), obs[:8], z[:8])
    np.testing.assert_array_equal(first, second)
    assert not np.allclose(first, chunk[:8])


@pytest.mark.parametrize("name", ACTORS)
def test_ratios_are_ratios_of_densities(name):
    """E_old[new / old] = 1 for any other parameters, within 5 standard errors of the samples."""
    if name in NO_DENSITY:
        pytest.skip(NO_DENSITY[name])
    params, obs, z, _, info = acted(name)
    rng = np.random.default_rng(1)
    moved = jax.tree.map(lambda p: p + 0.02 * rng.standard_normal(p.shape, np.float32), params)
    total = np.asarray(log_ratio(name)(moved, reference(name), obs, z, info).sum(-1), np.float64)
    weight = np.exp(total)
    assert weight.std() > 1e-2  # the parameters do something
    assert abs(weight.mean() - 1.0) < 5 * weight.std() / math.sqrt(ROWS)


@pytest.mark.parametrize("name", ACTORS)
@spared("flow_sde with*", "flow_sde")
def test_gradient_is_the_score_function_gradient_on_a_bandit(name):
    """At unchanged parameters grad L = -E[A grad log pi], and a constant advantage has no direction.

    The reward is the first action. The score has mean 0, so along the direction found a constant advantage
    of 1 gives less than 5 standard errors of the per-sample products.
    """
    if name in NO_DENSITY:
        pytest.skip(NO_DENSITY[name])
    params, obs, z, chunk, info = acted(name)
    factors = log_ratio(name)(params, reference(name), obs, z, info).shape[-1]
    reward = chunk[:, 0, 0]
    advantage = reward - reward.mean()

    def ratio(p):
        return actor(name).log_ratio(p, reference(name), obs, z, info)

    def surrogate(p):
        return clipped_surrogate(ratio(p), advantage, 0.2)[0].mean()

    direction = jax.jit(jax.grad(surrogate))(params)
    assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(direction)) > 1e-3
    along = jax.jit(lambda d: jax.jvp(ratio, (params,), (d,))[1])(direction)
    along = np.asarray(along.sum(-1), np.float64)  # d log pi of each decision along the gradient
    slope = sum(float(jnp.vdot(g, g)) for g in jax.tree.leaves(direction))
    np.testing.assert_allclose(-np.mean(np.asarray(advantage) * along) / factors, slope, rtol=1e-3)
    assert abs(along.mean()) < 5 * along.std() / math.sqrt(ROWS)


@pytest.mark.parametrize("name", ACTORS)
@spared("denoise by*", "flow_sde with*", "steer in a box", "gaussian in*", "cfm_ratio")
def test_actor_under_vmap_over_parameters(name):
    params, obs, z, _, info = acted(name)
    rng = np.random.default_rng(2)
    other = jax.tree.map(lambda p: p + 0.02 * rng.standard_normal(p.shape, np.float32), params)
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), params, other)
    part = (obs[:5], z[:5], jax.tree.map(lambda x: x[:5], info))
    found = jax.jit(jax.vmap(actor(name).log_ratio, in_axes=(0, None, None, None, None)))(
        both, reference(name), *part
    )
    for i, p in enumerate((params, other)):
        np.testing.assert_allclose(found[i], log_ratio(name)(p, reference(name), *part), rtol=1e-3, atol=2e-5)


def sampled(name):
    """(action, log density) of ROWS draws at the observations of `acted`, or None where actions have no density."""
    if not hasattr(actor(name), "sample"):
        return None
    params, obs, z, _, _ = acted(name)
    return jax.jit(actor(name).sample)(params, reference(name), jax.random.key(11), obs, z)


@pytest.mark.parametrize("name", ACTORS)
def test_sampled_actions_are_those_that_are_played(name):
    """The moments of their chunks agree with those of `act` within 5 standard errors of 2 x ROWS draws."""
    if (found := sampled(name)) is None:
        pytest.skip("not reparameterised")
    action, log_prob = found
    _, obs, _, played, _ = acted(name)
    assert action.shape == (ROWS, actor(name).action_size)
    if actor(name).box and not name.startswith("residual"):  # whose box is that of the correction
        assert float(jnp.abs(action).max()) <= actor(name).box
    assert log_prob.shape == (ROWS,)
    chunk = jax.jit(actor(name).chunk)(reference(name), jax.random.key(12), obs, action)
    assert chunk.shape == played.shape
    for power in (1, 2):
        ours, theirs = (np.asarray(x, np.float64).reshape(ROWS, -1) ** power for x in (chunk, played))
        error = np.sqrt((ours.var(0) + theirs.var(0)) / ROWS)
        assert (np.abs(ours.mean(0) - theirs.mean(0)) < 5 * error).all()


@pytest.mark.parametrize("name", ACTORS)
def test_entropy_is_minus_the_mean_log_density(name):
    """Within 5 standard errors of the samples, and 0.01 nats per number for quadrature."""
    if name == "residual":
        pytest.skip("its head, which an off-policy learner leaves as it is, is no part of the density")
    if (found := sampled(name)) is None:
        pytest.skip("not reparameterised")
    params, obs, z, _, _ = acted(name)
    entropy = np.asarray(jax.jit(actor(name).entropy)(params, reference(name), obs, z), np.float64)
    gap = -np.asarray(found[1], np.float64) - entropy
    assert abs(gap.mean()) < 5 * gap.std() / math.sqrt(ROWS) + 0.01 * actor(name).action_size


@pytest.mark.parametrize("name", ACTORS)
def test_actions_and_densities_are_differentiable_in_the_parameters(name):
    """Against differences along one direction: (f(p + e d) - f(p - e d)) / 2e with e = 1e-2."""
    if name == "residual":
        pytest.skip("its head, which an off-policy learner leaves as it is, is no part of the density")
    if sampled(name) is None:
        pytest.skip("not reparameterised")
    params, obs, z, _, _ = acted(name)
    rng = np.random.default_rng(4)
    along = jax.tree.map(lambda p: rng.standard_normal(p.shape, np.float32), params)
    along = {
        **along,
        **{k: jnp.zeros_like(params[k]) for k in ("base_mean", "base_std", "frequency") if k in params},
    }

    @jax.jit
    def value(p):
        action, log_prob = actor(name).sample(p, reference(name), jax.random.key(13), obs[:64], z[:64])
        return action.mean() + 0.1 * log_prob.mean()

    gradient = jax.grad(value)(params)
    found = sum(float(jnp.vdot(g, d)) for g, d in zip(*map(jax.tree.leaves, (gradient, along)), strict=True))
    moved = [jax.tree.map(lambda p, d, e=e: p + e * d, params, along) for e in (1e-2, -1e-2)]
    expected = (float(value(moved[0])) - float(value(moved[1]))) / 2e-2
    assert abs(expected) > 1e-2
    assert found == pytest.approx(expected, rel=0.05, abs=5e-3)


@functools.cache
def path(name):
    """(features before and after each of HORIZON decisions) [HORIZON + 1, 4, F], by scan."""
    q = discriminator(name)
    obs = jax.random.uniform(jax.random.key(2), (HORIZON + 1, 4, 3), minval=-1, maxval=1)

    def step(memory, now):
        memory = q.remember(memory, now)
        return memory, q.features(memory)

    memory = q.init_memory(obs[0])
    _, features = jax.lax.scan(step, memory, obs[1:])
    return jnp.concatenate([q.features(memory)[None], features])


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminator_sees_the_present(name):
    features = path(name)
    assert features.shape[:2] == (HORIZON + 1, 4)
    assert np.isfinite(features).all()
    assert (np.abs(np.diff(features, axis=0)).max(-1) > 0).all()


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminator_is_a_distribution_and_its_loss_the_cross_entropy(name):
    q, features = discriminator(name), path(name)
    params = jax.jit(q.init)(jax.random.key(3))
    rng = np.random.default_rng(3)
    params = jax.tree.map(lambda p: p + 0.3 * rng.standard_normal(p.shape, np.float32), params)
    key = jax.random.key(4)
    log_q = jax.jit(q.log_prob)(params, key, features)
    assert log_q.shape == (HORIZON + 1, 4, MODES)
    np.testing.assert_allclose(np.exp(np.asarray(log_q, np.float64)).sum(-1), 1.0, rtol=1e-5)
    z = jnp.asarray(rng.integers(0, MODES, (HORIZON + 1, 4)))
    loss, metrics = jax.jit(q.loss)(params, jax.random.clone(key), features, z)
    picked = np.take_along_axis(np.asarray(log_q), np.asarray(z)[..., None], -1)[..., 0]
    np.testing.assert_allclose(loss, -picked, rtol=1e-5, atol=1e-6)
    assert all("/" in key and value.shape in ((), loss.shape) for key, value in metrics.items())
    gradient = jax.jit(jax.grad(lambda p: q.loss(p, jax.random.key(6), features, z)[0].mean()))(params)
    assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradient)) > 0


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_untrained_discriminator_pays_nothing(name):
    q, features = discriminator(name), path(name)
    params = jax.jit(q.init)(jax.random.key(7))
    log_q = jax.jit(q.log_prob)(params, jax.random.key(8), features)
    np.testing.assert_allclose(log_q, -math.log(MODES), rtol=1e-5)
