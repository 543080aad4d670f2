"""Synthetic episodes that look like Avoiding: six obstacles, 24 ways through, some failures."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.patches import Circle

from mmbc_jax.core.types import EnvSpec, Rollouts
from mmbc_jax.diagnostics.modes import mode_metrics

OBSTACLES = (
    (0.5, -0.1, 0.03), (0.425, 0.08, 0.025), (0.575, 0.08, 0.025),
    (0.35, 0.26, 0.025), (0.5, 0.26, 0.025), (0.65, 0.26, 0.025),
)  # fmt: skip
ROWS = ((0.42, 0.58), (0.36, 0.5, 0.64), (0.28, 0.425, 0.575, 0.72))
NAMES = tuple(f"{a}{b}{c}" for a in "LR" for b in "lmr" for c in "1234")


class Scene:
    """An environment that can only be drawn."""

    def draw(self, ax):
        for x, y, radius in OBSTACLES:
            ax.add_patch(Circle((x, y), radius, facecolor="#c44e52", edgecolor="none", zorder=1))
        ax.axhline(0.35, color="#55a868", linewidth=1.5, zorder=1)


SPEC = EnvSpec(
    name="avoiding", obs_dim=4, action_dim=2, episode_length=250, num_modes=24, action_low=(-0.01,) * 2,
    action_high=(0.01,) * 2, mode_names=NAMES, position=(2, 3), control_dt=0.035,
)  # fmt: skip


def make_rollouts(episodes=256, paths=128, num_z=16, fail=0.08, seed=0, leak=0.1):
    """Each z owns one of 12 modes up to a `leak`; failed episodes stop at an obstacle."""
    rng = np.random.default_rng(seed)
    z = np.arange(episodes) % num_z
    owned = rng.permutation(24)[: max(1, min(12, num_z))]
    mode = owned[z % len(owned)] if num_z > 1 else rng.choice(24, episodes)
    mode = np.where(rng.random(episodes) < leak, rng.choice(24, episodes), mode)
    success = rng.random(episodes) >= fail
    y = np.linspace(-0.28, 0.36, 90)
    path, mask = np.zeros((paths, 110, 2)), np.zeros((paths, 110))
    for i in range(paths):
        gates = [ROWS[0][mode[i] // 12], ROWS[1][mode[i] // 4 % 3], ROWS[2][mode[i] % 4]]
        x = np.interp(y, [-0.28, -0.1, 0.08, 0.26, 0.36], [0.525, *gates, gates[2]])
        x = np.convolve(np.pad(x, 6, mode="edge"), np.ones(13) / 13, "valid")
        x = x + rng.normal(0, 0.012) * np.sin(np.linspace(0, np.pi, 90)) + rng.normal(0, 0.0015, 90)
        length = 90 if success[i] else rng.choice([25, 48, 70])
        path[i, :length] = np.stack([x, y], 1)[:length]
        mask[i, :length] = 1
    return Rollouts(
        success=success,
        mode=np.where(success, mode, -1),
        z=z,
        reward=success * 1.0,
        steps=np.full(episodes, 90),
        log_q=np.full(episodes, -0.5 if num_z > 1 else np.nan),
        path=path,
        path_mask=mask,
    )


def make_points(lams=(0.1, 0.3), seeds=2):
    """Two sweep points of three stages, with the reference shared by both."""

    def stage(num_z, fail, leak):
        return [mode_metrics(make_rollouts(1024, 2, num_z, fail, s, leak), 24, num_z) for s in range(seeds)]

    reference, plain = stage(1, 0.25, 0.1), stage(1, 0.0, 0.1)
    return [
        {
            "values": {"finetune.lam": lam},
            "stages": {"reference": reference, "lambda=0": plain, "bmd": stage(16, 0.02 + 0.1 * lam, 0.1)},
        }
        for lam in lams
    ]


def make_rows(seeds=3, points=2):
    """Rows of metrics.jsonl: a loss over two decades, a success rate, one NaN, one constant."""
    rng = np.random.default_rng(0)
    return [
        {
            "stage": stage, "step": step, "seed": seed, "point": point,
            "loss/total": float(3 * np.exp(-step / 40) + 0.01 + 0.003 * rng.random()),
            "eval/success_rate": float(1 - np.exp(-(step + 1) / (30 + 20 * point)) * rng.uniform(0.9, 1)),
            "eval/modes_kept": float(12 - 6 * point + rng.integers(3)),
            "mode/mi": float(np.log(16) * (1 - np.exp(-step / 50)) + 0.1 * rng.random()),
            "ppo/kl": float("nan") if step == 0 else float(0.02 * rng.random()),
            "ppo/lr": 3e-4,
        }
        for stage in ("bmd", "reference") for point in range(points) for seed in range(seeds)
        for step in range(0, 200, 10)
    ]  # fmt: skip


@pytest.fixture
def fake():
    return SimpleNamespace(
        scene=Scene(), spec=SPEC, rollouts=make_rollouts, points=make_points, rows=make_rows,
        spec_with=lambda **kw: dataclasses.replace(SPEC, **kw),
    )  # fmt: skip
