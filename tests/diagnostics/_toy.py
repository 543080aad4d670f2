"""A fan of K noisy paths from one point, and hand-built policies that fail on it in known ways."""

from __future__ import annotations

import dataclasses

import distrax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.types import EnvSpec, PolicySpec, Rollouts, Variables
from mmbc_jax.data.windows import Windows
from mmbc_jax.diagnostics.case import Case
from mmbc_jax.ops.normalisation import Normalizer

H, A, K_MAX, POINTS = 8, 2, 8, 33
BOUND = 0.2
N = 128
NORMALIZER = Normalizer(*(jnp.full(2, b) for b in (-1.0, 1.0, -BOUND, BOUND)))


def to_chunk(path):
    """Normalised chunks of paths [..., H, A] that start at 0."""
    return jnp.diff(path, axis=-2, prepend=0.0) / BOUND


def to_path(chunk):
    return jnp.cumsum(chunk * BOUND, axis=-2)


@dataclasses.dataclass(frozen=True)
class Fan:
    """K straight or bent paths; arrays are padded to K_MAX so that instances share their shapes."""

    count: int
    paths: np.ndarray  # [K_MAX, H, A]
    noise: float
    strength: float = 0.0  # how strongly a failure is planted, in [0, 1]

    def params(self):
        turn = 2 * np.pi * np.arange(K_MAX) / self.count
        return {
            "paths": jnp.asarray(self.paths, jnp.float32),
            "used": jnp.asarray(np.arange(K_MAX) < self.count),
            "turn": jnp.asarray(turn, jnp.float32),
            "noise": jnp.asarray(self.noise),
            "strength": jnp.asarray(self.strength),
        }


def fan(rng, count=None, noise=None):
    count = int(rng.integers(2, K_MAX + 1)) if count is None else count
    angle = 2 * np.pi * np.arange(K_MAX) / count + rng.uniform(0, 2 * np.pi)
    reach, bend = rng.uniform(0.3, 0.5), rng.uniform(-0.5, 0.5)
    time = np.arange(1, H + 1) / H
    heading = angle[:, None] + bend * time
    paths = reach * time[None, :, None] * np.stack([np.cos(heading), np.sin(heading)], -1)
    noise = rng.uniform(0.004, 0.01) if noise is None else noise
    return Fan(count, paths, noise, rng.uniform(0, 1))


def demonstrations(rng, modes, labelled=True, n=N):
    label = np.arange(n) % modes.count
    path = modes.paths[label] + modes.noise * rng.normal(size=(n, H, A))
    return Windows(
        obs=jnp.asarray(0.02 * rng.normal(size=(n, 2)), jnp.float32),
        chunk=jnp.asarray(to_chunk(path), jnp.float32),
        mask=jnp.ones((n, H)),
        mode=jnp.asarray(label if labelled else np.full(n, -1), jnp.int32),
        episode=jnp.arange(n, dtype=jnp.int32),
        step=jnp.zeros(n, jnp.int32),
    )


def normal(shape, std=1.0, mean=0.0):
    mean = jnp.broadcast_to(mean, shape)
    return distrax.Independent(distrax.Normal(mean, jnp.full(shape, std)), 1)


@dataclasses.dataclass(frozen=True)
class Toy:
    """What all have in common: N(0, I) in the plane as the base."""

    spec = PolicySpec(2, A, H)

    def base_distribution(self, variables, obs):
        return normal((*obs.shape[:-1], 2))


@dataclasses.dataclass(frozen=True)
class Mixture(Toy):
    """Nothing planted: a code chooses the mode, Gaussian noise its shape."""

    def base_distribution(self, variables, obs):
        logits = jnp.where(variables.params["used"], 0.0, -jnp.inf)
        logits = jnp.broadcast_to(logits, (*obs.shape[:-1], K_MAX))
        zeros = jnp.zeros((*obs.shape[:-1], H, A))
        x0 = distrax.Independent(distrax.Normal(zeros, jnp.ones_like(zeros)), 2)
        return distrax.Joint({"code": distrax.Categorical(logits=logits), "x0": x0})

    def transport(self, variables, obs, w):
        return to_chunk(variables.params["paths"][w["code"]] + variables.params["noise"] * w["x0"])


@dataclasses.dataclass(frozen=True)
class Mean(Toy):
    """Averaging: an empty base, and the mean of the modes."""

    def base_distribution(self, variables, obs):
        return normal((*obs.shape[:-1], 0))

    def transport(self, variables, obs, w):
        return jnp.broadcast_to(to_chunk(mean_path(variables.params)), (*obs.shape[:-1], H, A))


def mean_path(params):
    return (params["paths"] * params["used"][:, None, None]).sum(0) / params["used"].sum()


def nearest_mode(params, chunk):
    distance = jnp.square(to_path(chunk)[..., None, :, :] - params["paths"]).sum((-1, -2))
    return jnp.where(params["used"], distance, jnp.inf).argmin(-1)


@dataclasses.dataclass(frozen=True)
class Parity(Toy):
    """Information, less of it lost: the latent tells odd from even modes and decodes to the mean of those."""

    def base_distribution(self, variables, obs):
        ends = jnp.broadcast_to(jnp.asarray([[-1.0], [1.0]]), (*obs.shape[:-1], 2, 1))
        even = distrax.Categorical(logits=jnp.zeros((*obs.shape[:-1], 2)))
        return distrax.MixtureSameFamily(even, normal(ends.shape, 0.1, ends))

    def posterior(self, variables, obs, chunk):
        odd = nearest_mode(variables.params, chunk) % 2
        return normal((*odd.shape, 1), 0.1, 2.0 * odd[..., None] - 1.0)

    def transport(self, variables, obs, w):
        params = variables.params
        odd = jnp.arange(K_MAX) % 2
        means = jnp.stack([mean_path(params | {"used": params["used"] & (odd == i)}) for i in (0, 1)])
        return to_chunk(means[(w[..., 0] > 0).astype(int)])


@dataclasses.dataclass(frozen=True)
class Latent(Toy):
    """Clusters of latents on a circle of radius 3.5 to 5, decoded by direction and, inside it, ever shorter.

    The prior is N(0, I), or with `learned` the aggregate posterior: then nothing is planted.
    """

    learned: bool = False

    def centres(self, params):
        far = 3.5 + 1.5 * params["strength"]
        return far * jnp.stack([jnp.cos(params["turn"]), jnp.sin(params["turn"])], -1)

    def posterior(self, variables, obs, chunk):
        mean = self.centres(variables.params)[nearest_mode(variables.params, chunk)]
        return normal(mean.shape, 0.15, mean)

    def base_distribution(self, variables, obs):
        if not self.learned:
            return super().base_distribution(variables, obs)
        shape = (*obs.shape[:-1], K_MAX)
        logits = jnp.broadcast_to(jnp.where(variables.params["used"], 0.0, -jnp.inf), shape)
        parts = normal((*shape, 2), 0.15, self.centres(variables.params))
        return distrax.MixtureSameFamily(distrax.Categorical(logits=logits), parts)

    def transport(self, variables, obs, w):
        params = variables.params
        centres = self.centres(params)
        distance = jnp.square(w[..., None, :] - centres).sum(-1)
        k = jnp.where(params["used"], distance, jnp.inf).argmin(-1)
        far = jnp.linalg.norm(centres[0])
        short = jnp.minimum(jnp.linalg.norm(w, axis=-1) / (0.85 * far), 1.0)
        return to_chunk(params["paths"][k] * short[..., None, None] ** 2)


@dataclasses.dataclass(frozen=True)
class Paths:
    """An environment of which only the mean paths are known."""

    spec: EnvSpec

    def default_params(self):
        return {"paths": jnp.zeros((K_MAX, POINTS, 2))}

    def mean_paths(self, params):
        return params["paths"]


def environment(modes):
    """(environment, its parameters): the fan with POINTS steps."""
    spec = EnvSpec("fan", 2, 2, POINTS - 1, modes.count, (-1.0, -1.0), (1.0, 1.0), position=(0, 1))
    ends = modes.paths[:, -1:]
    return Paths(spec), {"paths": jnp.asarray(np.linspace(0, 1, POINTS)[None, :, None] * ends)}


def episodes(rng, modes, growth=0.0, count=32):
    """Episodes along the paths, with the noise of the demonstrations and a deviation growing to `growth`."""
    _, params = environment(modes)
    mode = rng.integers(modes.count, size=count)
    path = np.asarray(params["paths"])[mode] + modes.noise * rng.normal(size=(count, POINTS, 2))
    angle = rng.uniform(0, 2 * np.pi, count)
    aside = np.stack([np.cos(angle), np.sin(angle)], -1)[:, None]
    path = path + growth * (np.linspace(0, 1, POINTS)[None, :, None] ** 2) * aside
    return played(path, np.ones(count, bool), mode)


def played(path, success, mode):
    """Episodes [n] along paths [n, POINTS, 2], without commands."""
    zeros = jnp.zeros(len(path))
    return Rollouts(
        success=jnp.asarray(success),
        mode=jnp.asarray(mode, jnp.int32),
        z=jnp.zeros(len(path), jnp.int32),
        reward=zeros,
        steps=jnp.full(len(path), POINTS - 1, jnp.int32),
        log_q=zeros,
        path=jnp.asarray(path, jnp.float32),
        path_mask=jnp.ones((len(path), POINTS)),
    )


def case(policy, modes, windows, rollouts=None, hp=None):
    env, params = environment(modes) if rollouts is not None else (None, None)
    return Case(Variables(modes.params()), hp or {}, windows, NORMALIZER, rollouts, params, policy, env)
