"""The landscape task with networks of a few numbers: stages, states and epochs that compile in seconds."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mmbc_jax.core.config import plugin
from mmbc_jax.data.windows import Windows
from mmbc_jax.ops.normalisation import Normalizer
from mmbc_jax.runs import setup as setup_lib
from mmbc_jax.runs import stages
from mmbc_jax.runs.epoch import make_epoch
from mmbc_jax.runs.grid import Grid, config_grid, run_keys
from mmbc_jax.runs.mesh import make_mesh
from mmbc_jax.runs.programs import Programs
from mmbc_jax.runs.sections import base_config


def config(env: str = "landscape") -> ConfigDict:
    """One RL iteration takes 4 decisions in 8 environments and makes 2 x 2 updates."""
    result = base_config()
    result.stages = ("bc", "discover", "finetune")
    result.env = plugin("env", env)
    result.policy = plugin("policy", "flow", hidden=(8,), fourier_octaves=0)
    result.sampler = plugin("sampler", "euler", steps=2)
    result.actor = plugin("actor", "steer", hidden=(8,), fourier_octaves=0)
    result.discriminator = plugin("discriminator", "categorical", hidden=(8,))
    result.chunk.update({"predict": 4, "execute": 4})
    result.bc.update({"steps": 8, "batch_size": 16, "steps_per_row": 1, "steps_per_epoch": 1})
    result.bc.warmup_steps = 0
    ppo = {"num_envs": 8, "decisions": 4, "epochs": 2, "minibatches": 2, "critic_hidden": (8,)}
    result.learner.update({**ppo, "iterations_per_epoch": 1})
    result.discover.update({"iterations": 4, "start_horizon": 8})
    result.finetune.update({"iterations": 4, "num_modes": 4})
    result.evaluation.update({"episodes": 16, "samples": 2})
    return result


def shared(env_spec, chunk_len: int = 4, rows: int = 64) -> tuple[Windows, Normalizer]:
    """Windows of random numbers: where they come from does not matter here."""
    rng = np.random.default_rng(0)
    d, a = env_spec.obs_dim, env_spec.action_dim
    integers = jnp.zeros((rows,), jnp.int32)
    obs = jnp.asarray(rng.uniform(-1, 1, (rows, d)), jnp.float32)
    chunk = jnp.asarray(rng.uniform(-1, 1, (rows, chunk_len, a)), jnp.float32)
    windows = Windows(obs, chunk, jnp.ones((rows, chunk_len)), integers, integers, integers)
    return windows, Normalizer(-jnp.ones(d), jnp.ones(d), -jnp.ones(a), jnp.ones(a))


@functools.cache
def setup(env: str = "landscape") -> setup_lib.Setup:
    """The objects of `config`."""
    return setup_lib.build(config(env))


@functools.cache
def stage(name: str, env: str = "landscape") -> stages.BaseStage:
    """Stage `bc`, `discover` or `finetune`."""
    return stages.make_stages(setup(env), ("bc", "discover", "finetune"))[name]


def grid_of(text: str, seeds: int) -> Grid:
    """The grid of `sweep.grid = text`."""
    swept = config()
    swept.sweep.grid, swept.seeds = text, seeds
    return config_grid(swept)


@functools.cache
def _init(of: str, env: str):
    """Compiled start of the cloning stage or of a fine-tuning one."""
    base, first = stage("bc", env), stage("discover", env)
    data = shared(setup(env).env_spec)

    @jax.jit
    def init(keys_bc, keys, hparams_bc, hparams):
        parent = jax.vmap(base.init, (0, 0, None, None))(keys_bc, hparams_bc, None, data)
        return parent if of == "bc" else jax.vmap(first.init, (0, 0, 0, None))(keys, hparams, parent, data)

    return init, data


def _arguments(name: str, grid: str, seeds: int, env: str) -> tuple:
    points, own = grid_of(grid, seeds), stage(name, env)
    runs = own.runs(points)
    seeds_of = [points.seeds[seed] for _, seed in runs.runs]
    keys = run_keys("bc", seeds_of), run_keys("tune", seeds_of)
    return *keys, stage("bc", env).make_hparams(points, runs), own.make_hparams(points, runs)


@functools.cache
def start(name: str, grid: str = "", seeds: int = 8):
    """(state with leading axis R, shared arrays) before the first step of a stage."""
    init, data = _init("bc" if name == "bc" else "tune", "landscape")
    return jax.block_until_ready(init(*_arguments(name, grid, seeds, "landscape"))), data


def shapes(name: str, env: str = "landscape"):
    """Shapes and types of what `start` returns; nothing compiles."""
    init, data = _init("bc" if name == "bc" else "tune", env)
    return jax.eval_shape(init, *_arguments(name, "", 8, env)), data


def epoch_fn(name: str, mode: str = "vmap", env: str = "landscape"):
    """The epoch of one step of a stage, not compiled."""
    own = stage(name, env)
    return make_epoch(own.train_step, 1, 1, make_mesh(mode), own.learner.logs)


@functools.cache
def programs(mode: str) -> Programs:
    """What compiles the epochs of every test in this process."""
    cfg = config()
    cfg.sweep.mode = mode
    return Programs(setup_lib.build(cfg), make_mesh(mode))


def epoch(name: str, mode: str = "vmap"):
    """The compiled epoch of one step for 8 runs, as training uses it; it leaves its argument alone."""

    def run(state, data):
        return programs(mode).epoch(stage(name), state, data)(jax.tree.map(jnp.copy, state), data)

    return run


def arrays(tree) -> list[np.ndarray]:
    """Leaves on the host, keys as their integers."""
    return [np.asarray(jax.random.key_data(x) if is_key(x) else x) for x in jax.tree.leaves(tree)]


def is_key(x) -> bool:
    """Is this a typed key?"""
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
