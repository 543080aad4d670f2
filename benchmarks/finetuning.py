"""The fine-tuning iteration of the main job, whole and in parts, in control steps per second.

The whole is the program that a run executes (`runs.epoch.make_epoch` over one run). Each part is the same
code compiled on its own on inputs of the same size, so that the parts need not add up to the whole exactly:

- simulate: T chunks in B environments with automatic resets, fixed chunks.
- sample: T times B chunks from the actor through the frozen policy.
- prepare: MI reward, values and GAE on T x B decisions.
- update: epochs x minibatches of actor, critic and discriminator on a fixed batch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import host, peak, subjects
from benchmarks.timing import Contender, interleave
from mmbc_jax.core import config as config_lib
from mmbc_jax.core.state import TrainState
from mmbc_jax.core.types import PolicySpec, PyTree
from mmbc_jax.learners._collect import normalised
from mmbc_jax.learners._ppo_update import Update
from mmbc_jax.learners.ppo import PPOLearner
from mmbc_jax.runs import setup
from mmbc_jax.runs.epoch import Program, compile_program, make_epoch
from mmbc_jax.runs.grid import config_grid
from mmbc_jax.runs.mesh import Mesh
from mmbc_jax.runs.stages import BaseStage, make_stages

JOB = Path(__file__).parents[1] / "configs" / "finetune" / "avoiding_bmd.py"
TUNING = ("finetune", "plain")  # with |Z| = 32, and the conventional fine-tuner with one mode
WHOLE = "iteration"


def main_job(quick: bool) -> dict[str, BaseStage]:
    """The stages of the main job that are timed, each started from `bc`; smaller where `quick`."""
    config = config_lib.load(JOB)
    config.finetune.num_modes = 32  # as when it was first timed
    if quick:
        config.learner.update({"num_envs": 64, "decisions": 4, "minibatches": 2})
    return make_stages(setup.build(config), ("bc", *TUNING))


def start(stage: BaseStage, spec: PolicySpec = subjects.SPEC) -> TrainState:
    """[R = 1] the state in which a stage starts, on an untrained policy with non-zero weights.

    Episodes run their full length.
    """
    parent = None if stage.parent is None else subjects.with_noise(start(stage.parent, spec))
    grid = config_grid(stage.setup.config)
    hparams = stage.make_hparams(grid, stage.runs(grid))
    data = subjects.demonstrations(1000, spec=spec)
    return jax.jit(stage.start)(jax.random.key(0)[None], hparams, parent, data)


def parts(learner: PPOLearner, state: TrainState) -> dict[str, tuple[Callable[..., Any], tuple[PyTree, ...]]]:
    """(function, arguments) of each part, on decisions taken from the state of one run."""
    options, collector, stats = learner.options, learner.collector, state.stats
    horizon = jnp.asarray(collector.length, jnp.int32)
    key_collect, key_part, key_batch = jax.random.split(jax.random.key(7), 3)

    def collect(state: TrainState) -> Any:
        loop, visited = collector.collect(
            state.env_state,
            state.params["actor"],
            stats["reference"],
            stats["normalizer"],
            key_collect,
            options.decisions,
            horizon,
        )
        return loop, normalised(visited, stats["normalizer"])

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

    loop, seen = jax.jit(collect)(state)
    batch = jax.jit(learner.prepare)(state, loop, seen, key_batch)[0]
    keys = jax.random.split(key_part, options.decisions)
    chunk = jnp.zeros((options.num_envs, *learner.spec.chunk_shape))
    update = Update(options.epochs, options.minibatches, learner.actor, learner.critic, learner.reward)
    return {
        "simulate": (simulate, (state.env_state.env, chunk, keys)),
        "sample": (sample, (state.params["actor"], seen.obs, seen.z, keys)),
        "prepare": (learner.prepare, (state, loop, seen, key_part)),
        "update": (update.run, (state, batch, key_part)),
    }


def measure_stage(stage: BaseStage, cores: int, rounds: int) -> dict[str, Any]:
    """Times an iteration of a stage and its parts; unit: one iteration."""
    learner, runs = stage.learner, start(stage)
    assert isinstance(learner, PPOLearner)
    state = jax.tree.map(lambda leaf: leaf[0], runs)  # a copy, since `runs` is donated
    programs: dict[str, Program] = {}
    epoch = make_epoch(learner.train_step, 1, 1, Mesh(), learner.logs)
    programs[WHOLE] = compile_program(epoch, runs, (), donate=True)
    gflop = {WHOLE: peak.count_products(epoch, runs, ())}
    holder = [runs]

    def whole() -> None:
        holder[0], metrics = programs[WHOLE](holder[0], ())
        jax.block_until_ready((holder[0], metrics))

    contenders = [Contender(WHOLE, whole, 1)]
    for name, (fn, args) in parts(learner, state).items():
        programs[name] = compile_program(fn, *args)
        gflop[name] = peak.count_products(fn, *args)
        contenders.append(Contender(name, _block(programs[name], args), 1))
    gflop = {name: work for name, work in gflop.items() if work > 0}  # simulating takes no product
    result = peak.summarise(interleave([*contenders, *peak.contenders()], rounds), WHOLE, gflop, cores)
    options, control_steps = learner.options, learner.env_steps
    return {
        "num_modes": stage.num_modes,
        "rounds": result["rounds"],
        "num_envs": options.num_envs,
        "decisions": options.decisions,
        "chunk_execute": learner.collector.exec_len,
        "gradient_steps": options.epochs * options.minibatches,
        "minibatch": options.num_envs * options.decisions // options.minibatches,
        "control_steps_per_iteration": control_steps,
        "control_steps_per_second": {
            name: control_steps / s["median"] for name, s in result["seconds"].items()
        },
        "seconds": result["seconds"],
        "cpu_seconds": result["cpu_seconds"],
        "share_of_iteration": result["ratio"],
        **{field: result[field] for field in ("peak_gflops", "gflops", "share_of_peak")},
        "compile_seconds": {name: program.compile_seconds for name, program in programs.items()},
        "temp_bytes": {name: program.temp_bytes for name, program in programs.items()},
    }


def _block(program: Program, args: tuple[PyTree, ...]) -> Callable[[], Any]:
    return lambda: jax.block_until_ready(program(*args))


def measure(cores: int, quick: bool) -> dict[str, Any]:
    """Everything about fine-tuning on the pinned cores; `quick` as in `cloning.measure`."""
    stages = main_job(quick)
    timed = TUNING[:1] if quick else TUNING
    return {
        "modes": [measure_stage(stages[name], cores, 2 if quick else 7) for name in timed],
        "memory": host.memory(),
    }
