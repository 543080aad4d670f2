r"""Avoiding with the arm: the task of `avoiding`, whose rod a Panda's hand holds (D3IL, Jia et al. 2024).

Rules, rates, actions, observation, labels and expert are those of `avoiding`. There the rod follows its command by a
recurrence that was fitted to recordings; here an arm's servos move it, in the 5 steps of 7 ms of a control step, with
the gains of the original's controller (`_arm_rod.py`).

Besides, a contact never pushes, so under "dppo" the rod goes on through an obstacle, its success and label
gone; and a hand that points down reaches 0.805 m from the base, which for the outermost lanes ends just behind the
finish. The command goes on beyond that, the arm does not.

Further parameters are those of other dynamics (`_panda.ArmDynamics`) and of a block as in `avoiding`. They exist
where an option sets one of them, or of `perturbed()`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import mujoco

from mmbc_jax.core.options import option
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, State
from mmbc_jax.envs.mjx._arm_rod import ArmRod
from mmbc_jax.envs.mjx._avoiding_task import Avoiding, AvoidingTaskOptions
from mmbc_jax.envs.mjx._rod import loaded, obstacles, radius


@dataclasses.dataclass(frozen=True, kw_only=True)
class AvoidingArmOptions(AvoidingTaskOptions):
    """Options of the task."""

    mass: float = option(1.0, "of the arm's links, as a share of the model's", low=0.1, high=20.0)
    damping: float = option(0.0, "more at every joint [N m s/rad]", low=0.0)
    friction: float = option(0.0, "dry, at every joint [N m]", low=0.0)
    locked: int = option(0, "joint that is locked, from 1; 0 for none", low=0, high=7)


class AvoidingArm(Avoiding):
    """`avoiding` with an arm, which can be filmed."""

    rod: ArmRod

    @property
    def scene(self) -> mujoco.MjModel:
        """What is to be filmed."""
        return self.rod.panda.model

    def posed(self, state: State) -> tuple[Array, Array]:
        """(positions [7], no places [0, 3]) of one state of the scene."""
        return state.data["rod"].body.qpos, jnp.zeros((0, 3))


@register("env", AvoidingArmOptions)
def build(options: AvoidingArmOptions) -> AvoidingArm:
    """Builds the task; see the module docstring."""
    scene = loaded(Path(__file__).with_name("avoiding.xml"))
    return AvoidingArm(options, ArmRod(obstacles(scene), radius(scene)), serial_chain=True)
