"""Policies on the fan that fail by one mechanism by construction, or by two, in random strength and geometry.

Episodes are chunks of the policy, executed as they are (or, with drift, pushed off their path on the way); an
episode succeeds where its path stays in a mode's tube and ends near that mode's end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import distrax
import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core import registry
from mmbc_jax.core.protocols import capabilities
from mmbc_jax.core.types import Rollouts, Variables
from mmbc_jax.diagnostics._path_metric import draw, local_modes
from mmbc_jax.diagnostics.case import Case
from mmbc_jax.diagnostics.outcomes import success_figures
from mmbc_jax.diagnostics.run import measure_all
from mmbc_jax.diagnostics.verdict import Verdict, verdict

from . import _toy
from ._toy import K_MAX, POINTS, A, H, mean_path, nearest_mode, normal, to_chunk

NOISE = H * A
EPISODES = 256
_NEAR = 0.2  # of the reach: an episode that ends well
_WITHOUT_LABELS = ("none", "averaging", "bridges", "dispersion")  # what shows without, in some of the cases


def with_noise(params, path, noise):
    """Chunks of paths [..., H, A] with noise of the standard deviation `wide`; noise [..., H A]."""
    return to_chunk(path + params["wide"] * noise.reshape(*noise.shape[:-1], H, A))


@dataclasses.dataclass(frozen=True)
class Codes(_toy.Toy):
    """A code chooses the mode, noise its shape: nothing wrong, unless modes are not kept or the noise is wide."""

    def base_distribution(self, variables, obs):
        logits = jnp.where(variables.params["kept"], 0.0, -jnp.inf)
        code = distrax.Categorical(logits=jnp.broadcast_to(logits, (*obs.shape[:-1], K_MAX)))
        return distrax.Joint({"code": code, "noise": normal((*obs.shape[:-1], NOISE))})

    def transport(self, variables, obs, w):
        return with_noise(variables.params, variables.params["paths"][w["code"]], w["noise"])


@dataclasses.dataclass(frozen=True)
class Normal(_toy.Toy):
    """What starts from N(0, I): two numbers that choose, and noise."""

    def base_distribution(self, variables, obs):
        return normal((*obs.shape[:-1], 2 + NOISE))

    def transport(self, variables, obs, w):
        return with_noise(variables.params, self.path(variables.params, w[..., :2]), w[..., 2:])


@dataclasses.dataclass(frozen=True)
class Disc(Normal):
    """Capacity: a smooth map of the plane into the fan, which fills it."""

    def path(self, params, w):
        return turned(params, w / jnp.sqrt(1 + jnp.square(w).sum(-1, keepdims=True)))


@dataclasses.dataclass(frozen=True)
class Ramp(Normal):
    """Capacity: from the first mode to the second of two at a constant slope over a width of the base."""

    def path(self, params, w):
        part = jnp.clip(w[..., 0] / params["width"] + 0.5, 0.0, 1.0)[..., None, None]
        return (1 - part) * params["paths"][0] + part * params["paths"][1]


@dataclasses.dataclass(frozen=True)
class Midway(_toy.Mean):
    """Averaging, of two modes alone and not in equal parts."""

    def transport(self, variables, obs, w):
        first, second = variables.params["paths"][:2]
        part = variables.params["part"]
        return jnp.broadcast_to(to_chunk((1 - part) * first + part * second), (*obs.shape[:-1], H, A))


@dataclasses.dataclass(frozen=True)
class Collapsed(Normal):
    """Information: the posterior is the prior, and what is left is the mean of the modes."""

    def path(self, params, w):
        return jnp.broadcast_to(mean_path(params), (*w.shape[:-1], H, A))

    def posterior(self, variables, obs, chunk):
        return normal((*obs.shape[:-1], 2 + NOISE))


@dataclasses.dataclass(frozen=True)
class CollapsedDisc(Disc):
    """Information and capacity: the posterior is the prior, and the decoder smooth."""

    def posterior(self, variables, obs, chunk):
        return normal((*obs.shape[:-1], 2 + NOISE))


@dataclasses.dataclass(frozen=True)
class Sectors(Normal):
    """Bridges: sectors of the plane go to the modes, steeply, but a share of each to the middle of two."""

    def path(self, params, w):
        return stepped(params, jnp.arctan2(w[..., 1], w[..., 0]) / (2 * jnp.pi) % 1.0)


@dataclasses.dataclass(frozen=True)
class Ring(_toy.Toy):
    """Bridges and coverage: the same from a uniform base, past the modes that are not kept."""

    def base_distribution(self, variables, obs):
        place = distrax.Uniform(jnp.zeros(obs.shape[:-1]), jnp.ones(obs.shape[:-1]))
        return distrax.Joint({"place": place, "noise": normal((*obs.shape[:-1], NOISE))})

    def transport(self, variables, obs, w):
        path = stepped(variables.params, w["place"])
        return with_noise(variables.params, path, w["noise"])


def stepped(params, turns):
    """Paths [..., H, A] at places [...] in [0, 1): the kept modes in turn, `share` of each halfway to the next."""
    kept = params["kept"].sum()
    order = jnp.argsort(~params["kept"], stable=True)
    place = turns * kept
    k = jnp.floor(place).astype(int)
    here, there = params["paths"][order[k % kept]], params["paths"][order[(k + 1) % kept]]
    s, steep, share = place - k, 0.002, params["share"]
    rise = jax.nn.sigmoid((s - 1 + share) / steep) + jax.nn.sigmoid((s - 1 + 5 * steep) / steep)
    return here + 0.5 * rise[..., None, None] * (there - here)


def turned(params, u):
    """Rotation and scaling of the first path [..., H, A] that takes (1, 0) to it, for u [..., 2]."""
    x, y = params["paths"][0][:, 0], params["paths"][0][:, 1]
    a, b = u[..., None, 0], u[..., None, 1]
    return jnp.stack([a * x - b * y, a * y + b * x], -1)


@dataclasses.dataclass(frozen=True)
class FarDisc(_toy.Latent):
    """Coverage and capacity: latents far out, and a decoder linear in them that makes short paths of the prior."""

    def transport(self, variables, obs, w):
        u = w / jnp.linalg.norm(self.centres(variables.params)[0])
        return to_chunk(turned(variables.params, u))


@dataclasses.dataclass(frozen=True)
class Islands(_toy.Latent):
    """Information: all modes but two (or one) share a latent; beside it, noise. The prior has the kept modes."""

    def owner(self, params):
        alone = jnp.minimum(params["count"] - 3, 2)
        k = jnp.arange(K_MAX)
        return jnp.where(k < params["count"] - alone, 0, k)

    def around(self, params, mode):
        """N(centre of the owner, .15^2) beside N(0, I), for modes [...]."""
        centre = self.centres(params)[self.owner(params)[mode]]
        mean = jnp.concatenate([centre, jnp.zeros((*centre.shape[:-1], NOISE))], -1)
        std = jnp.where(jnp.arange(2 + NOISE) < 2, 0.15, 1.0)
        return distrax.Independent(distrax.Normal(mean, jnp.broadcast_to(std, mean.shape)), 1)

    def base_distribution(self, variables, obs):
        logits = jnp.where(variables.params["kept"], 0.0, -jnp.inf)
        code = distrax.Categorical(logits=jnp.broadcast_to(logits, (*obs.shape[:-1], K_MAX)))
        every = jnp.broadcast_to(jnp.arange(K_MAX), (*obs.shape[:-1], K_MAX))
        return distrax.MixtureSameFamily(code, self.around(variables.params, every))

    def posterior(self, variables, obs, chunk):
        return self.around(variables.params, nearest_mode(variables.params, chunk))

    def transport(self, variables, obs, w):
        params = variables.params
        distance = jnp.square(w[..., None, :2] - self.centres(params)).sum(-1)
        k = jnp.where(params["used"], distance, jnp.inf).argmin(-1)
        together = params["used"] & (self.owner(params) == self.owner(params)[k][..., None])
        weight = together / together.sum(-1, keepdims=True)
        path = jnp.einsum("...k,kha->...ha", weight, params["paths"])
        return with_noise(params, path, w[..., 2:])


ONE: Mapping[str, tuple] = {
    "none": (Codes(), _toy.Latent(learned=True), Sectors()),
    "information": (Collapsed(), _toy.Parity(), Islands()),
    "averaging": (_toy.Mean(), Midway()),
    "coverage": (_toy.Latent(), Codes()),
    "capacity": (Disc(), Ramp()),
    "bridges": (Sectors(), Ring()),
    "dispersion": (Codes(), Sectors()),
    "drift": (Codes(), _toy.Latent(learned=True)),
}
"""Policies of each mechanism. One answer has neither a base nor a slope, so "averaging" pairs with drift alone; and
bridges are those of a transport that is steep enough."""
TWO: Mapping[tuple[str, str], tuple] = {
    ("information", "coverage"): (Islands(),),
    ("information", "capacity"): (CollapsedDisc(),),
    ("information", "dispersion"): (Islands(),),
    ("coverage", "capacity"): (FarDisc(),),
    ("coverage", "bridges"): (Ring(),),
    ("coverage", "dispersion"): (Codes(),),
    ("capacity", "dispersion"): (Disc(),),
    ("bridges", "dispersion"): (Sectors(), Ring()),
    **{(name, "drift"): ONE[name] for name in ONE if name not in ("none", "drift")},
}


@dataclasses.dataclass(frozen=True)
class Judged:
    """A planted policy, and what was said of it.

    Attributes:
      planted: its mechanisms.
      policy: name of its class.
      success: share of its episodes that succeed.
      verdict: on it.
    """

    planted: tuple[str, ...]
    policy: str
    success: float
    verdict: Verdict

    @property
    def right(self):
        return self.verdict.mechanism in self.planted

    @property
    def shown(self):
        """Whether every planted mechanism has a score of 1 or more."""
        return all(self.verdict.scores.get(name, 0.0) >= 1.0 for name in self.planted if name != "none")


def plant(planted: tuple[str, ...], policy, seed: int) -> Case:
    """A policy of those mechanisms: another geometry, K, noise, strength, data and episodes per seed."""
    rng = np.random.default_rng([seed, 11])
    least = 4 if isinstance(policy, (_toy.Parity, Islands)) else 2
    if isinstance(policy, Codes) and "coverage" not in planted:
        least = 1  # nothing multimodal, and yet dispersion and drift
    most = 2 if isinstance(policy, Ramp) else K_MAX  # a scalar base is as good as any for two modes only
    modes = _toy.fan(rng, count=int(rng.integers(least, most + 1)))
    windows = _toy.demonstrations(rng, modes)
    label = np.asarray(windows.mode)
    if planted[0] in _WITHOUT_LABELS and len(planted) == 1 and rng.uniform() < 0.3:
        windows = windows.replace(mode=jnp.full_like(windows.mode, -1))
    path = np.asarray(_toy.to_path(windows.chunk)) / H**0.5
    tubes = local_modes(path.reshape(len(path), -1), label)
    wide = modes.noise * rng.uniform(0.8, 1.2)
    if "dispersion" in planted:
        # the root mean square distance from the mode's mean path, over both axes, against the tube
        wide = rng.uniform(0.9, 2.5 if len(planted) == 1 else 1.6) * tubes.tube.max() / 2**0.5
    kept = np.arange(K_MAX) < modes.count
    if "coverage" in planted:
        lost = rng.integers(1, max(modes.count - 1, 2))
        gone = (
            modes.count - 1 - np.arange(lost) if isinstance(policy, Islands) else rng.permutation(modes.count)
        )
        kept[gone[:lost]] = False
    share = rng.uniform(0.08, 0.45) if "bridges" in planted else 0.0
    extra = {"wide": wide, "share": share, "width": rng.uniform(0.5, 2.5), "part": rng.uniform(0.35, 0.65)}
    params = modes.params() | {name: jnp.asarray(value, jnp.float32) for name, value in extra.items()}
    params |= {"kept": jnp.asarray(kept), "count": jnp.asarray(modes.count, jnp.int32)}
    case = Case(Variables(params), {}, windows, _toy.NORMALIZER, policy=policy)
    env, _ = _toy.environment(modes)
    means = along(modes.paths)
    rollouts = episodes(rng, case, tubes, means[: modes.count], "drift" in planted, seed)
    return case.replace(rollouts=rollouts, env=env, env_params={"paths": jnp.asarray(means, jnp.float32)})


def along(path: np.ndarray) -> np.ndarray:
    """[..., POINTS, 2] of paths [..., H, 2] from the origin, by straight lines."""
    whole = np.concatenate([np.zeros((*path.shape[:-2], 1, 2)), path], axis=-2)
    place = np.linspace(0, H, POINTS)
    low = np.minimum(place.astype(int), H - 1)
    part = (place - low)[:, None]
    return (1 - part) * whole[..., low, :] + part * whole[..., low + 1, :]


def episodes(rng, case, tubes, means, drift, seed) -> Rollouts:
    """Chunks of the policy as episodes; with drift, they stray ever faster or change to another mode midway."""
    _, points = draw(case, jax.random.key(seed + 10**6), jnp.zeros(2), EPISODES)
    path = along(np.asarray(points, np.float64).reshape(EPISODES, H, A) * H**0.5)
    time = np.linspace(0, 1, POINTS)[None, :, None]
    if drift and len(means) > 1 and rng.uniform() < 0.3:
        ends = np.linalg.norm(path[:, -1:] - means[:, -1], axis=-1)
        there = (ends.argmin(1) + rng.integers(1, len(means), EPISODES)) % len(means)
        late = 1 / (1 + np.exp(-(time - rng.uniform(0.5, 0.7, (EPISODES, 1, 1))) / 0.02))
        path = path + late * (means[there] - means[ends.argmin(1)])
    elif drift:
        angle = rng.uniform(0, 2 * np.pi, EPISODES)
        aside = np.stack([np.cos(angle), np.sin(angle)], -1)[:, None]
        path = path + rng.uniform(0.08, 0.25) * time**2 * aside
    reach = np.linalg.norm(means[:, -1], axis=-1).mean()
    apart = np.linalg.norm(path[:, None] - means, axis=-1)
    inside = np.sqrt(np.square(apart).mean(-1)) <= tubes.tube.max()
    success = (inside & (apart[..., -1] <= _NEAR * reach)).any(1)
    return _toy.played(path, success, np.where(success, apart.mean(-1).argmin(1), -1))


def instruments() -> dict:
    """The instruments, small: one anchor, where all demonstrations are."""
    found = {}
    for name in ("bridges", "capacity", "coverage", "drift", "information"):
        plugin = registry.find("diagnostic", name)
        cfg = plugin.default_config()
        if name != "drift":
            cfg.num_anchors, cfg.candidates, cfg.neighbours, cfg.samples = 1, 2, _toy.N, 256
        found[name] = plugin(cfg)
    return found


def judge(planted: tuple[str, ...], policy, seed: int, using: Mapping) -> Judged:
    """The verdict on a planted policy, from the real instruments."""
    case = plant(planted, policy, seed)
    found = measure_all(using, case, jax.random.key(seed)) | success_figures(case.rollouts)
    name = type(policy).__name__
    return Judged(planted, name, found["outcome/success"], verdict(found, name, capabilities(policy)))


def judged(count: int, pairs: bool = False, seed: int = 0) -> list[Judged]:
    """Verdicts on `count` planted policies, the mechanisms (or their pairs) and their policies in turn."""
    chosen = [(names, TWO[names]) for names in TWO] if pairs else [((name,), ONE[name]) for name in ONE]
    using, found = instruments(), []
    for i in range(count):
        names, policies = chosen[i % len(chosen)]
        policy = policies[(i // len(chosen)) % len(policies)]
        found.append(judge(names, policy, seed + i, using))
    return found
