"""MuJoCo XLA, imported without the line that it prints where the optional warp backend is absent."""

from __future__ import annotations

import contextlib
import io

with contextlib.redirect_stdout(io.StringIO()):
    from mujoco import mjx

__all__ = ["mjx"]
