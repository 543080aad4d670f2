"""The main job's objects at benchmark sizes, built by the framework's own functions."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.weights import randomise
from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.state import TrainState
from mmbc_jax.core.types import PolicySpec
from mmbc_jax.data.windows import Windows
from mmbc_jax.learners.bc import BCOptions, CloningLearner, Demonstrations
from mmbc_jax.ops.normalisation import Normalizer
from mmbc_jax.policies.flow import FlowPolicy

SPEC = PolicySpec(obs_dim=4, action_dim=2, chunk_len=8)  # the Avoiding task
WINDOWS = 200_000  # about as many as the default job's 2,400 episodes make


def flow_policy(steps: int = 5, spec: PolicySpec = SPEC, **options: Any) -> FlowPolicy:
    """The default flow policy, but for `options`, with `steps` Euler steps."""
    prior = functools.partial(registry.build, "prior", plugin("prior", "normal"), spec=spec)
    sampler = registry.build("sampler", plugin("sampler", "euler", steps=steps))
    return registry.build("policy", plugin("policy", "flow", **options), spec, prior=prior, sampler=sampler)


def cloner(batch_size: int, steps: int = 5, **fields: Any) -> CloningLearner:
    """The learner of stage `bc` with `fields` of its options, of the policy with `steps` Euler steps."""
    return CloningLearner(BCOptions(batch_size=batch_size, **fields), flow_policy(steps))


def demonstrations(count: int = WINDOWS, seed: int = 0, spec: PolicySpec = SPEC) -> Demonstrations:
    """Uniform random windows and a normaliser: the time of a step does not depend on their values."""
    key_obs, key_chunk = jax.random.split(jax.random.key(seed))
    integers = jnp.zeros((count,), jnp.int32)
    windows = Windows(
        obs=jax.random.uniform(key_obs, (count, spec.obs_dim), minval=-1.0),
        chunk=jax.random.uniform(key_chunk, (count, *spec.chunk_shape), minval=-1.0),
        mask=jnp.ones((count, spec.chunk_len)).at[:: max(count // 100, 1), -2:].set(0.0),
        mode=integers,
        episode=integers,
        step=integers,
    )
    return windows, Normalizer(*(jnp.ones(size) for size in (spec.obs_dim,) * 2 + (spec.action_dim,) * 2))


def init_state(learner: CloningLearner, data: Demonstrations, seed: int = 0) -> TrainState:
    """A cloning state of one run whose parameters are all non-zero."""
    hparams = {
        f"bc.{name}": jnp.asarray(getattr(learner.options, name), jnp.float32) for name in BCOptions.traced()
    }
    return with_noise(learner.init(jax.random.key(seed), hparams, None, data))


def with_noise(state: TrainState) -> TrainState:
    """A cloning state with noise on its parameters, averaged ones included; see `weights.randomise`."""
    params = randomise(state.params)
    return state.replace(params=params, ema=jax.tree.map(jnp.copy, params))


@dataclasses.dataclass(frozen=True)
class Work:
    """Arithmetic of the default network, counted by hand: products only, activations left out.

    Attributes:
      forward: floating-point operations of one evaluation per example.
      backward: of the gradient with respect to all parameters, per example.
      parameters: their number.
    """

    forward: int
    backward: int
    parameters: int


def count_work(policy: FlowPolicy) -> Work:
    """2 I O per dense layer forwards; as much again for its weights' gradient, and for its input's.

    The three parts of the first layer need no gradient of their input.
    """
    network, spec = policy.network, policy.spec
    size = spec.chunk_len * spec.action_dim
    inputs = size + network.time_dim + spec.obs_dim * (1 + 2 * network.obs_encoder.octaves)
    widths = (*network.hidden, size)
    first = inputs * widths[0]
    rest = sum(i * o for i, o in zip(widths[:-1], widths[1:], strict=True))
    return Work(2 * (first + rest), 2 * first + 4 * rest, first + rest + sum(widths))
