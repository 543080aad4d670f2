"""The stages of a run: what each starts from, trains, and is evaluated with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mmbc_jax.core import registry
from mmbc_jax.core.protocols import Policy
from mmbc_jax.core.types import Batch, Key, Metrics, PyTree, Variables
from mmbc_jax.data.windows import Windows, spread_indices
from mmbc_jax.ops.normalisation import Normalizer
from mmbc_jax.learners import bc
from mmbc_jax.learners import dagger
from mmbc_jax.learners import ppo as rl
from mmbc_jax.evaluation.evaluator import Evaluator, Subject
from mmbc_jax.runs.grid import Grid, StageRuns, hparams, stage_runs
from mmbc_jax.runs.loop import Schedule
from mmbc_jax.runs.setup import Setup
from mmbc_jax.core.state import Hparams, TrainState

_INIT_WINDOWS = 2048  # that a policy may look at before training, to place codebooks and mixture components


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of a run.

    Attributes:
      name: one of `defaults.STAGES`.
      parent: the stage it starts from, or None.
      traced: config paths of the scalars that its result depends on.
      program: stages of one name here train with the same compiled program.
      num_modes: Z of the actor; None for a cloned policy.
      schedule: its epochs.
      env_steps: control steps that its training takes, at most.
      init: (key, hparams, parent state or None, shared) to the first state of one run.
      train_step: of one run.
      make_hparams: [R] traced scalars.
    """

    name: str
    parent: str | None
    traced: tuple[str, ...]
    program: str
    num_modes: int | None
    schedule: Schedule
    env_steps: int
    init: Callable[[Key, Hparams, Any, Any], TrainState]
    train_step: Callable[[TrainState, Any], tuple[TrainState, Metrics]]
    make_hparams: Callable[[Grid, StageRuns], Hparams]

    def runs(self, grid: Grid) -> StageRuns:
        """The distinct runs of this stage in a grid."""
        return stage_runs(grid, self.traced)


def clone_traced(setup: Setup, section: str) -> tuple[str, ...]:
    """Traced scalars of cloning the policy of a config section."""
    plugin = registry.find("policy", setup.config[section].name)
    return bc.TRACED + tuple(f"{section}.{name}" for name in plugin.hparams)


def all_traced(setup: Setup) -> tuple[str, ...]:
    """Every scalar that a grid may sweep in this configuration."""
    clones = clone_traced(setup, "policy") + clone_traced(setup, "baseline")
    return tuple(dict.fromkeys((*clones, *dagger.TRACED, *rl.TRACED, "finetune.mi_coef")))


def clone_stage(setup: Setup, name: str) -> Stage:
    """Stage `bc` or `baseline`."""
    config = setup.config
    section = "policy" if name == "bc" else "baseline"
    policy = setup.policy if name == "bc" else setup.baseline
    traced = clone_traced(setup, section)
    cfg = config.bc
    schedule = Schedule(
        epochs=cfg.steps // cfg.steps_per_epoch,
        rows=cfg.steps_per_epoch // cfg.steps_per_row,
        steps_per_row=cfg.steps_per_row,
        eval_every=config.evaluation.every_epochs,
        save_every=config.checkpoint.every_epochs,
        nonfinite_limit=config.nonfinite_limit,
    )

    def init(key: Key, hp: Hparams, parent: Any, shared: tuple[Windows, Normalizer]) -> TrainState:
        windows, normalizer = shared
        sample = windows.batch(jnp.asarray(spread_indices(windows.obs.shape[0], _INIT_WINDOWS)))
        return bc.init_state(policy, normalizer, key, sample, hp)

    step = bc.make_train_step(policy, cfg, section)
    return Stage(
        name=name,
        parent=None,
        traced=traced,
        program=name,
        num_modes=None,
        schedule=schedule,
        env_steps=0,
        init=init,
        train_step=lambda state, shared: step(state, shared[0]),
        make_hparams=lambda grid, runs: hparams(config, grid, runs, traced),
    )


def dagger_stage(setup: Setup) -> Stage:
    """Stage `dagger`: the clone of `bc`, trained further; a training step is a round."""
    config, relabeller = setup.config, setup.relabeller()
    cfg, traced = config.dagger, clone_traced(setup, "policy") + dagger.TRACED
    per_decision = config.chunk.execute + config.chunk.predict  # played, and looked ahead by the expert

    def init(key: Key, hp: Hparams, parent_state: TrainState, shared: Any) -> TrainState:
        return dagger.init_state(parent_state, key, relabeller, cfg, hp)

    return Stage(
        name="dagger",
        parent="bc",
        traced=traced,
        program="dagger",
        num_modes=None,
        schedule=Schedule(
            epochs=cfg.rounds,
            rows=1,
            steps_per_row=1,
            eval_every=config.evaluation.every_epochs,
            save_every=config.checkpoint.every_epochs,
            nonfinite_limit=config.nonfinite_limit,
        ),
        env_steps=cfg.rounds * cfg.episodes * relabeller.decisions * per_decision,
        init=init,
        train_step=dagger.make_train_step(relabeller, config.bc, cfg),
        make_hparams=lambda grid, runs: hparams(config, grid, runs, traced),
    )


def make_phase(setup: Setup, name: str, discovers: bool) -> rl.Phase:
    """What a fine-tuning stage does; `plain` takes the steps of discovery too, where there is one."""
    config, full = setup.config, setup.env_spec.episode_length
    if name == "discover":
        return rl.Phase(config.discover.iterations, 0.0, config.discover.start_horizon, True)
    if name == "finetune":
        return rl.Phase(config.finetune.iterations, 1.0, full, config.finetune.train_discriminator)
    extra = config.discover.iterations if discovers else 0
    return rl.Phase(config.finetune.iterations + extra, 1.0, full, False)


def tune_stage(setup: Setup, name: str, available: tuple[str, ...]) -> Stage:
    """Stage `discover`, `finetune` or `plain`.

    Args:
      setup: of the run.
      name: of the stage.
      available: stages whose final states this one may start from.
    """
    config = setup.config
    num_modes = 1 if name == "plain" else config.finetune.num_modes
    learner = setup.learner(num_modes)
    phase = make_phase(setup, name, "discover" in available)
    parent, traced = "bc", clone_traced(setup, "policy") + rl.TRACED
    if name == "finetune":
        parent = "discover" if "discover" in available else "bc"
        traced = (*traced, "finetune.mi_coef")

    def make_hparams(grid: Grid, runs: StageRuns) -> Hparams:
        own = hparams(config, grid, runs, (*rl.TRACED, "finetune.mi_coef"))
        swept = own.pop("finetune.mi_coef")
        mi_coef = {"discover": jnp.ones_like(swept), "finetune": swept, "plain": jnp.zeros_like(swept)}
        return {**own, **phase.hparams(mi_coef[name])}

    def init(key: Key, hp: Hparams, parent_state: TrainState, shared: Any) -> TrainState:
        key_params, key_state = jax.random.split(key)
        if parent == "discover":
            reference, normalizer = (parent_state.stats[part] for part in ("reference", "normalizer"))
            params = parent_state.params
        else:
            reference, normalizer = bc.reference(parent_state), parent_state.stats["normalizer"]
            params = learner.init_params(key_params, reference, setup.obs_dim)
        return learner.init_state(params, reference, normalizer, key_state, hp)

    per_epoch = config.ppo.iterations_per_epoch
    schedule = Schedule(
        epochs=phase.iterations // per_epoch,
        rows=per_epoch,
        steps_per_row=1,
        eval_every=config.evaluation.every_epochs,
        save_every=config.checkpoint.every_epochs,
        nonfinite_limit=config.nonfinite_limit,
    )
    per_iteration = config.ppo.num_envs * config.ppo.decisions * config.chunk.execute
    return Stage(
        name=name,
        parent=parent,
        traced=traced,
        program=f"tune{num_modes}",
        num_modes=num_modes,
        schedule=schedule,
        env_steps=phase.iterations * per_iteration,
        init=init,
        train_step=learner.train_step,
        make_hparams=make_hparams,
    )


def make_stage(setup: Setup, name: str, available: tuple[str, ...]) -> Stage:
    """The stage of a name; `available` are the stages whose results exist when it runs."""
    if name in ("bc", "baseline"):
        return clone_stage(setup, name)
    if name == "dagger":
        return dagger_stage(setup)
    return tune_stage(setup, name, available)


def make_evaluator(setup: Setup, stage: Stage) -> Evaluator:
    """The evaluator of a stage's results."""
    if stage.num_modes is None:
        return setup.evaluator(policy=stage_policy(setup, stage.name))
    return setup.evaluator(num_modes=stage.num_modes)


def stage_policy(setup: Setup, name: str) -> Policy:
    """The policy that a stage trains or steers."""
    return setup.baseline if name == "baseline" else setup.policy


def subject(stage: Stage, state: TrainState, key: Key) -> Subject:
    """What is evaluated of a state; also with a leading axis R on both."""
    if stage.num_modes is None:
        return Subject(key, bc.reference(state), state.stats["normalizer"], {}, {})
    return Subject(
        key,
        state.stats["reference"],
        state.stats["normalizer"],
        state.params["actor"],
        state.params["discriminator"],
    )


def reference_of(stage: Stage, state: TrainState) -> Variables:
    """Variables of the cloned policy in a stage's state."""
    return bc.reference(state) if stage.num_modes is None else state.stats["reference"]


def template(stage: Stage, hp: Hparams, parent: PyTree, shared: PyTree) -> PyTree:
    """Shapes and types of a stage's state with leading axis R, for restoring."""
    runs = len(next(iter(hp.values())))
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), runs))
    return jax.eval_shape(jax.vmap(stage.init, in_axes=(0, 0, 0, None)), keys, hp, parent, shared)


def dummy_shared(setup: Setup) -> PyTree:
    """Shapes of what cloning stages share, where the data itself is not needed."""
    d, (h, a) = setup.obs_dim, setup.policy_spec.chunk_shape

    def make() -> tuple[Windows, Normalizer]:
        batch = Batch(jnp.zeros((2, d)), jnp.zeros((2, h, a)), jnp.zeros((2, h)))
        integers = jnp.zeros((2,), jnp.int32)
        windows = Windows(batch.obs, batch.chunk, batch.mask, integers, integers, integers)
        return windows, Normalizer(jnp.zeros(d), jnp.zeros(d), jnp.zeros(a), jnp.zeros(a))

    return jax.eval_shape(make)
