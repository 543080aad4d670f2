r"""Push-T: a disc pushes a T-shaped block onto its outline on the table (Florence et al. 2021, Chi et al. 2023).

The world is [0, 512]^2 px with y downwards. One control step lasts 0.1 s. An action in [-1, 1] is where the disc is
led to, target = 256 (action + 1) px; a spring and a brake take it there (`_quasistatic`), and what it touches moves
as long as it is touched. The block's pose is that of the middle of its bar's outer side (`_tee`).

With c the share of the goal's area that the block covers, a step pays clip(c / 0.95, 0, 1); the episode ends with
success at c > 0.95, else after 300 steps. The goal is a parameter; as in the original, only images show it.

observe  "state": disc x, y, block x, y [px], angle in [0, 2 pi); "keypoints": nine points of the block, x and y of
  each, then the disc's; "image": 96 x 96 (`_tee_image`); "both": that image and, as "state", the disc's x, y.

Reset, as in the original: disc uniform on the whole numbers of [disc_low, disc_high)^2 and block of
[block_low, block_high)^2, then the block turned about its centre of gravity, so that the middle of the bar lies
elsewhere. The original's angle is N(-pi, (2 pi)^2) modulo 2 pi, which is uniform up to 6e-9; ours is uniform.

Mode of a successful episode: 2 side + turn, both settled when the disc first touches the block.
  side   0 where the disc is then on the left of the block, x < 0 in the block's frame, else 1
  turn   0 where until then the disc has gone round the block's centre of gravity anticlockwise as one looks at the
         picture, else 1

The expert (`_tee_pusher`) succeeds in .956, .940, .950, .958 of 500 episodes of each mode, after 96 steps in the
median; with execution noise .05 in .956, .934, .948, .954 after 122, with .1 in .73 to .78. Of 100 episodes 8 begin
with the disc on the block, which leaves the side to chance and costs 4; another begins with the block so near to a
wall that one way round is shut. Its step costs a tenth of the simulator's. It knows the moment and stands friction
(.3 costs nothing); a block that glides (damping .3) it does not master.

Perturbed, the block has another moment of inertia [px^2] (its mass has no effect on quasi-static motion), a damping
above 0, the share of its speed that it keeps over a second, and friction against the disc.

Source: gym-pusht (`gym_pusht/envs/pusht.py`), which drops the block's friction and this task keeps doing so.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.observations import Obs, ObsEntry, ObsSpec
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, EnvSpec, Key, PyTree, State
from mmbc_jax.envs.planar import _quasistatic as physics
from mmbc_jax.envs.planar import _tee, _tee_image, _tee_pusher

SIZE = 512.0
THRESHOLD = 0.95
LENGTH = 300
MODES = ("left-ccw", "left-cw", "right-ccw", "right-cw")
# Of the recorded keypoints: constant in the block's frame to a standard deviation of 0.03 px.
KEYPOINTS = (
    *((9.27, 90.02), (-60.99, -1.19), (60.91, -1.39), (-0.27, 25.54), (-14.06, 122.81)),
    *((39.0, 32.86), (-39.95, 32.73), (-16.82, 62.87), (23.54, -1.70)),
)
FURTHER = physics.BlockDynamics._fields
_TURN = 2.0 * np.pi


@dataclasses.dataclass(frozen=True, kw_only=True)
class PushTOptions(Options):
    """Options of the task."""

    observe: str = option(
        "state",
        "pose and disc, nine keypoints and disc, an image, or image and disc",
        choices=("state", "keypoints", "image", "both"),
    )
    goal_x: float = option(256.0, "pose of the goal [px]", low=0.0, high=SIZE)
    goal_y: float = option(256.0, "likewise", low=0.0, high=SIZE)
    goal_angle: float = option(float(np.pi / 4), "likewise [rad]")
    disc_low: float = option(50.0, "smallest coordinate of the disc at the start [px]", low=0.0, high=SIZE)
    disc_high: float = option(450.0, "the largest", low=0.0, high=SIZE)
    block_low: float = option(100.0, "smallest coordinate of the block at the start [px]", low=0.0, high=SIZE)
    block_high: float = option(400.0, "the largest", low=0.0, high=SIZE)
    block_turn: float = option(float(np.pi), "largest angle of the block at the start [rad]", low=0.0)
    moment: float = option(physics.MOMENT, "of inertia, for a mass of 1 [px^2]", low=1.0)
    friction: float = option(0.0, "between disc and block", low=0.0)
    damping: float = option(0.0, "share of its speed that the block keeps over 1 s", low=0.0, high=1.0)

    def check(self) -> None:
        """Raises ConfigError where a start has no room."""
        for high, low in (("disc_high", "disc_low"), ("block_high", "block_low")):
            if getattr(self, high) < getattr(self, low):
                raise self.error(high, f"at least {low} = {getattr(self, low)}")

    @property
    def further(self) -> bool:
        """Whether one of `FURTHER` is set."""
        return any(getattr(self, name) != getattr(PushTOptions(), name) for name in FURTHER)


class PushT:
    """See the module docstring.

    `State.data`: body (`_quasistatic.Body`), swept [] rad that the disc went round the block, and way [] int32, the
    mode once the disc has touched the block, -1 before.
    """

    def __init__(self, options: PushTOptions):
        self.options, self.further = options, options.further
        obs, position = _described(options.observe)
        self.spec = EnvSpec(
            name=options.name,
            obs_dim=obs.size,
            action_dim=2,
            episode_length=LENGTH,
            num_modes=len(MODES),
            action_low=(0.0, 0.0),
            action_high=(SIZE, SIZE),
            mode_names=MODES,
            position=position,
            control_dt=physics.DT * physics.SUBSTEPS,
            obs=obs,
        )

    def default_params(self) -> PyTree:
        """All [] float, in the units of the options: the goal, the bounds of the start, `FURTHER`."""
        fixed = ("observe", *(() if self.further else FURTHER))
        names = [field.name for field, _ in self.options.stated() if field.name not in fixed]
        return {name: jnp.asarray(getattr(self.options, name)) for name in names}

    def perturbed(self) -> PushT:
        """The same task, with `FURTHER` among its parameters."""
        other = copy.copy(self)
        other.further = True
        return other

    def reset(self, key: Key, params: PyTree | None = None) -> State:
        """At rest at a drawn start."""
        params = self.default_params() if params is None else params
        keys = jax.random.split(key, 3)
        disc, place = (
            jnp.floor(jax.random.uniform(k, (2,), minval=params[f"{n}_low"], maxval=params[f"{n}_high"]))
            for k, n in ((keys[0], "disc"), (keys[1], "block"))
        )
        angle = params["block_turn"] * jax.random.uniform(keys[2], (), minval=-1.0, maxval=1.0)
        # What turns is the block about its centre of gravity.
        moved = _tee.placed(jnp.stack([*place, jnp.zeros(())]), [_tee.CENTRE])[0]
        left = _tee.placed(jnp.stack([*jnp.zeros(2), angle]), [_tee.CENTRE])[0]
        return self._begin(disc, jnp.zeros(2), jnp.concatenate([moved - left, angle[None]]), params)

    def reset_to(self, obs: Obs, key: Key, params: PyTree | None = None) -> State:
        """At rest in the state that `obs` shows, "state" [5] or "keypoints" [20]; nothing is drawn from `key`.

        Raises:
          ConfigError: images show no exact state.
        """
        del key
        params = self.default_params() if params is None else params
        disc, block = self.seen(obs)
        return self._begin(disc, jnp.zeros(2), block, params)

    def moving(self, obs: Obs, velocity: Array, params: PyTree | None = None) -> State:
        """As `reset_to`, the disc moving with `velocity` [2] px/s."""
        disc, block = self.seen(obs)
        return self._begin(disc, velocity, block, self.default_params() if params is None else params)

    def left_velocity(self, before: Obs, after: Obs, target: Array) -> Array:
        """[2] px/s of the disc at the observation `after` the one at which `target` [2] px was commanded."""
        return physics.left_velocity(self.seen(before)[0], self.seen(after)[0], target)

    def seen(self, obs: Obs) -> tuple[Array, Array]:
        """Disc [2] and pose of the block [3] behind an observation.

        Raises:
          ConfigError: images show no exact state.
        """
        if self.options.observe not in ("state", "keypoints"):
            raise self.options.error("observe", "state or keypoints, which show the pose")
        vector = jnp.asarray(obs)
        if self.options.observe == "state":
            return vector[:2], vector[2:]
        return vector[18:], _tee.fitted(KEYPOINTS, vector[:18].reshape(-1, 2))

    def step(self, state: State, action: Array) -> State:
        """One control step of 0.1 s towards the clipped `action` [2]."""
        data, params = state.data, state.info["params"]
        target = 0.5 * SIZE * (jnp.clip(action, -1.0, 1.0) + 1.0)
        old: physics.Body = data["body"]
        body = physics.control_step(old, target, self._dynamics(params))
        before, after = _around(old.disc, old.block), _around(body.met, old.block)
        swept = data["swept"] + jnp.arctan2(
            before[0] * after[1] - before[1] * after[0], (before * after).sum()
        )
        # y points down, so that a growing angle is clockwise in the picture.
        way = 2 * (after[0] >= 0.0).astype(jnp.int32) + (swept >= 0.0).astype(jnp.int32)
        way = jnp.where((data["way"] < 0) & body.touched, way, data["way"])
        covered = _tee.coverage(body.block, _goal(params))
        success = covered > THRESHOLD
        return state.replace(
            data={"body": body, "swept": jnp.where(way < 0, swept, data["swept"]), "way": way},
            obs=self._observe(body, params),
            reward=jnp.clip(covered / THRESHOLD, 0.0, 1.0),
            done=success.astype(jnp.float32),
            metrics={
                "success": success.astype(jnp.float32),
                "coverage": covered,
                "best_coverage": jnp.maximum(state.metrics["best_coverage"], covered),
            },
            info=state.info | {"mode": jnp.where(success, way, -1)},
        )

    def expert(self, state: State, mode: Array, key: Key) -> Array:
        """Action [2] towards the goal by way of `mode` (`_tee_pusher`); draws nothing from `key`."""
        return _expert(state, mode)

    def plotted(self, state: State) -> Array:
        """[2] the disc's position."""
        return state.data["body"].disc

    def frame(self, state: State) -> Array:
        """[96, 96, 3] uint8, the picture that `observe=image` shows."""
        return _picture(state.data["body"], state.info["params"])

    def draw(self, ax: Any) -> None:
        """The goal and the walls, y downwards as in the images, in px."""
        _draw(ax, _goal(vars(self.options)))

    def _dynamics(self, params: PyTree) -> physics.BlockDynamics | None:
        return physics.BlockDynamics(*map(params.get, FURTHER)) if self.further else None

    def _begin(self, disc: Array, velocity: Array, block: Array, params: PyTree) -> State:
        body = physics.at_rest(disc, velocity, block, self._dynamics(params))
        covered, zero = _tee.coverage(block, _goal(params)), jnp.zeros(())
        return State(
            data={"body": body, "swept": zero, "way": jnp.full((), -1, jnp.int32)},
            obs=self._observe(body, params),
            reward=zero,
            done=zero,
            metrics={"success": zero, "coverage": covered, "best_coverage": covered},
            info={"mode": jnp.full((), -1, jnp.int32), "params": params},
        )

    def _observe(self, body: physics.Body, params: PyTree) -> Obs:
        if self.options.observe == "state":
            x, y, angle = body.block
            return jnp.stack([*body.disc, x, y, angle - _TURN * jnp.floor(angle / _TURN)])
        if self.options.observe == "keypoints":
            return jnp.concatenate([_tee.placed(body.block, KEYPOINTS).ravel(), body.disc])
        image = {"image": _picture(body, params)}
        return image if self.options.observe == "image" else image | {"state": body.disc}


def _described(observe: str) -> tuple[ObsSpec, tuple[int, ...]]:
    """What is observed, and where in it the disc is."""
    if observe == "state":
        return ObsSpec.vector(5, angles=(4,)), (0, 1)
    if observe == "keypoints":
        return ObsSpec.vector(20), (18, 19)
    image = {"image": ObsEntry(_tee_image.SHAPE, "image")}
    return ObsSpec.of(image if observe == "image" else image | {"state": ObsEntry((2,))}), (0, 1)[
        : 0 if observe == "image" else 2
    ]


def _goal(params: PyTree) -> Array:
    return jnp.stack([jnp.asarray(params[name]) for name in ("goal_x", "goal_y", "goal_angle")])


def _expert(state: State, mode: Array) -> Array:
    data, params = state.data, state.info["params"]
    moment = params.get("moment", physics.MOMENT)
    target = _tee_pusher.led_to(data["body"], data["swept"], data["way"] < 0, _goal(params), mode, moment)
    return jnp.clip(2.0 * target / SIZE - 1.0, -1.0, 1.0)


def _draw(ax: Any, goal: Array) -> None:
    ax.fill(*np.asarray(_tee.placed(goal, _tee.OUTLINE)).T, color="lightgreen", zorder=0)
    low, high = physics.WALLS
    ax.plot([low, high, high, low, low], [low, low, high, high, low], color="0.8", lw=1.5, zorder=0)
    ax.set(xlim=(0, SIZE), ylim=(SIZE, 0), aspect="equal", xlabel="x [px]", ylabel="y [px]")


def _picture(body: physics.Body, params: PyTree) -> Array:
    return _tee_image.render(body.disc, physics.RADIUS, body.block, _goal(params))


def _around(disc: Array, block: Array) -> Array:
    """[2] the disc as seen from the block's centre of gravity, in the block's frame."""
    c, s = jnp.cos(block[2]), jnp.sin(block[2])
    x, y = disc - _tee.placed(block, [_tee.CENTRE])[0]
    return jnp.stack([c * x + s * y, c * y - s * x])


@register("env", PushTOptions)
def build(options: PushTOptions) -> PushT:
    """Builds the task; see the module docstring."""
    return PushT(options)
