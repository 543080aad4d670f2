r"""A point in the plane and four peaks of reward: the smallest task with modes.

The peaks lie at radius 1 and angles 45 deg + 90 deg * i. The start is N(0, start_std^2 I). An action
displaces the point by at most 0.15 per axis; after 16 steps the episode ends and pays

  R = h_i exp(-d^2 / (2 peak_width^2)),   i the nearest centre, d the distance to it.

That end is a real termination (`done` without `truncation`): nothing is left to bootstrap.
Success is d <= 0.2; the mode label is then i, else -1.

`reward` selects the default parameters: "balanced" heights (1, 1, 1, 1), "unbalanced" (1, .8, .8, .8), and
"rotated" equal heights with centres turned by 20 deg. The expert always goes to the centres that are not
turned, and its demonstrations succeed there, so with "rotated" the reward lies outside their support.

A block at (block_x, block_y), if there is one, ends the episode without success or reward where the way of a step
touches it. Its parameters exist where `block_radius` is above 0, or of `perturbed()`. There are no dynamics to
perturb: the point has no mass.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.observations import ObsSpec
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, EnvSpec, Key, PyTree, State
from mmbc_jax.envs._block import BLOCK, check_block, draw_block, gap

HEIGHTS = {"balanced": (1.0,) * 4, "unbalanced": (1.0, 0.8, 0.8, 0.8), "rotated": (1.0,) * 4}
STEPS = 16
MAX_STEP = 0.15
SUCCESS_RADIUS = 0.2
ANGLES = np.pi / 4 + np.pi / 2 * np.arange(4)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LandscapeOptions(Options):
    """Options of the task."""

    reward: str = option("balanced", "heights of the peaks, or whether they turn", choices=tuple(HEIGHTS))
    goal_angle: float = option(float(np.deg2rad(20.0)), "turn of the peaks [rad] where rotated")
    start_std: float = option(0.05, "standard deviation of the start", low=0.0)
    peak_width: float = option(0.2, "standard deviation of a peak", low=0.0, open_low=True)
    block_x: float = option(0.35, "centre of an obstacle; by default on the way to the goal NE")
    block_y: float = option(0.35, "likewise")
    block_radius: float = option(0.0, "of that obstacle; 0 for none", low=0.0)

    def check(self) -> None:
        """Raises ConfigError where a block is placed that is none."""
        check_block(self, LandscapeOptions())


class Landscape:
    """See the module docstring; `State.data` is {"step": [] int32, "position": [2]}."""

    def __init__(self, options: LandscapeOptions):
        self.options, self.blocked = options, options.block_radius > 0.0
        self.spec = EnvSpec(
            name=options.name,
            obs_dim=2,
            action_dim=2,
            episode_length=STEPS,
            num_modes=4,
            action_low=(-MAX_STEP, -MAX_STEP),
            action_high=(MAX_STEP, MAX_STEP),
            mode_names=("NE", "NW", "SW", "SE"),
            position=(0, 1),
            displaced=((0,), (1,)),
            obs=ObsSpec.vector(2),  # unbounded: the start is Gaussian
        )

    def default_params(self) -> PyTree:
        """heights [4], goal_angle [] rad, start_std [], peak_width [], and those of a block: all float."""
        block = {name: jnp.asarray(getattr(self.options, name)) for name in BLOCK if self.blocked}
        return block | {
            "heights": jnp.asarray(HEIGHTS[self.options.reward]),
            "goal_angle": jnp.asarray(self.options.goal_angle if self.options.reward == "rotated" else 0.0),
            "start_std": jnp.asarray(self.options.start_std),
            "peak_width": jnp.asarray(self.options.peak_width),
        }

    def demonstrated(self) -> PyTree:
        """The default parameters with centres that are not turned."""
        return {**self.default_params(), "goal_angle": jnp.zeros(())}

    def perturbed(self) -> Landscape:
        """The same task, with those of a block among its parameters."""
        other = copy.copy(self)
        other.blocked = True
        return other

    def reset(self, key: Key, params: PyTree | None = None) -> State:
        """Starts at N(0, start_std^2 I)."""
        params = self.default_params() if params is None else params
        position = params["start_std"] * jax.random.normal(key, (2,))
        return State(
            data={"step": jnp.zeros((), jnp.int32), "position": position},
            obs=position,
            reward=jnp.zeros(()),
            done=jnp.zeros(()),
            metrics={"success": jnp.zeros(())},
            info={"mode": jnp.full((), -1, jnp.int32), "params": params},
        )

    def step(self, state: State, action: Array) -> State:
        """Displaces the point by 0.15 * clip(action, -1, 1); the 16th step ends and pays, a block only ends."""
        params = state.info["params"]
        position = state.data["position"] + MAX_STEP * jnp.clip(action, -1.0, 1.0)
        step = state.data["step"] + 1
        distance = jnp.linalg.norm(position - _centres(params["goal_angle"]), axis=-1)
        nearest, last = jnp.argmin(distance), step >= STEPS
        hit = gap(params, state.data["position"], position) < 0.0 if self.blocked else jnp.zeros((), bool)
        success = last & ~hit & (distance[nearest] <= SUCCESS_RADIUS)
        peak = jnp.exp(-0.5 * (distance[nearest] / params["peak_width"]) ** 2)
        return state.replace(
            data={"step": step, "position": position},
            obs=position,
            reward=jnp.where(last & ~hit, params["heights"][nearest] * peak, 0.0),
            done=(last | hit).astype(jnp.float32),
            metrics={"success": success.astype(jnp.float32)},
            info=state.info | {"mode": jnp.where(success, nearest, -1).astype(jnp.int32)},
        )

    def expert(self, state: State, mode: Array, key: Key) -> Array:
        """Closes a quarter of the way to centre `mode` (not turned) per step, with noise of 0.1.

        A function of the position alone, so that a policy that sees no clock can imitate it.

        Args:
          state: the current state.
          mode: [] int32 in [0, 4).
          key: for the noise.

        Returns:
          [2] action in [-1, 1].
        """
        action = 0.25 * (_centres(0.0)[mode] - state.data["position"]) / MAX_STEP
        return jnp.clip(action + 0.1 * jax.random.normal(key, (2,)), -1.0, 1.0)

    def draw(self, ax: Any) -> None:
        """Contours of the terminal reward at the default parameters; crosses where demonstrations end."""
        grid = np.linspace(-1.6, 1.6, 121)
        x, y = np.meshgrid(grid, grid)
        params = jax.tree.map(np.asarray, self.default_params())
        centres = np.asarray(_centres(params["goal_angle"]))
        distance = np.linalg.norm(np.stack([x, y], -1)[..., None, :] - centres, axis=-1)
        nearest = distance.argmin(-1)
        reward = params["heights"][nearest] * np.exp(-0.5 * (distance.min(-1) / params["peak_width"]) ** 2)
        ax.contourf(x, y, reward, levels=np.linspace(0.0, 1.0, 11), cmap="Greys", alpha=0.6, zorder=0)
        draw_block(ax, self.options)
        ax.scatter(*np.asarray(_centres(0.0)).T, marker="x", color="tab:red", zorder=1)
        ax.set(xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), aspect="equal", xlabel="x", ylabel="y")


def _centres(angle: Array | float) -> Array:
    """[4, 2] unit vectors at 45 deg + 90 deg * i + `angle`."""
    turned = jnp.asarray(ANGLES) + angle
    return jnp.stack([jnp.cos(turned), jnp.sin(turned)], axis=-1)


@register("env", LandscapeOptions)
def build(options: LandscapeOptions) -> Landscape:
    """Builds the task; see the module docstring."""
    return Landscape(options)
