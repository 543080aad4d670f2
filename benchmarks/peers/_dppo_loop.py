"""The loop around DPPO's classes: rollout, log-probabilities, advantages and gradient steps of one iteration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.peers._dppo_sizes import (
    ACTOR_RATE,
    CRITIC_RATE,
    GAMMA,
    LAMBDA,
    VALUE_WEIGHT,
    Sizes,
)

DRAG, GAIN = 0.5, 0.05  # of the point

Arrays = dict[str, np.ndarray]


class Points:
    """Points with inertia on a plane that are to come to (1, 1), a whole chunk a step, in numpy."""

    def __init__(self, count: int):
        self.state = np.zeros((count, 4), np.float32)

    def observe(self) -> np.ndarray:
        """[B, 1, 4] as DPPO has its history."""
        return self.state[:, None].copy()

    def step(self, chunk: np.ndarray) -> np.ndarray:
        """Executes chunk [B, H, 2]; rewards [B]."""
        total = np.zeros(len(chunk), np.float32)
        for action in np.moveaxis(chunk, 1, 0):
            self.state[:, 2:] = DRAG * self.state[:, 2:] + GAIN * np.clip(action, -1.0, 1.0)
            self.state[:, :2] = np.clip(self.state[:, :2] + self.state[:, 2:], -1.0, 1.0)
            total -= np.square(self.state[:, :2] - 1.0).sum(-1)
        return total


def collect(model: Any, sizes: Sizes) -> tuple[Arrays, np.ndarray]:
    """({obs, chain, reward} with leading axes [T, B], the observation after the last decision)."""
    points, seen = Points(sizes.envs), {"obs": [], "chain": [], "reward": []}
    for _ in range(sizes.decisions):
        obs = points.observe()
        with torch.no_grad():
            found = model(cond={"state": torch.from_numpy(obs)}, deterministic=False, return_chain=True)
        seen["obs"].append(obs)
        seen["chain"].append(found.chains.numpy())
        seen["reward"].append(points.step(found.trajectories.numpy()))
    return {name: np.stack(values) for name, values in seen.items()}, points.observe()


def advantages(model: Any, seen: Arrays, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(values, advantages), both [T, B]; no episode ends."""
    with torch.no_grad():
        flat = torch.from_numpy(seen["obs"].reshape(-1, 1, 4))
        values = model.critic({"state": flat}).numpy().reshape(seen["reward"].shape)
        after = model.critic({"state": torch.from_numpy(last)}).numpy().reshape(1, -1)
    delta = seen["reward"] + GAMMA * np.concatenate([values[1:], after]) - values
    found, carried = np.zeros_like(values), 0.0
    for t in reversed(range(len(delta))):
        found[t] = carried = delta[t] + GAMMA * LAMBDA * carried
    return values, found


def update(model: Any, optimisers: list[Any], rows: dict[str, torch.Tensor], sizes: Sizes) -> None:
    """Epochs of gradient steps on (decision, denoising step) rows."""
    shape = (len(rows["chain"]), sizes.tuned)
    count = shape[0] * shape[1]
    for _ in range(sizes.epochs):
        for part in torch.randperm(count).split(count // sizes.batches):
            decision, step = torch.unravel_index(part, shape)
            surrogate, _, value_loss, *_ = model.loss(
                {"state": rows["obs"][decision]},
                rows["chain"][decision, step],
                rows["chain"][decision, step + 1],
                step,
                rows["target"][decision],
                rows["value"][decision],
                rows["advantage"][decision],
                rows["old"][decision, step],
                reward_horizon=4,
            )
            for optimiser in optimisers:
                optimiser.zero_grad()
            (surrogate + VALUE_WEIGHT * value_loss).backward()
            for optimiser in optimisers:
                optimiser.step()


def their_iteration(theirs: Any) -> Callable[[], None]:
    """One iteration at the sizes of its Avoid configuration."""
    model, sizes = theirs.tuner(), Sizes()
    optimisers = [
        torch.optim.AdamW(model.actor_ft.parameters(), lr=ACTOR_RATE, weight_decay=0.0),
        torch.optim.AdamW(model.critic.parameters(), lr=CRITIC_RATE, weight_decay=0.0),
    ]

    def block() -> None:
        seen, last = collect(model, sizes)
        values, advantage = advantages(model, seen, last)
        chain = torch.from_numpy(seen["chain"]).flatten(0, 1)
        obs = torch.from_numpy(seen["obs"]).flatten(0, 1)
        with torch.no_grad():
            old = model.get_logprobs({"state": obs}, chain).reshape(
                len(chain), sizes.tuned, *chain.shape[-2:]
            )
        flat = {"value": values, "advantage": advantage, "target": values + advantage}
        rows = {name: torch.from_numpy(array.reshape(-1)) for name, array in flat.items()}
        update(model, optimisers, {**rows, "chain": chain, "obs": obs, "old": old}, sizes)

    return block
