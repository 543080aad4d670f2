"""MuJoCo XLA, imported without the line that it prints where the optional warp backend is absent."""

from __future__ import annotations

from mmbc_jax.core.noise import without_warp

with without_warp():
    from mujoco import mjx

__all__ = ["mjx"]
