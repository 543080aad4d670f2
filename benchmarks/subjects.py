"""The default job's objects at benchmark sizes, built by the framework's own functions."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import torch
from ml_collections import ConfigDict

from benchmarks.peers import Data
from benchmarks.torch_networks import copy_weights
from benchmarks.torch_policies import Flow
from benchmarks.torch_subjects import make_policy
from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.state import TrainState
from mmbc_jax.core.types import Batch, PolicySpec, PyTree, Variables
from mmbc_jax.data.windows import Windows
from mmbc_jax.learners import bc
from mmbc_jax.ops.normalisation import Normalizer
from mmbc_jax.policies.flow import FlowPolicy

SPEC = PolicySpec(obs_dim=4, action_dim=2, chunk_len=8)  # the Avoiding task
WINDOWS = 200_000  # about as many as the default job's 2,400 episodes make


def flow_policy(steps: int = 5) -> FlowPolicy:
    """The default flow policy with `steps` Euler steps."""
    prior = functools.partial(registry.build, "prior", plugin("prior", "normal"), spec=SPEC)
    sampler = registry.build("sampler", plugin("sampler", "euler", steps=steps))
    return registry.build("policy", plugin("policy", "flow"), SPEC, prior=prior, sampler=sampler)


def windows(count: int = WINDOWS, seed: int = 0) -> Windows:
    """Uniform random windows: the time of a step does not depend on their values."""
    key_obs, key_chunk = jax.random.split(jax.random.key(seed))
    integers = jnp.zeros((count,), jnp.int32)
    return Windows(
        obs=jax.random.uniform(key_obs, (count, SPEC.obs_dim), minval=-1.0),
        chunk=jax.random.uniform(key_chunk, (count, *SPEC.chunk_shape), minval=-1.0),
        mask=jnp.ones((count, SPEC.chunk_len)).at[:: max(count // 100, 1), -2:].set(0.0),
        mode=integers,
        episode=integers,
        step=integers,
    )


def as_torch(data: Windows | Batch) -> Data:
    """The same windows as tensors of their own."""
    return tuple(torch.tensor(jax.device_get(x)) for x in (data.obs, data.chunk, data.mask))


def randomise(params: PyTree, seed: int = 1) -> PyTree:
    """Adds noise to every parameter, so that no layer is zero and agreement means something."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    noisy = [leaf + 0.05 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return tree.unflatten(noisy)


def init_state(policy: FlowPolicy, cfg: ConfigDict, data: Windows, seed: int = 0) -> TrainState:
    """A cloning state of one run whose parameters are all non-zero."""
    normalizer = Normalizer(*(jnp.ones(size) for size in (4, 4, 2, 2)))
    hparams = {name: jnp.asarray(cfg[name.removeprefix("bc.")], jnp.float32) for name in bc.TRACED}
    state = bc.init_state(policy, normalizer, jax.random.key(seed), data.batch(jnp.arange(8)), hparams)
    params = randomise(state.params)
    return state.replace(params=params, ema=jax.tree.map(jnp.copy, params))


def torch_flow(policy: FlowPolicy, params: PyTree) -> Flow:
    """The policy in PyTorch with the same weights."""
    flow = make_policy(policy, {}, policy.sampler.steps, ancestral=False)
    copy_weights(params, flow.network)
    return flow


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


def sampling_variables(params: PyTree) -> Variables:
    """What a policy with the normal prior samples with."""
    return Variables(params=params, stats={"prior": {}})


def default_bc(batch_size: int, **fields: Any) -> ConfigDict:
    """The default `bc` section with another batch size."""
    cfg = bc.default_config()
    cfg.update({"batch_size": batch_size, **fields})
    return cfg
