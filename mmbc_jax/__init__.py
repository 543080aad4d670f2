"""Multimodal behavioural cloning and mode-preserving RL fine-tuning.

`policy = mmbc_jax.load("runs/x")` brings a trained policy to act; everything else is in the package's rooms.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

# `python -m mmbc_jax...` is looking its module up: before anything else is imported
if sys.argv[:1] == ["-m"]:
    from mmbc_jax.core import interrupts

    interrupts.install()

if TYPE_CHECKING:
    from mmbc_jax.deploy.deployed import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`load`, imported when it is first asked for: importing the package imports nothing else."""
    if name == "load":
        from mmbc_jax.deploy.deployed import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
