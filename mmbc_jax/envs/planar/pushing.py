r"""Pushing: a rod pushes two cubes into two targets, in any of four orders (D3IL, Jia et al. 2024).

Scene, rates, starts, success and labels are those of D3IL's Pushing: cubes of half side .03 m, targets at (.42, .3)
and (.63, .3) m, the rod of radius .01 m from (.525, -.28). One control step lasts 35 ms; an action in [-1, 1] moves
the commanded position by up to 1 cm per axis. A cube is in a target within .05 m of its middle; with both in
different targets the episode ends in success, else after 400 steps.

observe  "state": the numbers below; "relative", 18: command and cubes as seen from the rod, and besides the ways of
  red to the targets of red and green, and of green. Pushing turns on millimetres between rod and cube, which a
  network learns from these and hardly from positions in the world.

yaw  "angle": command x, y, rod x, y, red x, y, angle, green x, y, angle, in m and in radians modulo 2 pi; "tan":
  as D3IL gives it, with the tangent in place of the angle, which runs to infinity at a quarter turn.

reward  "sparse": 1 at success. "d3il": what D3IL's environment pays, minus the distances from rod to red cube and
  from there to its own target, which wants red in its own target and nothing of green.

Mode of a success: which cube lies where, and which was in its target first, numbered as in D3IL (`_two_blocks`):
rr-gg, gg-rr, rg-gr, gr-rg, "rg" being red into green's target. D3IL keeps the first entry of all and knows no label
where that was undone; here every success has one.

What differs from the original: the motion is in the plane and without inertia (`_sliders`), a cube carried by its
corners, which is where MuJoCo has its contacts; friction is 1 at every surface as there. The arm is replaced by its
measured lag (`_arm_lag`), which pushes do not slow. Cubes that overlap at the start are parted by the first step.

Parameters: bounds of the start and, perturbed, `FURTHER`, the surfaces. Source: ALRhub/d3il, `gym_pushing_env`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.observations import ObsSpec
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, EnvSpec, Key, PyTree, State
from mmbc_jax.envs._arm_lag import CONTROL_DT, followed
from mmbc_jax.envs._further import Further, differs, parameters
from mmbc_jax.envs.planar import _table_image, _two_blocks
from mmbc_jax.envs.planar._angles import within_turn
from mmbc_jax.envs.planar._drawing import outlined
from mmbc_jax.envs.planar._sliders import Surfaces, pushed, surfaces_of

MAX_STEP = 0.01
START = (0.525, -0.28)
TARGETS = ((0.42, 0.3), (0.63, 0.3))
TOLERANCE = 0.05
HALF, RADIUS = 0.03, 0.01
LENGTH, SUBSTEPS = 400, 4
MODES = ("rr-gg", "gg-rr", "rg-gr", "gr-rg")
SHAPES = ((((0.0, 0.0), (HALF, HALF)),),) * 2
FURTHER = Surfaces._fields
LOW, HIGH = (0.3, -0.32), (0.75, 0.4)  # what is shown
SIDES = (
    _table_image.Side(_table_image.RED, _table_image.LIGHT_RED),
    _table_image.Side(_table_image.GREEN, _table_image.LIGHT_GREEN),
)
MANNER = _two_blocks.Manner(clear=0.062, apart=0.1, width=0.012, near=0.03, fast=0.009, slow=0.006)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PushingOptions(Options):
    """Options of the task."""

    observe: str = option(
        "state",
        "positions in the world, or from the rod and from cube to target",
        choices=("state", "relative"),
    )
    yaw: str = option("angle", "of a cube, or its tangent as in D3IL", choices=("angle", "tan"))
    reward: str = option("sparse", "1 at success, or that of D3IL", choices=("sparse", "d3il"))
    red_low: float = option(0.4, "smallest x of the red cube at the start [m]")
    red_high: float = option(0.5, "the largest")
    green_low: float = option(0.55, "smallest x of the green cube at the start [m]")
    green_high: float = option(0.65, "the largest")
    y_low: float = option(-0.15, "smallest y of both at the start [m]")
    y_high: float = option(0.0, "the largest")
    turn: float = option(float(np.pi / 2), "largest angle of both at the start [rad]", low=0.0)
    friction: float = option(1.0, "between rod and cube", low=0.0)
    rubbing: float = option(1.0, "between the cubes", low=0.0)
    radius: float = option(float(np.sqrt(2.0) * HALF), "R of the table's hold [m]", low=0.0, open_low=True)

    def check(self) -> None:
        """Raises ConfigError where a start has no room."""
        for name in ("red", "green", "y"):
            low = getattr(self, f"{name}_low")
            if getattr(self, f"{name}_high") < low:
                raise self.error(f"{name}_high", f"at least {name}_low = {low}")


class Pushing(Further):
    """See the module docstring.

    `State.data`: command, rod, moved [2] m (the rod's last displacement), blocks [2, 3] m and rad, entered [4] int32
    (step of the first entry by pair, `_two_blocks.NEVER` before), step [] int32.
    """

    def __init__(self, options: PushingOptions):
        self.options, self.further = options, differs(options, FURTHER)
        self.relative = options.observe == "relative"
        size, angles = 18 if self.relative else 10, (6, 9) if options.yaw == "angle" else ()
        self.spec = EnvSpec(
            name=options.name,
            obs_dim=size,
            action_dim=2,
            episode_length=LENGTH,
            num_modes=len(MODES),
            action_low=(-MAX_STEP, -MAX_STEP),
            action_high=(MAX_STEP, MAX_STEP),
            mode_names=MODES,
            position=(2, 3),
            displaced=() if self.relative else ((0, 2), (1, 3)),
            control_dt=CONTROL_DT,
            obs=ObsSpec.vector(size, angles=angles),
        )

    def default_params(self) -> PyTree:
        """All [] float, in the units of the options: the bounds of the start, `FURTHER`."""
        fixed = ("observe", "yaw", "reward", *(() if self.further else FURTHER))
        names = [field.name for field, _ in self.options.stated() if field.name not in fixed]
        return parameters(self.options, names)

    def reset(self, key: Key, params: PyTree | None = None) -> State:
        """Everything at rest, the cubes uniform within their bounds."""
        params = self.default_params() if params is None else params
        low = jnp.stack(
            [jnp.stack([params[f"{n}_low"], params["y_low"], -params["turn"]]) for n in ("red", "green")]
        )
        high = jnp.stack(
            [jnp.stack([params[f"{n}_high"], params["y_high"], params["turn"]]) for n in ("red", "green")]
        )
        return self._begin(
            jnp.asarray(START), jax.random.uniform(key, (2, 3), minval=low, maxval=high), params
        )

    def reset_to(self, obs: Array, key: Key, params: PyTree | None = None) -> State:
        """At rest at the rod and the cubes of `obs` [10] or [18], the command there; nothing is drawn from `key`."""
        del key
        params = self.default_params() if params is None else params
        rod, blocks = obs[2:4], obs[4:10].reshape(2, 3)
        blocks = blocks.at[:, :2].add(rod) if self.relative else blocks
        if self.options.yaw == "tan":
            blocks = blocks.at[:, 2].set(jnp.arctan(blocks[:, 2]))
        return self._begin(rod, blocks, params)

    def _begin(self, rod: Array, blocks: Array, params: PyTree) -> State:
        data = {
            "command": rod,
            "rod": rod,
            "moved": jnp.zeros(2),
            "blocks": blocks,
            "entered": jnp.full((4,), _two_blocks.NEVER, jnp.int32),
            "step": jnp.zeros((), jnp.int32),
        }
        return _two_blocks.first_state(data, self._observe(data), params)

    def step(self, state: State, action: Array) -> State:
        """One control step of 35 ms with `action` [2], clipped to [-1, 1]."""
        data, params = state.data, state.info["params"]
        command = data["command"] + MAX_STEP * jnp.clip(action, -1.0, 1.0)
        moved = followed(data["rod"], data["moved"], data["command"], command)
        rod = data["rod"] + moved
        blocks, _ = pushed(
            SHAPES,
            data["blocks"],
            data["rod"],
            rod,
            RADIUS,
            surfaces_of(self.options, params),
            substeps=SUBSTEPS,
        )
        away = _two_blocks.distances(blocks, jnp.asarray(TARGETS))
        inside, step = away <= TOLERANCE, data["step"] + 1
        entered = jnp.where(inside, jnp.minimum(data["entered"], step), data["entered"])
        success, mode = _two_blocks.outcome(entered, inside)
        reward = success.astype(jnp.float32)
        if self.options.reward == "d3il":
            reward = -jnp.sqrt(jnp.square(rod - blocks[0, :2]).sum()) - away[0]
        new = {
            "command": command,
            "rod": rod,
            "moved": moved,
            "blocks": blocks,
            "entered": entered,
            "step": step,
        }
        count = inside.reshape(2, 2).any(1).sum()
        return state.replace(
            data=new,
            obs=self._observe(new),
            reward=reward,
            done=success.astype(jnp.float32),
            metrics={"success": success.astype(jnp.float32), "inside": count.astype(jnp.float32)},
            info=state.info | {"mode": mode},
        )

    def expert(self, state: State, mode: Array, key: Key) -> Array:
        """[2] action in [-1, 1] that pursues `mode` (`_two_blocks.direction`); `key` is unused."""
        del key
        data = state.data
        wanted = _two_blocks.direction(data["rod"], data["blocks"], jnp.asarray(TARGETS), mode, MANNER)
        return jnp.clip(wanted / MAX_STEP, -1.0, 1.0)

    def plotted(self, state: State) -> Array:
        """[2] the rod's position."""
        return state.data["rod"]

    def frame(self, state: State) -> Array:
        """[240, 150, 3] uint8: cubes in their colours, targets in lighter ones, the rod dark."""
        view, data = _table_image.View(LOW, HIGH), state.data
        _table_image.two_blocks(view, SIDES, HALF, data["blocks"], jnp.asarray(TARGETS), TOLERANCE)
        view.disc(data["rod"], RADIUS, _table_image.DARK)
        return view.bytes()

    def draw(self, ax: Any) -> None:
        """Targets of each colour, where the cubes start, and the rod's start, in m."""
        _draw(ax, self.options)

    def _observe(self, data: PyTree) -> Array:
        blocks = data["blocks"]
        angle = blocks[:, 2:]
        angle = jnp.tan(angle) if self.options.yaw == "tan" else within_turn(angle)
        seen, rod = jnp.concatenate([blocks[:, :2], angle], -1), data["rod"]
        if not self.relative:
            return jnp.concatenate([data["command"], rod, seen.ravel()])
        ways = _two_blocks.ways(blocks, jnp.asarray(TARGETS))
        seen = seen.at[:, :2].add(-rod)
        return jnp.concatenate([data["command"] - rod, rod, seen.ravel(), ways.ravel()])


def _draw(ax: Any, o: PushingOptions) -> None:
    for (x, y), low, high, colour in zip(
        TARGETS,
        (o.red_low, o.green_low),
        (o.red_high, o.green_high),
        ("tab:red", "tab:green"),
        strict=True,
    ):
        outlined(ax, (x, y), (TOLERANCE, TOLERANCE), colour)
        outlined(
            ax,
            ((low + high) / 2, (o.y_low + o.y_high) / 2),
            ((high - low) / 2, (o.y_high - o.y_low) / 2),
            colour,
            "--",
        )
    ax.plot(*START, marker="s", ms=5, color="k", zorder=1)
    ax.set(xlim=(LOW[0], HIGH[0]), ylim=(LOW[1], HIGH[1]), aspect="equal", xlabel="x [m]", ylabel="y [m]")


@register("env", PushingOptions)
def build(options: PushingOptions) -> Pushing:
    """Builds the task; see the module docstring."""
    return Pushing(options)
