"""Instruments on observations of several entries, and on images alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.observations import ObsEntry, ObsSpec
from mmbc_jax.diagnostics.data_separation import separation
from tests.toys.products import spared, sparing

from . import _line

NAMES = ("bridges", "capacity", "coverage", "information", "separation")
VECTORS = ObsSpec.of({"arm": ObsEntry((1,)), "goal": ObsEntry((2,))})
CAMERA = ObsEntry((2, 2, 3), "image")


def policy_of(spec):
    """z shifted by the sum of the observed vectors, clipped to half a unit; with a posterior."""
    base = lambda obs: _line.gaussian(spec.flat(obs).sum(-1, keepdims=True), 1.0)  # noqa: E731
    return _line.Encoded(
        lambda w: jnp.clip(w, -0.5, 0.5),
        base=base,
        obs=spec,
        encode=lambda a: _line.gaussian(2.0 * jnp.sign(a), 0.3),
    )


def demonstrations():
    """Two modes around two places .6 apart, in D = 3."""
    one = _line.around([[-0.5], [0.5]], count=64)
    rng = np.random.default_rng(3)
    place = np.where(np.arange(128)[:, None] < 64, -0.3, 0.3)
    obs = place + 0.01 * rng.standard_normal((128, 3))
    return one.replace(obs=jnp.asarray(obs, jnp.float32))


def figures(name, policy, demos):
    plugin = registry.find("diagnostic", name)
    cfg = plugin.default_config()
    cfg.update({"num_anchors": 2, "candidates": 6, "samples": 256})
    return plugin(cfg).measure(_line.case(policy, demos), jax.random.key(0))


@pytest.mark.parametrize("name", sparing(NAMES, slow=("separation",)))
@spared("information", "bridges")
def test_entries_and_images_beside_them_change_no_figure(name):
    plain = demonstrations()
    camera = jnp.asarray(np.random.default_rng(0).integers(0, 256, (128, 2, 2, 3)), jnp.uint8)
    expected = figures(name, policy_of(ObsSpec.vector(3)), plain)
    assert expected
    split = plain.replace(obs={"arm": plain.obs[:, :1], "goal": plain.obs[:, 1:]})
    assert figures(name, policy_of(VECTORS), split) == expected
    spec = ObsSpec.of({**dict(VECTORS.entries), "camera": CAMERA})
    seen = split.replace(obs={**split.obs, "camera": camera})
    assert figures(name, policy_of(spec), seen) == expected


@pytest.mark.parametrize("name", NAMES)
def test_images_alone_leave_the_chunks(name):
    spec = ObsSpec.of({"camera": CAMERA})
    demos = demonstrations().replace(obs={"camera": jnp.zeros((128, 2, 2, 3), jnp.uint8)})
    policy = _line.Encoded(lambda w: w, obs=spec, encode=lambda a: _line.gaussian(a, 0.3))
    found = figures(name, policy, demos)
    if name != "separation":
        assert found == {}
        return
    # both modes at every draw, .5 - -.5 apart, and no distance between observations
    assert found["separation/label_modes"] == 2
    assert found["separation/label_delta_min"] == pytest.approx(1.0, abs=1e-3)
    assert "separation/neighbour_distance" not in found
    assert "separation/path_modes" not in found


def test_images_alone_draw_one_window_of_every_episode():
    # episodes of four windows, of which each has two in either mode: votes are those of episodes, and both modes
    # turn up (32 fair draws with a mode less than twice among them have probability 2 * 33 / 2^32)
    spec = ObsSpec.of({"camera": CAMERA})
    demos = demonstrations()
    demos = demos.replace(
        obs={"camera": jnp.zeros((128, 2, 2, 3), jnp.uint8)}, episode=jnp.arange(128, dtype=jnp.int32) // 4
    )
    found = separation(demos, num_anchors=4, spec=spec)
    assert found["separation/neighbours"] == 32
    assert found["separation/label_modes"] == 2
    assert separation(demos, num_anchors=4, neighbours=10, spec=spec)["separation/neighbours"] == 10
    # a vector observed in one place says the same; one observed in two places votes there alone
    near = demonstrations().replace(episode=demos.episode)
    assert separation(near, num_anchors=4)["separation/neighbours"] == 16
