"""The encoder of images: its parts against closed forms, and that it learns to find a point."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.envs.synthetic._render import ground, render
from mmbc_jax.nn.image_encoder import ImageEncoder, ResidualBlock, scale_image, spatial_softmax
from mmbc_jax.nn.mlp import ACTIVATIONS
from tests.toys.products import spared, sparing


def images(*lead: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*lead, 16, 20, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def net():
    module = ImageEncoder(features=6, channels=(8, 16), groups=2)
    return module, jax.jit(module.init)(jax.random.key(0), images())


def normalised(x: np.ndarray, groups: int) -> np.ndarray:
    """Group normalisation of [B, H, W, C] in float64."""
    grouped = x.astype(float).reshape(*x.shape[:3], groups, -1)
    mean, var = grouped.mean((1, 2, 4), keepdims=True), grouped.var((1, 2, 4), keepdims=True)
    return ((grouped - mean) / np.sqrt(var + 1e-6)).reshape(x.shape)


def test_scaled_image():
    levels = np.array([0, 51, 255], np.uint8)  # 51 / 127.5 = 0.4
    np.testing.assert_allclose(scale_image(levels), [-1.0, -0.6, 1.0], atol=1e-7)
    assert scale_image(levels).dtype == jnp.float32


def test_spatial_softmax_of_a_hot_pixel_is_its_coordinates():
    logits = np.zeros((5, 9, 2), np.float32)
    logits[1, 6, 0] = logits[4, 0, 1] = 50.0  # the other 44 pixels weigh 44 exp(-50) in all
    # of 9 columns the 6th is at 2 * 6 / 8 - 1, of 5 rows the 1st at 2 * 1 / 4 - 1
    np.testing.assert_allclose(spatial_softmax(logits), [0.5, -1.0, -0.5, 1.0], atol=1e-6)


def test_spatial_softmax_of_a_tilted_plane():
    """Logits a j + b i: columns and rows are independent geometric distributions."""
    row, column = np.mgrid[:4, :6]
    logits = (0.7 * column - 0.3 * row).astype(np.float32)[..., None]
    x, y = np.exp(0.7 * np.arange(6)), np.exp(-0.3 * np.arange(4))
    expected = [x @ np.linspace(-1, 1, 6) / x.sum(), y @ np.linspace(-1, 1, 4) / y.sum()]
    np.testing.assert_allclose(spatial_softmax(logits), expected, rtol=1e-5)


def test_spatial_softmax_of_one_pixel_is_0():
    assert (spatial_softmax(jnp.ones((3, 1, 1, 2))) == 0.0).all()


def test_shift_of_a_blob_shifts_the_expectation():
    row, column = np.mgrid[:32, :32]
    blob = 40.0 * np.exp(-((row - 12.0) ** 2 + (column - 9.0) ** 2) / 8).astype(np.float32)
    here = spatial_softmax(blob[..., None])
    there = spatial_softmax(np.roll(blob, (3, 11), axis=(0, 1))[..., None])
    np.testing.assert_allclose(there - here, [2 * 11 / 31, 2 * 3 / 31], atol=1e-5)
    np.testing.assert_allclose(here, [2 * 9 / 31 - 1, 2 * 12 / 31 - 1], atol=1e-5)


@pytest.mark.parametrize("channels", [4, 8], ids=["identity", "shortcut"])
def test_block_equals_its_formula(channels):
    """With kernels that pass on the pixel itself, only matrices and group norms in NumPy are left."""
    block = ResidualBlock(channels, 2, "silu")
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 5, 6, 4)).astype(np.float32) + 1.0
    params = jax.device_get(block.init(jax.random.key(0), x)["params"])
    for name, kernel in params.items():
        if name.startswith("Convolution"):
            kernel["kernel"] = np.pad(kernel["kernel"][1:2, 1:2], ((1, 1), (1, 1), (0, 0), (0, 0)))
        if name.startswith("GroupNorm"):
            kernel["scale"] = rng.uniform(0.5, 1.5, kernel["scale"].shape).astype(np.float32)
            kernel["bias"] = rng.standard_normal(kernel["bias"].shape).astype(np.float32)

    def branch(h, index):
        norm = params[f"GroupNorm_{index}"]
        h = h @ params[f"Convolution_{index}"]["kernel"][1, 1]
        return normalised(h, 2) * norm["scale"] + norm["bias"]

    h = branch(x, 0)
    h = branch(h / (1 + np.exp(-h)), 1)
    h = h + (x @ params["shortcut"]["kernel"][0, 0] if channels != 4 else x)
    result = block.apply({"params": params}, x)
    np.testing.assert_allclose(result, h / (1 + np.exp(-h)), rtol=1e-4, atol=1e-4)


def test_leading_axes_agree(net):
    module, variables = net
    apply = jax.jit(module.apply)
    many = apply(variables, images(2, 3))
    assert many.shape == (2, 3, 6)
    assert many.dtype == jnp.float32
    np.testing.assert_allclose(apply(variables, images(2, 3)[1]), many[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(apply(variables, images(2, 3)[1, 2]), many[1, 2], rtol=1e-4, atol=1e-5)
    assert np.abs(many[0, 0] - many[1, 2]).max() > 1e-3


def test_the_stem_sees_a_patch_at_a_time():
    """Of 2 x 3 patches of 8 pixels, with zeros left and right, one changes."""
    module = ImageEncoder(features=6, channels=(4,), groups=2, patch=8)
    both = np.repeat(images(1), 2, 0)
    both[1, 0, 0] = 255 - both[1, 0, 0]
    run = jax.jit(lambda x: module.init_with_output(jax.random.key(0), x, capture_intermediates=True)[1])
    found = run(both)
    assert found["params"]["stem"]["kernel"].shape == (8, 8, 3, 4)
    (seen,) = found["intermediates"]["stem"]["__call__"]
    changed = np.abs(np.asarray(seen[1] - seen[0])).max(-1) > 1e-6
    np.testing.assert_array_equal(changed, [[True, False, False], [False, False, False]])


def test_bytes_and_their_scaled_floats_agree(net):
    module, variables = net
    scaled = images(2).astype(np.float32) / 127.5 - 1.0
    np.testing.assert_allclose(
        module.apply(variables, images(2)), module.apply(variables, scaled), rtol=1e-5, atol=1e-6
    )


def test_parameters_are_float32_and_drawn_by_the_key(net):
    module, variables = net
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert set(variables) == {"params"}  # nothing that a batch would change
    again, other = (jax.jit(module.init)(jax.random.key(seed), images(2)) for seed in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    assert (again["params"]["stem"]["kernel"] != other["params"]["stem"]["kernel"]).all()


@pytest.mark.parametrize("activation", sparing(ACTIVATIONS, slow=("relu", "silu", "swish", "tanh")))
@spared("gelu")
def test_gradients_are_finite_and_reach_every_parameter(activation):
    module = ImageEncoder(features=4, channels=(4, 8), groups=2, activation=activation)
    variables = module.init(jax.random.key(0), images())
    gradients = jax.jit(jax.grad(lambda v: (module.apply(v, images(3)) ** 2).sum()))(variables)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert jnp.isfinite(leaf).all(), path
        assert jnp.abs(leaf).max() > 0.0, path


@pytest.mark.parametrize("channels", [(), (16, 30)])
def test_widths_that_do_not_fit_are_refused(channels):
    with pytest.raises(ConfigError, match=r"config.channels = .* multiples of groups = 4"):
        ImageEncoder(channels=channels).init(jax.random.key(0), images())


@pytest.mark.slow
def test_finds_the_point_of_a_rendered_image():
    """500 Adam steps of batch 64 to an RMSE under 0.01, or 0.64 pixels; keys 0 to 2: 0.0066 to 0.0074."""
    module, steps = ImageEncoder(features=2), 500
    empty = ground(jnp.array([[0.5, 0.55], [0.25, 0.88], [0.75, 0.88]]), jnp.array([[0.06, 0.05]] * 3))

    def draw(key, count):  # the whole disc within the image
        place = jax.random.uniform(key, (count, 2), minval=0.05, maxval=0.95)
        return render(place, empty), place

    def step(carry, key):
        variables, moments = carry
        image, place = draw(key, 64)
        gradients = jax.grad(lambda v: ((module.apply(v, image) - place) ** 2).mean())(variables)
        updates, moments = adam.update(gradients, moments)
        return (optax.apply_updates(variables, updates), moments), None

    adam = optax.adam(optax.cosine_decay_schedule(3e-3, steps))
    init_key, train_key, test_key = jax.random.split(jax.random.key(0), 3)
    variables = module.init(init_key, empty)
    carry = variables, adam.init(variables)
    train = jax.jit(lambda carry, keys: jax.lax.scan(step, carry, keys)[0])
    variables, _ = train(carry, jax.random.split(train_key, steps))
    image, place = draw(test_key, 500)
    rmse = jnp.sqrt(((jax.jit(module.apply)(variables, image) - place) ** 2).mean())
    assert rmse < 0.01
