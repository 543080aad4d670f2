"""Pictures of a MuJoCo scene, without a screen.

OpenGL comes from where `MUJOCO_GL` says, egl where it says nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np

from mmbc_jax.core.errors import UserError

BACKENDS = ("egl", "osmesa", "glfw")
VIEW = {"lookat": (0.5, 0.0, 0.25), "distance": 1.5, "azimuth": 130.0, "elevation": -25.0}


def frames(
    model: mujoco.MjModel,
    qpos: np.ndarray,
    mocap: np.ndarray | None = None,
    size: tuple[int, int] = (640, 480),
    view: dict[str, Any] | None = None,
) -> np.ndarray:
    """[T, height, width, 3] uint8 pictures of a path of states.

    Args:
      model: the scene.
      qpos: [T, nq] positions.
      mocap: [T, M, 3] places of its mocap bodies [m]; None where they stay.
      size: width and height in pixels, up to 1280 by 960.
      view: `lookat` [m], `distance` [m], `azimuth` and `elevation` [degrees] of the camera; what is left out is as in
        `VIEW`.

    Raises:
      UserError: there is no OpenGL that draws without a screen.
    """
    context = _context(*size)
    try:
        return np.stack(list(_drawn(model, np.asarray(qpos), mocap, size, VIEW | (view or {}))))
    finally:
        context.free()


def _context(width: int, height: int) -> Any:
    name = os.environ.get("MUJOCO_GL", "").lower() or "egl"
    try:
        if name not in BACKENDS:
            raise ImportError("unknown")
        context = _opened(name, width, height)
        context.make_current()
    except Exception as error:  # these libraries raise whatever they find missing
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"MUJOCO_GL={name} cannot draw here ({reason}); set MUJOCO_GL to one of {', '.join(BACKENDS)} whose "
            "library is installed (egl: libegl1, osmesa: libosmesa6)"
        ) from error
    return context


def _opened(name: str, width: int, height: int) -> Any:
    """A context of the backend; each is imported where it is asked for, since importing loads its library."""
    if name == "egl":
        from mujoco.egl import GLContext as Egl

        return Egl(width, height)
    if name == "osmesa":
        from mujoco.osmesa import GLContext as Mesa

        return Mesa(width, height)
    from mujoco.glfw import GLContext as Window

    return Window(width, height)


def _drawn(
    model: mujoco.MjModel,
    qpos: np.ndarray,
    mocap: np.ndarray | None,
    size: tuple[int, int],
    view: dict[str, Any],
) -> Iterator[np.ndarray]:
    data, scene, options = mujoco.MjData(model), mujoco.MjvScene(model, 1000), mujoco.MjvOption()
    camera = mujoco.MjvCamera()
    for name, value in view.items():
        setattr(camera, name, value)
    target = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, target)
    rectangle = mujoco.MjrRect(0, 0, *size)
    for number, positions in enumerate(qpos):
        data.qpos[:] = positions
        if mocap is not None:
            data.mocap_pos[:] = mocap[number]
        mujoco.mj_forward(model, data)
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(model, data, options, None, camera, everything, scene)
        picture = np.empty((size[1], size[0], 3), np.uint8)
        mujoco.mjr_render(rectangle, scene, target)
        mujoco.mjr_readPixels(picture, None, rectangle, target)
        yield picture[::-1]
    target.free()
