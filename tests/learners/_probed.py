"""Learners of reinforcement on the probe environments."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.learning import Parts
from mmbc_jax.core.state import Hparams, TrainState
from mmbc_jax.core.types import Key, PolicySpec, PyTree
from mmbc_jax.ops.normalisation import Normalizer
from tests.toys.probes import LENGTH, Commanded, IdentityPolicy, Probe

GAMMA, MODES = 0.5, 2
SPEC = PolicySpec(3, 1, 1)
IDENTITY = Normalizer(-jnp.ones(3), jnp.ones(3), -jnp.ones(1), jnp.ones(1))


def parts(
    actor: ConfigDict,
    q: ConfigDict | None,
    env: Any = None,
    chunk: int = 1,
    modes: int = MODES,
    reward: ConfigDict | None = None,
    policy: Any = IdentityPolicy,
) -> Parts:
    """Parts with the MI reward or another, without q with `Commanded`; all actions of a chunk are executed."""
    env = env or Probe()
    spec = PolicySpec(env.spec.obs_dim, 1, chunk, env.spec.obs)
    policy = policy(spec)
    horizon = -(-LENGTH // chunk)
    paid: Any = Commanded(modes)
    if q is not None:
        discriminator = registry.build("discriminator", q, spec.obs, modes, horizon, chunk=(chunk, 1))
        reward = reward or plugin("reward", "mi")
        paid = registry.build("reward", reward, discriminator=discriminator, horizon=horizon)
    return Parts(
        spec,
        chunk,
        policy=policy,
        env=env,
        actor=registry.build("actor", actor, spec=spec, policy=policy, num_modes=modes),
        reward=paid,
    )


def build(learner: ConfigDict, actor: ConfigDict, q: ConfigDict | None, **changes: Any) -> Any:
    """A learner of `parts`."""
    return registry.build("learner", learner, parts(actor, q, **changes))


def hparams(name: str, runs: int, stage: dict[str, Any], **changes: Any) -> Hparams:
    """[R] traced scalars: the learner's defaults with `changes`, and a stage with full episodes and both rewards."""
    found = registry.find("learner", name)
    own = {f"learner.{field}": found.default_config()[field] for field in found.hparams}
    own |= {f"learner.{field}": value for field, value in changes.items()}
    full = {"env_coef": 1.0, "start_horizon": LENGTH, "mi_coef": 0.0, "train_reward": 1.0, "iterations": 1.0}
    own |= {f"stage.{field}": value for field, value in {**full, **stage}.items()}
    return {key: jnp.broadcast_to(jnp.asarray(np.asarray(x, np.float32)), (runs,)) for key, x in own.items()}


def cloned(params: PyTree = None) -> TrainState:
    """The final state of a stage that cloned a policy without statistics; the identity has no parameters either."""
    zero = jnp.zeros((), jnp.int32)
    stats, params = {"policy": {}, "normalizer": IDENTITY}, {} if params is None else params
    return TrainState(zero, jax.random.key(0), params, {}, params, stats, {}, {})


def start(learner: Any, hp: Hparams, probe: PyTree, key: Key, parent: TrainState | None) -> TrainState:
    """The first state of one run, with the environments' parameters changed to `probe`."""
    state = learner.init(key, hp, parent, ())
    held = state.env_state
    loop = held["loop"] if isinstance(held, dict) else held
    params = jax.tree.map(lambda x: jnp.full(learner.options.num_envs, x), probe)
    loop = loop.replace(env=loop.env.replace(info={**loop.env.info, "params": params}))
    return state.replace(env_state={**held, "loop": loop} if isinstance(held, dict) else loop)
