r"""Aligning: a rod brings a hollow box to a pose, pressing from within or from without (D3IL, Jia et al. 2024).

Scene, rates, starts and success are those of D3IL's Aligning: an open box of four walls .1 m wide and .01 m thick
on a floor, a rod of radius .01 m from (.525, -.35, .25). One control step lasts 35 ms; an action in [-1, 1] moves the
commanded position by up to 1 cm along x, y and z. Success, which ends the episode: the box within .018 m of the
target and its angle within .048 pi; else it ends after 400 steps.

yaw  "angle": command x, y, z, rod x, y, z, box x, y, angle, target x, y, angle, in m and in radians modulo 2 pi;
  "quaternion": as D3IL gives it, 20 numbers, with position x, y, z and unit quaternion of box and target.

reward  "sparse": 1 at success. "d3il": minus 3.5 times the distance [m] and minus the angle over pi, at every step.

Mode of a success: 0 ("inside") where the rod is then less than .051 m from the box's middle in the plane, else 1.

What differs from the original: the box moves in the plane and without inertia, carried by the corners of its floor,
with friction 1 at the walls (`_sliders`), and can neither tilt nor be carried. The rod is an upright cylinder whose
tip is .12 m below the measured point, as there. It touches walls while its tip is below their top at .0935 m; one
that comes down on a wall rests on it, and no tip goes below the box's floor at .01 m. The arm is replaced by its
measured lag (`_arm_lag`), which was measured in the plane; along z it is taken to be that of y.

In pictures the box is dark, the target green, and the rod red where it is low enough to push, else blue.

Parameters: bounds of the start and, perturbed, `FURTHER`, the surfaces. Source: ALRhub/d3il, `gym_aligning_env`.
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
from mmbc_jax.envs.planar import _table_image
from mmbc_jax.envs.planar._angles import within_turn
from mmbc_jax.envs.planar._box_contacts import disc_against, pose_of
from mmbc_jax.envs.planar._drawing import outlined
from mmbc_jax.envs.planar._reposing import Frame, displacement
from mmbc_jax.envs.planar._sliders import pushed, surfaces_of

MAX_STEP = 0.01
START = (0.525, -0.35, 0.25)
DISTANCE, ANGLE, INSIDE = 0.018, 0.048 * np.pi, 0.051
RADIUS, TIP, TOP, FLOOR = 0.01, 0.12, 0.0935, 0.01
SUMMIT = TIP + TOP  # of the measured point where the tip is level with the walls
LENGTH, SUBSTEPS = 400, 4
MODES = ("inside", "outside")
WALLS = (
    *(((0.05, 0.0), (0.005, 0.05)), ((0.0, 0.05), (0.05, 0.005))),
    *(((-0.05, 0.0), (0.005, 0.05)), ((0.0, -0.05), (0.05, 0.005))),
)
HOLD = float(np.sqrt(2.0) * 0.05)
FRAME = Frame(
    inner=0.045, outer=0.055, rod=RADIUS, radius=HOLD, top=SUMMIT, low=TIP + 0.055, high=TIP + 0.115
)
FURTHER = ("friction", "radius")
LOW, HIGH = (0.3, -0.4), (0.7, 0.45)  # what is shown


@dataclasses.dataclass(frozen=True, kw_only=True)
class AligningOptions(Options):
    """Options of the task."""

    yaw: str = option("angle", "angles, or quaternions as in D3IL", choices=("angle", "quaternion"))
    reward: str = option("sparse", "1 at success, or that of D3IL", choices=("sparse", "d3il"))
    x_low: float = option(0.4, "smallest x of box and target at the start [m]")
    x_high: float = option(0.6, "the largest")
    box_low: float = option(-0.25, "smallest y of the box at the start [m]")
    box_high: float = option(-0.1, "the largest")
    target_low: float = option(0.2, "smallest y of the target [m]")
    target_high: float = option(0.35, "the largest")
    turn: float = option(float(np.pi / 2), "largest angle of both at the start [rad]", low=0.0)
    friction: float = option(1.0, "between rod and walls", low=0.0)
    radius: float = option(HOLD, "R of the table's hold [m]", low=0.0, open_low=True)

    def check(self) -> None:
        """Raises ConfigError where a start has no room."""
        for name in ("x", "box", "target"):
            low = getattr(self, f"{name}_low")
            if getattr(self, f"{name}_high") < low:
                raise self.error(f"{name}_high", f"at least {name}_low = {low}")


class Aligning(Further):
    """See the module docstring.

    `State.data`: command, rod, moved [3] m (the rod's last displacement), box, target [3] m and rad.
    """

    def __init__(self, options: AligningOptions):
        self.options, self.further = options, differs(options, FURTHER)
        planar = options.yaw == "angle"
        obs = ObsSpec.vector(12, angles=(8, 11)) if planar else ObsSpec.vector(20, quaternions=(9, 16))
        self.spec = EnvSpec(
            name=options.name,
            obs_dim=obs.size,
            action_dim=3,
            episode_length=LENGTH,
            num_modes=len(MODES),
            action_low=(-MAX_STEP,) * 3,
            action_high=(MAX_STEP,) * 3,
            mode_names=MODES,
            position=(3, 4),
            displaced=((0, 3), (1, 4), (2, 5)),
            control_dt=CONTROL_DT,
            obs=obs,
        )

    def default_params(self) -> PyTree:
        """All [] float, in the units of the options: the bounds of the start, `FURTHER`."""
        fixed = ("yaw", "reward", *(() if self.further else FURTHER))
        names = [field.name for field, _ in self.options.stated() if field.name not in fixed]
        return parameters(self.options, names)

    def reset(self, key: Key, params: PyTree | None = None) -> State:
        """Everything at rest, box and target uniform within their bounds."""
        params = self.default_params() if params is None else params
        low, high = (
            jnp.stack(
                [
                    jnp.stack([params[f"x_{end}"], params[f"{n}_{end}"], sign * params["turn"]])
                    for n in ("box", "target")
                ]
            )
            for end, sign in (("low", -1.0), ("high", 1.0))
        )
        box, target = jax.random.uniform(key, (2, 3), minval=low, maxval=high)
        return self._begin(jnp.asarray(START), box, target, params)

    def reset_to(self, obs: Array, key: Key, params: PyTree | None = None) -> State:
        """At rest with the rod, box and target that `obs` shows, the command at the rod; nothing is drawn."""
        del key
        params = self.default_params() if params is None else params
        if self.options.yaw == "angle":
            return self._begin(obs[3:6], obs[6:9], obs[9:], params)
        box, target = (
            jnp.stack([obs[i], obs[i + 1], 2.0 * jnp.arctan2(obs[i + 6], obs[i + 3])]) for i in (6, 13)
        )
        return self._begin(obs[3:6], box, target, params)

    def _begin(self, rod: Array, box: Array, target: Array, params: PyTree) -> State:
        data = {"command": rod, "rod": rod, "moved": jnp.zeros(3), "box": box, "target": target}
        distance, angle = _errors(box, target)
        zero = jnp.zeros(())
        metrics = {"success": zero, "distance": distance, "angle": angle}
        info = {"mode": jnp.full((), -1, jnp.int32), "params": params}
        return State(data, self._observe(data), zero, zero, metrics, info)

    def step(self, state: State, action: Array) -> State:
        """One control step of 35 ms with `action` [3], clipped to [-1, 1]."""
        data, params = state.data, state.info["params"]
        command = data["command"] + MAX_STEP * jnp.clip(action, -1.0, 1.0)
        old, box = data["rod"], data["box"]
        rod = old + followed(old, data["moved"], data["command"], command)
        rod = rod.at[2].set(_held(rod, old, box))
        boxes, _ = pushed(
            (WALLS,),
            box[None],
            old[:2],
            rod[:2],
            RADIUS,
            surfaces_of(self.options, params),
            acts=rod[2] < SUMMIT,
            substeps=SUBSTEPS,
        )
        new = {**data, "command": command, "rod": rod, "moved": rod - old, "box": boxes[0]}
        distance, angle = _errors(boxes[0], data["target"])
        success = (distance <= DISTANCE) & (angle <= ANGLE)
        near = jnp.sqrt(jnp.square(rod[:2] - boxes[0, :2]).sum()) < INSIDE
        reward = success.astype(jnp.float32)
        if self.options.reward == "d3il":
            reward = -3.5 * distance - angle / np.pi
        return state.replace(
            data=new,
            obs=self._observe(new),
            reward=reward,
            done=success.astype(jnp.float32),
            metrics={"success": success.astype(jnp.float32), "distance": distance, "angle": angle},
            info=state.info | {"mode": jnp.where(success, jnp.where(near, 0, 1), -1).astype(jnp.int32)},
        )

    def expert(self, state: State, mode: Array, key: Key) -> Array:
        """[3] action in [-1, 1] that pursues `mode` (`_reposing.displacement`); `key` is unused."""
        del key
        data = state.data
        wanted = displacement(data["rod"], data["box"], data["target"], mode == 0, FRAME)
        return jnp.clip(wanted / MAX_STEP, -1.0, 1.0)

    def plotted(self, state: State) -> Array:
        """[2] the rod's position in the plane."""
        return state.data["rod"][:2]

    def frame(self, state: State) -> Array:
        """[240, 112, 3] uint8: the box's walls dark, the target's light, the rod red, blue above the walls."""
        view, data = _table_image.View(LOW, HIGH), state.data
        view.boxes(data["target"], WALLS, _table_image.LIGHT_GREEN)
        view.boxes(data["box"], WALLS, _table_image.DARK)
        low = data["rod"][2] < SUMMIT
        colour = jnp.where(low, jnp.asarray(_table_image.RED), jnp.asarray(_table_image.BLUE))
        view.disc(data["rod"][:2], RADIUS, colour)
        return view.bytes()

    def draw(self, ax: Any) -> None:
        """Where the box (dashed) and the target begin, and the rod's start, in m."""
        o = self.options
        middle, half = (o.x_low + o.x_high) / 2, (o.x_high - o.x_low) / 2
        for low, high, colour, style in (
            (o.box_low, o.box_high, "0.5", "--"),
            (o.target_low, o.target_high, "tab:green", "-"),
        ):
            outlined(ax, (middle, (low + high) / 2), (half, (high - low) / 2), colour, style)
        ax.plot(*START[:2], marker="s", ms=5, color="k", zorder=1)
        ax.set(xlim=(LOW[0], HIGH[0]), ylim=(LOW[1], HIGH[1]), aspect="equal", xlabel="x [m]", ylabel="y [m]")

    def _observe(self, data: PyTree) -> Array:
        parts = [data["command"], data["rod"]]
        for pose in (data["box"], data["target"]):
            angle, zero = pose[2], jnp.zeros(())
            if self.options.yaw == "angle":
                parts.append(pose.at[2].set(within_turn(angle)))
            else:
                parts.append(jnp.stack([*pose[:2], zero, jnp.cos(angle / 2), zero, zero, jnp.sin(angle / 2)]))
        return jnp.concatenate(parts)


def _errors(box: Array, target: Array) -> tuple[Array, Array]:
    """Distance [m] and angle [rad] in [0, pi] between two poses."""
    angle = box[2] - target[2]
    turned = jnp.abs(jnp.arctan2(jnp.sin(angle), jnp.cos(angle)))
    return jnp.sqrt(jnp.square(box[:2] - target[:2]).sum()), turned


def _held(rod: Array, old: Array, box: Array) -> Array:
    """[] m the height of the rod at `rod` [3], coming from `old`: not below the floor, nor from above into a wall."""
    pose = pose_of(box)
    gaps = jnp.stack([disc_against(wall, pose, (rod[0], rod[1]), RADIUS).gap for wall in WALLS])
    above = (old[2] >= SUMMIT) & (gaps.min() < 0.0)
    return jnp.maximum(rod[2], jnp.where(above, SUMMIT, TIP + FLOOR))


@register("env", AligningOptions)
def build(options: AligningOptions) -> Aligning:
    """Builds the task; see the module docstring."""
    return Aligning(options)
