r"""Avoiding: a rod passes three rows of obstacles on one of 24 ways to a finish line (D3IL, Jia et al. 2024).

The scene, rates, action and mode labels are those of D3IL's Avoiding task; the robot arm is replaced by a rod
that follows its command with the arm's measured lag (`_rod.py`).

One control step lasts 35 ms. An action in [-1, 1] moves the commanded position by up to 1 cm per axis; the
observation is (command x, y, measured x, y) in m. A contact is a gap below 0 to any obstacle at the new
position. Row crossings, judged at the measured position after each step, make the label 12 L1 + 4 L2 + L3:

  L1  first time |y + 0.1| <= 0.03    left (0) or right (1) of x = 0.5
  L2  first time |y - 0.08| <= 0.03   slot 0..2, split at 0.425 and 0.575
  L3  first time y >= 0.26            slot 0..3, split at 0.35, 0.5 and 0.65

rules = "d3il": the episode ends at the first contact (failure) or at y > 0.35 (success), and after 250 steps.
  Reward: `success_reward` at success, else 0.
rules = "dppo": 100 steps without an early end. Reward per step: -0.1 from the first contact on, -0.1 while x
  is outside [0.2, 0.8], `success_reward` while y > 0.4 (Ren et al. 2024). Success: y > 0.35 was reached and
  nothing touched, so far. What counts is the episode's end: a later contact takes success and label away.
  100 steps leave the expert little to spare on the longest ways: execution noise above 0.1 makes it late.

`right_share` of that is paid where L1 is right: below 1 half of the ways are worth less. It is neither source's.

Further parameters are those of the rod's dynamics (`_rod.Dynamics`) and of a block: one more obstacle, at
(block_x, block_y). To touch it is a contact like any other, but it does not push: under "dppo" the rod goes on
through it, its success and label gone. They exist where an option sets one of them, or of `perturbed()`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from mmbc_jax.core.options import option
from mmbc_jax.core.registry import register
from mmbc_jax.envs.mjx._avoiding_task import Avoiding, AvoidingTaskOptions
from mmbc_jax.envs.mjx._rod import TrackedRod


@dataclasses.dataclass(frozen=True, kw_only=True)
class AvoidingOptions(AvoidingTaskOptions):
    """Options of the task."""

    mass: float = option(1.0, "of the rod, as a share of the scene's", low=0.0, open_low=True)
    damping: float = option(0.0, "of the rod's motion [N s/m]", low=0.0)
    friction: float = option(0.0, "dry, of the rod's motion along each axis [N]", low=0.0)
    xml_path: str = option("", "MJCF of the scene; empty for the packaged one")


@register("env", AvoidingOptions)
def build(options: AvoidingOptions) -> Avoiding:
    """Builds the task; see the module docstring."""
    packaged = Path(__file__).with_name("avoiding.xml")
    return Avoiding(options, TrackedRod(options.xml_path or packaged, solve=options.rules == "dppo"))
