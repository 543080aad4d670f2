r"""The command whose paths are most like an example.

`posterior`: z of the highest mean_n q(z | example + noise_n), the discriminator's posterior over the whole example
under 64 draws of its own input noise. It fits an example of whole observations, one a control step, of an episode's
length at most, where the stage has a discriminator and nothing is observed in images.

`path`: z of the smallest mean distance between the example and its own paths; both are resampled to 64 points evenly
along their length, so speed does not count, and compared by their root mean square distance (`evaluation.example`).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.errors import UserError
from mmbc_jax.core.types import Array, Key
from mmbc_jax.evaluation.example import nearest_command
from mmbc_jax.ops.codes import alive_of, among
from mmbc_jax.runs.restored import Restored

DRAWS = 64


@dataclasses.dataclass(frozen=True)
class Likeness:
    """The commands that an example stands for.

    Attributes:
      z: [R] the command of each run.
      rule: "posterior" or "path".
      scores: [R, Z] probabilities, or mean distances in units of the position.
    """

    z: np.ndarray
    rule: str
    scores: np.ndarray

    def facts(self, restored: Restored) -> dict[str, Any]:
        """As in the summary, runs in the order of `seeds`."""
        of = {"posterior": "probability", "path": "distance"}[self.rule]
        seeds = [seed for _, seed in restored.runs]
        return {"rule": self.rule, "seeds": seeds, "z": self.z.tolist(), of: self.scores.tolist()}


def most_like(restored: Restored, example: np.ndarray, seed: int | None = None) -> Likeness:
    """The command of each run for an example [T, D] of positions or of whole observations.

    Raises:
      UserError: the stage has one z; the rows are neither; or positions cannot be compared.
    """
    stage, spec = restored.stage, restored.setup.env_spec
    if stage.num_modes < 2:
        raise UserError(f"--like: stage {stage.name} has one z; there is nothing to choose")
    width = example.shape[1]
    if width not in (2, spec.obs_dim):
        raise UserError(
            f"--like has rows of {width} numbers; a position has 2, and an observation of {spec.name} {spec.obs_dim}"
        )
    whole = width == spec.obs_dim and not spec.obs.images and len(example) <= spec.episode_length + 1
    reward = stage.parts.reward
    if whole and reward is not None and reward.discriminator is not None:
        scores = np.asarray(_posterior(restored, example, seed))
        return Likeness(scores.argmax(1), "posterior", scores)
    if width != 2:
        if len(spec.position) != 2:
            raise UserError(f"--like: {spec.name} observes no position, and the posterior does not fit")
        example = example[:, list(spec.position)]
    scores = _distances(restored, example, seed)
    return Likeness(scores.argmin(1), "path", scores)


def _posterior(restored: Restored, example: np.ndarray, seed: int | None) -> Array:
    """[R, Z]."""
    stage, setup = restored.stage, restored.setup
    reward, every, seen = stage.parts.reward, setup.config.chunk.execute, setup.config.chunk.observe
    assert reward is not None
    q: Any = reward.discriminator
    last = len(example) - 1
    rows = [0, *range(every, last, every), last]  # what is seen at decisions, and at the end
    past = np.maximum(np.array(rows)[:, None] + np.arange(1 - seen, 1), 0)
    history = {name: x.reshape(len(rows), -1) for name, x in _split(setup.obs, example[past]).items()}
    obs = setup.policy_spec.obs.joined(history)

    def posterior(state: Any, key: Key) -> Array:
        subject = stage.subject(state, key)
        scaled = subject.normalizer.normalize_obs(obs)
        one = [jax.tree.map(lambda leaf, i=i: leaf[i], scaled) for i in range(len(rows))]
        memory = reward.init_memory(one[0])
        for row in one[1:]:
            memory = reward.remember(memory, row)
        features = reward.features(memory)
        draws = jax.random.split(jax.random.fold_in(key, DRAWS), DRAWS)
        log_q = jax.vmap(lambda draw: q.log_prob(subject.reward, draw, features))(draws)
        there = alive_of(subject.reward)
        return jnp.exp(log_q if there is None else among(log_q, there)).mean(0)

    keys = restored.keys(f"evaluate/{stage.name}/like", seed)
    return jax.jit(jax.vmap(posterior))(restored.state.replace(opt_state={}, env_state={}), keys)


def _split(obs: Any, rows: np.ndarray) -> dict[str, Array]:
    """{entry: [..., size]} of rows [..., D] that hold the vectors of an observation one after another."""
    found, at = {}, 0
    for name, entry in obs.entries:
        found[name] = jnp.asarray(rows[..., at : at + entry.shape[0]])
        at += entry.shape[0]
    return found


def _distances(restored: Restored, example: np.ndarray, seed: int | None) -> np.ndarray:
    """[R, Z]."""
    stage, spec, settings = restored.stage, restored.setup.env_spec, restored.setup.config.evaluation
    if not spec.position:
        raise UserError(f"--like: {spec.name} has no position to compare paths by")
    if min(settings.paths, settings.episodes) < stage.num_modes:
        raise UserError(
            f"--like compares played paths: --config.evaluation.paths and episodes must be at least {stage.num_modes}"
        )
    keys = restored.keys(f"evaluate/{stage.name}/like", seed)
    played, _ = restored.programs().evaluate(stage, restored.state, keys)
    assert played is not None
    return np.stack([_of_run(example, played, run, stage.num_modes) for run in range(len(restored.runs))])


def _of_run(example: np.ndarray, played: Any, run: int, num_modes: int) -> np.ndarray:
    shown = played.path.shape[1]
    z, success = (np.asarray(of[run][:shown]) for of in (played.z, played.success))
    return nearest_command(
        example, np.asarray(played.path[run]), np.asarray(played.path_mask[run]), z, success, num_modes
    )
