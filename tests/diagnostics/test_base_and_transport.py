"""Capacity, bridges and coverage against maps whose masses are known."""

import functools
import itertools

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin as section
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import PolicySpec
from mmbc_jax.diagnostics._path_metric import local_modes
from mmbc_jax.diagnostics.run import measure_all
from mmbc_jax.diagnostics.verdict import MECHANISMS, verdict

from . import _line, _toy


def instrument(name, **fields):
    plugin = registry.find("diagnostic", name)
    cfg = plugin.default_config()
    cfg.update({"num_anchors": 1, "candidates": 2, "samples": 2048, **fields})
    return plugin(cfg)


def measure(name, policy, demos, seed=0, **fields):
    return instrument(name, **fields).measure(_line.case(policy, demos), jax.random.key(seed))


def clip(w):
    return jnp.clip(w, -0.5, 0.5)


def corners(m):
    return np.asarray(list(itertools.product((-0.5, 0.5), repeat=m)))


@pytest.mark.parametrize("m", [1, 3])
def test_clipped_identity(m):
    """T_i = clip(w_i, -1/2, 1/2): 1-Lipschitz with 2^m modes of mass Phi(-1/2)^m at distance 1."""
    found = measure("capacity", _line.Map(clip, m, m), _line.around(corners(m)))
    # the sets are corners up to the noise of 1e-3 per entry and side
    delta = found["capacity/delta"]
    assert 1 - 4e-3 * np.sqrt(m) < delta < 1
    assert found["capacity/centre_delta"] == pytest.approx(1, abs=1e-3)
    assert found["capacity/lipschitz"] == pytest.approx(1, abs=1e-4)
    assert found["capacity/discrete_base"] == 0
    mass = norm.cdf(-0.5) ** m
    # 2048 samples; 5 standard errors of the share at any corner
    total = 2**m * mass
    assert found["capacity/mass"] == pytest.approx(total, abs=5 * np.sqrt(total * (1 - total) / 2048) + 2e-3)
    assert found["capacity/modes"] == 2**m
    # tau = .01: 2 * 2.5758 / delta = 5.15 -> 1 + 6 = 7 modes, and 1 / Phi(-2.3263 + delta / 2) = 29.5
    assert found["capacity/bound_printed"] == 7
    assert found["capacity/bound"] == pytest.approx(1 / norm.cdf(norm.ppf(0.01) + delta / 2), rel=1e-3)
    assert (found["capacity/modes"] > found["capacity/bound_printed"]) == (m == 3)
    assert found["capacity/modes"] <= found["capacity/bound"]
    # what the masses require is no more than what there is
    assert 0.5 < found["capacity/required_lipschitz"] <= 1
    # m = 1, two plateaus joined by a line, meets the bridge bound with equality: 1 - 2 Phi(-1/2) = .383
    least = found["capacity/bridge_bound"]
    assert least <= 1 - total + 0.05
    if m == 1:
        assert least == pytest.approx(1 - 2 * norm.cdf(-0.5), abs=0.03)


def test_needed_slope_against_the_closed_form():
    # Two modes of .475 each: Phi(Phi^-1(.475) + h) = 1/2 at h = .0627 = delta / 2L.
    found = measure("capacity", _line.Map(clip), _line.around([[-0.5], [0.5]]))
    wanted = found["capacity/delta"] / (2 * -norm.ppf(0.475))
    assert found["capacity/needed_lipschitz"] == pytest.approx(wanted, rel=1e-6)


def test_steepness_between_the_modes_is_found():
    # tanh(40 w) / 2 is flat where nearly all samples lie and has slope 20 at 0.
    found = measure("capacity", _line.Map(lambda w: 0.5 * jnp.tanh(40 * w)), _line.around([[-0.5], [0.5]]))
    assert 19 < found["capacity/lipschitz"] < 20.001
    assert found["capacity/lipschitz_local"] < 5
    assert found["capacity/lipschitz_global"] == found["capacity/lipschitz"]


def test_bounds_need_a_standard_normal():
    wide = _line.Map(clip, base=lambda obs: _line.gaussian(jnp.zeros((*obs.shape[:-1], 1)), 2.0))
    found = measure("capacity", wide, _line.around([[-0.5], [0.5]]))
    assert found["capacity/lipschitz"] == pytest.approx(1, abs=1e-4)
    assert "capacity/bound" not in found
    assert "capacity/needed_lipschitz" not in found


def codes(obs):
    return distrax.Joint(
        {
            "code": distrax.Categorical(logits=jnp.log(jnp.broadcast_to(0.25, (*obs.shape[:-1], 4)))),
            "x": _line.gaussian(jnp.zeros((*obs.shape[:-1], 1)), 1.0),
        }
    )


def test_codes_are_reported_as_such():
    # Codes 0 and 1 lead to -1/2, 2 and 3 to 1/2; within a code the slope is 1e-4.
    policy = _line.Map(lambda w: jnp.where(w["code"][..., None] > 1, 0.5, -0.5) + 1e-4 * w["x"], base=codes)
    found = measure("capacity", policy, _line.around([[-0.5], [0.5]]))
    assert found["capacity/discrete_base"] == 1
    assert found["capacity/components"] == 4
    assert found["capacity/purity"] == 1
    assert found["capacity/lipschitz"] == pytest.approx(1e-4, rel=1e-3)
    assert "capacity/bound" not in found
    assert "bridges/sharpness" not in measure("bridges", policy, _line.around([[-0.5], [0.5]]))


def test_bridge_mass_and_place_of_a_ramp():
    # clip(w, -1, 1) / 2 with modes at -1/2 and 1/2: tubes of Delta / 4 = 1/4, so off-support is |w| < 1/2.
    found = measure("bridges", _line.Map(lambda w: jnp.clip(w, -1, 1) / 2), _line.around([[-0.5], [0.5]]))
    mass = 2 * norm.cdf(0.5) - 1
    assert found["bridges/off_support"] == pytest.approx(mass, abs=5 * np.sqrt(mass * (1 - mass) / 2048))
    assert found["bridges/off_support_demos"] == 0
    assert found["bridges/modes"] == 2
    assert found["bridges/reached"] == 1
    # E[w^2 | |w| < c] = 1 - 2 c phi(c) / (2 Phi(c) - 1) = .0806 at c = 1/2; the others by total expectation
    inside = 1 - norm.pdf(0.5) / mass
    assert found["bridges/base_norm"] == pytest.approx(inside, abs=0.015)
    assert found["bridges/base_norm_others"] == pytest.approx((1 - mass * inside) / (1 - mass), abs=0.2)


def test_sharpness_of_a_line_and_of_a_jump():
    def straight(obs):
        # not N(0, I): the walk is then a straight line
        return _line.gaussian(jnp.zeros((*obs.shape[:-1], 1)), 0.5)

    demos = _line.around([[-0.5], [0.5]], noise=0.3)
    line = measure("bridges", _line.Map(lambda w: w, base=straight), demos)
    assert line["bridges/sharpness"] == pytest.approx(1, abs=1e-3)
    jump = _line.Map(lambda w: 0.5 * jnp.sign(w), base=straight)
    # one of 64 steps makes the whole way: largest / mean = 64
    assert measure("bridges", jump, demos)["bridges/sharpness"] == pytest.approx(64, rel=1e-3)


def test_without_labels_the_gap_between_demonstrations_counts():
    rng = np.random.default_rng(0)
    dense = np.where(rng.uniform(size=(400, 1)) < 0.5, -0.5, 0.5) + rng.uniform(-0.1, 0.1, (400, 1))
    found = measure("bridges", _line.Map(lambda w: jnp.clip(w, -1, 1) / 2), _line.windows(dense))
    # off-support is |w| / 2 < .4 up to the gaps within a mode (200 points on .2: .99 quantile about .003)
    mass = 2 * norm.cdf(0.8) - 1
    assert found["bridges/off_support"] == pytest.approx(mass, abs=5 * np.sqrt(0.25 / 2048) + 0.02)
    assert found["bridges/off_support_demos"] <= 0.011
    assert "bridges/modes" not in found
    assert "bridges/walk_off" not in found


def test_spread_and_middle():
    # Demonstrations at -1/2 and 1/2: deviation and mean distance 1/2. Samples uniform-like: w / 4.
    found = measure("bridges", _line.Map(lambda w: w / 4), _line.around([[-0.5], [0.5]]))
    assert found["bridges/spread"] == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(2 * 2048))
    # E|w| / 4 over 1/2 = sqrt(2 / pi) / 2 = .399
    assert found["bridges/middle"] == pytest.approx(np.sqrt(2 / np.pi) / 2, abs=5 * 0.302 / np.sqrt(2048))


def thirds(z):
    """Modes -1/2, 0, 1/2 for z below -1, up to 2, and above."""
    return 0.5 * ((z > -1).astype(float) + (z > 2)) - 0.5


def test_prior_coverage_against_exact_masses():
    policy = _line.Encoded(
        thirds,
        encode=lambda a: _line.gaussian(jnp.select([a < -0.25, a < 0.25], [-2.0, 0.0], 3.0), 0.1),
    )
    found = measure("coverage", policy, _line.around([[-0.5], [0.0], [0.5]]), neighbours=192)
    exact = np.diff(norm.cdf([-np.inf, -1, 2, np.inf]))  # .1587, .8186, .0228
    error = 5 * np.sqrt(exact * (1 - exact) / 2048)
    assert found["coverage/min_mass"] == pytest.approx(exact[2], abs=error[2])
    assert found["coverage/gap"] == pytest.approx(0.5 * np.abs(exact - 1 / 3).sum(), abs=0.5 * error.sum())
    # .0228 < .0333 = a tenth of 1/3
    assert found["coverage/missed"] == 1
    assert found["coverage/prior_off"] == found["coverage/posterior_off"] == 0
    # posterior modes at -2, 0, 3: log N = -.9189 - (4 + 0 + 9) / 6; 3 is beyond |z| = 2.576, the 1 % quantile
    assert found["coverage/log_density"] == pytest.approx(-0.918939 - 13 / 6, abs=1e-4)
    assert found["coverage/log_density_prior"] == pytest.approx(-1.418939, abs=5 * np.sqrt(0.5 / 2048))
    assert found["coverage/threshold"] == pytest.approx(-0.918939 - 2.5758**2 / 2, abs=0.6)
    assert found["coverage/above"] == pytest.approx(2 / 3)


def test_coverage_of_codes_and_of_a_base_without_density():
    def code(a):
        return distrax.Categorical(logits=jnp.where(jnp.arange(2) == (a > 0), 0.0, -jnp.inf))

    def skewed(obs):
        return distrax.Categorical(probs=jnp.broadcast_to(jnp.asarray([0.99, 0.01]), (*obs.shape[:-1], 2)))

    policy = _line.Encoded(lambda z: z[..., None] - 0.5, base=skewed, encode=code)
    found = measure("coverage", policy, _line.around([[-0.5], [0.5]]))
    assert found["coverage/gap"] == pytest.approx(0.49, abs=5 * np.sqrt(0.0099 / 2048))
    assert found["coverage/missed"] == 1

    class Sampler:
        def __init__(self, shape):
            self.shape = shape

        def sample(self, *, seed, sample_shape=()):
            return jax.random.normal(seed, (*sample_shape, *self.shape))

    policy = _line.Encoded(
        lambda z: 0.5 * jnp.sign(z),
        base=lambda obs: Sampler((*obs.shape[:-1], 1)),
        encode=lambda a: _line.gaussian(jnp.sign(a), 0.1),
    )
    found = measure("coverage", policy, _line.around([[-0.5], [0.5]]))
    assert set(found) == {
        f"coverage/{name}" for name in ("gap", "min_mass", "missed", "prior_off", "posterior_off")
    }


BAD = {
    "bridges": ("walks", "steps"),
    "capacity": ("points", "tau", "bridges"),
    "coverage": ("alpha", "num_anchors", "candidates", "neighbours", "radius", "samples"),
    "information": ("latents",),
    "separation": ("chunk_anchors", "chunk_neighbours", "max_modes"),
}


@pytest.mark.parametrize(("name", "field"), [(n, f) for n, fields in BAD.items() for f in fields])
def test_refuses(name, field):
    with pytest.raises(ConfigError, match=rf"config\.diagnostic\.{field} = 0"):
        instrument(name, **{field: 0})


def test_refuses_a_negative_hysteresis():
    plugin = registry.find("diagnostic", "drift")
    cfg = plugin.default_config()
    cfg.hysteresis = -0.1
    with pytest.raises(ConfigError, match="hysteresis"):
        plugin(cfg)


@pytest.mark.parametrize("name", registry.available("diagnostic"))
def test_every_instrument_is_silent_where_it_does_not_apply(name):
    plugin = registry.find("diagnostic", name)
    cfg = plugin.default_config()
    rng = np.random.default_rng(0)
    modes = _toy.fan(rng, count=3)
    windows = _toy.demonstrations(rng, modes)
    padded = windows.replace(mask=windows.mask.at[:, 1].set(0.0))
    policy = _toy.Latent()
    assert plugin(cfg).measure(_toy.case(policy, modes, padded), jax.random.key(0)) == {}
    # an empty base, no posterior, no labels: finite floats of its own group or nothing
    unlabelled = windows.replace(mode=jnp.full_like(windows.mode, -1))
    found = plugin(cfg).measure(_toy.case(_toy.Mean(), modes, unlabelled), jax.random.key(0))
    assert all(np.isfinite(value) and figure.startswith(f"{name}/") for figure, value in found.items())
    assert bool(found) == (name in ("bridges", "separation"))


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.available("policy"))
def test_every_policy_can_be_measured(name):
    rng = np.random.default_rng(0)
    modes = _toy.fan(rng, count=4)
    windows = _toy.demonstrations(rng, modes)
    spec = PolicySpec(2, _toy.A, _toy.H)
    prior = functools.partial(registry.build, "prior", section("prior", "normal"), spec=spec)
    sampler = registry.build("sampler", section("sampler", "euler", steps=2))
    cfg = section("policy", name)
    if "hidden" in cfg:
        cfg.hidden = (16, 16)
    policy = registry.build("policy", cfg, spec, prior=prior, sampler=sampler)
    variables = policy.init(jax.random.key(0), windows.batch(jnp.arange(64)))
    hp = {field: jnp.asarray(cfg[field]) for field in registry.find("policy", name).hparams}
    case = _toy.case(policy, modes, windows, hp=hp).replace(variables=variables)
    names = ("bridges", "capacity", "coverage", "information")
    found = measure_all({n: instrument(n, samples=128) for n in names}, case, jax.random.key(1))
    latent = hasattr(policy, "posterior")
    assert found["bridges/modes"] == 4
    assert ("information/error_posterior" in found) == ("coverage/gap" in found) == latent
    assert ("information/ceiling" in found) == (name == "cvae")
    assert ("capacity/discrete_base" in found) == (name != "mse")
    assert verdict(found, name).mechanism in MECHANISMS


def test_a_jump_within_one_step_is_as_steep_as_it_is():
    # slope 2000 within 1/2000 of the middle; a step of a walk is about 1/50 long and sees less than 50 of it
    jump = _line.Map(lambda w: 0.5 * jnp.clip(4000 * w, -1, 1))
    found = measure("capacity", jump, _line.around([[-0.5], [0.5]]))
    assert found["capacity/lipschitz"] == pytest.approx(2000, rel=0.01)


def test_masses_that_add_up_to_a_rounding_more_than_one():
    """206, 194, 202, 195 and 203 of 1,000 samples: as shares 1 + 2.2e-16, of which nothing lies outside."""
    points = np.concatenate(
        [0.01 * np.random.default_rng(0).normal(size=(20, 2)) + [3 * k, 0] for k in range(5)]
    )
    modes = local_modes(points, np.repeat(np.arange(5), 20))
    masses = np.array([206, 194, 202, 195, 203]) / 1000
    assert masses.sum() > 1.0
    found = registry.find("diagnostic", "capacity")
    capacity = found(found.default_config())
    bounds = capacity._bounds(modes, masses, 1.0, 1000)
    assert all(np.isfinite(value) for value in bounds.values())
