r"""A rod in the plane that follows a commanded position, on MJX.

Per axis, with d the command, c the measured position and dc the displacement of the last control step, free
motion is

  dc[t] = a dc[t-1] + b0 (d[t] - c[t-1]) + b1 (d[t-1] - c[t-1]),    c[t] = c[t-1] + dc[t].

The constants were fitted by least squares to recordings of the original robot arm under inverse-kinematics
tracking at 35 ms per control step. MJX integrates v' = v + dt f/m, c' = c + dt v', so the generalised force
f = m (dc[t] - dc[t-1]) / dt^2 reproduces the recurrence exactly, and contacts can push against it.

Contacts are found once per step, at the new position. Where the caller ends the episode at the first contact,
no contact force ever acts on a living episode; `solve=False` then leaves out the constraint solver, with the
same result, and moves the rod in closed form: its mass matrix never changes. Gaps are MJX's all the same. With
`solve=True` the contacts found at the end of a step are carried into the next one, where the constraint solver turns
them into forces.

Other dynamics (`Dynamics`) are a rod of mass m M under the same force f, with a damper d and dry friction F besides:

  u = v + dt f / (m M),   w = u / (1 + dt d / (m M)),   v' = sign(w) max(|w| - dt F / (m M), 0)

Both are implicit in the new velocity, so that neither turns the motion round. What the controller computes its force
from stays as it was. Where contacts are solved, MJX gets the force that leads to v' without any.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.noise import without_warp
from mmbc_jax.core.types import Array, PyTree
from mmbc_jax.envs._arm_lag import GAIN_NEW, GAIN_OLD, LAG

with without_warp():
    from mujoco import mjx


@flax.struct.dataclass
class Rod:
    """What is carried of the physics: far less than an `mjx.Data`.

    Attributes:
      position: [2] m.
      velocity: [2] m/s.
      distance: [O] gap between rod and each obstacle in m, negative in contact.
      contact: (points [O, 3], frames [O, 3, 3]) where contacts are solved, else empty.
    """

    position: Array
    velocity: Array
    distance: Array
    contact: PyTree


class Dynamics(NamedTuple):
    """Other dynamics of the rod than those that it was fitted with; see the module docstring.

    Attributes:
      mass: [] m > 0, as a share of the scene's.
      damping: [] d in N s/m.
      friction: [] F in N, per axis.
    """

    mass: Array
    damping: Array
    friction: Array


class TrackedRod:
    """MJX model of the rod and its obstacles.

    Two compiled functions do the work:
      at_rest(position [2]) -> Rod: standing still there.
      step(rod, command [2], new_command [2], dynamics=None) -> Rod: one control step while the command (m) moves,
        under other `Dynamics` where they are given.

    Args:
      xml_path: an MJCF with a body `rod` on slide joints `rod_x`, `rod_y`, and obstacles in the world body.
      solve: whether contact forces act.

    Raises:
      ConfigError: the file does not load or does not have that structure.
    """

    def __init__(self, xml_path: str | Path, solve: bool):
        self.model = _load(Path(xml_path))
        self.solve = solve
        self.dt = float(self.model.opt.timestep)
        self.mass = float(self.model.body("rod").mass[0])
        self.radius = float(self.model.geom_size[self.model.geom_bodyid == self.model.body("rod").id].max())
        self._mx = mjx.put_model(self.model)
        # A body on slide joints never turns: inertia and Jacobians are the same everywhere and computed once.
        reference = mujoco.MjData(self.model)
        mujoco.mj_forward(self.model, reference)
        self._template = mjx.put_data(self.model, reference)
        if solve:  # pairs, softness and margins of the contacts, which the solver reads beside the gaps
            self._template = jax.jit(mjx.collision)(self._mx, self._template)
        self._mobility, self._bias = _free_motion(self.model, reference)
        # Compiled here too, because a reset outside jit would otherwise dispatch its operations one by one.
        self.at_rest = jax.jit(self._at_rest)
        self.step = jax.jit(self._step)

    @property
    def obstacles(self) -> np.ndarray:
        """[O, 3] centre x, y and radius in m of each obstacle, in the order of `Rod.distance`."""
        fixed = np.flatnonzero(self.model.geom_bodyid == 0)
        return np.column_stack([self.model.geom_pos[fixed, :2], self.model.geom_size[fixed, 0]])

    def _at_rest(self, position: Array) -> Rod:
        return self._collide(self._template.replace(qpos=position, qvel=jnp.zeros(2)))

    def _step(self, rod: Rod, command: Array, new_command: Array, dynamics: Dynamics | None = None) -> Rod:
        old = rod.velocity * self.dt
        gain_new, gain_old = new_command - rod.position, command - rod.position
        new = LAG * old + GAIN_NEW * gain_new + GAIN_OLD * gain_old
        force = self.mass * (new - old) / self.dt**2
        if dynamics is not None:
            force = self._under(dynamics, rod.velocity, force)
        if not self.solve:
            velocity = rod.velocity + self.dt * (self._mobility * (force + self._bias)).sum(-1)
            position = rod.position + self.dt * velocity
            return self._collide(self._template.replace(qpos=position, qvel=velocity))
        data = self._template.replace(qpos=rod.position, qvel=rod.velocity, qfrc_applied=force)
        points, frames = rod.contact
        data = data.tree_replace(
            {
                "_impl.contact.dist": rod.distance,
                "_impl.contact.pos": points,
                "_impl.contact.frame": frames,
            }
        )
        data = mjx.make_constraint(self._mx, data)
        data = mjx.solve(self._mx, mjx.fwd_acceleration(self._mx, data))
        return self._collide(mjx.euler(self._mx, data))

    def _under(self, dynamics: Dynamics, velocity: Array, force: Array) -> Array:
        """[2] the force that moves the scene's own rod as `force` [2] moves one of other dynamics."""
        change = self.dt * (self._mobility * (force + self._bias)).sum(-1)
        unit = self.dt * np.diag(self._mobility) / dynamics.mass  # velocity per N
        damped = (velocity + change / dynamics.mass) / (1.0 + unit * dynamics.damping)
        wanted = jnp.sign(damped) * jnp.maximum(jnp.abs(damped) - unit * dynamics.friction, 0.0)
        return force + (np.linalg.inv(self._mobility) * (wanted - velocity - change)).sum(-1) / self.dt

    def _collide(self, data: mjx.Data) -> Rod:
        data = mjx.collision(self._mx, mjx.kinematics(self._mx, data))
        found = data._impl.contact
        contact = (found.pos, found.frame) if self.solve else ()
        return Rod(position=data.qpos, velocity=data.qvel, distance=found.dist, contact=contact)


def _free_motion(model: mujoco.MjModel, rest: mujoco.MjData) -> tuple[np.ndarray, np.ndarray]:
    """(inverse mass matrix [2, 2] 1/kg, constant force [2] N): a = inverse (applied + constant) in an Euler step.

    Damping is part of the mass there, implicit in the velocity, unless the model's `eulerdamp` flag is off.
    """
    inverse = np.zeros((2, 2))
    mujoco.mj_solveM(model, rest, inverse, np.eye(2))
    if not model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_EULERDAMP:
        inverse = np.linalg.inv(np.linalg.inv(inverse) + model.opt.timestep * np.diag(model.dof_damping))
    constant = rest.qfrc_passive - rest.qfrc_bias + rest.qfrc_actuator
    return inverse.astype(np.float32), constant.astype(np.float32)


def _load(path: Path) -> mujoco.MjModel:
    if not path.is_file():
        raise ConfigError("env.xml_path", str(path), "not a file; leave it empty for the packaged scene")
    try:
        model = mujoco.MjModel.from_xml_path(str(path))
    except ValueError as error:
        raise ConfigError("env.xml_path", str(path), " ".join(str(error).split())) from error
    joints = [model.joint(i).name for i in range(model.njnt)]
    slides = joints == ["rod_x", "rod_y"] and (model.jnt_type == mujoco.mjtJoint.mjJNT_SLIDE).all()
    if not slides or mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "rod") < 0:
        raise ConfigError(
            "env.xml_path", str(path), "a body 'rod' on the slide joints 'rod_x' and 'rod_y' only"
        )
    return model
