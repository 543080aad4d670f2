"""Images of the path tasks: obstacles and context where they belong, and the point at its place."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.envs.synthetic._render import GOAL, GREY, SIZE, ground, render
from tests.toys.products import spared

TASKS = ("circle", "conditional_circle", "sequential", "radial", "corridor")
EMPTY = jnp.full((1, 2), 0.5), jnp.full((1, 2), -1.0)
draw_ground, draw = jax.jit(ground), jax.jit(render)


def positions(count: int, seed: int = 0) -> jax.Array:
    """Uniform, with the whole disc in the image."""
    return jax.random.uniform(jax.random.key(seed), (count, 2), minval=4 / SIZE, maxval=1 - 4 / SIZE)


def centroid(image: jax.Array, empty: jax.Array) -> np.ndarray:
    """[..., 2] position, from the share of each pixel that is black."""
    share = 1.0 - np.asarray(image, np.float64).sum(-1) / np.asarray(empty, np.float64).sum(-1)
    centre = (np.arange(SIZE) + 0.5) / SIZE
    x, y = share.sum(-2) @ centre, share.sum(-1) @ centre[::-1]
    return np.stack([x, y], -1) / share.sum((-1, -2))[..., None]


def test_obstacle_covers_its_pixels():
    # x from 0.25 to 0.5 and y from 0.75 to 0.875: columns 16 to 31, rows 8 to 15 from the top
    image = np.asarray(draw_ground(jnp.array([[0.375, 0.8125]]), jnp.array([[0.125, 0.0625]])))
    expected = np.full((SIZE, SIZE, 3), 255)
    expected[8:16, 16:32] = GREY
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)


def test_obstacle_covers_a_share_of_its_border_pixels():
    # half a pixel further to each side in x: columns 15 and 32 are half grey, 255 - 95 / 2 = 207.5
    image = np.asarray(draw_ground(jnp.array([[0.375, 0.8125]]), jnp.array([[0.125 + 0.5 / SIZE, 0.0625]])))
    np.testing.assert_allclose(image[8:16, [15, 32]], 207.5, atol=0.51)
    assert (image[8:16, 16:32] == GREY).all()
    assert (image[7] == 255).all()


def test_negative_half_sizes_draw_nothing():
    assert (np.asarray(draw_ground(*EMPTY)) == 255).all()


@pytest.mark.parametrize("name", TASKS)
@spared("radial", "sequential")
def test_ground_of_a_task_agrees_with_its_collisions(name):
    """A pixel is as grey as the share of 8 x 8 points in it that collide."""
    task = registry.build("env", plugin("env", name))
    params = task.default_params()
    image = np.asarray(draw_ground(*task.boxes(params)))[..., 0].astype(float)
    fine = (np.arange(8 * SIZE) + 0.5) / (8 * SIZE)
    x, y = np.meshgrid(fine, fine[::-1])
    hit = np.asarray(task.collides(params, jnp.stack([x, y], -1)))
    share = hit.reshape(SIZE, 8, SIZE, 8).mean((1, 3))
    assert 0.005 < share.mean() < 0.2
    # sampling finds a side to 1/8 of a pixel; two sides of a box may meet in one pixel's row
    np.testing.assert_allclose((255 - image) / (255 - GREY[0]), share, atol=0.26)


def test_number_of_obstacles_may_be_traced():
    task = registry.build("env", plugin("env", "radial"))
    several = jax.vmap(lambda k: ground(*task.boxes(task.default_params() | {"num_modes": k})))
    images = np.asarray(jax.jit(several)(jnp.array([4, 8])))
    for image, count in zip(images, (4, 8), strict=True):
        alone = registry.build("env", plugin("env", "radial", num_modes=count))
        np.testing.assert_array_equal(image, draw_ground(*alone.boxes(alone.default_params())))
    assert (images[0] != images[1]).any()


def test_row_0_is_the_top():
    image = np.asarray(draw(jnp.array([0.125, 0.875]), draw_ground(*EMPTY)))
    assert image[8, 8, 0] == image[7, 7, 0] == 0  # 0.125 * 64 = 8 from the left and from the top
    assert (image[16:] == 255).all()
    assert (image[:, 16:] == 255).all()


def test_disc_is_the_closed_form():
    place = np.array([0.4137, 0.6291])
    row, column = SIZE * (1 - place[1]), SIZE * place[0]
    pixel = np.arange(SIZE) + 0.5
    distance = np.hypot(pixel[:, None] - row, pixel - column)
    expected = 255 * (1 - np.clip(3 - distance, 0, 1))
    image = np.asarray(draw(jnp.asarray(place, jnp.float32), draw_ground(*EMPTY)))
    np.testing.assert_allclose(image, np.broadcast_to(expected[..., None], image.shape), atol=0.51)


@pytest.mark.parametrize("name", TASKS)
def test_position_is_the_centroid_of_the_disc(name):
    task = registry.build("env", plugin("env", name))
    empty = draw_ground(*task.boxes(task.default_params()))
    place = positions(300)
    error = SIZE * np.linalg.norm(centroid(draw(place, empty), empty) - np.asarray(place), axis=-1)
    assert error.max() < 0.1
    assert error.mean() < 0.05


def test_a_hundredth_of_a_pixel_moves_the_centroid():
    place = jnp.full((101, 2), 0.4).at[:, 0].add(jnp.arange(101) / 100 / SIZE)
    found = centroid(draw(place, draw_ground(*EMPTY)), draw_ground(*EMPTY))
    assert np.polyfit(np.asarray(place[:, 0]), found[:, 0], 1)[0] == pytest.approx(1.0, abs=0.05)
    np.testing.assert_allclose(found[:, 1], 0.4, atol=0.1 / SIZE)


def test_point_at_the_border_is_cut_off_not_moved():
    corners = jnp.array([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
    images = np.asarray(draw(corners, draw_ground(*EMPTY)))[..., 0]
    # pixel (i, j) is sqrt((i + .5)^2 + (j + .5)^2) off the corner
    d = np.sqrt([[0.5, 2.5, 6.5], [2.5, 4.5, 8.5], [6.5, 8.5, 12.5]])
    np.testing.assert_allclose(images[2, :3, :3], 255 * (1 - np.clip(3 - d, 0, 1)), atol=0.51)
    np.testing.assert_array_equal(images[0, ::-1], images[2])
    np.testing.assert_array_equal(images[3, :, ::-1], images[2])
    np.testing.assert_array_equal(images[1, ::-1, ::-1], images[2])
    assert ((images < 255).sum((1, 2)) == 8).all()


def test_context_is_visible_and_alone_tells_the_goal():
    task = registry.build("env", plugin("env", "conditional_circle"))
    params = task.default_params()
    centres, halves = task.boxes(params)
    bottom, top = (np.asarray(draw_ground(centres, halves, (c, params["radius"]))) for c in centres)
    np.testing.assert_array_equal(bottom[::-1], top)  # mode 1 is the top one
    x, y = (np.arange(SIZE) + 0.5) / SIZE - 0.5, (SIZE - 0.5 - np.arange(SIZE)[:, None]) / SIZE - 0.7
    away, pixel = np.hypot(x, y), 1 / SIZE
    box = (abs(x) < 0.08 + pixel) & (abs(y) < 0.05 + pixel)
    green = (top == GOAL).all(-1)
    assert green[(away < 0.2 - pixel) & ~box].all()
    assert not green[away > 0.2 + pixel].any()
    # wherever the point is, most of the green stays in sight
    images = np.asarray(draw(positions(50), jnp.asarray(top)))
    greens = (images == GOAL).all(-1)
    assert greens.sum((1, 2)).min() > 0.7 * green.sum()


def test_jit_vmap_and_leading_axes_agree():
    task = registry.build("env", plugin("env", "sequential"))
    empty = draw_ground(*task.boxes(task.default_params()))
    place = positions(6).reshape(2, 3, 2)
    images = np.asarray(draw(place, empty))
    assert images.shape == (2, 3, SIZE, SIZE, 3)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, draw(place, empty))
    one_by_one = [[np.asarray(draw(p, empty)) for p in row] for row in place]
    others = [render(place, empty), one_by_one, jax.vmap(jax.vmap(draw, (0, None)), (0, None))(place, empty)]
    for other in others:  # compilers may round a pixel's half differently
        np.testing.assert_allclose(images.astype(int), np.asarray(other).astype(int), atol=1)


def test_each_frame_may_have_its_own_ground():
    grounds = jnp.stack([draw_ground(*EMPTY), jnp.full((SIZE, SIZE, 3), 90, jnp.uint8)])
    place, which = positions(5), jnp.array([0, 1, 1, 0, 1])
    images = draw(place, grounds[which])
    for image, p, w in zip(images, place, which, strict=True):
        np.testing.assert_allclose(np.asarray(image, int), np.asarray(draw(p, grounds[w]), int), atol=1)
    shared = draw(place[None], grounds[:, None])  # ground of leading axes that broadcast
    assert shared.shape == (2, 5, SIZE, SIZE, 3)
    np.testing.assert_allclose(np.asarray(shared[1, 2], int), np.asarray(images[2], int), atol=1)
