r"""A Panda on MJX: servos that follow joint targets, other dynamics, and what its hand touches; for one instance.

Targets come from displacements of the tool centre point: with (p, R) the pose at the joint targets q*, an action's
displacement d [m] and rotation vector w [rad], both in the frame of the base, lead to the joints of

  p' = clip(p + d, low, high),    R' = turn(w) R

by `IK_STEPS` of damped least squares from q* (`_panda_kinematics`), no faster than the joints can turn. So a command
is where its joints are: it cannot wind up beyond what the arm reaches. Within a control step targets move linearly.
Without constraints a joint that reaches the end of its range stops there.

Other dynamics (`ArmDynamics`) are links of other mass and inertia, more damping, which is implicit, and dry
friction of F N m at every joint, also implicit: v' = sign(w) max(|w| - dt F / (M_jj + dt D_jj), 0) for the velocity
w without it and the mass matrix M. A locked joint has a brake of `BRAKE` N m s/rad.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from mmbc_jax.core.noise import without_warp
from mmbc_jax.core.types import Array
from mmbc_jax.envs.mjx import _panda_table as table
from mmbc_jax.envs.mjx._panda_kinematics import Pose, solved, tcp, turn

with without_warp():
    from mujoco import mjx

IK_STEPS = 2
BRAKE = 1e5
REST = (0.0, 0.0463, 0.0, -2.3757, 0.0, 2.422, 0.7854)
"""Joint angles [rad] with the tool centre point at (0.5, 0, 0.2) m, the hand down and its fingers along y."""
DOWN = np.diag([1.0, -1.0, -1.0])
"""Rotation of a hand that points down with its fingers along y."""


@flax.struct.dataclass
class ArmBody:
    """What is carried of the physics: far less than an `mjx.Data`.

    Attributes:
      qpos: [nq] m and rad, the seven joints first.
      qvel: [nv] m/s and rad/s.
      warm: [nv] acceleration that the solver starts from where there are constraints, else [0].
      target: [nu] positions that the servos go to.
    """

    qpos: Array
    qvel: Array
    warm: Array
    target: Array


class ArmDynamics(NamedTuple):
    """Other dynamics than those of the model; see the module docstring.

    Attributes:
      mass: [] of the arm's links, as a share of the model's.
      damping: [] more at every joint [N m s/rad].
      friction: [] dry, at every joint [N m].
      locked: [] int32 the joint, 1 to 7, that is locked; 0 for none.
    """

    mass: Array
    damping: Array
    friction: Array
    locked: Array


class Panda:
    """A model with a Panda, whose joints are the first of its positions and whose servos are its only actuators.

    Args:
      text: MJCF, as from `_panda_mjcf.scene`.
      substeps: steps of the physics in a control step.
    """

    def __init__(self, text: str, substeps: int):
        self.text, self.substeps = text, substeps
        self.model = mujoco.MjModel.from_xml_string(text)
        self.timestep = float(self.model.opt.timestep)
        self.dt = self.timestep * substeps
        self.mx = mjx.put_model(self.model)
        self._constrained = not self.model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
        reference = mujoco.MjData(self.model)
        reference.qpos[: table.JOINTS] = REST
        mujoco.mj_forward(self.model, reference)
        self._template = mjx.put_data(self.model, reference)
        self.arm_bodies = _below(self.model, "link1")

    def at_rest(self, qpos: Array, target: Array) -> ArmBody:
        """Standing still at positions [nq] with servo targets [nu]."""
        warm = jnp.zeros(self.model.nv * self._constrained)
        return ArmBody(qpos=qpos, qvel=jnp.zeros(self.model.nv), warm=warm, target=target)

    def advance(
        self,
        body: ArmBody,
        target: Array,
        model: mjx.Model | None = None,
        force: Array | None = None,
        friction: Array | None = None,
    ) -> ArmBody:
        """One control step, in which the servos' targets move to `target` [nu].

        Args:
          body: where it starts.
          target: of the servos at the end.
          model: with other dynamics, as from `other`; None for the scene's own.
          force: [nv] applied, as an object's weight [N]; None for none.
          friction: [] dry friction of the seven joints [N m]; None for none.
        """
        model = self.mx if model is None else model
        way = (target - body.target) / self.substeps

        def substep(body: ArmBody, number: Array) -> tuple[ArmBody, None]:
            now = target - way * (self.substeps - 1 - number)
            return self._substep(body, now, model, force, friction), None

        return jax.lax.scan(substep, body, jnp.arange(self.substeps))[0]

    def _substep(
        self, body: ArmBody, target: Array, model: mjx.Model, force: Array | None, friction: Array | None
    ) -> ArmBody:
        data = self._template.replace(qpos=body.qpos, qvel=body.qvel, ctrl=target)
        if force is not None:
            data = data.replace(qfrc_applied=force)
        if self._constrained:
            data = data.replace(qacc_warmstart=body.warm)
        data = mjx.forward(model, data)
        mass = data._impl.M
        data = mjx.euler(model, data)
        qpos, qvel = data.qpos, data.qvel
        if friction is not None:
            effective = jnp.diagonal(mass) + self.timestep * model.dof_damping
            loss = self.timestep * friction / effective * (np.arange(self.model.nv) < table.JOINTS)
            slowed = jnp.sign(qvel) * jnp.maximum(jnp.abs(qvel) - loss, 0.0)
            qpos = qpos.at[: table.JOINTS].add(self.timestep * (slowed - qvel)[: table.JOINTS])
            qvel = slowed
        if not self._constrained:
            low, high = (jnp.asarray(self.model.jnt_range[:, i]) for i in (0, 1))
            out = (qpos < low) & (qvel < 0.0) | (qpos > high) & (qvel > 0.0)
            qpos, qvel = jnp.clip(qpos, low, high), jnp.where(out, 0.0, qvel)
        warm = data.qacc if self._constrained else body.warm
        return ArmBody(qpos=qpos, qvel=qvel, warm=warm, target=target)

    def other(self, dynamics: ArmDynamics) -> mjx.Model:
        """The model under other dynamics; its dry friction is given to `advance`."""
        share = jnp.where(np.isin(np.arange(self.model.nbody), self.arm_bodies), dynamics.mass, 1.0)
        joint = np.arange(self.model.nv) + 1
        of_arm = joint <= table.JOINTS
        more = of_arm * dynamics.damping + BRAKE * (of_arm & (joint == dynamics.locked))
        return self.mx.replace(
            body_mass=self.mx.body_mass * share,
            body_inertia=self.mx.body_inertia * share[:, None],
            body_subtreemass=self.mx.body_subtreemass * share,
            dof_damping=self.mx.dof_damping + more,
        )


def led(
    joints: Array,
    move: Array,
    rotation: Array,
    box: tuple[np.ndarray, np.ndarray],
    period: float,
    rest: tuple[float, ...] = REST,
) -> Array:
    """[7] joint targets after those of `joints` [7] for an action; see the module docstring.

    Args:
      joints: of the last command [rad].
      move: [3] displacement [m].
      rotation: [3] rotation vector [rad].
      box: least and largest position of the command [m], [3] each.
      period: of control [s], in which no joint's target moves further than its velocity allows.
      rest: posture that is preferred where the pose leaves a choice [rad].
    """
    position, attitude = tcp(joints)
    wanted = jnp.clip(position + move, box[0], box[1]), turn(rotation) @ attitude
    found = solved(joints, wanted, jnp.asarray(rest), IK_STEPS)
    most = jnp.asarray(period * table.VELOCITY)
    return joints + jnp.clip(found - joints, -most, most)


def gap_between(a: tuple[Array, Array], b: tuple[Array, Array]) -> Array:
    """[] m the least distance between two segments, each given by its ends [3] (Ericson 2005, 5.1.9)."""
    u, v, w = a[1] - a[0], b[1] - b[0], a[0] - b[0]
    uu, vv, uv, uw, vw = (x.sum() for x in (u * u, v * v, u * v, u * w, v * w))
    tiny = 1e-9
    s = jnp.clip((uv * vw - uw * vv) / jnp.maximum(uu * vv - uv * uv, tiny), 0.0, 1.0)
    t = jnp.clip((uv * s + vw) / jnp.maximum(vv, tiny), 0.0, 1.0)
    s = jnp.clip((uv * t - uw) / jnp.maximum(uu, tiny), 0.0, 1.0)
    between = w + s * u - t * v
    return jnp.sqrt((between * between).sum())


def hand_segments(pose: Pose) -> list[tuple[Array, Array, float]]:
    """(end, end, radius) of the two capsules that the hand is to queries: its body, and both closed fingers."""
    position, rotation = pose
    side, along = rotation[:, 1], rotation[:, 2]
    middle = position - along * (table.TCP - 0.03)
    palm = middle - table.HAND_HALF * side, middle + table.HAND_HALF * side
    return [
        (*palm, table.HAND_RADIUS),
        (position - along * table.FINGER_RADIUS, position - along * table.TCP, table.FINGER_RADIUS),
    ]


def _below(model: mujoco.MjModel, name: str) -> np.ndarray:
    """Ids of a body and of those that hang on it."""
    first = model.body(name).id
    found = [first]
    for i in range(first + 1, model.nbody):
        if model.body_parentid[i] in found:
            found.append(i)
    return np.array(found)
