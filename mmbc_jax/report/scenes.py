"""Pictures of a MuJoCo scene, without a screen.

OpenGL comes from where `MUJOCO_GL` says, egl where it says nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import mujoco
import numpy as np

from mmbc_jax.core.errors import UserError

_PIECES, _THICK = 300, 0.005  # of a way: pieces, and radius [m]
_COLOURS = ((0.0, 0.45, 0.7, 1.0), (0.84, 0.37, 0.0, 1.0), (0.0, 0.62, 0.45, 1.0))  # of ways, in their order
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


def still(
    model: mujoco.MjModel,
    qpos: np.ndarray,
    mocap: np.ndarray | None = None,
    size: tuple[int, int] = (640, 480),
    view: dict[str, Any] | None = None,
    followed: Sequence[str] = (),
) -> np.ndarray:
    """[height, width, 3] uint8: the end of a path of states, with the ways that some of its points took.

    Args:
      model: as the others that follow, of `frames`.
      qpos: [T, nq] positions.
      mocap: [T, M, 3] places, or None.
      size: width and height in pixels.
      view: of the camera.
      followed: names of sites and bodies whose ways are drawn; of what the scene does not have there is none.

    Raises:
      UserError: there is no OpenGL that draws without a screen.
    """
    qpos = np.asarray(qpos)
    ways = [way for name in followed if (way := _way(model, qpos, name)) is not None]
    context = _context(*size)
    try:
        last = None if mocap is None else mocap[-1:]
        return next(_drawn(model, qpos[-1:], last, size, VIEW | (view or {}), ways))
    finally:
        context.free()


def _way(model: mujoco.MjModel, qpos: np.ndarray, name: str) -> np.ndarray | None:
    """[T, 3] where a site or body is along a path of states [m]; None where there is none of that name."""
    site = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, name)
    body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name)
    if max(site, body) < 0:
        return None
    data, way = mujoco.MjData(model), []
    for positions in qpos:
        data.qpos[:] = positions
        mujoco.mj_kinematics(model, data)
        way.append((data.site_xpos[site] if site >= 0 else data.xpos[body]).copy())
    return np.array(way)


def _add_way(scene: mujoco.MjvScene, way: np.ndarray, colour: Sequence[float]) -> None:
    """A tube along a way, of as many pieces as the scene has room for."""
    pieces = min(len(way) - 1, _PIECES, scene.maxgeom - scene.ngeom)
    corners = way[np.linspace(0, len(way) - 1, pieces + 1).round().astype(int)]
    for start, end in zip(corners[:-1], corners[1:], strict=True):
        piece = scene.geoms[scene.ngeom]
        kind = mujoco.mjtGeom.mjGEOM_CAPSULE
        mujoco.mjv_initGeom(
            piece, kind, np.zeros(3), np.zeros(3), np.eye(3).ravel(), np.array(colour, np.float32)
        )
        mujoco.mjv_connector(piece, kind, _THICK, start, end)
        scene.ngeom += 1


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
    ways: Sequence[np.ndarray] = (),
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
        for way, colour in zip(ways, _COLOURS, strict=False):
            _add_way(scene, way, colour)
        picture = np.empty((size[1], size[0], 3), np.uint8)
        mujoco.mjr_render(rectangle, scene, target)
        mujoco.mjr_readPixels(picture, None, rectangle, target)
        yield picture[::-1]
    target.free()
