"""Reinforcement where the goal is seen in an image alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.config import plugin
from tests.learners import _probed
from tests.toys.probes import Pictured, probe

SIZES = {"num_envs": 8, "decisions": 4, "critic_hidden": (8,), "critic_octaves": 0}
LEARNERS = {
    "ppo": plugin("learner", "ppo", **SIZES, epochs=1, minibatches=2),
    "sac": plugin("learner", "sac", **SIZES, updates=2, batch_size=16, capacity=64, warmup=0),
}
ACTORS = {
    "gaussian": plugin("actor", "gaussian", hidden=(8,)),
    "steer": plugin("actor", "steer", hidden=(8,), fourier_octaves=0),
}
Q = plugin("discriminator", "categorical", input="window", window=2, hidden=(8,))


def begin(name, actor):
    learner = _probed.build(LEARNERS[name], ACTORS[actor], Q, env=Pictured())
    hp = jax.tree.map(lambda x: x[0], _probed.hparams(name, 1, {"mi_coef": 1.0}))
    parent = None
    if actor == "steer":
        bounds = {"last": -jnp.ones(2)}, {"last": jnp.ones(2)}
        stats = {"policy": {}, "normalizer": _probed.IDENTITY._replace(obs_low=bounds[0], obs_high=bounds[1])}
        parent = _probed.cloned().replace(stats=stats)
    start = jax.jit(
        lambda: _probed.start(learner, hp, probe(aimed=1.0, slope=0.5), jax.random.key(0), parent)
    )
    return learner, start()


@pytest.mark.parametrize(
    ("name", "actor"),
    [
        pytest.param("ppo", "gaussian", marks=pytest.mark.slow),
        pytest.param("sac", "steer", marks=pytest.mark.slow),
        pytest.param("ppo", "steer", marks=pytest.mark.slow),
        pytest.param("sac", "gaussian", marks=pytest.mark.slow),
    ],
)
def test_every_network_learns_from_the_image(name, actor):
    """After two iterations the encoders of actor, critic and q have moved, and everything is finite."""
    learner, before = begin(name, actor)
    step = jax.jit(lambda s: learner.train_step(s, ())[0])
    after = step(step(before))
    for part in ("actor", "critic", "reward"):
        moved, encoders = 0, 0
        leaves = zip(
            *(jax.tree_util.tree_leaves_with_path(s.params[part]) for s in (before, after)), strict=True
        )
        for (path, old), (_, new) in leaves:
            assert np.isfinite(new).all()
            if "Conv" in jax.tree_util.keystr(path) or "conv" in jax.tree_util.keystr(path):
                encoders += 1
                moved += not np.array_equal(old, new)
        assert encoders > 0, part
        assert moved > 0, part


def test_images_are_kept_as_bytes():
    """In the loop's memory and in the buffer; a vector is float32."""
    _, state = begin("sac", "gaussian")
    rows, memory = state.env_state["buffer"].storage, state.env_state["loop"].memory
    seen = (rows.obs, rows.final_obs, rows.features["images"], memory["slots"])
    assert {tree["image"].dtype for tree in seen} == {jnp.dtype(jnp.uint8)}
    assert rows.obs["image"].shape == (64, 16, 16, 1)
    assert rows.features["images"]["image"].shape == (64, 2, 16, 16, 1)
    assert rows.obs["last"].dtype == jnp.float32
    assert set(state.stats["normalizer"].obs_low) == {"last"}
