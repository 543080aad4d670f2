"""Scenes of boxes and a rod in C MuJoCo: in the plane with dampers, and in space on a table with dry friction."""

from __future__ import annotations

import mujoco
import numpy as np

STIFF = 'solref="0.0005 1" solimp=".999 .9999 .00001"'
SCENE = """<mujoco><compiler angle="radian"/>
<option timestep="{step}" gravity="0 0 {gravity}" integrator="implicitfast" cone="elliptic" impratio="{impratio}"
tolerance="1e-12" iterations="200"/>
<worldbody>{table}<body pos="{x} {y} .03"><joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 1 0"/>
<geom name="t" type="cylinder" size="{rod} .02" mass="1000" {touches}/></body>{boxes}</worldbody>
<contact>{pairs}</contact></mujoco>"""
NO = 'contype="0" conaffinity="0"'


def planar(half, radius, rod, friction, poses, start):
    """Boxes on sliders and a hinge with dampers 1, 1 and R^2 [N s/m, N m s], too light for inertia."""
    boxes = "".join(
        f'<body pos="{x} {y} 0"><joint type="slide" axis="1 0 0" damping="1"/>'
        f'<joint type="slide" axis="0 1 0" damping="1"/><joint type="hinge" axis="0 0 1" damping="{radius**2}"/>'
        f'<inertial pos="0 0 0" mass="1e-3" diaginertia="1 1 {1e-3 * radius**2}"/>'
        f'<geom name="g{i}" type="box" size="{half} {half} .03" {NO}/></body>'
        for i, (x, y, _) in enumerate(poses)
    )
    names = [("t", f"g{i}") for i in range(len(poses))] + [("g0", "g1")] * (len(poses) > 1)
    slip = f'condim="3" friction="{friction} {friction} 0 0 0"'
    pairs = "".join(f'<pair geom1="{a}" geom2="{b}" {slip} {STIFF}/>' for a, b in names)
    known = {"step": "1e-4", "gravity": 0, "impratio": 100, "table": "", "touches": NO}
    return _scene(start, rod, boxes=boxes, pairs=pairs, **known)


def on_a_table(half, rod, friction, poses, start):
    """Free boxes on a plane, carried by their corners, with dry friction at every contact."""
    boxes = "".join(
        f'<body pos="{x} {y} {half}" euler="0 0 {angle}"><freejoint/>'
        f'<geom type="box" size="{half} {half} {half}" mass=".05" friction="{friction}"/></body>'
        for x, y, angle in poses
    )
    table = f'<geom type="plane" size="1 1 .1" friction="{friction}"/>'
    known = {"step": "1e-3", "gravity": -9.81, "impratio": 10, "table": table, "touches": ""}
    return _scene(start, rod, boxes=boxes, pairs="", **known)


def _scene(start, rod, **known):
    return mujoco.MjModel.from_xml_string(SCENE.format(x=start[0], y=start[1], rod=rod, **known))


def driven(model, way, angles, speed):
    """[K, 3] poses of the boxes after the rod went along the corners `way` [n, 2] at `speed` m/s."""
    data = mujoco.MjData(model)
    if model.nq == 2 + 3 * len(angles):
        data.qpos[4::3] = angles
    step = model.opt.timestep
    for a, b in zip(way[:-1], way[1:], strict=True):
        count = max(round(np.linalg.norm(b - a) / speed / step), 1)
        for _ in range(count):
            data.qvel[:2] = (b - a) / (count * step)
            mujoco.mj_step(model, data)
    mujoco.mj_kinematics(model, data)
    turns = data.xmat[2:].reshape(-1, 3, 3)
    return np.c_[data.xpos[2:, :2], np.arctan2(turns[:, 1, 0], turns[:, 0, 0])]
