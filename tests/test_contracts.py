"""Shapes are checked: by the annotations of `ops`, and by the contracts around every plug-in."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import distrax
import jax
import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError

import mmbc_jax
from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.protocols import Policy, Sampler, capabilities
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, PyTree, Variables
from mmbc_jax.ops.gae import gae
from mmbc_jax.ops.kmeans import kmeans
from tests import contracts

SPEC = PolicySpec(obs_dim=3, action_dim=2, chunk_len=4)
SMALL = {"hidden": (8,), "width": 8, "depth": 1, "heads": 2, "channels": (4, 8)}


def steps(*shape: int) -> Array:
    return jnp.zeros(shape)


def test_time_axes_that_differ_are_refused():
    whole, short = steps(5, 3), steps(4, 3)
    jax.eval_shape(gae, *[whole] * 6, 0.9)
    with pytest.raises(TypeCheckError, match="'next_value'"):
        gae(whole, whole, short, whole, whole, whole, 0.9)
    # (5, 1) would broadcast, and every column would get the advantage of the first
    with pytest.raises(TypeCheckError, match="'value'"):
        gae(whole, steps(5, 1), whole, whole, whole, whole, 0.9)


def test_a_wrong_shape_is_refused_while_tracing():
    whole, short = steps(5, 3), steps(5, 2)
    with pytest.raises(TypeCheckError):
        jax.eval_shape(gae, whole, whole, whole, whole, short, whole, 0.9)
    with pytest.raises(TypeCheckError):  # under vmap one axis is hidden from the function
        jax.eval_shape(jax.vmap(gae, in_axes=(0,) * 6 + (None,)), *[steps(5, 3)] * 6, 0.9)


def test_an_old_key_and_a_wrong_dtype_are_refused():
    run = functools.partial(kmeans, x=steps(4, 2), k=2)
    jax.eval_shape(run, jax.random.key(0))
    with pytest.raises(TypeCheckError, match="'key'"):
        run(jnp.zeros(2, jnp.uint32))
    with pytest.raises(TypeCheckError, match="'reward'"):
        gae(jnp.zeros((5, 3), jnp.int32), *[steps(5, 3)] * 5, 0.9)


def test_an_argument_that_is_an_int_is_a_float():
    gae(*[steps(5, 3)] * 6, 1)


def test_the_checker_is_not_part_of_the_package():
    for path in Path(mmbc_jax.__file__).parent.rglob("*.py"):
        assert "beartype" not in path.read_text(), path


@dataclasses.dataclass(frozen=True)
class Toy:
    """A policy whose chunk and loss have the given shapes behind the batch axes."""

    spec: PolicySpec
    chunk: tuple[int, ...] = SPEC.chunk_shape
    per_example: tuple[int, ...] = ()

    def transport(self, variables: Variables, obs: Array, w: PyTree) -> Array:
        return jnp.zeros((*obs.shape[:-1], *self.chunk))

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        return Loss(jnp.zeros((batch.obs.shape[0], *self.per_example)), jnp.zeros(()), {}, {})


contracts.enlist(Toy, (Policy,))


def toy_loss(toy: Toy, obs=(6, 3), chunk=(6, 4, 2), mask=(6, 4)) -> Loss:
    return toy.loss(Variables({}), jax.random.key(0), Batch(steps(*obs), steps(*chunk), steps(*mask)), {})


def test_contracts_accept_what_they_state():
    Toy(SPEC).transport(Variables({}), steps(6, 3), steps(6, 4, 2))
    Toy(SPEC).transport(Variables({}), steps(3), steps(4, 2))
    toy_loss(Toy(SPEC))


@pytest.mark.parametrize("chunk", [(4,), (2, 4), (1, 4, 2)])
def test_contracts_refuse_another_chunk(chunk):
    with pytest.raises(TypeCheckError, match=r"Toy.transport: its result is float32"):
        Toy(SPEC, chunk).transport(Variables({}), steps(6, 3), steps(6, 4, 2))


def test_contracts_look_into_structs():
    with pytest.raises(TypeCheckError, match=r"Toy.loss: its result.per_example is float32\[6, 4\]"):
        toy_loss(Toy(SPEC, per_example=(4,)))
    with pytest.raises(TypeCheckError, match=r"Toy.loss: batch.mask"):
        toy_loss(Toy(SPEC), mask=(6, 2))
    with pytest.raises(TypeCheckError, match=r"Toy.loss: batch.chunk"):
        toy_loss(Toy(SPEC), chunk=(5, 4, 2), mask=(5, 4))
    with pytest.raises(TypeCheckError, match=r"Toy.loss: batch.obs"):
        toy_loss(Toy(SPEC), obs=(6, 4))


def make_sampler() -> Sampler:
    return registry.build("sampler", plugin("sampler", "euler", steps=2))


def make(name: str) -> Policy:
    prior = functools.partial(registry.build, "prior", plugin("prior", "normal"), spec=SPEC)
    cfg = plugin("policy", name)
    chosen = {**SMALL, "backbone": "mlp"}
    cfg.update({field: value for field, value in chosen.items() if field in cfg})
    return registry.build("policy", cfg, SPEC, prior=prior, sampler=make_sampler())


@pytest.mark.parametrize("name", sorted(registry.available("policy")))
def test_every_policy_keeps_to_its_contract(name):
    """Traced, never compiled. The checks are those around every built plug-in, so a call is the test."""
    policy = make(name)
    batch = Batch(steps(8, 3), steps(8, 4, 2), jnp.ones((8, 4)))
    hp = {
        field: jnp.asarray(plugin("policy", name)[field]) for field in registry.find("policy", name).hparams
    }

    def everything(key):
        key_init, key_loss, key_draw, key_posterior = jax.random.split(key, 4)
        variables = policy.init(key_init, batch)
        loss = policy.loss(variables, key_loss, batch, hp)
        w = policy.base_distribution(variables, batch.obs).sample(seed=key_draw)
        chunk = policy.transport(variables, batch.obs, w)
        can = capabilities(policy)
        if "log_prob" in can:
            policy.log_prob(variables, batch.obs, chunk)
        if "posterior" in can:
            policy.posterior(variables, batch.obs, chunk).sample(seed=key_posterior)
        if "field" in can:
            policy.field(variables, batch.obs).velocity(chunk, jnp.asarray(0.5))
        if "chain" in can:
            policy.chain(variables, batch.obs, w)
        return loss.total(), chunk

    total, chunk = jax.eval_shape(everything, jax.random.key(0))
    assert total.shape == ()
    assert chunk.shape == (8, 4, 2)


@pytest.mark.parametrize("event_shape", [(4, 2), (5,)])
@pytest.mark.parametrize("name", sorted(registry.available("prior")))
def test_every_prior_keeps_to_its_contract(name, event_shape):
    cfg = plugin("prior", name)
    if "hidden" in cfg:
        cfg.hidden = (8,)
    prior = registry.build("prior", cfg, event_shape, spec=SPEC)

    def posterior(obs, chunk):
        mean = jnp.zeros((*obs.shape[:-1], *event_shape))
        return distrax.Independent(distrax.Normal(mean, jnp.ones_like(mean)), len(event_shape))

    def everything(key):
        key_init, key_draw, key_loss = jax.random.split(key, 3)
        own = posterior if prior.needs_posterior else None
        params, obs = prior.init(key_init), steps(8, 3)
        base = prior.distribution(params, obs, own)
        w = base.sample(seed=key_draw)
        return w, base.log_prob(w), prior.loss(params, key_loss, obs, w, own) if prior.trainable else None

    w, log_prob, loss = jax.eval_shape(everything, jax.random.key(0))
    assert w.shape[0] == log_prob.shape[0] == 8
    assert loss is None or loss.shape == (8,)
