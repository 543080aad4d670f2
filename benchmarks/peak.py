"""The float32 peak of the pinned cores, measured in the rounds of what it is compared with, and a program's products.

A peak measured once holds for that moment: clock and neighbours move it by half. So a product of two 512 x 512
matrices is one more contender of every round, by JAX and, where it is loaded, by PyTorch; the faster of the two is
the peak of that round, and a share of peak is taken within the round.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from benchmarks.timing import Contender, Samples, repeated, spread

PRODUCTS = ("fp32 product, jax", "fp32 product, torch")
_SIZE, _REPEATS = 512, 8  # about 20 ms a block on one core


def contenders() -> list[Contender]:
    """A matrix product by each library that is loaded; unit: GFLOP."""
    ones = jnp.ones((_SIZE, _SIZE))
    product = jax.jit(lambda a: a @ a)
    products: list[Callable[[], Any]] = [lambda: product(ones).block_until_ready()]
    if "torch" in sys.modules:  # not imported for it: it would count in a process's memory
        matrix = sys.modules["torch"].ones(_SIZE, _SIZE)
        products.append(lambda: matrix @ matrix)
    units = _REPEATS * 2e-9 * _SIZE**3
    return [Contender(n, repeated(p, _REPEATS), units) for n, p in zip(PRODUCTS, products, strict=False)]


def summarise(
    samples: Mapping[str, Samples], ours: str, gflop: Mapping[str, float], cores: int
) -> dict[str, Any]:
    """`timing.summarise` of the contenders, with what they reach of the peak.

    Args:
      samples: of `interleave`, those of `contenders()` among them.
      ours: see `timing.summarise`.
      gflop: products in one unit of work of a contender, for those that are to have a share.
      cores: with one, shares are of processor time, where time that others took does not count.

    Returns:
      The fields of `timing.summarise`, "peak_gflops": spread over the rounds, and {name: spread} of "gflops" and
      "share_of_peak".
    """
    clock = "cpu" if cores == 1 else "wall"
    of = {name: np.asarray(getattr(sample, clock)) for name, sample in samples.items()}
    peak = 1.0 / np.min([seconds for name, seconds in of.items() if name in PRODUCTS], axis=0)
    rates = {name: work / of[name] for name, work in gflop.items()}
    others = {name: sample for name, sample in samples.items() if name not in PRODUCTS}
    return {
        **timing.summarise(others, ours),
        "peak_gflops": spread(peak),
        "gflops": {name: spread(rate) for name, rate in rates.items()},
        "share_of_peak": {name: spread(rate / peak) for name, rate in rates.items()},
    }


def count_products(fn: Callable[..., Any], *args: Any) -> float:
    """GFLOP of the matrix products and convolutions of `fn(*args)`, which is only traced.

    A product of [m, k] and [k, n] counts 2 m k n. The body of a scan counts as often as it runs, that of a
    `while_loop` once, of the branches of a `cond` the dearest.
    """
    return 1e-9 * _products(jax.make_jaxpr(fn)(*args).jaxpr)


def _products(jaxpr: Any) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        params, name = equation.params, equation.primitive.name
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            inner = math.prod(shape[axis] for axis in contracted)
            total += 2.0 * inner * math.prod(equation.outvars[0].aval.shape)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            outputs = kernel[params["dimension_numbers"].rhs_spec[0]]
            total += 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) / outputs
        else:
            inside = [_products(inner) for inner in _inner(params)]
            combined = max(inside, default=0.0) if name == "cond" else sum(inside)
            total += params.get("length", 1) * combined if name == "scan" else combined
    return total


def _inner(params: Mapping[str, Any]) -> Iterator[Any]:
    """The programs among an equation's parameters."""
    for value in params.values():
        for entry in value if isinstance(value, (tuple, list)) else (value,):
            found = getattr(entry, "jaxpr", entry)
            if hasattr(found, "eqns"):
                yield found
