"""Mean paths and obstacles of the path tasks in numpy, and one cached batch of rollouts per task."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core import config, registry

EXPERTS, MIXED = 640, 320
CASES = {
    "radial": ("radial", {}),
    "corridor": ("corridor", {"num_modes": 16}),
    "sequential": ("sequential", {}),
    "circle": ("circle", {}),
    "conditional_circle": ("conditional_circle", {}),
    "smooth_path": ("smooth_path", {"noise": 0.002}),
    "high_low": ("high_low", {"noise": 0.002}),
}
NOISY = ("radial", "corridor", "sequential", "conditional_circle")
ROLLED = (*NOISY, "smooth_path", "high_low")  # the circle without a context is the same code


@functools.cache
def build(name, **fields):
    return registry.build("env", config.plugin("env", name, **fields))


def case(name):
    plugin, fields = CASES[name]
    return build(plugin, **fields)


class Trace(NamedTuple):
    """Positions [B, T + 1, 2], actions [B, T, 2], first and last state, modes [B], metrics [B, T]."""

    position: np.ndarray
    action: np.ndarray
    first: object
    last: object
    modes: np.ndarray
    metrics: dict


@functools.cache
def rollouts(name):
    """`EXPERTS` pure expert episodes, then `MIXED` that blend two experts and drift."""
    env, total = case(name), EXPERTS + MIXED
    one = jnp.arange(total) % env.spec.num_modes
    rng = np.random.default_rng(0)
    other = jnp.asarray(
        np.where(np.arange(total) < EXPERTS, one, rng.permutation(total) % env.spec.num_modes)
    )
    mixed = np.arange(total) >= EXPERTS
    weight = jnp.asarray(np.where(mixed, rng.uniform(0, 0.6, total), 0.0)[:, None])
    pace = jnp.asarray(np.where(mixed, rng.choice([1.0, 1.0, 0.9, 0.2], total), 1.0)[:, None])

    @jax.jit
    def run(key):
        reset_key, scan_key = jax.random.split(key)
        state = jax.vmap(env.reset)(jax.random.split(reset_key, total))

        def body(state, key):
            keys = jax.random.split(key, (2, total))
            first, second = (
                jax.vmap(env.expert)(state, m, k) for m, k in zip((one, other), keys, strict=True)
            )
            action = pace * ((1 - weight) * first + weight * second)
            nstate = jax.vmap(env.step)(state, action)
            return nstate, (nstate.data["position"], action, nstate.metrics)

        last, trace = jax.lax.scan(body, state, jax.random.split(scan_key, env.spec.episode_length))
        return state, last, trace

    first, last, (position, action, metrics) = run(jax.random.key(7))
    position = np.concatenate([np.asarray(first.data["position"])[:, None], np.swapaxes(position, 0, 1)], 1)
    metrics = {k: np.asarray(v).T for k, v in metrics.items()}
    return Trace(
        position.astype(np.float64), np.swapaxes(action, 0, 1), first, last, np.asarray(one), metrics
    )


def mean_paths(name, k, **geometry):
    """[K, T, 2] from the written geometry, one position at a time."""
    g = dataclasses.asdict(case(name).options) | geometry
    points = 100 if name in ("smooth_path", "high_low") else 60
    return np.array([[_point(name, k, g, i, t / (points - 1)) for t in range(points)] for i in range(k)])


def _point(name, k, g, i, s):
    if name == "radial":
        return (
            0.5 + s * g["radius"] * np.cos(2 * np.pi * i / k),
            0.5 + s * g["radius"] * np.sin(2 * np.pi * i / k),
        )
    if name == "corridor":
        x, gap = 0.05 + 0.9 * s, (i + 1) / (k + 1)
        if 0.48 <= x <= 0.52:
            return x, gap
        ramp = (x - 0.05) / 0.43 if x < 0.48 else (0.95 - x) / 0.43
        return x, 0.5 + ramp * (gap - 0.5)
    if name == "sequential":
        first, second = (1 if i >= 2 else -1) * g["first_shift"], (1 if i % 2 else -1) * g["second_shift"]
        return 0.5 + np.interp(s, [0.4, 0.45], [0, first]) + np.interp(s, [0.7, 0.75], [0, second]), s
    if name in ("circle", "conditional_circle"):
        # clockwise: from the top of the bottom circle to the right, from the bottom of the top one to the left
        side = 1 if i else -1
        around = side * np.exp(-2j * np.pi * s) * -1j
        return 0.5 + g["radius"] * around.real, 0.5 + side * g["radius"] + g["radius"] * around.imag
    if name == "smooth_path":
        return 0.05 + 0.9 * s, 0.5 + g["amplitude"] * (np.sin(2 * np.pi * s) + np.sin(6 * np.pi * s) / 2)
    return 0.05 + 0.9 * s, 0.5 + (1 if i else -1) * g["height"] * (1 - np.cos(2 * np.pi * s)) / 2


def obstacles(name, k):
    """[(x_low, x_high, y_low, y_high)] from the written geometry."""
    if name == "radial":
        half = (0.2 * np.sin(np.pi / k) - 3 * 0.006) / np.sqrt(2)
        centres = [0.5 + 0.2 * np.exp(2j * np.pi * (i + 0.5) / k) * (1 + 0j) + 0.5j for i in range(k)]
        return [(c.real - half, c.real + half, c.imag - half, c.imag + half) for c in centres]
    if name == "corridor":
        edges = [0.0]
        for i in range(k):
            edges += [(i + 1) / (k + 1) - 0.25 / (k + 1), (i + 1) / (k + 1) + 0.25 / (k + 1)]
        edges += [1.0]
        return [(0.48, 0.52, edges[2 * i], edges[2 * i + 1]) for i in range(k + 1)]
    boxes = {
        "sequential": [(0.5, 0.55, 0.06, 0.05), (0.25, 0.88, 0.06, 0.05), (0.75, 0.88, 0.06, 0.05)],
        "circle": [(0.5, 0.3, 0.08, 0.05), (0.5, 0.7, 0.08, 0.05)],
        "conditional_circle": [(0.5, 0.3, 0.08, 0.05), (0.5, 0.7, 0.08, 0.05)],
        "smooth_path": [],
        "high_low": [(0.5, 0.5, 0.1, 0.1)],
    }[name]
    return [(x - a, x + a, y - b, y + b) for x, y, a, b in boxes]


def inside(name, k, position):
    """[...] bool for `position` [..., 2]."""
    x, y = position[..., 0], position[..., 1]
    hit = np.zeros(x.shape, bool)
    for left, right, low, high in obstacles(name, k):
        hit |= (x >= left) & (x <= right) & (y >= low) & (y <= high)
    return hit


@functools.cache
def _follower(env):
    @jax.jit
    def run(targets):
        def body(state, target):
            action = jnp.clip((target - state.data["position"]) / env.scale, -1, 1)
            nstate = env.step(state, action)
            return nstate, nstate

        return jax.lax.scan(body, env.reset(jax.random.key(0)), targets)[1]

    return run


def drive(env, targets):
    """Goes to `targets` [n, 2] one after the other, as fast as the action box lets it: the states' trace."""
    return _follower(env)(jnp.asarray(targets, jnp.float32))
