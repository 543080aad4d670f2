"""Between modes or around one: samples placed by hand, of which the shares are known exactly."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.diagnostics._hull import between
from mmbc_jax.diagnostics._path_metric import OFF, local_modes

from . import _line


class InTurn:
    """A base that draws 0 .. n-1, so that a policy's samples are the rows of a table."""

    def __init__(self, shape):
        self.shape = shape

    def sample(self, *, seed, sample_shape=()):
        return jnp.arange(np.prod(self.shape)).reshape(self.shape)


def measure(samples, demos):
    table = jnp.asarray(samples, jnp.float32)
    policy = _line.Map(lambda w: table[w], dim=table.shape[1], base=lambda obs: InTurn(obs.shape[:-1]))
    plugin = registry.find("diagnostic", "bridges")
    cfg = plugin.default_config()
    cfg.update({"num_anchors": 1, "candidates": 2, "samples": len(table)})
    return plugin(cfg).measure(_line.case(policy, demos), jax.random.key(0))


# Two modes at -1/2 and 1/2 on the first axis of a plane: tubes of 1/4.
PAIR = [[-0.5, 0.0], [0.5, 0.0]]
PLACED = {
    "in a tube": [(-0.5, 0.2), (0.3, 0.0), (0.7, 0.0), (0.5, -0.24)],
    # also beside the middle, by less than the half of the distance that the modes are away there
    "between": [(0.0, 0.0), (0.1, 0.2), (-0.2, -0.1), (0.0, 0.45)],
    # beyond the ends, beside the middle by more, beside a mode
    "around": [(0.8, 0.0), (-0.9, 0.1), (0.0, 0.55), (0.0, -0.6), (0.5, 0.3), (-0.5, -0.4), (0.4, 0.26)],
}


@pytest.mark.parametrize("labelled", [True, False])
def test_exact_shares(labelled):
    samples = np.asarray([point for group in PLACED.values() for point in group])
    demos = _line.around(PAIR, noise=0.02)
    if not labelled:
        demos = demos.replace(mode=jnp.full_like(demos.mode, -1))
        # nearest demonstrations decide what is off-support: only points in their midst are not
        samples = np.concatenate([np.asarray(PAIR * 2), samples[4:]])
    found = measure(samples, demos)
    assert found["bridges/off_support"] == pytest.approx(11 / 15)
    assert found["bridges/between"] == pytest.approx(4 / 15)
    assert found["bridges/around"] == pytest.approx(7 / 15)
    assert found["bridges/multimodal"] == 1
    assert ("bridges/served" in found) == labelled


def test_what_is_around_a_mode_serves_it():
    # all samples beside the left mode, none in a tube: neither is reached, one of two is served
    found = measure([(-0.5, 0.3)] * 4 + [(-0.9, 0.0)] * 4, _line.around(PAIR, noise=0.02))
    assert found["bridges/reached"] == 0
    assert found["bridges/served"] == 0.5
    # all between: nothing says what they serve
    assert "bridges/served" not in measure([(0.0, 0.0)] * 8, _line.around(PAIR, noise=0.02))


def modes_at(centres):
    """Modes with tubes of Delta / 4: two entries of noise, as small as rounding."""
    centres = np.asarray(centres, float)
    points = np.repeat(centres, 8, axis=0) + np.random.default_rng(0).normal(0, 1e-6, (8 * len(centres), 2))
    return local_modes(points, np.repeat(np.arange(len(centres)), 8))


def test_the_average_of_three_modes_is_between_them():
    # an equilateral triangle of side 1: the middle is .289 from each edge, outside the capsules of radius 1/4
    height = np.sqrt(3) / 2
    modes = modes_at([(0, 0), (1, 0), (0.5, height)])
    middle = np.asarray([[0.5, height / 3]])
    assert modes.assign(middle) == OFF
    assert between(modes, middle).tolist() == [True]
    # below the lower edge, halfway, by less and by more than the distance to its ends
    assert between(modes, np.asarray([[0.5, -0.49], [0.5, -0.51]])).tolist() == [True, False]


def test_noise_in_many_entries_is_around_and_averages_are_between():
    # three modes in 60 dimensions with noise that leaves their tubes, and averages of two with small noise
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(3, 60))
    label = np.arange(90) % 3
    modes = local_modes(centres[label] + 0.1 * rng.normal(size=(90, 60)), label)
    wide = centres[label] + 0.6 * rng.normal(size=(90, 60))
    assert (modes.assign(wide) == OFF).all()
    assert not between(modes, wide).any()
    share = rng.uniform(0.35, 0.65, (90, 1))
    bridge = share * centres[label] + (1 - share) * centres[(label + 1) % 3] + 0.1 * rng.normal(size=(90, 60))
    assert (modes.assign(bridge) == OFF).all()
    assert between(modes, bridge).all()
    # noise of length 2.3 leaves bridges what they are: a third of distances of about 11 is more
    assert between(modes, bridge + 0.3 * rng.normal(size=(90, 60))).mean() > 0.95


def test_labels_that_mean_the_same_are_no_two_modes():
    # labels 0 and 1 overlap: one mode with two balls; between these nothing is a bridge
    rng = np.random.default_rng(0)
    centres = np.asarray([(0.0, 0.0), (0.3, 0.0), (3.0, 0.0)])
    label = np.arange(300) % 3
    modes = local_modes(centres[label] + rng.uniform(-0.15, 0.15, (300, 2)), label)
    assert modes.count == 2
    assert between(modes, np.asarray([[0.15, 0.1], [1.6, 0.0]])).tolist() == [False, True]
    one = local_modes(centres[label] * 0.1 + rng.uniform(-0.5, 0.5, (300, 2)), label)
    assert one.count == 1
    assert not between(one, np.asarray([[9.0, 0.0]])).any()
