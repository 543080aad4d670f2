"""The convolution with spelled-out gradients against NumPy and against automatic differentiation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.nn.convolution import Convolution, convolve

CASES = [  # x, kernel, stride: square and not, even and odd sides and kernels, a kernel wider than its image
    ((2, 8, 8, 3), (3, 3, 3, 4), 1),
    ((2, 8, 7, 3), (3, 3, 3, 4), 2),
    ((1, 9, 12, 2), (5, 4, 2, 3), 3),
    ((3, 8, 8, 2), (4, 4, 2, 5), 4),
    ((2, 5, 5, 3), (1, 1, 3, 2), 2),
    ((2, 3, 2, 1), (7, 7, 1, 2), 1),
]


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def builtin(x, kernel, stride):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=layout)


@pytest.mark.parametrize(("x_shape", "kernel_shape", "stride"), CASES)
def test_agrees_with_sums_over_windows(x_shape, kernel_shape, stride):
    x, kernel = draw(*x_shape), draw(*kernel_shape, seed=1)
    size, sides = kernel_shape[:2], x_shape[1:3]
    out = [-(-side // stride) for side in sides]
    pads = [max((o - 1) * stride + k - side, 0) for o, k, side in zip(out, size, sides, strict=True)]
    padded = np.pad(x, [(0, 0), *((p // 2, p - p // 2) for p in pads), (0, 0)])
    expected = np.zeros((x_shape[0], *out, kernel_shape[-1]))
    for i in range(out[0]):
        for j in range(out[1]):
            window = padded[:, i * stride : i * stride + size[0], j * stride : j * stride + size[1]]
            expected[:, i, j] = np.tensordot(window.astype(float), kernel.astype(float), 3)
    np.testing.assert_allclose(convolve(x, kernel, stride), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("x_shape", "kernel_shape", "stride"), CASES)
def test_gradients_agree_with_automatic_differentiation(x_shape, kernel_shape, stride):
    x, kernel = draw(*x_shape), draw(*kernel_shape, seed=1)
    ours, pull = jax.vjp(lambda x, w: convolve(x, w, stride), x, kernel)
    theirs, pull_builtin = jax.vjp(lambda x, w: builtin(x, w, stride), x, kernel)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    cotangent = draw(*ours.shape, seed=2)
    for found, expected in zip(pull(cotangent), pull_builtin(cotangent), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)], ids=["images", "kernels", "both"])
def test_vmap_of_the_gradient_agrees_with_one_by_one(axes):
    x, kernel = draw(3, 2, 6, 5, 2), draw(3, 3, 3, 2, 4, seed=1)
    x, kernel = (a if axis == 0 else a[0] for a, axis in zip((x, kernel), axes, strict=True))
    gradient = jax.grad(lambda x, w: (convolve(x, w, 2) ** 2).sum(), argnums=(0, 1))
    found = jax.jit(jax.vmap(gradient, axes))(x, kernel)
    for i in range(3):
        args = (a[i] if axis == 0 else a for a, axis in zip((x, kernel), axes, strict=True))
        for many, one in zip(found, gradient(*args), strict=True):
            np.testing.assert_allclose(many[i], one, rtol=1e-4, atol=1e-4)


def test_every_convolution_of_a_loop_is_in_the_fast_layout():
    """Rows and columns between the batch and the channels, for both gradients; see the module docstring."""

    def step(pair, _):
        gradients = jax.grad(lambda x, w: (convolve(x, w, 2) ** 2).sum(), argnums=(0, 1))(*pair)
        return jax.tree.map(lambda a, b: a - 0.1 * b, pair, gradients), None

    pair = jnp.zeros((2, 8, 8, 3)), jnp.zeros((3, 3, 3, 4))
    text = jax.jit(lambda pair: jax.lax.scan(step, pair, None, length=3)).lower(pair).as_text()
    layouts = [
        line.split("dim_numbers = ")[1].split(",  window")[0]
        for line in text.splitlines()
        if "stablehlo.conv" in line and "dim_numbers" in line
    ]
    assert len(layouts) == 3
    assert {layout.split(", window")[0] for layout in layouts} == {"[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"}


def test_module_has_one_kernel_of_unit_gain():
    module = Convolution(64, 5, 2)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 16)))
    assert jax.tree.map(jnp.shape, variables) == {"params": {"kernel": (5, 5, 16, 64)}}
    kernel = np.asarray(variables["params"]["kernel"])
    assert kernel.std() == pytest.approx(
        (5 * 5 * 16) ** -0.5, rel=0.02
    )  # 25,600 draws: 1 / sqrt(51,200) = 0.4 %
    x = draw(2, 8, 8, 16)
    np.testing.assert_array_equal(module.apply(variables, x), convolve(x, kernel, 2))
