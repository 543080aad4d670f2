r"""Lift: a Panda's gripper takes a cuboid by one of its two pairs of faces and lifts it.

One control step lasts 50 ms. The first six entries of an action in [-1, 1]^7 displace the commanded pose as in
`reach`; the seventh says how far each finger opens, from 0 to 4 cm, by 1 cm a step at most. The observation is, in m
and rad,

  joints 7, fingers 2, position 3 and quaternion 4 of the tool centre point, commanded position 3, cuboid's position 3
  and quaternion 4.

The episode ends with success where the cuboid is `LIFTED` m above its place on the floor and within `HELD` m of the
tool centre point, so success at the end and success at any time are one. The label is the pair of faces that the
fingers close on, whose normal is the nearer to them: the cuboid's x (0) or y (1). At the start the fingers are half
way between both. Reward: `success_reward` at success, and `progress_reward` for every metre that the hand comes
nearer to the cuboid or the cuboid goes up.

The paper's Lift (arXiv 2605.11387) has two ways and 200 steps; its scene is not public, this is ours.
`FURTHER` parameters are those of other dynamics: the cuboid's mass and friction, the arm's damping, a locked joint.
They exist where an option sets one of them, or of `perturbed()`.
"""

from __future__ import annotations

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
from mmbc_jax.envs._further import Further, differs, parameters
from mmbc_jax.envs.mjx import _cube_scene as cube
from mmbc_jax.envs.mjx import _panda_table as table
from mmbc_jax.envs.mjx._mjx import mjx
from mmbc_jax.envs.mjx._panda import REST, ArmBody, ArmDynamics, Panda, led
from mmbc_jax.envs.mjx._panda_kinematics import matrix, quaternion, tcp, turn_between

MAX_MOVE, MAX_TURN, MAX_GRIP = 0.02, 0.1, 0.01
PLACE = (0.5, 0.0)
START = (*REST[:-1], 0.0)
BOX = (np.array([0.3, -0.25, 0.015]), np.array([0.7, 0.25, 0.4]))
LIFTED, HELD = 0.1, 0.03
ARM, FINGERS, PLACED, TURNED = slice(0, 7), slice(7, 9), slice(9, 12), slice(12, 16)  # of positions
WEIGHT = 11  # the vertical degree of freedom of the cuboid
# The expert: speeds, gain towards the grasp, height to wait at, and when it counts as aligned, low and gripped.
SPEED, GAIN, ABOVE, OVER, BESIDE, TWIST, LOW, GRIPPED = 0.016, 0.5, 0.11, 0.006, 0.012, 0.1, 0.006, 0.0215
FURTHER = ArmDynamics._fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class LiftOptions(Options):
    """Options of the task."""

    success_reward: float = option(1.0, "what success pays")
    progress_reward: float = option(0.0, "what a metre of the hand to the cuboid, or of that upwards, pays")
    start_noise: float = option(
        0.02, "standard deviation of the joints at the start [rad]", low=0.0, high=0.2
    )
    place_noise: float = option(
        0.03, "the cuboid is put so far from its place along both axes [m]", low=0.0, high=0.1
    )
    turn_noise: float = option(0.2, "likewise turned [rad]", low=0.0, high=0.7)
    mass: float = option(1.0, "of the cuboid, as a share of 100 g", low=0.1, high=20.0)
    damping: float = option(0.0, "more at every joint of the arm [N m s/rad]", low=0.0)
    friction: float = option(1.0, "of the cuboid, as a share of the scene's", low=0.0, high=10.0)
    locked: int = option(0, "joint that is locked, from 1; 0 for none", low=0, high=7)


class Lift(Further):
    """See the module docstring.

    `State.data`: body (`_panda.ArmBody`), whose positions are joints 7, fingers 2, the cuboid's position 3 and
    quaternion 4.
    """

    def __init__(self, options: LiftOptions):
        self.options = options
        self.further = differs(options, FURTHER)
        self.panda = Panda(cube.text(), cube.SUBSTEPS)
        moves = (*(MAX_MOVE,) * 3, *(MAX_TURN,) * 3)
        self.spec = EnvSpec(
            name=options.name,
            obs_dim=26,
            action_dim=7,
            episode_length=200,
            num_modes=2,
            action_low=(*(-move for move in moves), 0.0),
            action_high=(*moves, table.FINGER_TRAVEL),
            mode_names=("x faces", "y faces"),
            control_dt=self.panda.dt,
            obs=ObsSpec.vector(26, quaternions=(12, 22)),
            serial_chain=True,
        )

    def default_params(self) -> PyTree:
        """All []: success_reward; progress_reward [1/m]; start_, turn_noise [rad]; place_noise [m]; `FURTHER`."""
        names = ("success_reward", "progress_reward", "start_noise", "place_noise", "turn_noise")
        return parameters(self.options, (*names, *(FURTHER * self.further)))

    def reset(self, key: Key, params: PyTree | None = None) -> State:
        """At rest near the start, the gripper open; place and turn of the cuboid are uniform in their ranges."""
        params = self.default_params() if params is None else params
        start_key, place_key, turn_key = jax.random.split(key, 3)
        noise = jnp.clip(jax.random.normal(start_key, (table.JOINTS,)), -3.0, 3.0)
        joints = jnp.asarray(START) + params["start_noise"] * noise
        place = jnp.asarray(PLACE) + params["place_noise"] * jax.random.uniform(place_key, (2,), minval=-1.0)
        half = 0.5 * params["turn_noise"] * jax.random.uniform(turn_key, (), minval=-1.0)
        still = jnp.zeros(())
        turned = jnp.stack([jnp.cos(half), still, still, jnp.sin(half)])
        target = jnp.concatenate([joints, jnp.full((2,), table.FINGER_TRAVEL)])
        body = self.panda.at_rest(
            jnp.concatenate([target, place, jnp.full((1,), cube.HALF[2]), turned]), target
        )
        return State(
            data={"body": body},
            obs=_seen(body),
            reward=still,
            done=still,
            metrics={"success": still},
            info={"mode": jnp.full((), -1, jnp.int32), "params": params},
        )

    def step(self, state: State, action: Array) -> State:
        """One control step of 50 ms with `action` [7], clipped to [-1, 1]."""
        body, params = state.data["body"], state.info["params"]
        action = jnp.clip(action, -1.0, 1.0)
        joints = led(
            body.target[ARM], MAX_MOVE * action[:3], MAX_TURN * action[3:6], BOX, self.spec.control_dt, START
        )
        change = 0.5 * (action[6] + 1.0) * table.FINGER_TRAVEL - body.target[FINGERS]
        fingers = body.target[FINGERS] + jnp.clip(change, -MAX_GRIP, MAX_GRIP)
        share = params["mass"] if self.further else 1.0
        weight = jnp.zeros(self.panda.model.nv).at[WEIGHT].set(-share * cube.MASS * cube.GRAVITY)
        model = self._other(params) if self.further else None
        body = self.panda.advance(body, jnp.concatenate([joints, fingers]), model, weight)
        obs, before = _seen(body), self.spec.obs.flat(state.obs)
        up, away = body.qpos[PLACED][2], _away(obs)
        success = (up > cube.HALF[2] + LIFTED) & (away < HELD)
        closing = matrix(body.qpos[TURNED]).T @ tcp(body.qpos[ARM])[1][:, 1]
        label = (jnp.abs(closing[0]) < jnp.abs(closing[1])).astype(jnp.int32)
        progress = _away(before) - away + up - before[21]
        reward = params["success_reward"] * success + params["progress_reward"] * progress
        return state.replace(
            data={"body": body},
            obs=obs,
            reward=jnp.asarray(reward, jnp.float32),
            done=success.astype(jnp.float32),
            metrics={"success": success.astype(jnp.float32)},
            info=state.info | {"mode": jnp.where(success, label, -1)},
        )

    def _other(self, params: PyTree) -> mjx.Model:
        """The model under other dynamics."""
        own = self.panda.mx
        arm = ArmDynamics(jnp.ones(()), params["damping"], jnp.zeros(()), params["locked"])
        share = jnp.where(np.arange(own.nbody) == self.panda.model.body("cube").id, params["mass"], 1.0)
        return self.panda.other(arm).replace(
            body_mass=own.body_mass * share,
            body_inertia=own.body_inertia * share[:, None],
            pair_friction=own.pair_friction * params["friction"],
        )

    def expert(self, state: State, mode: Array, key: Key) -> Array:
        """Turns the fingers to the faces of `mode`, goes down over the cuboid, closes and lifts.

        What it does next follows from where hand and cuboid are, so it starts again where a grasp has failed.

        Args:
          state: the current state.
          mode: [] int32, 0 for the faces along the cuboid's x, 1 for those along its y.
          key: unused; this expert is deterministic.

        Returns:
          [7] action in [-1, 1].
        """
        del key
        body = state.data["body"]
        return _grasp(body, _seen(body), mode)

    def plotted(self, state: State) -> Array:
        """[2] m where the left finger is, from above: to see which faces it goes to."""
        body = state.data["body"]
        position, rotation = tcp(body.qpos[ARM])
        return (position + body.qpos[FINGERS][0] * rotation[:, 1])[:2]

    @property
    def scene(self) -> mujoco.MjModel:
        """What is to be filmed."""
        return self.panda.model

    def posed(self, state: State) -> tuple[Array, Array]:
        """(positions [nq], no mocap bodies [0, 3]) of one state of the scene."""
        return state.data["body"].qpos, jnp.zeros((0, 3))

    def draw(self, ax: Any) -> None:
        """The cuboid in its place from above, in m."""
        from matplotlib.patches import Rectangle

        corner = PLACE[0] - cube.HALF[0], PLACE[1] - cube.HALF[1]
        ax.add_patch(Rectangle(corner, 2 * cube.HALF[0], 2 * cube.HALF[1], color="0.35", zorder=0))
        ax.set(xlim=(0.38, 0.62), ylim=(-0.12, 0.12), aspect="equal", xlabel="x [m]", ylabel="y [m]")


def _grasp(body: ArmBody, obs: Array, mode: Array) -> Array:
    """[7] what the expert does; see there."""
    place, (position, rotation) = body.qpos[PLACED], tcp(body.target[ARM])
    faces = matrix(body.qpos[TURNED])
    closing = jnp.where(mode == 0, faces[:, 0], faces[:, 1]).at[2].set(0.0)
    closing = closing / jnp.sqrt((closing * closing).sum() + 1e-6)
    closing = jnp.where((closing * rotation[:, 1]).sum() < 0.0, -closing, closing)
    down = jnp.array([0.0, 0.0, -1.0])
    turned = turn_between(rotation, jnp.stack([jnp.cross(closing, down), closing, down], -1))
    off, height = place - position, obs[11] - place[2]
    beside = jnp.sqrt((off[:2] ** 2).sum())
    twist = jnp.sqrt((turned * turned).sum())
    gripped = (body.qpos[FINGERS].mean() < GRIPPED) & (_away(obs) < BESIDE)
    descending = height < ABOVE - 0.03
    aligned = (beside < jnp.where(descending, BESIDE, OVER)) & (twist < jnp.where(descending, 2, 1) * TWIST)
    low = aligned & (height < LOW)
    vertical = jnp.where(aligned, GAIN * off[2], GAIN * (off[2] + ABOVE))
    vertical = jnp.where(gripped, SPEED, jnp.clip(vertical, -SPEED, SPEED))
    sideways = GAIN * off[:2] * jnp.where(gripped, 0.0, 1.0)
    sideways = sideways * jnp.minimum(SPEED / jnp.maximum(jnp.abs(sideways).max(), 1e-6), 1.0)
    move = jnp.concatenate([sideways, vertical[None]]) / MAX_MOVE
    grip = jnp.where(gripped | low, -1.0, 1.0)
    return jnp.clip(jnp.concatenate([move, GAIN * turned / MAX_TURN, grip[None]]), -1.0, 1.0)


def _seen(body: ArmBody) -> Array:
    """[26] the observation."""
    position, rotation = tcp(body.qpos[ARM])
    command = tcp(body.target[ARM])[0]
    parts = (position, quaternion(rotation), command, body.qpos[PLACED], body.qpos[TURNED])
    return jnp.concatenate([body.qpos[ARM], body.qpos[FINGERS], *parts])


def _away(obs: Array) -> Array:
    """[] m from the tool centre point to the cuboid."""
    return jnp.sqrt(((obs[9:12] - obs[19:22]) ** 2).sum())


@register("env", LiftOptions)
def build(options: LiftOptions) -> Lift:
    """Builds the task; see the module docstring."""
    return Lift(options)
