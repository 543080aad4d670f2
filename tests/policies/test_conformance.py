"""Every policy in the folder on every backbone, at small width; most on the MLP alone by default."""

from __future__ import annotations

import functools
from typing import NamedTuple

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.protocols import Policy
from mmbc_jax.core.types import Batch, PolicySpec
from mmbc_jax.nn.backbone import BACKBONES
from tests.toys.products import spared, sparing

SPEC = PolicySpec(obs_dim=3, action_dim=2, chunk_len=4)
SIZE = 64  # of every batch, so that all tests of a case share what they compile
SMALL = {"hidden": (32, 32), "width": 16, "depth": 1, "heads": 2, "channels": (8, 16)}


class Case(NamedTuple):
    policy: str
    backbone: str = ""  # empty for a policy that has none to choose


ON_OTHERS = (Case("flow", "transformer"),)
"""Besides the MLP by default; the rest of the product is slow, and `nn/test_backbone.py` walks every backbone."""


def name_of(case: Case) -> str:
    return "-".join(filter(None, case))


def cases(slow: tuple[str, ...] = ()) -> list:
    """A parameter for each policy and backbone; `slow` are those that `make test` leaves out, by their names."""
    found, product = [], set()
    for name in sorted(registry.available("policy")):
        own = [Case(name, backbone) for backbone in BACKBONES if "backbone" in plugin("policy", name)]
        found += own or [Case(name)]
        product |= {name_of(case) for case in own if case.backbone != "mlp" and case not in ON_OTHERS}
    return sparing(found, product | set(slow), name_of)


each = pytest.mark.parametrize("case", cases())
# Fits of every family are in files of their own; what compiles each operation alone is walked for a few.
FITTED = pytest.mark.parametrize(
    "case",
    cases(("ibc-mlp", "flow-transformer", "mixture_flow-mlp", "latent_flow-mlp", "mean_flow-mlp")),
)
EAGER = pytest.mark.parametrize(
    "case",
    cases(("ibc-mlp", "flow-transformer", "mixture_flow-mlp", "latent_flow-mlp", "vq-mlp")),
)


@pytest.fixture(autouse=True)
def _key_reuse_is_an_error():
    with jax.debug_key_reuse(True):
        yield


@functools.cache
def make(case: Case) -> Policy:
    prior = functools.partial(registry.build, "prior", plugin("prior", "normal"), spec=SPEC)
    sampler = registry.build("sampler", plugin("sampler", "euler", steps=4))
    cfg = plugin("policy", case.policy)
    chosen = {**SMALL, "backbone": case.backbone}
    cfg.update({field: value for field, value in chosen.items() if field in cfg})
    return registry.build("policy", cfg, SPEC, prior=prior, sampler=sampler)


def hparams(case: Case) -> dict:
    cfg = plugin("policy", case.policy)
    return {field: jnp.asarray(cfg[field]) for field in registry.find("policy", case.policy).hparams}


def batch() -> Batch:
    key_obs, key_chunk = jax.random.split(jax.random.key(10))
    obs = jax.random.uniform(key_obs, (SIZE, 3), minval=-1, maxval=1)
    chunk = jax.random.uniform(key_chunk, (SIZE, 4, 2), minval=-0.8, maxval=0.8)
    return Batch(obs, chunk, jnp.ones((SIZE, 4)).at[0, 2:].set(0.0))


@functools.cache
def initialiser(case: Case):
    return jax.jit(make(case).init)


@functools.cache
def variables(case: Case, seed: int = 0):
    """Initial parameters moved off their zeros, so that no test passes on a constant output."""
    fresh = initialiser(case)(jax.random.key(seed), batch())
    rng = np.random.default_rng(seed)
    moved = jax.tree.map(lambda p: p + 0.05 * rng.standard_normal(p.shape, np.float32), fresh.params)
    return fresh.replace(params=moved)


@functools.cache
def compiled_loss(case: Case):
    return jax.jit(lambda v, key, data: make(case).loss(v, key, data, hparams(case)))


@each
def test_gradient_neither_scatters_nor_branches(case):
    """Sums in the order in which a GPU's threads arrive would make a resumed run another run."""

    data = batch()

    def total(params, fixed, key):
        return make(case).loss(fixed.replace(params=params), key, data, hparams(case)).total()

    state = jax.eval_shape(initialiser(case), jax.random.key(0), data)
    text = jax.jit(jax.grad(total)).lower(state.params, state, jax.random.key(0)).as_text()
    for operation in ("scatter", "case", "if"):
        assert f"stablehlo.{operation}" not in text


@functools.cache
def compiled_sample(case: Case):
    return jax.jit(functools.partial(sample, case))


def sample(case: Case, v, obs, key):
    w = make(case).base_distribution(v, obs).sample(seed=key)
    return make(case).transport(v, obs, w), w


@each
def test_builds_to_the_contract(case):
    policy = make(case)
    assert isinstance(policy, Policy)
    assert policy.spec == SPEC
    hash(policy)


@each
@spared("latent_flow-mlp", "flow-transformer")
def test_loss_is_finite_and_per_example(case):
    v = variables(case)
    loss = compiled_loss(case)(v, jax.random.key(1), batch())
    assert loss.per_example.shape == (SIZE,)
    assert loss.batch.shape == ()
    assert np.isfinite(loss.per_example).all()
    assert np.isfinite(loss.total())
    assert jax.tree.structure(loss.stats) == jax.tree.structure(v.stats)
    assert all("/" in key and value.shape == () for key, value in loss.metrics.items())


@each
def test_loss_ignores_what_was_not_recorded(case):
    v, data = variables(case), batch()
    poisoned = data.replace(mask=data.mask.at[1].set(0.0))
    plain = compiled_loss(case)(v, jax.random.key(1), data).per_example
    result = compiled_loss(case)(v, jax.random.key(1), poisoned).per_example
    assert np.isfinite(result).all()
    others = np.delete(np.arange(SIZE), 1)
    np.testing.assert_allclose(result[others], plain[others], rtol=1e-5)


@pytest.mark.parametrize("lead", [(), (2, 3)])
@each
@spared("*-lead0")
def test_sample_shapes_for_any_leading_dims(case, lead):
    v, obs = variables(case), jnp.zeros((*lead, 3))

    @jax.jit
    def draw(key):
        base = make(case).base_distribution(v, obs)
        w = base.sample(seed=key)
        return make(case).transport(v, obs, w), base.log_prob(w)

    chunk, log_prob = draw(jax.random.key(2))
    assert chunk.shape == (*lead, 4, 2)
    assert np.isfinite(chunk).all()
    assert log_prob.shape == lead
    assert np.isfinite(log_prob).all()


@EAGER
@spared("mdn-mlp", "mean_flow-mlp", "wae-mlp")
def test_transport_is_deterministic_and_jit_equals_eager(case):
    v, obs = variables(case), batch().obs
    _, w = compiled_sample(case)(v, obs, jax.random.key(3))
    eager = make(case).transport(v, obs, w)
    np.testing.assert_array_equal(eager, make(case).transport(v, obs, w))
    jitted = jax.jit(make(case).transport)(v, obs, w)
    np.testing.assert_allclose(jitted, eager, rtol=1e-5, atol=1e-5)
    fast = compiled_loss(case)(v, jax.random.key(4), batch()).per_example
    slow = make(case).loss(v, jax.random.key(4), batch(), hparams(case)).per_example
    np.testing.assert_allclose(fast, slow, rtol=1e-4)


@each
@spared("mixture_flow-mlp", "flow-transformer")
def test_vmap_over_parameters_equals_a_loop(case):
    many = [variables(case, seed) for seed in range(3)]
    obs = batch().obs
    keys = jax.random.split(jax.random.key(5), 3)
    drawn = [compiled_sample(case)(v, obs, k) for v, k in zip(many, keys, strict=True)]
    stack = functools.partial(jax.tree.map, lambda *leaves: jnp.stack(leaves))
    together = jax.jit(jax.vmap(make(case).transport, in_axes=(0, None, 0)))(
        stack(*many), obs, stack(*(w for _, w in drawn))
    )
    np.testing.assert_allclose(together, jnp.stack([chunk for chunk, _ in drawn]), rtol=1e-4, atol=1e-5)


@each
@spared("latent_flow-mlp", "flow-transformer")
def test_gradients_are_finite(case):
    v, obs = variables(case), batch().obs
    _, w = compiled_sample(case)(v, obs, jax.random.key(6))
    leaves, tree = jax.tree.flatten(w)
    inexact = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.inexact)]

    def energy(moving):
        merged = list(leaves)
        for i, leaf in zip(inexact, moving, strict=True):
            merged[i] = leaf
        return jnp.square(make(case).transport(v, obs, tree.unflatten(merged))).sum()

    for gradient in jax.jit(jax.grad(energy))([leaves[i] for i in inexact]):
        assert np.isfinite(gradient).all()

    def loss(params):
        return make(case).loss(v.replace(params=params), jax.random.key(7), batch(), hparams(case)).total()

    gradients = jax.tree.leaves(jax.jit(jax.grad(loss))(v.params))
    assert all(np.isfinite(g).all() for g in gradients)
    assert max(np.abs(g).max() for g in gradients) > 0


@FITTED
@spared("wae-mlp", "vq-mlp", "mdn-mlp")
def test_overfits_one_mode(case, request):
    if case.policy == "ibc" and case.backbone != "mlp":
        reason = "its energy picks the demonstrated chunk and is flat elsewhere: samples end .8 (rms) away"
        request.applymarker(pytest.mark.xfail(strict=True, reason=reason))
    policy, target = make(case), jnp.linspace(-0.6, 0.6, 8).reshape(4, 2)
    key_obs, key_init, key_train, key_check, key_sample = jax.random.split(jax.random.key(8), 5)
    obs = jax.random.uniform(key_obs, (SIZE, 3), minval=-1, maxval=1)
    data = Batch(obs, jnp.broadcast_to(target, (SIZE, 4, 2)), jnp.ones((SIZE, 4)))
    start = initialiser(case)(key_init, data)
    steps = 400
    optimiser = optax.adam(optax.cosine_decay_schedule(5e-3, steps))

    def objective(params, stats, key):
        loss = policy.loss(start.replace(params=params, stats=stats), key, data, hparams(case))
        return loss.total(), loss.stats

    def step(carry, key):
        v, state = carry
        gradient, stats = jax.grad(objective, has_aux=True)(v.params, v.stats, key)
        update, state = optimiser.update(gradient, state, v.params)
        return (v.replace(params=optax.apply_updates(v.params, update), stats=stats), state), None

    train = jax.jit(lambda v, keys: jax.lax.scan(step, (v, optimiser.init(v.params)), keys)[0][0])
    end = train(start, jax.random.split(key_train, steps))
    before = compiled_loss(case)(start, jax.random.clone(key_check), data).total()
    after = compiled_loss(case)(end, key_check, data).total()
    assert after < 0.3 * before
    chunk, _ = compiled_sample(case)(end, obs, key_sample)
    assert np.sqrt(np.mean((chunk - target) ** 2)) < 0.15


@each
def test_saved_and_loaded_parameters_give_the_same_sample(case):
    v = variables(case)
    other = initialiser(case)(jax.random.key(77), batch())
    loaded = flax.serialization.from_bytes(other, flax.serialization.to_bytes(v))
    obs = batch().obs
    expected, _ = compiled_sample(case)(v, obs, jax.random.key(9))
    assert not np.allclose(compiled_sample(case)(other, obs, jax.random.key(9))[0], expected)
    np.testing.assert_array_equal(compiled_sample(case)(loaded, obs, jax.random.key(9))[0], expected)
