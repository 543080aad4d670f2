r"""Reach: a Panda's hand goes to a goal behind a pillar, past it on the left or on the right.

One control step lasts 50 ms. An action in [-1, 1]^6 displaces the commanded pose of the tool centre point by up to
2 cm and 0.1 rad per axis, in the frame of the base; the command stays in a box that no way over the pillar leads
through. Servos follow its joints (`_panda.py`). The observation is, in m and rad,

  joints 7, position 3 and quaternion 4 of the tool centre point, commanded position 3, goal 3, pillar (x, y) 2.

The episode ends with success where the tool centre point comes within `REACHED` m of the goal, and as a failure where
the hand or its fingers, two capsules, touch the pillar; other links are not looked at. The label is the side of
the first position beyond the pillar, y above (left, 0) or below (right, 1) its own. Reward: `success_reward` at
success, and `progress_reward` for every metre nearer to the goal.

The paper's Reach (arXiv 2605.11387) has two ways, 100 steps and these actions; its scene is not public, this is ours.
`FURTHER` parameters are those of other dynamics (`_panda.ArmDynamics`) and of one more obstacle, a block that the
tool centre point must not come nearer than a finger's radius. They exist where an option sets one, or `perturbed()`.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from mmbc_jax.core.observations import ObsSpec
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, EnvSpec, Key, PyTree, State
from mmbc_jax.envs._block import BLOCK, check_block, draw_block, gap
from mmbc_jax.envs.mjx import _panda_table as table
from mmbc_jax.envs.mjx._panda import DOWN, ArmBody, ArmDynamics, Panda, gap_between, hand_segments, led
from mmbc_jax.envs.mjx._panda_kinematics import Pose, quaternion, tcp, turn_between
from mmbc_jax.envs.mjx._panda_mjcf import scene

TIMESTEP, SUBSTEPS = 0.01, 5
MAX_MOVE, MAX_TURN = 0.02, 0.1
START = (0.0, -0.4044, 0.0, -2.7081, 0.0, 2.3037, 0.7854)
PILLAR, PILLAR_RADIUS, PILLAR_HEIGHT = (0.56, 0.0), 0.025, 0.42
GOAL = (0.7, 0.0, 0.25)
BOX = (np.array([0.3, -0.35, 0.12]), np.array([0.8, 0.35, 0.36]))
REACHED = 0.02
# The expert: how far beside the pillar it passes, where its lanes open and close, speed and pull towards its lane.
ASIDE, OPENS, CLOSES = 0.21, (-0.15, -0.06), (0.06, 0.14)
SPEED, PULL, HOLD = 0.018, 15.0, 0.5
FURTHER = (*ArmDynamics._fields, *BLOCK)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReachOptions(Options):
    """Options of the task."""

    success_reward: float = option(1.0, "what success pays")
    progress_reward: float = option(0.0, "what a metre nearer to the goal pays")
    start_noise: float = option(
        0.02, "standard deviation of the joints at the start [rad]", low=0.0, high=0.2
    )
    goal_noise: float = option(
        0.03, "the goal is drawn so far from its middle along each axis [m]", low=0.0, high=0.08
    )
    pillar_noise: float = option(0.02, "likewise of the pillar [m]", low=0.0, high=0.05)
    mass: float = option(1.0, "of the arm's links, as a share of the model's", low=0.1, high=20.0)
    damping: float = option(0.0, "more at every joint [N m s/rad]", low=0.0)
    friction: float = option(0.0, "dry, at every joint [N m]", low=0.0)
    locked: int = option(0, "joint that is locked, from 1; 0 for none", low=0, high=7)
    block_x: float = option(0.56, "centre of one more obstacle [m]")
    block_y: float = option(0.2, "likewise; by default on the way on the left")
    block_radius: float = option(0.0, "of that obstacle [m]; 0 for none", low=0.0)

    def check(self) -> None:
        """Raises ConfigError where a block is placed that is none."""
        check_block(self, ReachOptions())


class Reach:
    """See the module docstring.

    `State.data`: body (`_panda.ArmBody`), goal [3] m, pillar [2] m, side [] int32 (-1 before the pillar).
    """

    def __init__(self, options: ReachOptions):
        self.options = options
        self.further = any(getattr(options, name) != getattr(ReachOptions(), name) for name in FURTHER)
        self.panda = Panda(scene(_world(), TIMESTEP, fingers=False, iterations=None), SUBSTEPS)
        limits = (*(MAX_MOVE,) * 3, *(MAX_TURN,) * 3)
        self.spec = EnvSpec(
            name=options.name,
            obs_dim=22,
            action_dim=6,
            episode_length=100,
            num_modes=2,
            action_low=tuple(-limit for limit in limits),
            action_high=limits,
            mode_names=("left", "right"),
            position=(7, 8),
            control_dt=self.panda.dt,
            obs=ObsSpec.vector(22, quaternions=(10,)),
            serial_chain=True,
        )

    def default_params(self) -> PyTree:
        """All []: success_reward; progress_reward [1/m]; start_noise [rad]; goal_ and pillar_noise [m]; `FURTHER`."""
        names = ("success_reward", "progress_reward", "start_noise", "goal_noise", "pillar_noise")
        return {
            name: jnp.asarray(getattr(self.options, name)) for name in (*names, *(FURTHER * self.further))
        }

    def perturbed(self) -> Reach:
        """The same task, with `FURTHER` among its parameters."""
        other = copy.copy(self)
        other.further = True
        return other

    def reset(self, key: Key, params: PyTree | None = None) -> State:
        """At rest near the start; goal and pillar are uniform in their ranges."""
        params = self.default_params() if params is None else params
        start_key, goal_key, pillar_key = jax.random.split(key, 3)
        noise = jnp.clip(jax.random.normal(start_key, (table.JOINTS,)), -3.0, 3.0)
        joints = jnp.asarray(START) + params["start_noise"] * noise
        goal = jnp.asarray(GOAL) + params["goal_noise"] * jax.random.uniform(goal_key, (3,), minval=-1.0)
        pillar = jnp.asarray(PILLAR) + params["pillar_noise"] * jax.random.uniform(
            pillar_key, (2,), minval=-1.0
        )
        body, pose = self.panda.at_rest(joints, joints), tcp(joints)
        side = jnp.full((), -1, jnp.int32)
        return State(
            data={"body": body, "goal": goal, "pillar": pillar, "side": side},
            obs=_seen(body, pose, pose[0], goal, pillar),
            reward=jnp.zeros(()),
            done=jnp.zeros(()),
            metrics={"success": jnp.zeros(()), "contact": jnp.zeros(())},
            info={"mode": side, "params": params},
        )

    def step(self, state: State, action: Array) -> State:
        """One control step of 50 ms with `action` [6], clipped to [-1, 1]."""
        data, params = state.data, state.info["params"]
        body, goal, pillar = data["body"], data["goal"], data["pillar"]
        action = jnp.clip(action, -1.0, 1.0)
        target = led(body.target, MAX_MOVE * action[:3], MAX_TURN * action[3:], BOX, self.spec.control_dt)
        if self.further:
            dynamics = ArmDynamics(*map(params.get, ArmDynamics._fields))
            body = self.panda.advance(body, target, self.panda.other(dynamics), friction=dynamics.friction)
        else:
            body = self.panda.advance(body, target)
        before, pose = self.spec.obs.flat(state.obs)[7:10], tcp(body.qpos)
        position = pose[0]
        hit = _clearance(pose, pillar) < 0.0
        if self.further:
            hit |= gap(params, before[:2], position[:2]) < table.FINGER_RADIUS
        passed = (data["side"] < 0) & (position[0] >= pillar[0])
        side = jnp.where(passed, (position[1] < pillar[1]).astype(jnp.int32), data["side"])
        success = (_distance(position, goal) < REACHED) & ~hit
        nearer = _distance(before, goal) - _distance(position, goal)
        reward = params["success_reward"] * success + params["progress_reward"] * nearer
        return state.replace(
            data={"body": body, "goal": goal, "pillar": pillar, "side": side},
            obs=_seen(body, pose, tcp(target)[0], goal, pillar),
            reward=jnp.asarray(reward, jnp.float32),
            done=(success | hit).astype(jnp.float32),
            metrics={"success": success.astype(jnp.float32), "contact": hit.astype(jnp.float32)},
            info=state.info | {"mode": jnp.where(success, side, -1)},
        )

    def expert(self, state: State, mode: Array, key: Key) -> Array:
        """Leads the command along a lane beside the pillar, the hand down; then straight to the goal.

        The lane is y(x) = w(x) (pillar +- `ASIDE`) + (1 - w(x)) g, with g the start's y before the pillar and the
        goal's behind it, and w a smoothstep up and down again; it is followed as in `avoiding`.

        Args:
          state: the current state; goal, pillar and the command are used.
          mode: [] int32, 0 left or 1 right.
          key: unused; this expert is deterministic.

        Returns:
          [6] action in [-1, 1].
        """
        del key
        goal, pillar = state.data["goal"], state.data["pillar"]
        position, rotation = tcp(state.data["body"].target)
        x = position[0] - pillar[0]
        aside = pillar[1] + jnp.where(mode == 0, ASIDE, -ASIDE)
        up, rising = _smooth(x, *OPENS)
        down, falling = _smooth(x, *CLOSES)
        lane = up * aside + (goal[1] - aside) * down
        slope = rising * aside + (goal[1] - aside) * falling
        height = HOLD * (goal[2] - position[2])
        along = jnp.stack([jnp.ones(()), slope + PULL * (lane - position[1]), jnp.zeros(())])
        along = SPEED * along / jnp.abs(along).max()
        left = goal - position
        near = (left[0] < CLOSES[1] * 0.1) | (jnp.sqrt((left * left).sum()) < 2 * REACHED)
        straight = left * jnp.minimum(SPEED / jnp.maximum(jnp.abs(left).max(), 1e-6), HOLD)
        move = jnp.where(near, straight, along.at[2].set(height)) / MAX_MOVE
        turned = HOLD * turn_between(rotation, jnp.asarray(DOWN, jnp.float32)) / MAX_TURN
        return jnp.clip(jnp.concatenate([move, turned]), -1.0, 1.0)

    @property
    def scene(self) -> mujoco.MjModel:
        """What is to be filmed."""
        return self.panda.model

    def posed(self, state: State) -> tuple[Array, Array]:
        """(positions [nq], places of pillar and goal [2, 3] m) of one state of the scene."""
        foot = jnp.concatenate([state.data["pillar"], jnp.zeros(1)])
        return state.data["body"].qpos, jnp.stack([foot, state.data["goal"]])

    def draw(self, ax: Any) -> None:
        """The pillar, the range of goals and the start from above, in m."""
        from matplotlib.patches import Circle, Rectangle

        noise = self.options.goal_noise
        ax.add_patch(Circle(PILLAR, PILLAR_RADIUS, color="0.35", zorder=1))
        corner, size = (GOAL[0] - noise - REACHED, GOAL[1] - noise - REACHED), 2 * (noise + REACHED)
        ax.add_patch(Rectangle(corner, size, size, color="tab:green", alpha=0.3, zorder=0))
        draw_block(ax, self.options)
        ax.set(xlim=(0.28, 0.82), ylim=(-0.37, 0.37), aspect="equal", xlabel="x [m]", ylabel="y [m]")


def _seen(body: ArmBody, pose: Pose, command: Array, goal: Array, pillar: Array) -> Array:
    """[22] the observation."""
    return jnp.concatenate([body.qpos, pose[0], quaternion(pose[1]), command, goal, pillar])


def _clearance(pose: Pose, pillar: Array) -> Array:
    """[] m between the hand and the pillar, negative where they overlap."""
    foot = jnp.concatenate([pillar, jnp.zeros(1)])
    axis = foot, foot.at[2].set(PILLAR_HEIGHT)
    gaps = [gap_between((a, b), axis) - radius for a, b, radius in hand_segments(pose)]
    return jnp.minimum(*gaps) - PILLAR_RADIUS


def _distance(a: Array, b: Array) -> Array:
    return jnp.sqrt(((a - b) ** 2).sum())


def _smooth(x: Array, low: float, high: float) -> tuple[Array, Array]:
    """A smoothstep from 0 at `low` to 1 at `high`, and its slope."""
    u = jnp.clip((x - low) / (high - low), 0.0, 1.0)
    return u * u * (3.0 - 2.0 * u), 6.0 * u * (1.0 - u) / (high - low)


def _world() -> str:
    """The pillar and the goal, which are moved where a state is drawn."""
    return (
        f'<body name="pillar" mocap="true" pos="{PILLAR[0]} {PILLAR[1]} 0"><geom class="look" type="capsule" '
        f'size="{PILLAR_RADIUS}" fromto="0 0 0 0 0 {PILLAR_HEIGHT}" rgba=".8 .25 .2 1"/></body>'
        f'<body name="goal" mocap="true" pos="{GOAL[0]} {GOAL[1]} {GOAL[2]}"><geom class="look" type="sphere" '
        f'size="{REACHED}" rgba=".2 .7 .3 .6"/></body>'
    )


@register("env", ReachOptions)
def build(options: ReachOptions) -> Reach:
    """Builds the task; see the module docstring."""
    return Reach(options)
