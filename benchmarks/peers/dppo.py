"""DPPO (github.com/irom-princeton/dppo): diffusion MLP, chain sampling and one PPO iteration at its Avoid sizes.

Its model classes are imported from the checkout: `DiffusionModel`, `PPODiffusion` with its loss, `DiffusionMLP`,
`CriticObs`. Its agents are not: they need wandb, hydra and an old gym, and their environment a Franka in d4rl. The
loop around the classes is ours and leaves out what an agent does besides (logging, plots, reward scaling); episodes
are those of a point on a plane, in numpy on its side.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks import finetuning, peak, subjects
from benchmarks.comparison import OURS, Comparison, bring_in
from benchmarks.peers._dppo_sizes import (
    CLIP,
    DENOISING_DISCOUNT,
    GAMMA,
    LAMBDA,
    LEAST_STD,
    Sizes,
)
from benchmarks.weights import random_like
from mmbc_jax.core import config as config_lib
from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.state import TrainState
from mmbc_jax.core.types import Batch, PolicySpec, Variables
from mmbc_jax.learners.bc import BCOptions, CloningLearner
from mmbc_jax.policies.diffusion import DiffusionPolicy
from mmbc_jax.runs import setup
from mmbc_jax.runs.epoch import make_epoch, stack_runs
from mmbc_jax.runs.mesh import Mesh
from mmbc_jax.runs.stages import BaseStage, make_stages

NEEDS = (
    "DPPO: git clone https://github.com/irom-princeton/dppo, pip install torch einops, --peer dppo=ITS_FOLDER"
)
MODULES = ("diffusion.diffusion", "diffusion.diffusion_ppo", "diffusion.mlp_diffusion", "common.critic")
SPEC = PolicySpec(obs_dim=4, action_dim=2, chunk_len=4)
OPTIONS = {"hidden": (512,) * 3, "residual": True, "activation": "relu", "time_dim": 16, "train_steps": 20}
LEVELS, WINDOWS, BATCHES = 20, 20_000, (16, 256, 1024)
STEERING = "mmbc_jax, steering"
NEVER = 1e9  # nats: of a divergence that no update waits for


def our_policy() -> DiffusionPolicy:
    """A diffusion policy of its size, sampled by 20 ancestral steps."""
    prior = functools.partial(registry.build, "prior", plugin("prior", "normal"), spec=SPEC)
    sampler = registry.build("sampler", plugin("sampler", "ddpm", steps=LEVELS, min_std=LEAST_STD))
    cfg = plugin("policy", "diffusion", fourier_octaves=0, **OPTIONS)
    return registry.build("policy", cfg, SPEC, prior=prior, sampler=sampler)


def our_params(policy: DiffusionPolicy) -> Any:
    """Random parameters."""
    batch = Batch(jnp.ones((2, 4)), jnp.ones((2, 4, 2)), jnp.ones((2, 4)))
    return random_like(jax.eval_shape(policy.init, jax.random.key(0), batch).params)


class Theirs:
    """Its models at the sizes of its Avoid configuration, from its modules."""

    def __init__(self, modules: list[Any]):
        self.diffusion, self.ppo, self.mlp, self.critic = modules
        self.common = {
            "horizon_steps": 4,
            "obs_dim": 4,
            "action_dim": 2,
            "denoising_steps": LEVELS,
            "device": "cpu",
        }

    def network(self) -> Any:
        """The noise predictor."""
        sizes = {"time_dim": 16, "mlp_dims": [512, 512, 512], "activation_type": "ReLU"}
        return self.mlp.DiffusionMLP(cond_dim=4, horizon_steps=4, action_dim=2, residual_style=True, **sizes)

    def cloner(self) -> Any:
        """What it pre-trains."""
        return self.diffusion.DiffusionModel(network=self.network(), denoised_clip_value=1.0, **self.common)

    def tuner(self) -> Any:
        """What it fine-tunes."""
        sizes = {"mlp_dims": [256, 256, 256], "activation_type": "Mish", "residual_style": True}
        return self.ppo.PPODiffusion(
            actor=self.network(),
            critic=self.critic.CriticObs(cond_dim=4, **sizes),
            ft_denoising_steps=Sizes.tuned,
            gamma_denoising=DENOISING_DISCOUNT,
            clip_ploss_coef=CLIP,
            clip_ploss_coef_base=CLIP,
            clip_ploss_coef_rate=1,
            randn_clip_value=3,
            min_sampling_denoising_std=LEAST_STD,
            min_logprob_denoising_std=LEAST_STD,
            **self.common,
        )


def our_training(batch_size: int, steps: int) -> Callable[[], Any]:
    """`steps` steps of stage `bc` as a run executes them."""
    data = subjects.demonstrations(WINDOWS, spec=SPEC)
    learner = CloningLearner(BCOptions(batch_size=batch_size), our_policy())
    epoch = jax.jit(make_epoch(learner.train_step, 1, steps, Mesh(), learner.logs), donate_argnums=0)
    holder = [stack_runs([subjects.init_state(learner, data)])]

    def block() -> None:
        holder[0], metrics = epoch(holder[0], data)
        jax.block_until_ready((holder[0], metrics))

    return block


def their_training(theirs: Theirs, batch_size: int, steps: int) -> Callable[[], Any]:
    """`steps` steps of its loss with the optimiser of its configuration, windows indexed from memory."""
    import torch

    model = theirs.cloner()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-6)
    obs, chunk = torch.rand(WINDOWS, 1, 4), torch.rand(WINDOWS, 4, 2)

    def block() -> None:
        for _ in range(steps):
            index = torch.randint(0, WINDOWS, (batch_size,))
            optimiser.zero_grad()
            model.loss(chunk[index], {"state": obs[index]}).backward()
            optimiser.step()

    return block


def our_sampling(batch_size: int) -> Callable[[], Any]:
    """A chunk of each observation, host to host."""
    policy = our_policy()
    variables = Variables(our_params(policy), {"prior": {}})

    @jax.jit
    def act(key: Any, obs: Any) -> Any:
        key, key_base = jax.random.split(key)
        return key, policy.transport(
            variables, obs, policy.base_distribution(variables, obs).sample(seed=key_base)
        )

    holder, obs = [jax.random.key(0)], np.zeros((batch_size, 4), np.float32)

    def block() -> Any:
        holder[0], chunk = act(holder[0], obs)
        return np.asarray(chunk)

    return block


def their_sampling(theirs: Theirs, batch_size: int) -> Callable[[], Any]:
    """The same by `PPODiffusion`, which keeps the chain."""
    import torch

    model, obs = theirs.tuner(), np.zeros((batch_size, 1, 4), np.float32)
    return lambda: model(cond={"state": torch.from_numpy(obs)}, return_chain=True).trajectories.numpy()


def our_stage(actor: ConfigDict) -> BaseStage:
    """Stage `finetune` with one mode on a diffusion policy of its size: as many decisions and gradient steps."""
    sizes, config = Sizes(), config_lib.load(finetuning.JOB)
    config.learner = plugin(
        "learner",
        "ppo",
        num_envs=sizes.envs,
        decisions=sizes.decisions,
        epochs=sizes.epochs,
        minibatches=sizes.batches,
        clip=CLIP,
        gamma=GAMMA ** (1 / SPEC.chunk_len),
        gae_lambda=LAMBDA,
        critic_hidden=(256, 256, 256),
        target_kl=NEVER,
    )
    config.policy = plugin("policy", "diffusion", fourier_octaves=0, **OPTIONS)
    config.sampler = plugin("sampler", "ddpm", steps=LEVELS, min_std=LEAST_STD)
    config.chunk.update({"predict": SPEC.chunk_len, "execute": SPEC.chunk_len})
    config.finetune.update({"num_modes": 1, "mi_coef": 0.0})
    config.actor = actor
    return make_stages(setup.build(config), ("bc", "finetune"))["finetune"]


def denoising() -> ConfigDict:
    """The actor that does what DPPO does, with its ratio."""
    return plugin(
        "actor",
        "denoise",
        chain="ddpm",
        steps=LEVELS,
        trained=Sizes.tuned,
        min_std=LEAST_STD,
        density_min_std=LEAST_STD,
        gamma_denoise=DENOISING_DISCOUNT,
        semantics="published",
    )


def our_program(actor: ConfigDict) -> tuple[Callable[..., Any], TrainState]:
    """(one iteration as a run executes it, the state that it starts from)."""
    stage = our_stage(actor)
    return make_epoch(stage.learner.train_step, 1, 1, Mesh(), stage.learner.logs), finetuning.start(
        stage, SPEC
    )


def our_iteration(actor: ConfigDict) -> Callable[[], Any]:
    """An iteration of our fine-tuner with an actor."""
    epoch, state = our_program(actor)
    run, holder = jax.jit(epoch, donate_argnums=0), [state]

    def block() -> None:
        holder[0], metrics = run(holder[0], ())
        jax.block_until_ready(metrics)

    return block


def comparisons(checkout: Path | None, cores: int, quick: bool) -> Iterator[Comparison]:
    """Pre-training, sampling and an iteration."""
    modules = [f"model.{name}" for name in MODULES]
    theirs = Theirs(bring_in(NEEDS, checkout, ".", modules))
    import torch

    from benchmarks.peers._dppo_loop import their_iteration

    torch.set_num_threads(cores)
    policy = our_policy()
    sizes = {
        OURS: sum(leaf.size for leaf in jax.tree.leaves(our_params(policy))),
        "dppo": sum(param.numel() for param in theirs.network().parameters()),
    }
    for batch_size in BATCHES[1:2] if quick else BATCHES:
        steps = max(2, 2560 // batch_size)
        yield Comparison(
            f"pre-training, batch {batch_size}",
            "step",
            {
                OURS: lambda b=batch_size, n=steps: our_training(b, n),
                "dppo": lambda b=batch_size, n=steps: their_training(theirs, b, n),
            },
            "Ours regresses v, averages its weights, clips gradients and guards against non-finite ones; DPPO "
            "regresses the noise, and its moving average is left out.",
            units=steps,
            counted=("samples", batch_size),
            parameters=sizes,
        )
    for batch_size in () if quick else (1, 50, 1024):
        yield Comparison(
            f"20 ancestral steps, batch {batch_size}",
            "call",
            {
                OURS: lambda b=batch_size: our_sampling(b),
                "dppo": lambda b=batch_size: their_sampling(theirs, b),
            },
            "DPPO evaluates its frozen network on all 20 steps, the tuned copy on 10 besides, and keeps the chain; "
            "ours evaluates one network 20 times.",
            counted=("chunks", batch_size),
            parameters=sizes,
        )
    epoch, state = our_program(denoising())
    yield Comparison(
        "an iteration on Avoid's sizes",
        "iteration",
        {
            OURS: lambda: our_iteration(denoising()),
            STEERING: lambda: our_iteration(plugin("actor", "steer")),
            "dppo": lambda: their_iteration(theirs),
        },
        "mmbc_jax is the actor `denoise` with the learner `ppo` as a run executes them: like DPPO it trains the last "
        "10 of 20 denoising steps with its ratio (`semantics=published`), in 20 gradient steps on 6,250 (decision, "
        "step) rows each. It leaves out what DPPO's result does not depend on: the frozen network on the steps that "
        "are fine-tuned, the rollout's log densities computed once more after it, and nine of ten evaluations of the "
        "critic, whose value all steps of a decision share; so a gradient step shuffles decisions, not rows. It also "
        "plays Avoiding in place of a point on a plane, clips gradients and guards against non-finite ones. "
        f"{STEERING} is another method: a small network steers the noise of the frozen policy. Neither is the Franka "
        "that DPPO simulates, and the agent's logging and reward scaling are left out.",
        counted=("control steps", Sizes.envs * Sizes.decisions * SPEC.chunk_len),
        parameters=sizes,
        gflop={OURS: peak.count_products(epoch, state, ())},
    )
