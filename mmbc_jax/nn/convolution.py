r"""A two-dimensional convolution whose gradients keep their speed inside loops and over several runs.

XLA's CPU compiler hands a convolution to a fast routine only where its operands are laid out as [batch, row, column,
channel] and [row, column, in, out]. It rearranges others at the top level of a program, but not in the body of a loop
(https://github.com/jax-ml/jax/issues/12868), where the gradients of a convolution run a hundred times slower; and a
`vmap` over kernels makes a grouped convolution, three to eight times slower than one after the other. So both
gradients are spelled out here as convolutions in that layout, with y = conv(x, w), stride s and cotangent g:

  x:  g with s - 1 zeros between its pixels, by w turned by 180 degrees, channels swapped
  w:  x by g with s - 1 zeros between its pixels, the batch as the channel that is summed

and a batch of kernels is gone through one by one.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.custom_batching import custom_vmap

from mmbc_jax.core.types import Array
from mmbc_jax.nn.precision import operands, precision_of, xla_precision

Pads = tuple[tuple[int, int], ...]  # zeros before and after, of rows and of columns


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(x: Array, kernel: Array, stride: int = 1, precision: str = "fp32") -> Array:
    """Cross-correlation with zeros beyond the border ("SAME"); reverse mode only.

    Args:
      x: [B, H, W, I].
      kernel: [K, L, I, O].
      stride: of rows and columns.
      precision: of this product and of those that make its gradients; see `nn.precision`.

    Returns:
      [B, H / stride, W / stride, O], sides rounded up.
    """
    return _product(x, kernel, _same(x, kernel, stride), precision, stride=stride)


def _forward(x: Array, kernel: Array, stride: int, precision: str) -> tuple[Array, tuple[Array, Array]]:
    return convolve(x, kernel, stride, precision), (x, kernel)


def _backward(stride: int, precision: str, kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    """Cotangents of x and kernel; the pads are those that give back their sizes."""
    x, kernel = kept
    pads = _same(x, kernel, stride)
    back, spread = [], []
    for axis, (low, _) in enumerate(pads):
        side, size, reach = x.shape[1 + axis], kernel.shape[axis], (g.shape[1 + axis] - 1) * stride + 1
        back.append((size - 1 - low, side + low - reach))
        spread.append((low, size - 1 + reach - side - low))
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    of_x = _product(g, turned, (back[0], back[1]), precision, zeros_x=stride)
    of_kernel = _product(
        x.transpose(3, 1, 2, 0),
        g.transpose(1, 2, 0, 3),
        (spread[0], spread[1]),
        precision,
        zeros_kernel=stride,
    )
    return of_x, of_kernel.transpose(1, 2, 0, 3)


convolve.defvjp(_forward, _backward)


def _same(x: Array, kernel: Array, stride: int) -> Pads:
    """Zeros before and after the rows and columns."""
    rows, columns = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (stride, stride), "SAME")
    return rows, columns


def _product(
    x: Array,
    kernel: Array,
    pads: Pads,
    precision: str,
    stride: int = 1,
    zeros_x: int = 1,
    zeros_kernel: int = 1,
) -> Array:
    """Convolution in the fast layout; `zeros_...` dilate an operand."""

    @custom_vmap
    def product(x: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            pads,
            lhs_dilation=(zeros_x, zeros_x),
            rhs_dilation=(zeros_kernel, zeros_kernel),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=xla_precision(precision),
            preferred_element_type=jnp.float32,
        )

    @product.def_vmap
    def over(size: int, batched: list[bool], x: Array, kernel: Array) -> tuple[Array, bool]:
        if not batched[1]:
            y = product(x.reshape(-1, *x.shape[2:]), kernel)
            return y.reshape(size, -1, *y.shape[1:]), True
        if not batched[0]:
            return jax.lax.map(lambda w: product(x, w), kernel), True
        return jax.lax.map(lambda pair: product(*pair), (x, kernel)), True

    return product(*operands(precision, x, kernel))


class Convolution(nn.Module):
    """`convolve` by a square kernel, without bias.

    Attributes:
      features: O.
      size: side of the kernel.
      stride: of rows and columns.
    """

    features: int
    size: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, H, W, I] to [B, H / stride, W / stride, O], sides rounded up."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        return convolve(x, kernel, self.stride, precision_of(self))
