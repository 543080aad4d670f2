"""Pictures of tables: areas, middles and turns of what is drawn, and each task's things where its state has them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import config, registry
from mmbc_jax.core.picturing import HasFrame
from mmbc_jax.envs.planar import _table_image as picture
from mmbc_jax.envs.planar import aligning, block_push, pushing

LOW, HIGH = (0.1, -0.3), (0.7, 0.3)
PIXEL = (HIGH[1] - LOW[1]) / picture.ROWS  # 2.5 mm


def covered(view):
    """(share [240, columns] that is black, x, y of the pixels in m)."""
    share = 1.0 - np.asarray(view.image / picture.View(LOW, HIGH).image)[..., 0]
    columns = LOW[0] + PIXEL * (np.arange(share.shape[1]) + 0.5)
    return share, columns[None, :], (HIGH[1] - PIXEL * (np.arange(picture.ROWS) + 0.5))[:, None]


def moments(view):
    """(area [m^2], middle [2], covariance [2, 2]) of what is black."""
    share, x, y = covered(view)
    area = share.sum()
    middle = np.array([(share * x).sum(), (share * y).sum()]) / area
    dx, dy = x - middle[0], y - middle[1]
    off = (share * dx * dy).sum()
    spread = np.array([[(share * dx**2).sum(), off], [off, (share * dy**2).sum()]]) / area
    return area * PIXEL**2, middle, spread


def test_a_box_has_its_area_middle_and_turn():
    """Uniform on a box of half sides a, b turned by t, the covariance is R(t) diag(a^2, b^2) / 3 R(t)^T."""
    view, half, turn, shift = picture.View(LOW, HIGH), np.array([0.12, 0.04]), 0.4, np.array([0.03, -0.02])
    view.boxes(jnp.array([0.38, 0.05, turn]), [(tuple(shift), tuple(half))], (0, 0, 0))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    area, middle, spread = moments(view)
    np.testing.assert_allclose(area, 4 * half.prod(), rtol=5e-3)
    np.testing.assert_allclose(middle, np.array([0.38, 0.05]) + rotation @ shift, atol=0.05 * PIXEL)
    np.testing.assert_allclose(spread, rotation @ np.diag(half**2 / 3) @ rotation.T, atol=2e-5)


def test_a_disc_has_its_area_and_middle():
    view = picture.View(LOW, HIGH)
    view.disc(jnp.array([0.3, -0.1]), 0.05, (0, 0, 0))
    area, middle, spread = moments(view)
    np.testing.assert_allclose(area, np.pi * 0.05**2, rtol=5e-3)
    np.testing.assert_allclose(middle, [0.3, -0.1], atol=0.02 * PIXEL)
    np.testing.assert_allclose(spread, np.eye(2) * 0.05**2 / 4, atol=1e-5)


def test_sides_are_even_and_pixels_square():
    assert picture.View(LOW, HIGH).image.shape == (240, 240, 3)
    assert picture.View((0.0, 0.0), (0.507, 1.0)).image.shape == (240, 122, 3)


CASES = {
    "pushing": (pushing, "rod", {"blocks": (picture.RED, picture.GREEN)}),
    "block_push": (
        block_push,
        "disc",
        {"blocks": (picture.RED, picture.BLUE), "targets": (picture.LIGHT_GREEN, picture.GREY)},
    ),
    "aligning": (aligning, "rod", {}),
}


@pytest.mark.parametrize("name", CASES)
def test_things_are_where_the_state_has_them(name):
    module, pointer, known = CASES[name]
    env = registry.build("env", config.plugin("env", name))
    assert isinstance(env, HasFrame)
    state, image = jax.device_get(jax.jit(lambda key: (s := env.reset(key), env.frame(s)))(jax.random.key(2)))
    assert image.dtype == np.uint8
    pixel = (module.HIGH[1] - module.LOW[1]) / picture.ROWS

    def at(place):
        row, column = (module.HIGH[1] - place[1]) / pixel, (place[0] - module.LOW[0]) / pixel
        return tuple(int(x) for x in image[int(row), int(column)])

    assert at(state.data[pointer]) == (picture.BLUE if name == "aligning" else picture.DARK)
    for entry, colours in known.items():
        assert [at(pose) for pose in state.data[entry]] == list(colours)
    if name == "pushing":
        assert [at(place) for place in pushing.TARGETS] == [picture.LIGHT_RED, picture.LIGHT_GREEN]
    if name == "aligning":  # the middles of the four walls; within them is nothing
        for entry, colour in (("box", picture.DARK), ("target", picture.LIGHT_GREEN)):
            x, y, angle = state.data[entry]
            assert at((x, y)) == (255, 255, 255)
            for (mx, my), _ in aligning.WALLS:
                turned = np.cos(angle) * mx - np.sin(angle) * my, np.sin(angle) * mx + np.cos(angle) * my
                assert at((x + turned[0], y + turned[1])) == colour
