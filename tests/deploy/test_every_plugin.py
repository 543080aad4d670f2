"""Every policy family, prior, sampler and actor of the package is exported for any batch, and computes the same."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.learning import Subject
from mmbc_jax.deploy.decision import Decision
from mmbc_jax.evaluation.evaluator import act_with_actor, act_with_policy
from mmbc_jax.ops.normalisation import Normalizer
from tests.actors import test_conformance as actors
from tests.policies import _toys as toys

WORDS = np.array([1, 2], np.uint32)
WITH_A_LATENT = sorted(set(registry.available("prior")) - {"categorical", "latent_flow_prior"}) + [
    "latent_flow"
]


def check(act, reference, params, modes, action_dim):
    """The exported program on five observations against the compiled one; returns how far answers differ."""
    ends = [jnp.full(size, side) for size in (3, action_dim) for side in (-1.0, 1.0)]
    subject = Subject((), reference, Normalizer(*ends), params, {})
    decide = jax.jit(functools.partial(Decision(act, modes).__call__, subject))
    (batch,) = jax_export.symbolic_shape("b")
    shapes = [((2,), jnp.uint32), ((batch, 3), jnp.float32), ((batch,), jnp.int32)]
    made = jax_export.export(decide, platforms=("cpu", "cuda"))(
        *(jax.ShapeDtypeStruct(*each) for each in shapes)
    )
    program = jax_export.deserialize(bytearray(made.serialize()))
    given = (
        WORDS,
        np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32),
        np.arange(5, dtype=np.int32) % modes,
    )
    found = np.asarray(program.call(*given))
    np.testing.assert_allclose(found, decide(*given), atol=1e-6)
    return np.ptp(found, axis=0).max()


def check_policy(policy):
    moved = toys.moved(policy, toys.batch(16))
    for own in (False, True):
        assert check(act_with_policy(policy, own), moved, {}, 1, 2) > 0 or own


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(registry.available("policy")))
def test_a_family(name):
    fields = {"hidden": (16, 16)} if "hidden" in plugin("policy", name) else {}
    check_policy(toys.build(name, **fields))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["transformer", "unet"])
def test_a_backbone(backbone):
    check_policy(toys.on_backbone(backbone))


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_A_LATENT)
def test_a_prior(name):
    check_policy(toys.build("cvae", prior=name))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(registry.available("sampler")))
def test_a_sampler(name):
    check_policy(toys.sampled_by(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", actors.ACTORS)
def test_an_actor(name):
    actor, reference = actors.actor(name), actors.reference(name)
    params = jax.jit(actor.init)(jax.random.key(1), reference)
    for own in (False, True):
        check(act_with_actor(actor, own), reference, params, actors.MODES, 1)
