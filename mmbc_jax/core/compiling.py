"""What the programs of an environment need of the compiler, and where they need it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from mmbc_jax.core.types import EnvSpec

FUSION_EMITTERS = "xla_cpu_use_fusion_emitters"


def compiler_options(spec: EnvSpec | None) -> dict[str, Any]:
    """XLA options for programs that hold an environment of `spec`: none but for a serial chain on a CPU, jax < 0.11.

    There the compiler fuses each link's pose into that of every later one and computes it again for each use, so that
    time grows exponentially along the chain (https://github.com/jax-ml/jax/issues/33761): an arm of seven joints is
    four thousand times slower without this. For other programs the option is no gain, so they go without.
    """
    affected = jax.__version_info__ < (0, 11) and jax.default_backend() == "cpu"
    return {FUSION_EMITTERS: False} if spec is not None and spec.serial_chain and affected else {}


def jit(fn: Callable[..., Any], spec: EnvSpec | None, **options: Any) -> Any:
    """`jax.jit` of a program that holds an environment of `spec`, or none; `options` are those of `jax.jit`."""
    return jax.jit(fn, compiler_options=compiler_options(spec) or None, **options)
