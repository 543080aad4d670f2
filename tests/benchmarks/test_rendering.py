"""The benchmark of rendering draws what the formula says, as many frames as it counts."""

from __future__ import annotations

import jax
import numpy as np

from benchmarks import rendering
from mmbc_jax.envs.synthetic._render import SHAPE


def test_images_are_the_formula_to_half_a_grey_level() -> None:
    assert 0.0 < rendering.agreement(8)["grey_levels"] < 0.51


def test_episodes_hold_the_frames_that_are_counted() -> None:
    empty = rendering.grounds()[1]
    place = jax.random.uniform(jax.random.key(0), (rendering.STEPS, 2, 2))
    frames = np.asarray(jax.jit(rendering.episodes)(place, empty))
    assert frames.shape == (rendering.STEPS, 2, *SHAPE)
    np.testing.assert_allclose(frames[7, 1].astype(int), rendering.render(place[7, 1], empty), atol=1)
    assert (frames != np.asarray(empty)).any((2, 3, 4)).all()
