"""Actors whose steering head is removed: noise from the base, all else as trained."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.actors._noise_head import x0_of
from mmbc_jax.core.commanding import HasHead
from tests.actors.test_conformance import acted, actor, built, reference
from tests.toys.products import spared

WITH = ("denoise", "flow_sde", "cfm_ratio", "residual")


@pytest.mark.parametrize("name", [*WITH, "flow_sde with the flow's marginals, z in both"])
@spared("flow_sde*", "cfm_ratio")
def test_the_head_has_no_say_any_more(name):
    """Whatever its parameters, it plays the same; and not what it plays with it."""
    whole = actor(name)
    assert isinstance(whole, HasHead)
    assert whole.has_head
    bare = whole.headless()
    assert not bare.has_head
    params, obs, z, _, _ = acted(name)
    obs, z = obs[:64], z[:64]
    compiled = {True: jax.jit(whole.play), False: jax.jit(bare.play)}

    def play(params, head=False):
        return compiled[head](params, reference(name), jax.random.key(4), obs, z)

    found = play(params)
    other = params | {"head": jax.tree.map(lambda p: p + 1.0, params["head"])}
    np.testing.assert_array_equal(play(other), found)
    with_head = play(params, head=True)
    assert np.abs(with_head - found).max() > 1e-2
    changed = params | {
        part: jax.tree.map(lambda p: p + 0.1, params[part]) for part in params if part != "head"
    }
    assert np.abs(play(changed) - found).max() > 1e-3  # what was trained still acts


def test_the_noise_is_that_of_the_base():
    start = actor("denoise").tuned.headless().start
    obs, z, key = jnp.zeros((4000, 3)), jnp.zeros(4000, jnp.int32), jax.random.key(2)
    w, info = start.draw({}, reference("denoise"), key, obs, z)
    policy = built("denoise")[1]
    drawn = policy.base_distribution(reference("denoise"), obs).sample(
        seed=jax.random.split(jax.random.key(2))[0]
    )
    np.testing.assert_array_equal(x0_of(w), x0_of(drawn))
    assert info == {}


def test_of_steering_nothing_is_left_but_the_reference():
    assert actor("steer").has_head
    assert actor("steer").headless() is None


def test_actors_without_a_head_say_so():
    for name in ("denoise by ddim, z in the field", "residual without a head"):
        assert not actor(name).has_head
    assert not built("denoise", 1)[0].has_head
    assert not isinstance(actor("full"), HasHead)
    assert not isinstance(actor("gaussian"), HasHead)
