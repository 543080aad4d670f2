import jax
import numpy as np
import pytest

from mmbc_jax.diagnostics.run import measure_all
from mmbc_jax.diagnostics.verdict import MECHANISMS, verdict

CLEAN = {"bridges/modes": 4.0, "bridges/off_support": 0.02, "bridges/off_support_demos": 0.01,
         "bridges/reached": 1.0, "bridges/spread": 1.0}  # fmt: skip
OFF = CLEAN | {"bridges/off_support": 0.51, "bridges/spread": 0.6}


@pytest.mark.parametrize(
    ("figures", "mechanism"),
    [
        ({}, "unmeasured"),
        (CLEAN, "none"),
        # excess .50 over .1
        (OFF, "bridges"),
        # groups of raw chunks drown in noise where paths are apart
        (OFF | {"separation/multimodal": 0.0, "separation/modes": 1.0}, "bridges"),
        # one demonstrated mode: nothing multimodal to fail at, but samples leave it
        (OFF | {"bridges/modes": 1.0, "bridges/between": 0.0}, "dispersion"),
        (OFF | {"bridges/modes": 1.0, "bridges/between": 0.0, "bridges/spread": 0.01}, "unexplained"),
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
        # 1.48 modes on average, as 45 % of the observations have two or three: regression is off-support there
        (
            {"separation/modes": 1.48, "separation/multimodal": 0.45, "bridges/off_support": 0.33}
            | {"bridges/off_support_demos": 0.06, "bridges/spread": 0.0},
            "averaging",
        ),
        (OFF | {"bridges/modes": 1.09, "bridges/spread": 0.01}, "unexplained"),
        # the same mass, around the modes and between them
        (OFF | {"bridges/between": 0.05, "bridges/around": 0.46}, "dispersion"),
        (OFF | {"bridges/between": 0.46, "bridges/around": 0.05}, "bridges"),
        (
            OFF | {"bridges/between": 0.05, "capacity/lipschitz": 2.0, "capacity/needed_lipschitz": 3.0},
            "dispersion",
        ),
        # dispersion empties the tubes; a mode is lost where nothing comes near it
        (OFF | {"bridges/between": 0.0, "bridges/reached": 0.2, "bridges/served": 1.0}, "dispersion"),
        (OFF | {"bridges/between": 0.0, "bridges/reached": 0.2, "bridges/served": 0.5}, "coverage"),
        # success
        (CLEAN | {"outcome/success": 0.96}, "none"),
        (CLEAN | {"outcome/success": 0.94}, "unexplained"),
        (CLEAN | {"outcome/success": 0.86, "outcome/success_demos": 0.9}, "none"),
        (CLEAN | {"outcome/success": 0.85, "outcome/success_demos": 0.9}, "unexplained"),
        (CLEAN | {"outcome/success": 0.5, "drift/relative": 0.2, "drift/growth": 5.0}, "drift"),
        # a loss of .125 is explained by .0417 off-support; without a loss, .06 is little
        (CLEAN | {"bridges/off_support": 0.06, "outcome/success": 0.875}, "bridges"),
        (CLEAN | {"bridges/off_support": 0.06, "outcome/success": 0.96}, "none"),
        (
            CLEAN
            | {"bridges/off_support": 0.06, "outcome/success": 0.875}
            | {"capacity/lipschitz": 1.9, "capacity/needed_lipschitz": 3.6},
            "capacity",
        ),
        # success alone: enough for one way of doing it, not for several
        ({"outcome/success": 1.0}, "unmeasured"),
        ({"outcome/success": 1.0, "separation/multimodal": 0.0}, "none"),
        # eight modes at 2 of 64 observations: a mean of 1.219, a share of .031
        ({"outcome/success": 1.0, "separation/multimodal": 0.031, "separation/modes": 1.219}, "none"),
        ({"outcome/success": 1.0, "separation/multimodal": 0.5, "drift/relative": 0.01}, "unmeasured"),
        ({"outcome/success": 0.1, "separation/multimodal": 1.0}, "unmeasured"),
        # episodes that stray where answers were not looked at: from the modes, or between them?
        ({"outcome/success": 0.1, "separation/multimodal": 1.0, "drift/relative": 0.3}, "unmeasured"),
        # short chunks at a fork, whose modes are hardly apart: one answer that passes for a mode, or no modes at
        # all, and episodes in the middle; with a base the same episodes are something else
        (
            CLEAN
            | {"outcome/success": 0.0, "bridges/spread": 0.0, "bridges/reached": 0.5, "drift/relative": 0.07}
            | {"drift/middle": 0.95},
            "averaging",
        ),
        (
            CLEAN
            | {"outcome/success": 0.0, "bridges/spread": 0.0, "bridges/multimodal": 0.0, "drift/middle": 0.95}
            | {"drift/relative": 0.2, "drift/growth": 5.0},
            "averaging",
        ),
        (
            CLEAN
            | {"outcome/success": 0.9, "bridges/spread": 0.0, "drift/middle": 0.6, "bridges/reached": 0.5},
            "coverage",
        ),
        (CLEAN | {"outcome/success": 0.0, "drift/middle": 0.95}, "unexplained"),
        # regression at a fork that nobody looked at
        (
            {
                "outcome/success": 0.0,
                "separation/path_modes": 2.0,
                "drift/relative": 0.07,
                "drift/middle": 0.95,
            },
            "averaging",
        ),
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
        "the transport is 2 steep as sampled,",
        "the modes need 3.25",
        "51 % of the samples lie on no demonstrated way",
        "mixture base",
    ):
        assert part in text


def test_scores_are_evidence_over_threshold():
    scores = verdict(OFF | {"capacity/lipschitz": 2.0, "capacity/needed_lipschitz": 3.0}, "flow").scores
    # excess .51 - .01 over .1; 3 / 2; .1 / .6
    expected = {"bridges": 5.0, "dispersion": 0.0, "capacity": 1.5, "averaging": 0.1 / 0.6}
    assert scores == pytest.approx(expected)
    # a loss of .3 at a limit of .1, one of .12 at .04; excess .05 between and .01 around
    few = {"bridges/off_support": 0.06, "bridges/between": 0.05, "bridges/multimodal": 1.0}
    assert verdict(few | {"outcome/success": 0.7}, "x").scores == pytest.approx(
        {"bridges": 0.5, "dispersion": 0.1}
    )
    scores = verdict(few | {"outcome/success": 0.88}, "x").scores
    assert scores == pytest.approx({"bridges": 1.25, "dispersion": 0.25})
    # nothing told at all: capped
    assert verdict({"information/floor_10": 0.9, "information/mutual": 0.0}, "x").scores["information"] == 100


@pytest.mark.parametrize(
    ("figures", "capabilities", "part", "absent"),
    [
        (OFF | {"bridges/spread": 0.0}, (), "Use a generative policy", "KL"),
        (OFF | {"bridges/spread": 0.05}, ("field",), "train longer", "generative policy"),
        (OFF, ("field",), "integration steps", "KL"),
        (OFF, ("posterior",), "prior", "integration steps"),
        (OFF | {"bridges/between": 0.0}, ("log_prob",), "min_std", "integration steps"),
        (OFF | {"bridges/between": 0.0}, ("field", "chain"), "integration steps", "min_std"),
        (
            OFF | {"information/z_advantage": 0.0, "information/beta": 1.0},
            ("posterior",),
            "KL weight",
            "codes",
        ),
        (OFF | {"information/z_advantage": 0.0}, ("posterior",), "latent more room", "KL weight"),
        (OFF, (), "Not measured: success, episodes.", "KL"),
        ({"outcome/success": 0.1}, ("field",), "Not measured: answers, episodes.", "steps"),
    ],
)
def test_remedies_fit_the_policy(figures, capabilities, part, absent):
    text = verdict(figures, "x", frozenset(capabilities)).text
    assert part in text
    assert absent not in text


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
