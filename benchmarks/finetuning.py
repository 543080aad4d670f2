"""The fine-tuning iteration of the default Avoiding job, whole and in parts, in control steps per second.

The whole is the program that a run executes (`runs.epoch.make_epoch` over one run). Each part is the same
code compiled on its own on inputs of the same size, so that the parts need not add up to the whole exactly:

- simulate: T chunks in B environments with automatic resets, fixed chunks.
- sample: T times B chunks from the actor through the frozen policy.
- prepare: MI reward, values and GAE on T x B decisions.
- update: epochs x minibatches of actor, critic and discriminator on a fixed batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from benchmarks import host, subjects
from benchmarks.timing import Contender, interleave, summarise
from mmbc_jax.core.state import TrainState
from mmbc_jax.core.types import PyTree
from mmbc_jax.learners import ppo as rl
from mmbc_jax.learners.ppo import Learner
from mmbc_jax.runs import setup
from mmbc_jax.runs.epoch import Program, compile_program, make_epoch, stack_runs
from mmbc_jax.runs.sections import base_config

MODES = (32, 1)  # |Z| of the default fine-tuning and of the conventional one
WHOLE = "iteration"


def default_job(quick: bool) -> ConfigDict:
    """The base configuration; smaller where `quick`."""
    config = base_config()
    if quick:
        config.ppo.update({"num_envs": 64, "decisions": 4, "minibatches": 2})
    return config


def learner_state(made: setup.Setup, learner: Learner) -> TrainState:
    """A fine-tuning state of one run on an untrained policy with non-zero weights.

    Episodes run their full length and every term of the reward is on: the work of stage `finetune`.
    """
    config = made.config
    policy = subjects.flow_policy(config.sampler.steps)
    clone = subjects.init_state(policy, config.bc, subjects.windows(1000))
    reference = subjects.sampling_variables(clone.params)
    hparams = {name: jnp.asarray(config.ppo[name.removeprefix("ppo.")], jnp.float32) for name in rl.TRACED}
    phase = rl.Phase(config.finetune.iterations, 1.0, made.env_spec.episode_length, True)
    mi_coef = jnp.full((1,), config.finetune.mi_coef)
    hparams |= {name: value[0] for name, value in phase.hparams(mi_coef).items()}
    key_params, key_state = jax.random.split(jax.random.key(0))
    params = learner.init_params(key_params, reference, made.obs_dim)
    normalizer = clone.stats["normalizer"]
    return learner.init_state(params, reference, normalizer, key_state, hparams)


def parts(learner: Learner, state: TrainState) -> dict[str, tuple[Callable[..., Any], tuple[PyTree, ...]]]:
    """(function, arguments) of each part, on a trajectory collected from `state`."""
    collector, stats = learner.collector, state.stats
    decisions = learner.cfg.decisions
    horizon = learner.horizon(state.step, state.hparams)
    key_collect, key_part, key_batch = jax.random.split(jax.random.key(7), 3)

    def collect(state: TrainState) -> Any:
        return collector.collect(
            state.env_state,
            state.params["actor"],
            stats["reference"],
            stats["normalizer"],
            key_collect,
            decisions,
            horizon,
        )[1]

    def simulate(env: Any, chunk: PyTree, keys: PyTree) -> Any:
        def decide(env: Any, key: PyTree) -> tuple[Any, Any]:
            env = collector.env.step(env, chunk, key=key, horizon=horizon)
            return env, (env.reward, env.done, env.info["final_obs"])

        return jax.lax.scan(decide, env, keys)

    def sample(params: PyTree, obs: PyTree, z: PyTree, keys: PyTree) -> Any:
        def decide(_: None, item: tuple[PyTree, ...]) -> tuple[None, Any]:
            obs, z, key = item
            return None, learner.actor.act(params, stats["reference"], key, obs, z)

        return jax.lax.scan(decide, None, (obs, z, keys))[1]

    trajectory = jax.jit(collect)(state)
    batch = jax.jit(learner._prepare)(state, trajectory, key_batch)[0]
    keys = jax.random.split(key_part, decisions)
    chunk = jnp.zeros((learner.cfg.num_envs, *subjects.SPEC.chunk_shape))
    return {
        "simulate": (simulate, (state.env_state.env, chunk, keys)),
        "sample": (sample, (state.params["actor"], trajectory.obs, trajectory.z, keys)),
        "prepare": (learner._prepare, (state, trajectory, key_part)),
        "update": (learner.update.run, (state, batch, key_part)),
    }


def measure_modes(num_modes: int, rounds: int, quick: bool) -> dict[str, Any]:
    """Times the iteration with |Z| = `num_modes` and its parts; unit: one iteration."""
    made = setup.build(default_job(quick))
    learner = made.learner(num_modes)
    state = jax.jit(lambda: learner_state(made, learner))()
    programs: dict[str, Program] = {}
    runs = stack_runs([state])
    programs[WHOLE] = compile_program(make_epoch(learner.train_step, 1, 1, "vmap"), runs, (), donate=True)
    holder = [runs]

    def whole() -> None:
        holder[0], metrics = programs[WHOLE](holder[0], ())
        jax.block_until_ready((holder[0], metrics))

    contenders = [Contender(WHOLE, whole, 1)]
    for name, (fn, args) in parts(learner, jax.tree.map(jnp.copy, state)).items():
        programs[name] = compile_program(fn, *args)
        contenders.append(Contender(name, _block(programs[name], args), 1))
    result = summarise(interleave(contenders, rounds), WHOLE)
    cfg, execute = learner.cfg, made.config.chunk.execute
    control_steps = cfg.num_envs * cfg.decisions * execute
    return {
        "num_modes": num_modes,
        "rounds": result["rounds"],
        "num_envs": cfg.num_envs,
        "decisions": cfg.decisions,
        "chunk_execute": execute,
        "gradient_steps": cfg.epochs * cfg.minibatches,
        "minibatch": cfg.num_envs * cfg.decisions // cfg.minibatches,
        "control_steps_per_iteration": control_steps,
        "control_steps_per_second": {
            name: control_steps / s["median"] for name, s in result["seconds"].items()
        },
        "seconds": result["seconds"],
        "cpu_seconds": result["cpu_seconds"],
        "share_of_iteration": result["ratio"],
        "compile_seconds": {name: program.compile_seconds for name, program in programs.items()},
        "temp_bytes": {name: program.temp_bytes for name, program in programs.items()},
    }


def _block(program: Program, args: tuple[PyTree, ...]) -> Callable[[], Any]:
    return lambda: jax.block_until_ready(program(*args))


def measure(cores: int, quick: bool) -> dict[str, Any]:
    """Everything about fine-tuning on the pinned cores; `quick` as in `cloning.measure`."""
    del cores  # pinned already; nothing else depends on it
    modes = MODES[:1] if quick else MODES
    return {
        "modes": [measure_modes(count, 2 if quick else 7, quick) for count in modes],
        "memory": host.memory(),
    }
