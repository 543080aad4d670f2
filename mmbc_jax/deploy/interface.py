"""What goes into a policy and comes out of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from mmbc_jax.core.observations import ObsSpec, with_history
from mmbc_jax.runs.restored import Restored


@dataclasses.dataclass(frozen=True)
class Interface:
    """The sizes of a policy, and which one it is.

    Attributes:
      env: name of the environment that it was trained in; "" where it was trained on data alone.
      policy: name of its family.
      stage: of the run.
      step: of the checkpoint.
      seed: of the run.
      point: of the sweep.
      values: {field: value} of that point.
      single: what one control step observes.
      observe: T, control steps that a decision sees.
      action_dim: A.
      predict: H, actions of a chunk.
      execute: h, of which so many were executed in training's episodes.
      low: [A] smallest action that the environment executes, physical units; empty where there is none.
      high: [A] largest.
      control_dt: seconds of a control step; 0 where unknown.
      num_modes: Z; 1 where nothing is commanded.
      commands: z that can be commanded.
      mode_names: of the environment's modes; empty where it has none.
    """

    env: str
    policy: str
    stage: str
    step: int
    seed: int
    point: int
    values: dict[str, float]
    single: ObsSpec
    observe: int
    action_dim: int
    predict: int
    execute: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    control_dt: float
    num_modes: int
    commands: tuple[int, ...]
    mode_names: tuple[str, ...]

    @property
    def obs(self) -> ObsSpec:
        """What a decision sees: the last T observations, one after another."""
        return with_history(self.single, self.observe)

    def to_json(self) -> dict[str, Any]:
        """In JSON's own types."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fields | {"single": self.single.to_json(), "obs": self.obs.to_json()}


def interface_of(restored: Restored, seed: int, point: int, there: np.ndarray) -> Interface:
    """That of one run of a checkpoint; `there` [Z] says which commands there are."""
    setup, stage = restored.setup, restored.stage
    config = setup.config
    env = setup.env
    spec = None if env is None else env.spec
    return Interface(
        env=config.env.name,
        policy=config.policy.name if stage.policy() is not None else "",
        stage=stage.name,
        step=restored.step,
        seed=seed,
        point=point,
        values=restored.grid.values(point),
        single=setup.obs,
        observe=config.chunk.observe,
        action_dim=setup.action_dim,
        predict=config.chunk.predict,
        execute=config.chunk.execute,
        low=() if spec is None else tuple(float(x) for x in spec.action_low),
        high=() if spec is None else tuple(float(x) for x in spec.action_high),
        control_dt=0.0 if spec is None else float(spec.control_dt),
        num_modes=stage.num_modes,
        commands=tuple(np.flatnonzero(there).tolist()),
        mode_names=() if spec is None else tuple(spec.mode_labels),
    )
