"""LeRobot's Diffusion Policy, trained on an exported LeRobotDataset of Push-T and played through Gymnasium.

The data come in by LeRobot's own reader, numbers are scaled by its own processors with the data set's statistics,
and the policy chooses by its `select_action`, with its queues of two observations and eight actions. Windows are cut
here.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.comparison import Missing, bring_in
from benchmarks.peers import _first_episodes as first
from benchmarks.peers import lerobot

FURTHER = ("lerobot.policies.diffusion.processor_diffusion", "lerobot.datasets.lerobot_dataset")
TASK = "push_t"
POSE, DISC = "observation.environment_state", "observation.state"
NEEDS_DATA = (
    "a LeRobotDataset of Push-T: python -m mmbc_jax.export_data --data pusht.npz --format lerobot --out FOLDER "
    "--config.data.reader.obs_keys=keypoint,state[0:2], then --data FOLDER"
)


@dataclasses.dataclass(frozen=True)
class Training:
    """Sizes of a training; what is not here is LeRobot's preset."""

    steps: int = 2000
    batch: int = 64
    rate: float = 1e-3
    warmup: int = 100
    episodes: int = 100


def windows(episode: np.ndarray, history: int, horizon: int, dropped: int) -> tuple[np.ndarray, ...]:
    """Rows of training windows, those of an episode's ends repeated.

    Args:
      episode: [N] int, the episode of every row; an episode's rows follow each other.
      history: observations up to the current one.
      horizon: actions, the first at the row of the first observation.
      dropped: rows at an episode's end at which no window is cut, as long as one is left.

    Returns:
      (observed [W, history], acted [W, horizon], padded [W, horizon] bool, whether an action lies outside).
    """
    rows = np.arange(len(episode))
    starts = np.searchsorted(episode, episode, side="left")
    ends = np.searchsorted(episode, episode, side="right")
    kept = rows[(rows < ends - dropped) | (rows == starts)]
    low, high = starts[kept, None], ends[kept, None] - 1
    acted = kept[:, None] + np.arange(horizon) - (history - 1)
    observed = np.clip(acted[:, :history], low, high)
    return observed, np.clip(acted, low, high), (acted < low) | (acted > high)


def split(obs: Any) -> dict[str, Any]:
    """Key points [..., 18] and the disc's place [..., 2] of observations [..., 20]."""
    return {POSE: obs[..., : lerobot.REST], DISC: obs[..., lerobot.REST :]}


class Trainer:
    """LeRobot's modules, the data set's columns, and its processors for a policy's configuration."""

    def __init__(self, checkout: Path | None, data: Path | None):
        names = [f"lerobot.{name}" for name in lerobot.MODULES]
        modules = bring_in(lerobot.NEEDS, checkout, "src", [*names, *FURTHER], "torchvision")
        self.theirs, self.processors, sets = lerobot.Theirs(modules[:-2]), *modules[-2:]
        if data is None or not (data / "meta" / "info.json").is_file():
            raise Missing(NEEDS_DATA)
        found = sets.LeRobotDataset(f"local/{data.name}", root=data)
        columns = found.hf_dataset.with_format("numpy")[:]
        self.obs, self.action = columns["observation.state"], columns["action"]
        self.episode, self.stats = columns["episode_index"], found.meta.stats
        if self.obs.shape[1:] != (lerobot.REST + lerobot.STATE,):
            raise Missing(f"observation.state has {self.obs.shape[1:]} numbers, not 20; {NEEDS_DATA}")

    def scaling(self, config: Any) -> tuple[Any, Any]:
        """LeRobot's (before, after) the network."""
        import torch

        stats: dict[str, dict[str, Any]] = {POSE: {}, DISC: {}, "action": {}}
        for kind in ("min", "max", "mean", "std"):
            parts = {**split(self.stats["observation.state"][kind]), "action": self.stats["action"][kind]}
            for name, value in parts.items():
                stats[name][kind] = torch.as_tensor(np.asarray(value), dtype=torch.float32)
        return self.processors.make_diffusion_pre_post_processors(config, stats)

    def train(self, sizes: Training, seed: int) -> tuple[Any, list[float]]:
        """(policy, losses of its steps)."""
        import torch

        torch.manual_seed(seed)
        draws = np.random.default_rng(seed)
        policy = self.theirs.policy(lerobot.UNET)
        config = policy.config
        config.optimizer_lr, config.scheduler_warmup_steps = sizes.rate, sizes.warmup
        before, _ = self.scaling(config)
        observed, acted, padded = windows(
            self.episode, config.n_obs_steps, config.horizon, config.drop_n_last_frames
        )
        optimiser = config.get_optimizer_preset().build(list(policy.parameters()))
        schedule = config.get_scheduler_preset().build(optimiser, max(sizes.steps, 1))
        losses = []
        policy.train()
        for _ in range(sizes.steps):
            chosen = draws.integers(len(observed), size=sizes.batch)
            batch = {name: torch.as_tensor(x) for name, x in split(self.obs[observed[chosen]]).items()}
            batch["action"] = torch.as_tensor(self.action[acted[chosen]])
            batch["action_is_pad"] = torch.as_tensor(padded[chosen])
            optimiser.zero_grad()
            loss, _ = policy.forward(before(batch))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 10.0)
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
        return policy.eval(), losses

    def play(self, policy: Any, envs: Any, seed: int) -> first.Episodes:
        """The first episode of every instance, all of which begin with empty queues."""
        import torch

        before, after = self.scaling(policy.config)
        policy.reset()

        def act(obs: np.ndarray) -> np.ndarray:
            seen = {name: torch.as_tensor(x) for name, x in split(obs).items()}
            return after(policy.select_action(before(seen))).numpy()

        torch.manual_seed(seed)
        return first.play(envs, act, seed)


def measure(
    checkout: Path | None, data: Path | None, sizes: Training, seeds: int
) -> Iterator[dict[str, Any]]:
    """Plays an untrained policy, then trains and plays one a seed; yields what it knows after each.

    Raises:
      Missing: LeRobot or the data set is not there.
    """
    trainer = Trainer(checkout, data)
    from mmbc_jax.envs.gymnasium_tasks import TaskVectorEnv

    envs = TaskVectorEnv(TASK, sizes.episodes, observe="keypoints")
    modes, runs = first.mode_names(TASK), []
    for seed, steps in ((0, 0), *((seed, sizes.steps) for seed in range(seeds))):
        begun, busy = time.perf_counter(), time.process_time()
        policy, losses = trainer.train(dataclasses.replace(sizes, steps=steps), seed)
        middle, processor = time.perf_counter(), time.process_time() - busy
        found = first.scores(trainer.play(policy, envs, 1000 + seed), len(modes))
        run = {
            "seed": seed,
            "steps": steps,
            "seconds": middle - begun,
            "cpu_seconds": processor,
            **_last_loss(losses),
        }
        runs.append({**run, "played_seconds": time.perf_counter() - middle, "played": found})
        print(f"lerobot {steps} steps, seed {seed}: {found}, {middle - begun:.0f} s", flush=True)
        yield {
            "task": TASK,
            "modes": list(modes),
            "sizes": dataclasses.asdict(sizes),
            "parameters": sum(param.numel() for param in policy.parameters()),
            "data": {"episodes": len(np.unique(trainer.episode)), "rows": len(trainer.episode)},
            "runs": runs,
        }


def _last_loss(losses: list[float]) -> dict[str, float | None]:
    """The mean loss of the last tenth of the steps; None without steps."""
    return {"loss": float(np.mean(losses[-max(len(losses) // 10, 1) :])) if losses else None}
