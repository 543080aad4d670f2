"""Information against closed forms of Gaussian channels; drift against hand-made episodes; paths."""

import dataclasses

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from mmbc_jax.core import registry
from mmbc_jax.diagnostics import _path_metric as _paths
from mmbc_jax.ops.normalisation import Normalizer
from tests.toys.products import spared

from . import _line, _toy


def measure(name, case, seed=0, **fields):
    plugin = registry.find("diagnostic", name)
    cfg = plugin.default_config()
    cfg.update(fields)
    return plugin(cfg).measure(case, jax.random.key(seed))


def test_linear_gaussian_encoder():
    # a ~ N(0, 1) on a grid of quantiles, q = N(2 a, 1/2), p = N(0, 1), decoder a = z / 2:
    #   I = 1/2 log(1 + 4 / .5) = 1.0986, E KL = 1/2 (.5 + 4 - 1 - log .5) = 2.0966, marginal KL .9980.
    a = norm.ppf((np.arange(512) + 0.5) / 512)[:, None]
    policy = _line.Encoded(lambda z: z / 2, encode=lambda x: _line.gaussian(2 * x, 0.5**0.5))
    found = measure("information", _line.case(policy, _line.windows(a)), num_anchors=1, latents=16)
    # log q - log p has deviation 1.46 per latent: 5 errors over 16 x 512; the grid's variance is 1 - .003
    assert found["information/rate"] == pytest.approx(2.0966, abs=5 * 1.46 / 8192**0.5 + 2 * 0.003)
    # the information density has deviation sqrt(8/9), over 512 pairs, and 512 partners bias it by < I/512 * 9
    assert found["information/mutual"] == pytest.approx(1.0986, abs=5 * 0.943 / 512**0.5)
    assert found["information/marginal_kl"] == pytest.approx(
        found["information/rate"] - found["information/mutual"]
    )
    assert found["information/latent_size"] == found["information/active_units"] == 1
    # |z/2 - a| = |N(0, 1/8)|: sqrt(1 / 4 pi) = .2821; zero: E|a| = .7979
    assert found["information/error_posterior"] == pytest.approx(0.2821, abs=5 * 0.213 / 512**0.5)
    assert found["information/error_zero"] == pytest.approx(0.7979, abs=0.005)
    assert found["information/z_advantage"] == pytest.approx(1 - 0.2821 / 0.7979, abs=0.07)
    # prior: a - z/2 has variance 1.25
    assert found["information/error_prior"] == pytest.approx(np.sqrt(2.5 / np.pi), abs=5 * 0.674 / 512**0.5)
    assert "information/mode_entropy" not in found


def test_collapsed_encoder():
    a = norm.ppf((np.arange(512) + 0.5) / 512)[:, None]
    policy = _line.Encoded(lambda z: 0 * z, encode=lambda x: _line.gaussian(0 * x, 1.0))
    found = measure("information", _line.case(policy, _line.windows(a)), num_anchors=1)
    for name in ("rate", "mutual", "active_units", "z_advantage"):
        assert found[f"information/{name}"] == pytest.approx(0, abs=1e-5)


def binary_information(mu):
    """I(M; Z) of M = +-1 at odds of one, Z = mu M + N(0, 1): H(Z) - H(Z|M) by quadrature."""

    def integrand(z):
        p = 0.5 * (norm.pdf(z - mu) + norm.pdf(z + mu))
        return -p * np.log(p)

    return quad(integrand, -12, 12)[0] - 0.5 * np.log(2 * np.pi * np.e)


@pytest.mark.parametrize("mu", [0.0, 1.0, 3.0])
@spared("1.0")
def test_information_about_the_mode(mu):
    policy = _line.Encoded(
        lambda z: 0.5 * jnp.sign(z), encode=lambda a: _line.gaussian(mu * jnp.sign(a), 1.0)
    )
    demos = _line.around([[-0.5], [0.5]], count=256)
    found = measure("information", _line.case(policy, demos), num_anchors=2)
    exact = binary_information(mu)
    # a lower bound in expectation: 5 errors of 1024 views above, and the classifier's own fit below
    assert exact - 0.08 < found["information/mode_information"] < exact + 5 * 0.5 / 1024**0.5
    assert found["information/mode_entropy"] == pytest.approx(np.log(2), abs=1e-6)
    # B_rho = log 2 - h(rho) for two modes: h(.1) = .32508, h(.01) = .05600
    assert found["information/floor_10"] == pytest.approx(np.log(2) - 0.32508, abs=1e-4)
    assert found["information/floor_01"] == pytest.approx(np.log(2) - 0.05600, abs=1e-4)


def test_ceiling_of_the_latent():
    # Actions +-1/2 + u, u uniform on +-.2: the best answer without z is any point of the gap, error 1/2;
    # the best with the mode .1. C = .4, ceiling C / beta, limit C / B_.1.
    policy = _line.Encoded(lambda z: 0.5 * jnp.sign(z), encode=lambda a: _line.gaussian(3 * jnp.sign(a), 0.1))
    demos = _line.around([[-0.5], [0.5]], count=256, noise=0.2)
    found = measure("information", _line.case(policy, demos, {"beta": jnp.asarray(0.5)}), num_anchors=1)
    # mean of 512 uniform distances: deviation .2 / sqrt(12)
    assert found["information/gain"] == pytest.approx(0.4, abs=2 * 5 * 0.0577 / 512**0.5)
    assert found["information/beta"] == 0.5
    assert found["information/ceiling"] == pytest.approx(found["information/gain"] / 0.5)
    floor = found["information/floor_10"]
    assert found["information/beta_limit"] == pytest.approx(found["information/gain"] / floor)
    # E KL = 1/2 (.01 + 9 - 1 - log .01) = 6.3: more than log 2, no error left
    assert found["information/least_error"] == 0


@dataclasses.dataclass(frozen=True)
class Scaled(_line.Encoded):
    """Its loss compares three times the chunk."""

    def modelled(self, variables, chunk):
        return 3.0 * chunk


def test_the_ceiling_is_in_the_units_of_the_loss():
    gains = []
    for kind in (_line.Encoded, Scaled):
        policy = kind(lambda z: 0.5 * jnp.sign(z), encode=lambda a: _line.gaussian(3 * jnp.sign(a), 0.1))
        demos = _line.around([[-0.5], [0.5]], noise=0.2)
        found = measure("information", _line.case(policy, demos, {"beta": jnp.asarray(0.5)}), num_anchors=1)
        gains.append(found["information/gain"])
    assert gains[1] == pytest.approx(3.0 * gains[0], rel=1e-4)


def test_codes_tell_their_entropy():
    def code(a):
        return distrax.Categorical(logits=jnp.where(jnp.arange(4) == 2 * (a > 0), 0.0, -jnp.inf))

    def uniform(obs):
        return distrax.Categorical(logits=jnp.zeros((*obs.shape[:-1], 4)))

    policy = _line.Encoded(lambda z: (z[..., None] > 1) - 0.5, base=uniform, encode=code)
    found = measure(
        "information", _line.case(policy, _line.around([[-0.5], [0.5]], count=128)), num_anchors=1
    )
    # rate log 4 against the uniform prior, of which log 2 is told and log 2 is codes never used
    assert found["information/rate"] == pytest.approx(np.log(4), abs=1e-5)
    assert found["information/mutual"] == pytest.approx(np.log(2), abs=1e-5)
    # doubt of 2 %, half of it spread over 8 classes: -log(1 - .02 + .02 * (.5 + .125) / 2) = .014
    assert found["information/mode_information"] == pytest.approx(np.log(2) - 0.014, abs=0.02)
    assert "information/z_advantage" not in found
    assert "information/active_units" not in found


def test_a_deterministic_encoder_has_no_rate():
    policy = _line.Encoded(
        lambda z: z, encode=lambda a: distrax.Independent(distrax.Deterministic(jnp.sign(a) / 2), 1)
    )
    found = measure("information", _line.case(policy, _line.around([[-0.5], [0.5]])), num_anchors=1)
    assert "information/rate" not in found
    assert found["information/mode_information"] > 0.6
    assert found["information/z_advantage"] > 0.9


def straight_modes():
    """Two parallel paths along x at y = 0 and y = 1, of length 1, in 33 points."""
    paths = np.zeros((_toy.K_MAX, _toy.H, 2))
    modes = _toy.Fan(2, paths, 0.0)
    env, _ = _toy.environment(modes)
    time = np.linspace(0, 1, _toy.POINTS)
    means = np.stack([np.stack([time, np.full_like(time, y)], -1) for y in (0.0, 1.0)])
    return modes, env, {"paths": jnp.asarray(means)}, means


def drift_of(path, mask=None, **fields):
    modes, env, params, _ = straight_modes()
    rng = np.random.default_rng(0)
    rollouts = _toy.episodes(rng, modes, count=len(path)).replace(
        path=jnp.asarray(path, jnp.float32),
        path_mask=jnp.ones(path.shape[:2]) if mask is None else jnp.asarray(mask, jnp.float32),
    )
    case = _toy.case(_toy.Mixture(), modes, _toy.demonstrations(rng, modes), rollouts)
    return measure("drift", case.replace(env=env, env_params=params), **fields)


def test_linear_drift_by_hand():
    means = straight_modes()[3]
    # e_t = .3 t / 32 off mode 0: final .3, slope .3 / 32; last quarter t = 25 .. 32 (mean 28.5), first
    # t = 0 .. 7 (3.5): growth 28.5 / 3.5. Middle: 2 e / 1, mean .3.
    aside = np.stack([np.zeros(33), 0.3 * np.arange(33) / 32], -1)
    found = drift_of((means[0] + aside)[None])
    wanted = {
        "final": 0.3,
        "relative": 0.3,
        "slope": 0.3 / 32,
        "growth": 28.5 / 3.5,
        "switches": 0,
        "middle": 0.3,
    }
    assert found == pytest.approx({f"drift/{name}": value for name, value in wanted.items()}, abs=1e-5)


def test_switch_and_middle_by_hand():
    means = straight_modes()[3]
    switching = np.where(np.arange(33)[:, None] < 10, means[0], means[1])
    back = np.where((np.arange(33)[:, None] // 11) == 1, means[1], means[0])
    halfway = means.mean(0)
    found = drift_of(np.stack([switching, back, halfway, means[0]]))
    # 1, 2, none (halfway is never decided) and 0 switches
    assert found["drift/switches"] == pytest.approx(0.75)
    # only the third is in the middle, always
    assert found["drift/middle"] == pytest.approx(0.25, abs=1e-6)
    # jitter around the middle that stays within the hysteresis is no switch
    jitter = halfway + 0.1 * np.stack([np.zeros(33), (-1.0) ** np.arange(33)], -1)
    assert drift_of(jitter[None])["drift/switches"] == 0
    assert drift_of(jitter[None], hysteresis=0.1)["drift/switches"] == 32


def test_ended_episodes_count_up_to_their_end():
    means = straight_modes()[3]
    path = means[0].copy()
    path[20:] += 5.0
    mask = (np.arange(33) < 20)[None]
    found = drift_of(path[None], mask)
    assert found["drift/final"] == pytest.approx(0, abs=1e-6)
    assert found["drift/slope"] == pytest.approx(0, abs=1e-6)
    assert "drift/growth" not in found


def test_an_episode_that_was_over_when_it_began_says_nothing():
    aside = straight_modes()[3][0] + 0.1
    path = np.stack([aside, aside + 3.0])
    mask = np.stack([np.ones(33), np.arange(33) < 1]) > 0
    assert drift_of(path, mask) == drift_of(path[:1], mask[:1]) != {}


def test_no_episodes_no_drift():
    rng = np.random.default_rng(0)
    modes = _toy.fan(rng, count=2)
    assert measure("drift", _toy.case(_toy.Mixture(), modes, _toy.demonstrations(rng, modes))) == {}


def test_paths_are_sums_in_physical_units():
    # Physical actions are 3 + 2 y: (1, 1) -> 5, 5; path 5, 10; over sqrt(2).
    normalizer = Normalizer(jnp.zeros(1), jnp.ones(1), jnp.asarray([1.0]), jnp.asarray([5.0]))
    points = _paths.path_points(normalizer, jnp.ones((1, 2, 1)))
    np.testing.assert_allclose(points[0], np.asarray([5.0, 10.0]) / np.sqrt(2), rtol=1e-6)


def test_labels_whose_sets_overlap_are_one_mode():
    rng = np.random.default_rng(0)
    centres = np.asarray([[0.0], [0.1], [5.0]])
    label = np.repeat([0, 1, 2, -1], 50)
    points = (
        np.concatenate([centres[label[label >= 0]], np.full((50, 1), 9.0)]) + rng.normal(size=(200, 1)) * 0.2
    )
    modes = _paths.local_modes(points, label)
    assert modes.count == 2
    np.testing.assert_allclose(modes.share, [2 / 3, 1 / 3])
    # between 0.1 and 5, means of 50 with deviation .03
    assert modes.centre_distance == pytest.approx(4.9, abs=0.2)
    assert modes.set_distance == pytest.approx(modes.centre_distance - modes.radius[1:].sum(), abs=1e-9)
    # tubes reach a quarter of the way; sets hold 95 %
    assert modes.assign(np.asarray([[1.2], [2.5], [3.9], [7.0]])).tolist() == [0, _paths.OFF, 1, _paths.OFF]
    inside = modes.assign(points[:150], sets=True) != _paths.OFF
    assert 0.93 < inside.mean() < 1
    assert _paths.local_modes(points, np.full(200, -1)) is None


def test_anchors_take_one_window_per_episode_where_most_modes_meet():
    # Observation 0: one mode. Observation 1: two.
    alone, both = _line.around([[0.0]], 64), _line.around([[-0.5], [0.5]], 32)
    demos = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), alone, both)
    obs = jnp.repeat(jnp.asarray([[0.0], [1.0]]), 64, axis=0)
    demos = demos.replace(obs=obs, episode=jnp.arange(128) // 2 * 2 + jnp.arange(128) % 2)
    policy = _line.Map(lambda w: w)
    rule = _paths.AnchorRule(_paths.AnchorOptions(num_anchors=2, neighbours=48))
    anchors = rule.find(_line.case(policy, demos), jax.random.key(0))
    assert [anchor.obs.item() for anchor in anchors] == [1.0, 1.0]
    assert [anchor.modes.count for anchor in anchors] == [2, 2]
    assert all(len(anchor.points) == 48 for anchor in anchors)
    paired = demos.replace(episode=jnp.arange(128) // 4)
    # 16 episodes at each observation
    assert len(rule.find(_line.case(policy, paired), jax.random.key(0))[0].points) == 16
    assert rule.find(_line.case(policy, demos.replace(episode=jnp.arange(128) // 8)), jax.random.key(0)) == []


def test_separation_in_paths():
    rng = np.random.default_rng(0)
    modes = _toy.fan(rng, count=4, noise=0.005)
    found = measure("separation", _toy.case(_toy.Mean(), modes, _toy.demonstrations(rng, modes)))
    # root mean square distance over time of neighbours
    paths = modes.paths[:4]
    apart = np.sqrt(np.square(paths[0] - paths[1]).sum(-1).mean())
    assert found["separation/path_modes"] == 4
    # a mean of 32 paths errs by .005 / sqrt(32) per entry
    assert found["separation/path_delta"] == pytest.approx(apart, abs=5 * 0.005 / 32**0.5 * 2**0.5)
    # radius: .95 quantile of .005 sqrt(chi2_16 / 8) = .005 * sqrt(26.3 / 8)
    assert found["separation/path_radius"] == pytest.approx(0.005 * np.sqrt(26.3 / 8), rel=0.15)
    assert found["separation/label_modes"] == 4
