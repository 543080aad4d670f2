"""The optimiser against AdamW by hand and against torch's formulas; what it does with NaN."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmbc_jax.learners._optim import optimizer, skip_metrics, warmup_cosine


@jax.jit
def update(params, opt_state, gradient, learning_rate, weight_decay, clip_norm):
    tx = optimizer(learning_rate, weight_decay, clip_norm)
    updates, opt_state = tx.update(gradient, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


def start(params):
    return optimizer(1.0, 0.0, 1.0).init(params)


def adamw(params, gradients, rate, decay, clip):
    """Loshchilov and Hutter 2019 with b1 .9, b2 .999, eps 1e-8, in float64."""
    p, m, v = np.array(params, np.float64), 0.0, 0.0
    for t, g in enumerate(gradients, start=1):
        g = np.array(g, np.float64)
        g = g * min(1.0, clip / np.linalg.norm(g))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        step = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        p = p - rate * (step + decay * p)
    return p


@pytest.mark.parametrize(("rate", "decay", "clip"), [(0.1, 0.0, 1e9), (0.01, 0.1, 1e9), (0.1, 0.01, 0.5)])
def test_equals_adamw_with_clipping(rate, decay, clip):
    gradients = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    params = jnp.array([1.0, -2.0, 0.5])
    state = start(params)
    for gradient in gradients:
        params, state = update(params, state, gradient, rate, decay, clip)
    np.testing.assert_allclose(params, adamw([1, -2, 0.5], gradients, rate, decay, clip), rtol=1e-4)


def test_every_scalar_is_traced():
    """Other rates, decays and clips reuse the program."""
    params = jnp.ones(3)
    for values in ((0.1, 0.0, 1.0), (0.2, 0.1, 2.0)):
        update(params, start(params), jnp.ones(3), *values)
    before = update._cache_size()
    update(params, start(params), jnp.ones(3), 0.3, 0.3, 3.0)
    assert update._cache_size() == before


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_skipped_and_counted(bad):
    params, good = jnp.ones(3), jnp.array([1.0, 2.0, 3.0])
    state = start(params)
    params, state = update(params, state, good, 0.1, 0.0, 1.0)
    kept, inner = params, state.inner_state
    for i in (1, 2):
        params, state = update(params, state, good.at[1].set(bad), 0.1, 0.0, 1.0)
        np.testing.assert_array_equal(params, kept)
        assert skip_metrics(state) == {"train/skipped_updates": i, "train/skipped_in_a_row": i}
    jax.tree.map(np.testing.assert_array_equal, state.inner_state, inner)
    params, state = update(params, state, good, 0.1, 0.0, 1.0)
    assert not np.allclose(params, kept)
    assert skip_metrics(state) == {"train/skipped_updates": 2, "train/skipped_in_a_row": 0}


def branching(rate, decay, clip):
    inner = optax.chain(optax.clip_by_global_norm(clip), optax.adamw(rate, weight_decay=decay))
    return optax.apply_if_finite(inner, max_consecutive_errors=2**31 - 1)


@pytest.mark.parametrize("clip", [1e9, 0.5])
def test_equals_apply_if_finite_bit_for_bit(clip):
    """On trees, through good, NaN and infinite gradients; the states are interchangeable."""
    rng = np.random.default_rng(1)
    params = {"w": rng.normal(size=(5, 3)), "b": [rng.normal(size=3), rng.normal()]}
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    found, expected = (
        jax.jit(lambda grads, state, params, make=make: make(0.01, 0.1, clip).update(grads, state, params))
        for make in (optimizer, branching)
    )
    ours, theirs = optimizer(1.0, 0.0, 1.0).init(params), branching(1.0, 0.0, 1.0).init(params)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for bad in (0.0, 0.0, math.nan, math.inf, -math.inf, 0.0, math.nan, 0.0):
        grads = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), params)
        grads["b"][0] = grads["b"][0].at[1].add(bad)
        updates, ours = found(grads, ours, params)
        wanted, theirs = expected(grads, theirs, params)
        jax.tree.map(np.testing.assert_array_equal, (updates, ours), (wanted, theirs))
        params = optax.apply_updates(params, updates)
    assert ours.total_notfinite == 4


def test_a_norm_that_overflows_is_skipped():
    params, state = jnp.ones(3), start(jnp.ones(3))
    after, state = update(params, state, jnp.full(3, 1e20), 0.1, 0.0, 1.0)
    np.testing.assert_array_equal(after, params)
    assert state.total_notfinite == 1


def test_what_does_not_train_stays_as_it_is():
    """Parameters, moments and counters, by a finite gradient and by one that is not; -0 stays -0."""
    params = jnp.array([1.0, -0.0, 2.0])
    params, state = update(params, start(params), jnp.array([1.0, 0.0, jnp.nan]), 0.1, 0.0, 1.0)
    for gradient in (jnp.ones(3), jnp.full(3, jnp.nan)):
        tx = optimizer(0.1, 0.1, 1.0)
        updates, moved = tx.update(gradient, state, params, trains=jnp.asarray(False))
        jax.tree.map(np.testing.assert_array_equal, moved, state)
        after = optax.apply_updates(params, updates)
        np.testing.assert_array_equal(after.view(jnp.int32), jnp.array([1.0, -0.0, 2.0]).view(jnp.int32))


def test_nothing_branches():
    """Host and device would have to agree on the branch."""
    params = jnp.ones(3)
    text = update.lower(params, start(params), params, 0.1, 0.0, 1.0).as_text()
    assert "stablehlo.case" not in text
    assert "stablehlo.if" not in text


def test_schedule_warms_up_and_falls_as_a_cosine():
    """10 steps of warm-up to 1, then a cosine from 1 at step 10 to .1 at step 110, .55 half way."""
    found = jax.vmap(lambda step: warmup_cosine(step, 110, 10, 0.1))(jnp.arange(130))
    np.testing.assert_allclose(found[:10], np.arange(1, 11) / 10, rtol=1e-6)
    assert found[10] == pytest.approx(1.0)
    assert found[60] == pytest.approx(0.55, rel=1e-5)
    assert found[35] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4)), rel=1e-5)
    np.testing.assert_allclose(found[110:], 0.1, rtol=1e-5)
    assert (np.diff(found[10:]) <= 1e-6).all()


def test_schedule_without_warm_up_or_fall():
    assert warmup_cosine(jnp.asarray(0), 10, 0, 0.0) == 1.0
    np.testing.assert_allclose([warmup_cosine(jnp.asarray(i), 10, 0, 1.0) for i in (0, 5, 9)], 1.0)
    # a warm-up as long as the stage never divides by zero
    assert np.isfinite(warmup_cosine(jnp.asarray(10), 10, 10, 0.1))
