"""A function that draws with a key, as one whose random numbers go in: for formats that cannot carry JAX's generator.

All that JAX draws comes from words of random bits, which become numbers u in [0, 1), multiples of 2^-23, before
anything else is made of them. So u in place of the key is the whole of chance: with those that a key would have given
(`Chance.drawn`) the answer is that under the key.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core as jax_core

from mmbc_jax.core.errors import UserError

_KEPT_BITS, _ONE = (
    9,
    0x3F800000,
)  # what jax.random.uniform shifts away, and the exponent that it writes before them
MOST = 20_000
"""Operations that a decision may have, its loops written out."""
_INLINED = ("jaxpr", "call_jaxpr", "fun_jaxpr")


class _Keys:
    """Stands for keys where there are none."""


@dataclasses.dataclass(frozen=True)
class _Bits:
    """Random bits on their way to u; `stage` counts the steps of `jax.random.uniform` that are done."""

    u: Any
    stage: int = 0


class Chance:
    """A function (words [2] uint32 of a key, *arguments) with its draws as arguments.

    Args:
      function: that is traced; loops with draws inside are written out.
      arguments: of the function after the words, arrays or their shapes, which may be symbolic.

    Raises:
      UserError: it draws in a way that cannot be told from outside.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        words = jax.ShapeDtypeStruct((2,), jnp.uint32)
        self._traced = jax.make_jaxpr(function)(words, *arguments)
        self.shapes: list[tuple[Any, ...]] = []
        """Of the arrays u, in the order in which they are used."""

        def zeros(_: Any, shape: tuple[Any, ...]) -> Any:
            self.shapes.append(shape)
            return jnp.zeros(shape)

        jax.eval_shape(lambda *given: self._answer(zeros, _Keys(), given), *arguments)

    def __call__(self, noise: Sequence[Any], *arguments: Any) -> Any:
        """The function's answer where it draws `noise`, arrays of `shapes` of numbers in [0, 1)."""
        left = iter(noise)
        return self._answer(lambda *_: next(left), _Keys(), arguments)

    def drawn(self, words: Any, *arguments: Any) -> list[np.ndarray]:
        """The noise under which the answer is that of a key, whose words these are."""

        def recorded(words: Any, *given: Any) -> list[Any]:
            noise: list[Any] = []

            def draw(bits: Any, _: Any) -> Any:
                noise.append((bits >> _KEPT_BITS).astype(jnp.float32) * jnp.float32(2.0**-23))
                return noise[-1]

            self._answer(draw, words, given)
            return noise

        return [np.asarray(u) for u in jax.jit(recorded)(words, *arguments)]

    def _answer(self, draw: Callable[[Any, tuple[Any, ...]], Any], words: Any, given: Sequence[Any]) -> Any:
        leaves = jax.tree.leaves(tuple(given))
        (answer,) = _Evaluated(draw)(self._traced.jaxpr, self._traced.consts, [words, *leaves])
        return answer


class _Evaluated:
    """Evaluates traced operations one by one; `draw` gives u of (bits, or keys' stand-in, shape)."""

    def __init__(self, draw: Callable[[Any, tuple[Any, ...]], Any]):
        self._draw, self._done = draw, 0

    def __call__(self, jaxpr: Any, consts: Sequence[Any], given: Sequence[Any]) -> list[Any]:
        values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *given), strict=True))

        def read(variable: Any) -> Any:
            return variable.val if isinstance(variable, jax_core.Literal) else values[variable]

        for equation in jaxpr.eqns:
            found = self._operation(equation, [read(v) for v in equation.invars])
            values.update(zip(equation.outvars, found, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def _operation(self, equation: Any, given: list[Any]) -> list[Any]:
        name = equation.primitive.name
        self._done += 1
        if self._done > MOST:
            raise UserError(f"it has more than {MOST:,} operations with its loops written out")
        if name == "scan":
            return self._loop(equation.params, given)
        inner = next((equation.params[key] for key in _INLINED if key in equation.params), None)
        if inner is not None:
            return self(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), given)
        if any(isinstance(value, _Bits) for value in given):
            return [_further(name, *given)]
        if name == "random_bits" and equation.params["bit_width"] == 32:
            bits = given[0] if isinstance(given[0], _Keys) else _bound(equation, given)[0]
            return [_Bits(self._draw(bits, equation.outvars[0].aval.shape))]
        if name == "erf_inv":
            return [_erf_inv(given[0])]
        if any(isinstance(value, _Keys) for value in given):
            if name in ("random_bits", "while", "cond"):
                raise UserError(
                    f"it draws in an operation {name} that cannot be written with its draws as inputs"
                )
            return [_Keys()] * len(equation.outvars)
        return _bound(equation, given)

    def _loop(self, params: Any, given: list[Any]) -> list[Any]:
        """A scan, written out."""
        fixed, kept = params["num_consts"], params["num_carry"]
        consts, carry, each = given[:fixed], given[fixed : fixed + kept], given[fixed + kept :]
        order = range(params["length"])
        rows = []
        for i in reversed(order) if params["reverse"] else order:
            now = [_row(x, i) for x in each]
            found = self(params["jaxpr"].jaxpr, params["jaxpr"].consts, [*consts, *carry, *now])
            carry = found[:kept]
            rows.append(found[kept:])
        rows = rows[::-1] if params["reverse"] else rows
        return [*carry, *(_stacked(column) for column in zip(*rows, strict=True))]


def _bound(equation: Any, given: list[Any]) -> list[Any]:
    found = equation.primitive.bind(*given, **equation.params)
    return list(found) if equation.primitive.multiple_results else [found]


def _row(value: Any, i: int) -> Any:
    if isinstance(value, _Keys):
        return value
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return value[i]
    return lax.index_in_dim(value, i, keepdims=False)


def _stacked(column: Sequence[Any]) -> Any:
    if isinstance(column[0], _Keys):
        return column[0]
    return lax.concatenate([lax.expand_dims(x, (0,)) for x in column], 0)


_LARGEST_U = np.float32(1 - 2**-23)


def _further(name: str, bits: Any, other: Any = 0) -> Any:
    """The next step of `jax.random.uniform` of bits; the last gives 1 + u."""
    steps = (("shift_right_logical", _KEPT_BITS), ("or", _ONE), ("bitcast_convert_type", 0))
    known = isinstance(bits, _Bits) and not isinstance(other, (jax.core.Tracer, _Bits))
    if not known or (name, int(other)) != steps[bits.stage]:
        raise UserError("it draws whole numbers, which cannot be written as inputs")
    if bits.stage < 2:
        return _Bits(bits.u, bits.stage + 1)
    # 1 + u of the largest u below 1 would round to 2, of which the next step makes an infinite number
    return lax.min(bits.u, jnp.full_like(bits.u, _LARGEST_U)) + np.float32(1)


_CENTRE = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164,
    0.246640727, 1.50140941,
)  # fmt: skip
_TAILS = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
    1.00167406, 2.83297682,
)  # fmt: skip


def _erf_inv(x: Any) -> Any:
    """The inverse error function in float32: the polynomials of Giles (2010), which XLA has, in plain operations.

    Formats without the function are left to approximate it, and do so by Newton's steps that are off in the tails.
    """
    w = -lax.log1p(-x * x)
    tail = lax.convert_element_type(w >= np.float32(5.0), jnp.float32)
    v = (1 - tail) * (w - np.float32(2.5)) + tail * (lax.sqrt(w) - np.float32(3.0))
    total = [jnp.float32(terms[0]) for terms in (_CENTRE, _TAILS)]
    for pair in zip(_CENTRE[1:], _TAILS[1:], strict=True):
        total = [np.float32(term) + sum_ * v for term, sum_ in zip(pair, total, strict=True)]
    return ((1 - tail) * total[0] + tail * total[1]) * x
