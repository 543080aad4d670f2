import jax
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.diagnostics.run import measure_all
from mmbc_jax.diagnostics.verdict import MECHANISMS, verdict

from . import _toy

INSTANCES = 10
PLANTED = {
    "none-mixture": ("none", _toy.Mixture()),
    "none-learned-prior": ("none", _toy.Latent(learned=True)),
    "information-collapsed": ("information", _toy.Collapsed()),
    "information-parity": ("information", _toy.Parity()),
    "coverage-prior": ("coverage", _toy.Latent()),
    "coverage-lost-codes": ("coverage", _toy.Mixture(lost=1)),
    "averaging": ("averaging", _toy.Mean()),
    "capacity": ("capacity", _toy.Disc()),
    "bridges": ("bridges", _toy.Sectors()),
    "drift": ("drift", _toy.Mixture()),
}


def instruments():
    found = {}
    for name in ("bridges", "capacity", "coverage", "drift", "information"):
        plugin = registry.find("diagnostic", name)
        cfg = plugin.default_config()
        if name != "drift":
            cfg.num_anchors, cfg.candidates, cfg.neighbours, cfg.samples = 1, 2, _toy.N, 256
        found[name] = plugin(cfg)
    return found


@pytest.fixture(scope="module")
def shared_instruments():
    return instruments()


def instance(name, policy, seed):
    """Another geometry, K, noise, strength of the failure and data per seed; episodes where they matter."""
    rng = np.random.default_rng([seed, 7])
    least = 4 if name == "information-parity" else 2  # two modes are told apart by their parity
    modes = _toy.fan(rng, count=least + seed % (_toy.K_MAX - least + 1))
    windows = _toy.demonstrations(rng, modes)
    rollouts = None
    if policy == _toy.Mixture():
        growth = 0.1 + 0.1 * modes.strength if name == "drift" else 0.0
        rollouts = _toy.episodes(rng, modes, growth)
    return _toy.case(policy, modes, windows, rollouts)


@pytest.mark.parametrize("name", PLANTED)
def test_planted_failures_are_named(name, shared_instruments):
    mechanism, policy = PLANTED[name]
    named = []
    for seed in range(INSTANCES):
        found = measure_all(shared_instruments, instance(name, policy, seed), jax.random.key(seed))
        named.append(verdict(found, name).mechanism)
    assert named.count(mechanism) >= 9, named


CLEAN = {"bridges/modes": 4.0, "bridges/off_support": 0.02, "bridges/off_support_demos": 0.01,
         "bridges/reached": 1.0, "bridges/spread": 1.0}  # fmt: skip
OFF = CLEAN | {"bridges/off_support": 0.51, "bridges/spread": 0.6}


@pytest.mark.parametrize(
    ("figures", "mechanism"),
    [
        ({}, "none"),
        (CLEAN, "none"),
        # excess .50 over .1
        (OFF, "bridges"),
        # one demonstrated mode: nothing multimodal to fail at
        (OFF | {"bridges/modes": 1.0}, "none"),
        (OFF | {"bridges/spread": 0.01}, "averaging"),
        # one answer that is one of the modes: the others are not covered
        (CLEAN | {"bridges/spread": 0.01, "bridges/reached": 0.25}, "coverage"),
        (OFF | {"capacity/lipschitz": 2.0, "capacity/needed_lipschitz": 3.0}, "capacity"),
        (OFF | {"capacity/lipschitz": 4.0, "capacity/needed_lipschitz": 3.0}, "bridges"),
        (OFF | {"coverage/gap": 0.3, "coverage/missed": 0.0}, "coverage"),
        # a latent that knows enough, its prior in place: what is left is the transport
        (
            OFF
            | {"coverage/gap": 0.1, "coverage/missed": 0.0, "information/error_posterior": 0.1}
            | {"information/floor_10": 0.95, "information/mutual": 1.3, "information/mode_information": 0.6}
            | {"information/z_advantage": 0.5},
            "bridges",
        ),
        # 0.95 / 0.9 > 1
        (OFF | {"information/floor_10": 0.95, "information/mutual": 0.9}, "information"),
        (OFF | {"information/floor_10": 0.95, "information/mode_information": 0.4}, "information"),
        (OFF | {"information/z_advantage": 0.01}, "information"),
        # a poor latent that does no harm is no failure
        (CLEAN | {"information/floor_10": 0.95, "information/mutual": 0.1}, "none"),
        # half of the modes gone, nothing between
        (CLEAN | {"bridges/reached": 0.5}, "coverage"),
        (
            CLEAN | {"bridges/reached": 0.5, "capacity/lipschitz": 4.0, "capacity/needed_lipschitz": 3.0},
            "coverage",
        ),
        (
            CLEAN | {"bridges/reached": 0.5, "capacity/lipschitz": 1.0, "capacity/needed_lipschitz": 3.0},
            "capacity",
        ),
        (CLEAN | {"drift/relative": 0.2, "drift/growth": 5.0}, "drift"),
        (CLEAN | {"drift/relative": 0.2, "drift/growth": 1.2}, "none"),
        (CLEAN | {"drift/relative": 0.02, "drift/growth": 5.0}, "none"),
        (CLEAN | {"drift/relative": 0.02, "drift/growth": 1.0, "drift/switches": 0.7}, "drift"),
        # a policy that fails at single answers is not excused by drifting as well
        (OFF | {"drift/relative": 0.2, "drift/growth": 5.0}, "bridges"),
        # one path and no labels: drift needs no modes
        ({"drift/relative": 0.2, "drift/growth": 5.0}, "drift"),
        # unlabelled data that cluster: 2.4 modes on average
        ({"separation/modes": 2.4, "bridges/off_support": 0.3, "bridges/spread": 1.0}, "bridges"),
    ],
)
def test_rules(figures, mechanism):
    found = verdict(figures, "flow")
    assert found.mechanism == mechanism
    assert mechanism in MECHANISMS
    assert found.text.startswith(f"flow: {mechanism}.")
    assert "\n" not in found.text


def test_text_gives_the_figures_and_the_remedy():
    text = verdict(OFF | {"capacity/lipschitz": 2.0, "capacity/needed_lipschitz": 3.25}, "flow").text
    for part in (
        "capacity/lipschitz 2,",
        "capacity/needed_lipschitz 3.25",
        "off_support 0.51",
        "mixture base",
    ):
        assert part in text


def test_scores_are_evidence_over_threshold():
    scores = verdict(OFF | {"capacity/lipschitz": 2.0, "capacity/needed_lipschitz": 3.0}, "flow").scores
    # excess .51 - .01 over .1; 3 / 2; .1 / .6
    assert scores == pytest.approx({"bridges": 5.0, "capacity": 1.5, "averaging": 0.1 / 0.6})
    # nothing told at all: capped
    assert verdict({"information/floor_10": 0.9, "information/mutual": 0.0}, "x").scores["information"] == 100


class Fixed:
    def __init__(self, **figures):
        self.figures = {name.replace("_", "/", 1): value for name, value in figures.items()}
        self.keys = []

    def measure(self, case, key):
        self.keys.append(np.asarray(jax.random.key_data(key)).tolist())
        return self.figures


def test_measure_all_joins_finite_figures():
    pair = {"a": Fixed(a_x=1, a_y=float("nan")), "b": Fixed(b_x=np.float32(2), b_y=float("inf"))}
    found = measure_all(pair, None, jax.random.key(0))
    assert found == {"a/x": 1.0, "b/x": 2.0}
    assert all(type(value) is float for value in found.values())


def test_an_instrument_has_a_key_of_its_own():
    a, b = Fixed(), Fixed()
    measure_all({"a": a, "b": b}, None, jax.random.key(0))
    measure_all({"b": b}, None, jax.random.key(0))
    measure_all({"a": a}, None, jax.random.key(1))
    assert a.keys[0] != b.keys[0]
    assert b.keys[0] == b.keys[1]
    assert a.keys[0] != a.keys[1]
