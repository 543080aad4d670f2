"""The precision of network products: of dense layers, attention and convolutions, and of nothing else.

  fp32  operands and sums in float32, on every device (XLA's HIGHEST; JAX's own default on a GPU is TF32)
  tf32  operands rounded to TF32 (10 bits behind the point) on devices that have it, sums in float32; else as fp32
  bf16  operands rounded to bfloat16 (7 bits), sums and results in float32. Cotangents are operands of the products
        that make gradients, so they are rounded too; the gradient of a product's operand is a bfloat16 number

Parameters, their gradients' sums, optimisers, normalisations, activations, losses and log-probabilities stay float32.

A network learns its precision where it is built: every `Network` made inside `networks_in(...)` keeps it as a field,
and the layers inside take it from the module around them. So no plug-in has to know, and modules of different
precision are unequal, as `jax.jit` needs them to be.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.types import Array

PRECISIONS = ("fp32", "tf32", "bf16")
Dims = tuple[tuple[Any, Any], tuple[Any, Any]]
_XLA = {"fp32": jax.lax.Precision.HIGHEST, "tf32": jax.lax.Precision.HIGH, "bf16": jax.lax.Precision.DEFAULT}
_building: ContextVar[str | None] = ContextVar("precision", default=None)


@contextmanager
def networks_in(precision: str) -> Iterator[None]:
    """Networks that are built inside have this precision, one of `PRECISIONS`."""
    token = _building.set(precision)
    try:
        yield
    finally:
        _building.reset(token)


def building() -> str | None:
    """The precision of networks that are built here; None outside `networks_in`."""
    return _building.get()


class Network(nn.Module, kw_only=True):
    """A module that keeps the precision it was built in.

    Attributes:
      precision: one of `PRECISIONS`; None for that of the module around it, and fp32 where there is none.
    """

    precision: str | None = dataclasses.field(default_factory=building)


def precision_of(module: Any) -> str:
    """The precision of a module: its own, or that of the nearest module around it that has one."""
    while isinstance(module, nn.Module):
        own = getattr(module, "precision", None)
        if own in PRECISIONS:
            return str(own)
        module = module.parent
    return "fp32"


def operands(precision: str, *arrays: Array) -> tuple[Array, ...]:
    """The arrays as a product of this precision takes them."""
    return tuple(array.astype(jnp.bfloat16) for array in arrays) if precision == "bf16" else arrays


def xla_precision(precision: str) -> jax.lax.Precision:
    """What XLA is asked for."""
    return _XLA[precision]


def product(x: Array, y: Array, dims: Dims, precision: str) -> Array:
    """`jax.lax.dot_general` of float32 arrays in a precision; float32."""
    if precision == "bf16":
        return _rounded_product(x, y, dims)
    return jax.lax.dot_general(x, y, dims, precision=_XLA[precision])


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _rounded_product(x: Array, y: Array, dims: Dims) -> Array:
    x, y = operands("bf16", x, y)
    return jax.lax.dot_general(x, y, dims, precision=_XLA["bf16"], preferred_element_type=jnp.float32)


@_rounded_product.defjvp
def _tangent(dims: Dims, primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    """Of bfloat16 products with bfloat16 results: their transposes, which make gradients, are such products too.

    The rule that JAX would derive multiplies float32 cotangents with bfloat16 operands, which devices do in float32.
    """
    (x, y), (x_dot, y_dot) = operands("bf16", *primals), operands("bf16", *tangents)
    moved = jax.lax.dot_general(x_dot, y, dims, precision=_XLA["bf16"]).astype(jnp.float32)
    moved += jax.lax.dot_general(x, y_dot, dims, precision=_XLA["bf16"]).astype(jnp.float32)
    return _rounded_product(*primals, dims), moved


@functools.cache
def dot_general_in(precision: str) -> Callable[..., Array]:
    """What stands in for `jax.lax.dot_general` in a layer of flax, which asks for no precision of its own."""

    def dot_general(x: Array, y: Array, dims: Dims, *_: Any, **__: Any) -> Array:
        return product(x, y, dims, precision)

    return dot_general


class Product(nn.Module):
    """The `dot_general` of a layer of flax, in the precision of the network around it."""

    def __call__(self, x: Array, y: Array, dims: Dims, *_: Any, **__: Any) -> Array:
        """As `jax.lax.dot_general`."""
        return product(x, y, dims, precision_of(self))


Dense = functools.partial(nn.Dense, dot_general_cls=Product)
DenseGeneral = functools.partial(nn.DenseGeneral, dot_general_cls=Product)


def exact_elsewhere() -> None:
    """Has everything that is no network multiplied in float32, unless JAX was told otherwise (by its own option).

    On a GPU its own default is TF32: in simulators, losses and probabilities, too.
    """
    if jax.config.values["jax_default_matmul_precision"] is None:
        jax.config.update("jax_default_matmul_precision", "highest")


def described(precision: str, platform: str) -> str:
    """A precision in words, for tables: `bf16`, or `tf32 (as fp32: cpu)` where the platform does not have it."""
    return f"tf32 (as fp32: {platform})" if (precision, platform) == ("tf32", "cpu") else precision


def advice(precision: str, platform: str) -> str:
    """What whoever starts a run should know of its precision, in one line; empty where there is nothing to choose."""
    if platform == "cpu":
        return f"precision: networks in {described(precision, platform)}" if precision == "tf32" else ""
    if precision == "fp32":
        return (
            "precision: networks in fp32 (XLA's highest); JAX's own default here is --config.precision=tf32, "
            "faster where networks are large, and bf16 is another step"
        )
    return f"precision: networks in {precision}, all else in fp32"
