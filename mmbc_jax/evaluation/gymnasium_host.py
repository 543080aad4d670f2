"""A trained policy in any Gymnasium environment, step by step on the host.

Decisions are one compiled program for all instances; the environments step outside of it, so this is slower than the
tasks of the package. Each instance plays one episode per round, from a seed of its own; what an instance that is done
early plays besides, until the last one is, does not count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.errors import UserError, cut, shown
from mmbc_jax.core.extras import imported
from mmbc_jax.core.learning import Subject
from mmbc_jax.core.observations import ObsSpec
from mmbc_jax.core.types import Key
from mmbc_jax.evaluation.evaluator import Act
from mmbc_jax.ops import codes

MOST_STEPS = 10_000
"""Control steps after which an episode is taken to have ended where the environment does not end it."""
_SUCCESS = ("success", "is_success")


@dataclasses.dataclass(frozen=True)
class HostPlayer:
    """Plays episodes of a vector of Gymnasium environments.

    Attributes:
      env: a `gymnasium.vector.VectorEnv` that resets itself.
      act: who decides.
      obs: what one observation looks like, without history.
      action_dim: A.
      observe: T, observations that a decision sees.
      exec_len: h, actions executed of each chunk.
      num_modes: Z; z is spread evenly.
      command: z of every episode; None to spread them.
    """

    env: Any
    act: Act
    obs: ObsSpec
    action_dim: int
    observe: int
    exec_len: int
    num_modes: int = 1
    command: int | None = None

    def __post_init__(self) -> None:
        spaces = imported("gymnasium", "gym", "playing in a Gymnasium environment").spaces
        space = self.env.single_action_space
        if not isinstance(space, spaces.Box) or int(np.prod(space.shape)) != self.action_dim:
            raise UserError(f"its actions are {cut(str(space))}, must be a Box of {self.action_dim} numbers")
        space = self.env.single_observation_space
        parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {}
        for name, entry in self.obs.entries:
            own = space if self.obs.plain else parts.get(name)
            sizes = (entry.shape, (int(np.prod(entry.shape)),)) if entry.kind == "vector" else (entry.shape,)
            fits = isinstance(own, spaces.Box) and (
                own.shape in sizes or (entry.kind == "vector" and int(np.prod(own.shape)) == entry.shape[0])
            )
            if not fits:
                raise UserError(
                    f"its observations are {cut(str(space))}, must have {name} as a Box of {list(entry.shape)}"
                )

    def play(self, subject: Subject, key: Key, episodes: int, seed: int) -> dict[str, Any]:
        """Plays `episodes` episodes, B at a time.

        Returns:
          {"return" [E], "steps" [E], "z" [E], "success" [E] or None, "mode" [E] or None}: the last two from info
          (`success` or `is_success`, `mode`), None where an episode ended without them.
        """
        rounds, size = -(-episodes // self.env.num_envs), self.env.num_envs
        decide = jax.jit(lambda key, obs, z: self._decided(subject, key, obs, z))
        alive = codes.alive_of(subject.reward)
        there = jnp.ones(self.num_modes) if alive is None else alive
        spread = np.asarray(codes.evenly(there, rounds * size)).reshape(rounds, size)
        found: list[dict[str, Any]] = []
        for number in range(rounds):
            z = np.full(size, self.command) if self.command is not None else spread[number]
            found.append(self._round(decide, jax.random.fold_in(key, number), z, seed + number * size))
        joined: dict[str, Any] = {}
        for name in found[0]:
            columns = [each[name] for each in found]
            known = all(column is not None for column in columns)
            joined[name] = np.concatenate(columns)[:episodes] if known else None
        return joined

    def _decided(self, subject: Subject, key: Key, obs: Any, z: Any) -> Any:
        """[B, H, A] actions in physical units."""
        chunk = self.act(subject, key, subject.normalizer.normalize_obs(obs), z)
        return subject.normalizer.denormalize_action(chunk)

    def _round(self, decide: Any, key: Key, z: np.ndarray, seed: int) -> dict[str, Any]:
        size, space = self.env.num_envs, self.env.single_action_space
        observed, info = self.env.reset(seed=seed)
        past = [self._rows(observed)] * self.observe
        alive, total, steps = np.ones(size, bool), np.zeros(size), np.zeros(size, np.int64)
        ends: dict[str, list[Any]] = {name: [None] * size for name in ("success", "mode")}
        step = 0
        while alive.any() and step < MOST_STEPS:
            obs = jax.tree.map(lambda *rows: np.concatenate(rows, -1), *past)
            decided = np.asarray(decide(jax.random.fold_in(key, step), obs, jnp.asarray(z, jnp.int32)))
            for action in np.moveaxis(decided[:, : self.exec_len], 1, 0):
                action = action.reshape(size, *space.shape).clip(space.low, space.high).astype(space.dtype)
                observed, reward, terminated, truncated, info = self.env.step(action)
                past = [*past[1:], self._rows(observed)]
                total, steps, step = total + alive * reward, steps + alive, step + 1
                over = alive & (terminated | truncated)
                for i in np.flatnonzero(over).tolist():
                    ends["success"][i] = _told(info, _SUCCESS, i)
                    ends["mode"][i] = _told(info, ("mode",), i)
                alive = alive & ~over
                if not alive.any():
                    break
        known = {name: None if None in each else np.asarray(each) for name, each in ends.items()}
        return {"return": total, "steps": steps, "z": z, **known}

    def _rows(self, observed: Any) -> Any:
        """Observations [B, ...] as the policy was given them."""
        if self.obs.plain:
            return np.asarray(observed, np.float32).reshape(self.env.num_envs, -1)
        made = {}
        for name, entry in self.obs.entries:
            rows = np.asarray(observed[name])
            vector = entry.kind == "vector"
            made[name] = rows.astype(np.float32).reshape(len(rows), -1) if vector else rows
        return made


def _told(info: Mapping[str, Any], names: tuple[str, ...], i: int) -> float | None:
    """What info says of an episode that ended, of whichever name it has; None where it does not."""
    for source in (info.get("final_info"), info):
        for name in names:
            if not isinstance(source, Mapping) or name not in source:
                continue
            mask, value = source.get(f"_{name}"), np.asarray(np.asarray(source[name])[i])
            if (mask is None or mask[i]) and value.ndim == 0 and value.dtype.kind in "fiub":
                return float(value)
    return None


def made(name: str, count: int) -> Any:
    """`count` instances of a registered environment that step one after another on the host.

    Args:
      name: its id, or `module:id` for one that the import of a module registers.
      count: at least 1.

    Raises:
      UserError: the package gymnasium is not installed, or there is no such environment.
    """
    gymnasium = imported("gymnasium", "gym", "playing in a Gymnasium environment")
    try:
        ours = name.rpartition(":")[2].startswith("mmbc_jax/")  # many of these are one program
        mode = "vector_entry_point" if ours else "sync"
        return gymnasium.make_vec(name, num_envs=count, vectorization_mode=mode)
    except Exception as error:  # of the registry, of what an id imports, of the environment itself
        said = f"{type(error).__name__}: {cut(str(error))}"
        raise UserError(f"--gym {shown(name)} cannot be made ({said})") from error
