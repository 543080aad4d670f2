"""What a clone's spread is worth in play: its draws, their mean, and a regression with and without that spread.

    python scripts/spread_in_play.py CLONE REGRESSION [--draws 8] [--episodes 512]

Both are work directories with a stage bc of the same task, data and seeds. With x a draw of the clone, m the mean of
K draws and r the regression's answer at the same observation, played are

  draws                     x
  likeliest                 the transport of the likeliest w; of a flow w = 0
  mean                      m
  regression                r
  regression, deviations    r + sqrt(K / (K - 1)) (x - m)
  regression, gaussian      r + N(0, S), S the covariance of x - m over draws and running episodes

Prints one JSON object a line: success and the means of the task's other outcomes, of each seed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.cli import compilation_cache
from mmbc_jax.core.compiling import jit
from mmbc_jax.core.most_likely import most_likely
from mmbc_jax.core.types import Array
from mmbc_jax.runs.restored import Restored, restore

Answer = Callable[[Any, Any, Array, Any], Array]


def answers(clone: Any, regression: Any, draws: int) -> dict[str, Answer]:
    """{name: (variables of the clone, of the regression, key, observations [B]) to chunks [B, H, A]}."""

    def drawn(own: Any, key: Array, obs: Any) -> Array:
        """[K, B, H, A]."""
        base = clone.base_distribution(own, obs)
        each = jax.vmap(lambda k: clone.transport(own, obs, base.sample(seed=k)))
        return each(jax.random.split(key, draws))

    def deviations(own: Any, key: Array, obs: Any) -> Array:
        x = drawn(own, key, obs)
        return (x - x.mean(0)) * np.sqrt(draws / (draws - 1))

    def one(own: Any, other: Any, key: Array, obs: Any) -> Array:
        return clone.transport(own, obs, clone.base_distribution(own, obs).sample(seed=key))

    def likeliest(own: Any, other: Any, key: Array, obs: Any) -> Array:
        return clone.transport(own, obs, most_likely(clone.base_distribution(own, obs), key))

    def mean(own: Any, other: Any, key: Array, obs: Any) -> Array:
        return drawn(own, key, obs).mean(0)

    def alone(own: Any, other: Any, key: Array, obs: Any) -> Array:
        return regression.transport(other, obs, jnp.zeros((*regression.spec.obs.batch_shape(obs), 0)))

    def deviating(own: Any, other: Any, key: Array, obs: Any) -> Array:
        return alone(own, other, key, obs) + deviations(own, key, obs)[0]

    def gaussian(own: Any, other: Any, key: Array, obs: Any) -> Array:
        key_draw, key_mix = jax.random.split(key)
        e = deviations(own, key_draw, obs)
        rows = e.reshape(-1, *e.shape[2:])  # a normal combination of them has their covariance
        mixed = jax.random.normal(key_mix, (e.shape[1], len(rows))) / np.sqrt(len(rows))
        return alone(own, other, key, obs) + jnp.einsum("bn,nha->bha", mixed, rows)

    return {
        "draws": one,
        "likeliest": likeliest,
        "mean": mean,
        "regression": alone,
        "regression, deviations": deviating,
        "regression, gaussian": gaussian,
    }


def played(clone: Restored, other: Restored, answer: Answer) -> dict[str, list[float]]:
    """Success and mean outcomes of each seed, all answers from the same first states."""
    keys = clone.keys("evaluate/bc")
    evaluator = clone.stage.evaluator()

    def play(subject: Any, variables: Any) -> Any:
        def act(own: Any, key: Array, obs: Any, z: Array) -> Array:
            return answer(own.reference, variables, key, obs)

        return dataclasses.replace(evaluator, act=act).run(subject, None)

    run = jit(lambda pair: jax.lax.map(lambda x: play(*x), pair), clone.setup.env_spec)
    subjects = clone.stage.subject(clone.state, keys)
    rollouts = jax.device_get(run((subjects, other.stage.subject(other.state, keys).reference)))
    found = {"success": rollouts.success} | rollouts.outcome
    return {name: [round(float(x), 4) for x in np.asarray(value).mean(1)] for name, value in found.items()}


def main() -> None:
    """Prints the lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clone", type=Path, help="work directory of a clone that draws")
    parser.add_argument("regression", type=Path, help="work directory of one that does not")
    parser.add_argument("--draws", type=int, default=8, help="K, at least 2 (default: 8)")
    parser.add_argument("--episodes", type=int, default=512, help="of each seed (default: 512)")
    flags = parser.parse_args()
    compilation_cache()
    overrides = [("evaluation.episodes", str(flags.episodes)), ("diagnostics", "()")]
    clone, other = (restore(path, "bc", overrides) for path in (flags.clone, flags.regression))
    if clone.data != other.data or clone.runs != other.runs:
        raise SystemExit("the two runs have other data, or other seeds")
    for name, answer in answers(clone.setup.policy, other.setup.policy, flags.draws).items():
        found = {"played": name} | played(clone, other, answer)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
