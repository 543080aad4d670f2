r"""Block push: a disc pushes two cubes into two targets, either first, either into either (Shafiullah et al. 2022).

Scene, starts, reward and end are those of the multimodal block push of Behavior Transformers: cubes of side .04 m, a
cylindrical effector from (.3, -.4) m whose target stays in [.15, .7] x [-.5, .5]; 10 Hz. An action in [-1, 1] moves
the effector's target by up to .1 m per axis. Observed are x, y, angle of both cubes, x, y of the effector and of
its target, x, y, angle of both targets, in m and in radians modulo 2 pi: 16 numbers.

observe  "state": these; "relative", 20: cubes and the effector's target as seen from the effector, and for the places
  of the targets the ways of cube 1 to A and to B, and of cube 2. Pushing turns on millimetres between disc and cube,
  which a network learns from these and hardly from positions in the world.

A cube that comes within .05 m of a target for the first time is paid .49, by cube and target; a step after which both
are in different targets is paid .51 in place of that, and ends the episode in success; else it ends after 350 steps.

Reset: cubes in [.3, .5] x [-.35, -.05], the second drawn again until its x is more than .1 m from the first's; angles
in [1, pi], which is what the original's call draws; targets at x = .4 -+ .12 m, which of them left being drawn, and
y = .2, moved by up to .005 and .0075 m and turned by up to 6 degrees from pi.

Mode of a success: which cube lies in which target and which came first (`_two_blocks`): "1A-2B" is cube 1 into target
A, then cube 2 into B.

What differs from the original: the motion is in the plane and without inertia (`_sliders`), friction is .25 at every
contact (.5 times .5, the engine's default), and the disc's radius .0125 m. The arm is replaced by an effector that
covers `FOLLOW` of what is left to its target in every step, at constant speed: that share is chosen, not measured.

In pictures cube 1 is red, 2 blue, target A green and B grey.

Parameters: bounds of the start and, perturbed, `FURTHER`: the surfaces. Source: notmahi/bet, `envs/block_pushing`.
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
from mmbc_jax.envs._further import Further, differs, parameters
from mmbc_jax.envs.planar import _table_image, _two_blocks
from mmbc_jax.envs.planar._angles import within_turn
from mmbc_jax.envs.planar._drawing import outlined
from mmbc_jax.envs.planar._sliders import Surfaces, pushed, surfaces_of

MAX_STEP = 0.1
WORKSPACE = ((0.15, -0.5), (0.7, 0.5))
START = (0.3, -0.4)
TOLERANCE = 0.05
HALF, DISC = 0.02, 0.0125
FOLLOW = 0.9
LENGTH, SUBSTEPS = 350, 16
ENTRY, BOTH = 0.49, 0.51
CENTRE_X, BLOCK_Y, TARGET_Y = 0.4, -0.2, 0.2
MODES = ("1A-2B", "2B-1A", "1B-2A", "2A-1B")
SHAPES = ((((0.0, 0.0), (HALF, HALF)),),) * 2
FURTHER = Surfaces._fields
LOW, HIGH = (0.13, -0.52), (0.72, 0.52)  # what is shown
SIDES = (
    _table_image.Side(_table_image.RED, _table_image.LIGHT_GREEN),
    _table_image.Side(_table_image.BLUE, _table_image.GREY),
)
MANNER = _two_blocks.Manner(clear=0.052, apart=0.08, width=0.01, near=0.03, fast=0.02, slow=0.01)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockPushOptions(Options):
    """Options of the task."""

    observe: str = option(
        "state",
        "positions in the world, or from the disc and from cube to target",
        choices=("state", "relative"),
    )
    block_x: float = option(0.1, "largest shift of a cube along x at the start [m]", low=0.0)
    block_y: float = option(0.15, "likewise along y", low=0.0)
    block_gap: float = option(0.1, "least difference of the cubes' x at the start [m]", low=0.0)
    target_apart: float = option(0.12, "distance along x of a target from the middle [m]", low=0.0)
    target_x: float = option(0.005, "largest shift of a target along x [m]", low=0.0)
    target_y: float = option(0.0075, "likewise along y", low=0.0)
    target_turn: float = option(float(np.pi / 30), "largest turn of a target from pi [rad]", low=0.0)
    friction: float = option(0.25, "between disc and cube", low=0.0)
    rubbing: float = option(0.25, "between the cubes", low=0.0)
    radius: float = option(float(np.sqrt(2.0) * HALF), "R of the table's hold [m]", low=0.0, open_low=True)

    def check(self) -> None:
        """Raises ConfigError where two cubes have no room."""
        if self.block_gap > self.block_x:
            raise self.error("block_gap", f"at most block_x = {self.block_x}, or a cube could have no room")


class BlockPush(Further):
    """See the module docstring.

    `State.data`: disc, goal [2] m (the effector and where it is led), blocks, targets [2, 3] m and rad, entered [4]
    int32 (step of the first entry by pair, `_two_blocks.NEVER` before), step [] int32.
    """

    def __init__(self, options: BlockPushOptions):
        self.options, self.further = options, differs(options, FURTHER)
        self.relative = options.observe == "relative"
        size, angles = (20, (2, 5, 18, 19)) if self.relative else (16, (2, 5, 12, 15))
        self.spec = EnvSpec(
            name=options.name,
            obs_dim=size,
            action_dim=2,
            episode_length=LENGTH,
            num_modes=len(MODES),
            action_low=(-MAX_STEP, -MAX_STEP),
            action_high=(MAX_STEP, MAX_STEP),
            mode_names=MODES,
            position=(6, 7),
            displaced=() if self.relative else ((6, 8), (7, 9)),
            control_dt=0.1,
            obs=ObsSpec.vector(size, angles=angles),
        )

    def default_params(self) -> PyTree:
        """All [] float, in the units of the options: the bounds of the start, `FURTHER`."""
        names = [
            field.name
            for field, _ in self.options.stated()
            if field.name != "observe" and (self.further or field.name not in FURTHER)
        ]
        return parameters(self.options, names)

    def reset(self, key: Key, params: PyTree | None = None) -> State:
        """Everything at rest; see the module docstring."""
        params = self.default_params() if params is None else params
        cube_key, target_key = jax.random.split(key)
        u = jax.random.uniform(cube_key, (7,))
        wide, gap = params["block_x"], params["block_gap"]
        first = wide * (2.0 * u[0] - 1.0)
        # What is left of [-wide, wide] on both sides of the first cube, from which the second is drawn.
        left, right = (jnp.maximum(wide - gap + sign * first, 0.0) for sign in (1.0, -1.0))
        place = u[1] * (left + right)
        second = jnp.where(place < left, place - wide, place - left + first + gap)
        xs = CENTRE_X + jnp.stack([first, second])
        ys = BLOCK_Y + params["block_y"] * (2.0 * u[2:4] - 1.0)
        blocks = jnp.stack([xs, ys, 1.0 + (np.pi - 1.0) * u[4:6]], -1)
        side = jnp.where(u[6] < 0.5, 1.0, -1.0) * jnp.asarray([1.0, -1.0])
        shift = jax.random.uniform(target_key, (2, 3), minval=-1.0, maxval=1.0)
        targets = jnp.stack(
            [
                CENTRE_X + side * params["target_apart"] + params["target_x"] * shift[:, 0],
                TARGET_Y + params["target_y"] * shift[:, 1],
                np.pi + params["target_turn"] * shift[:, 2],
            ],
            -1,
        )
        return self._begin(jnp.asarray(START), jnp.asarray(START), blocks, targets, params)

    def reset_to(self, obs: Array, key: Key, params: PyTree | None = None) -> State:
        """At rest in the state that `obs` [16] or [20] shows; nothing is drawn from `key`."""
        del key
        params = self.default_params() if params is None else params
        blocks, disc, goal = obs[:6].reshape(2, 3), obs[6:8], obs[8:10]
        if not self.relative:
            return self._begin(disc, goal, blocks, obs[10:].reshape(2, 3), params)
        blocks = blocks.at[:, :2].add(disc)
        places = blocks[0, :2] + obs[10:14].reshape(2, 2)
        targets = jnp.concatenate([places, obs[18:, None]], -1)
        return self._begin(disc, disc + goal, blocks, targets, params)

    def _begin(self, disc: Array, goal: Array, blocks: Array, targets: Array, params: PyTree) -> State:
        data = {
            "disc": disc,
            "goal": goal,
            "blocks": blocks,
            "targets": targets,
            "entered": jnp.full((4,), _two_blocks.NEVER, jnp.int32),
            "step": jnp.zeros((), jnp.int32),
        }
        return _two_blocks.first_state(data, self._observe(data), params)

    def step(self, state: State, action: Array) -> State:
        """One control step of .1 s with `action` [2], clipped to [-1, 1]."""
        data, params = state.data, state.info["params"]
        low, high = (jnp.asarray(bound) for bound in WORKSPACE)
        goal = jnp.clip(data["goal"] + MAX_STEP * jnp.clip(action, -1.0, 1.0), low, high)
        disc = data["disc"] + FOLLOW * (goal - data["disc"])
        blocks, _ = pushed(
            SHAPES,
            data["blocks"],
            data["disc"],
            disc,
            DISC,
            surfaces_of(self.options, params),
            substeps=SUBSTEPS,
        )
        inside, step = _two_blocks.distances(blocks, data["targets"]) <= TOLERANCE, data["step"] + 1
        new = inside & (data["entered"] == _two_blocks.NEVER)
        entered = jnp.where(new, step, data["entered"])
        success, mode = _two_blocks.outcome(entered, inside)
        moved = {"disc": disc, "goal": goal, "blocks": blocks, "entered": entered, "step": step}
        data = data | moved
        count = inside.reshape(2, 2).any(1).sum()
        return state.replace(
            data=data,
            obs=self._observe(data),
            reward=jnp.where(success, BOTH, ENTRY * new.sum()),
            done=success.astype(jnp.float32),
            metrics={"success": success.astype(jnp.float32), "inside": count.astype(jnp.float32)},
            info=state.info | {"mode": mode},
        )

    def expert(self, state: State, mode: Array, key: Key) -> Array:
        """[2] action in [-1, 1] that pursues `mode` (`_two_blocks.direction`); `key` is unused."""
        del key
        data = state.data
        wanted = _two_blocks.direction(data["disc"], data["blocks"], data["targets"], mode, MANNER)
        return jnp.clip((data["disc"] + wanted / FOLLOW - data["goal"]) / MAX_STEP, -1.0, 1.0)

    def _observe(self, data: PyTree) -> Array:
        disc, goal = data["disc"], data["goal"]
        blocks, targets = (
            jnp.concatenate([x[:, :2], within_turn(x[:, 2:])], -1) for x in (data["blocks"], data["targets"])
        )
        if not self.relative:
            return jnp.concatenate([blocks.ravel(), disc, goal, targets.ravel()])
        seen, ways = blocks.at[:, :2].add(-disc), _two_blocks.ways(blocks, targets)
        return jnp.concatenate([seen.ravel(), disc, goal - disc, ways.ravel(), targets[:, 2]])

    def plotted(self, state: State) -> Array:
        """[2] the effector's position."""
        return state.data["disc"]

    def frame(self, state: State) -> Array:
        """[240, 136, 3] uint8: cube 1 red, 2 blue, target A green, B grey, the effector dark."""
        view, data = _table_image.View(LOW, HIGH), state.data
        _table_image.two_blocks(view, SIDES, HALF, data["blocks"], data["targets"], TOLERANCE)
        view.disc(data["disc"], DISC, _table_image.DARK)
        return view.bytes()

    def draw(self, ax: Any) -> None:
        """Where the targets and the cubes begin, the effector's start and its bounds, in m."""
        _draw(ax, self.options)


def _draw(ax: Any, o: BlockPushOptions) -> None:
    low, high = WORKSPACE
    for side in (-1.0, 1.0):
        outlined(ax, (CENTRE_X + side * o.target_apart, TARGET_Y), (TOLERANCE, TOLERANCE), "tab:green")
    outlined(ax, (CENTRE_X, BLOCK_Y), (o.block_x, o.block_y), "0.6", "--")
    middle, half = np.add(low, high) / 2, np.subtract(high, low) / 2
    outlined(ax, (middle[0], middle[1]), (half[0], half[1]), "0.8")
    ax.plot(*START, marker="s", ms=5, color="k", zorder=1)
    ax.set(xlim=(LOW[0], HIGH[0]), ylim=(LOW[1], HIGH[1]), aspect="equal", xlabel="x [m]", ylabel="y [m]")


@register("env", BlockPushOptions)
def build(options: BlockPushOptions) -> BlockPush:
    """Builds the task; see the module docstring."""
    return BlockPush(options)
