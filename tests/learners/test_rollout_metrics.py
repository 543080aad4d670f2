"""What is logged of rollouts: whole episodes, however few decisions a rollout has, and none that diverged."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.learning import Transitions
from mmbc_jax.learners._collect import LOGS, rollout_metrics

T, B = 12, 5
UNUSED = dict.fromkeys(Transitions.__dataclass_fields__)


@pytest.fixture(scope="module")
def stream():
    """Twelve decisions of five instances, each with a reward of its own; a quarter ends, some of that diverged."""
    rng = np.random.default_rng(0)
    done = (rng.uniform(size=(T, B)) < 0.25).astype(np.float32)
    diverged = done * (rng.uniform(size=(T, B)) < 0.3)
    success = done * (rng.uniform(size=(T, B)) < 0.5) * (1 - diverged)
    assert diverged.sum() > 0
    assert (done.sum(1) == 0).any()
    return {"done": done, "diverged": diverged, "success": success, "reward": rng.normal(size=(T, B))}


def rollout(stream, start, stop):
    rows = {name: jnp.asarray(x[start:stop], jnp.float32) for name, x in stream.items()}
    return Transitions(**{**UNUSED, **rows})


def whole_episodes(stream):
    """[(reward, intrinsic, success)] of the episodes that ended well, walked through one decision at a time."""
    found = []
    for b in range(B):
        sums = np.zeros(2)
        for t in range(T):
            sums += stream["reward"][t, b] * np.array([1.0, -2.0])
            if stream["done"][t, b]:
                if not stream["diverged"][t, b]:
                    found.append((*sums, stream["success"][t, b]))
                sums = np.zeros(2)
    return np.array(found)


@pytest.mark.parametrize("decisions", [1, 3, 4, T])
def test_returns_are_those_of_whole_episodes(stream, decisions):
    """Whatever a rollout's length: weighed by their episodes, rows have the means of the stream played at once."""
    paid = {name: jnp.zeros(B) for name in ("env", "intrinsic")}
    rows = []
    for start in range(0, T, decisions):
        seen = rollout(stream, start, start + decisions)
        metrics, paid = rollout_metrics(seen, -2.0 * seen.reward, paid)
        rows.append({name: float(value) for name, value in metrics.items()})
    expected = whole_episodes(stream)
    episodes = np.array([row["rollout/episodes"] for row in rows])
    assert episodes.sum() == len(expected)
    assert sum(row["rollout/diverged"] for row in rows) == stream["diverged"].sum()
    for place, name in enumerate(("env_reward", "mi_reward", "success_rate")):
        values = np.array([row[f"rollout/{name}"] for row in rows])
        np.testing.assert_array_equal(np.isnan(values), episodes == 0)
        total = (np.nan_to_num(values) * episodes).sum()
        np.testing.assert_allclose(total, expected[:, place].sum(), rtol=1e-4, atol=1e-5)


def test_an_iteration_without_an_end_says_nothing(stream):
    quiet = {
        **stream,
        "done": 0 * stream["done"],
        "diverged": 0 * stream["done"],
        "success": 0 * stream["done"],
    }
    seen = rollout(quiet, 0, 1)
    metrics, paid = rollout_metrics(
        seen, seen.reward, {name: jnp.full(B, 2.0) for name in ("env", "intrinsic")}
    )
    missing = {name for name, value in metrics.items() if np.isnan(value)}
    assert missing == {name for name, how in LOGS.items() if how == "known"}
    assert metrics["rollout/episodes"] == 0
    np.testing.assert_allclose(paid["env"], 2.0 + quiet["reward"][0], rtol=1e-6)
