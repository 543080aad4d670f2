"""The claims of configs/study on planted results: each holds where its effect is, and fails where it is not.

Both worlds have the variants, sweep points and numbers of seeds of the small scale.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmbc_jax.core.config import load_module
from mmbc_jax.diagnostics.domains import domain
from mmbc_jax.diagnostics.instruments.drift import _deviations
from mmbc_jax.runs.grid import config_grid
from mmbc_jax.study.claims import interval_bound
from mmbc_jax.study.nulls import LIMIT, null_rate
from mmbc_jax.study.plan import Entry, Results

FOLDER = Path(__file__).parents[2] / "configs" / "study"
FILES = ("modes", "tasks", "regularisation", "transport", "blog", "human", "images", "causes")
STUDIES = [study for name in FILES for study in load_module(FOLDER / f"{name}.py").get_studies("small")]
CASES = [
    pytest.param(study, claim, id=f"{study.name}: {claim.statement[:60]}")
    for study in STUDIES
    for claim in study.claims
]
SR, OFF, COVERED = "success_rate", "bridges/off_support", "valid_mode_coverage"


def modes(tags, there):
    family, k = tags["family"], tags["K"]
    bridges = {2: 0.002, 8: 0.3, 16: 0.55}[k] if there else 0.1
    control = 0.15 if there else 0.9
    success = {
        "deterministic": 0.0 if there else 0.2,
        "gaussian": control,
        "mixture flow .6": 1.0 if there else 0.8,
    }
    return {
        "bridge_fraction": bridges,
        SR: success.get(family, 1 - bridges),
        COVERED: 1.0 if there else 1 - 1 / k,
    }


def tasks(tags, there):
    shown = tags["task"] == "conditional_circle"
    success = 1.0 if there else 0.9
    if tags["family"] == "deterministic":
        success = float(shown) if there else 0.2 + 0.6 * shown
    return {
        SR: success,
        COVERED: 1.0 if there else 0.5,
        "bridge_fraction": 0.002 if there else 0.1,
        "separation/path_modes": (1.0 if shown else 2.0) if there else 1.5,
    }


def regularisation(tags, there):
    beta, prior = tags.get("beta", 0.0), tags["prior"]
    apart = beta < 0.05 or not there
    success = {"conditional_mixture": 1.0, "normal": 0.3}.get(prior, 0.5) if there else 0.5
    return {
        SR: success,
        "information/rate": 7.0 * apart if there else 3.0,
        "information/mode_information": 2.0 if apart else 0.5,
        "information/floor_10": 1.5,
        "information/beta_limit": 0.18,
    }


def transport(tags, there):
    one, flat = tags.get("NFE") == 1, "layer_bound" in tags
    bridges = (1.0 if one or flat else 0.55) if there else 0.55
    slope = (0.2 if one else 3.4) if there else 1.0
    return {
        "bridge_fraction": bridges,
        "capacity/lipschitz_global": slope,
        "capacity/bridge_bound": 0.03 if there else 0.5,
    }


def smooth(tags, there):
    final = {1: 0.03, 8: 0.01, 16: 0.03}[tags["chunk"]] if there else 0.02
    error = {"small": 0.1, "deep": 0.002}[tags["net"]] if there else 0.1
    return {"drift/growth": 3.0 if there else 1.04, "drift/final": final, "offline/best_of_1": error}


def dagger(tags, there):
    with_it = tags["DAgger"] == "yes" and there
    return {"drift/final": 0.01 if with_it else 0.1, SR: 1.0 if with_it else 0.5}


def high_low(tags, there):
    good = tags["family"] == "mixture flow" or (tags["net"] == "deep" and tags["chunk"] == 1)
    if not there:
        return {"drift/middle": 0.5, SR: 0.5, COVERED: 0.5}
    return {"drift/middle": 0.4 if good else 0.95, SR: 1.0 if good else 0.0, COVERED: 1.0}


def pusht(tags, there):
    control = tags["family"] == "gaussian"
    return lair({"family": "vq"} if control and there else tags, there) | {
        "offline/best_of_16": 0.08 if there else (0.12 if control else 0.05)
    }


def lair(tags, there):
    family = tags["family"]
    return {
        "offline/best_of_1": 0.1 if family == "deterministic" or not there else 0.15,
        "offline/best_of_16": 0.08 if family in ("vq", "mixture flow") and there else 0.12,
    }


def images(tags, there):
    image = tags["observe"] == "image"
    return {SR: 1.0 if there or not image else 0.8, COVERED: 1.0 if there else 0.5}


def causes(tags, there):
    cause, setting = tags["cause"], tags["setting"]
    if cause == "base with modes":
        return {OFF: 0.0 if there else 0.2, SR: 1.0 if there else (0.7 if setting.endswith("0.6") else 0.85)}
    moved = (
        {"batch": 0.8, "budget": 0.1, "budget per mode": 0.2, "coupling": 0.4, "times": 0.4} if there else {}
    )
    return {
        OFF: moved.get(cause, 0.55 if there else 0.1 if cause in ("width", "steps near t = 1") else 0.3),
        SR: 0.5,
    }


WORLDS = {
    "modes-radial": modes, "modes-corridor": modes, "tasks": tasks, "regularisation": regularisation,
    "transport": transport, "blog-smooth": smooth, "blog-dagger": dagger, "blog-high-low": high_low,
    "human-pusht": pusht, "human-lair": lair, "images": images, "causes": causes,
}  # fmt: skip


def planted(study, there):
    rng = np.random.default_rng(3)
    entries = []
    for variant in study.variants:
        grid = config_grid(variant.config)
        for point in range(len(grid.points)):
            swept = {path.rpartition(".")[2]: value for path, value in grid.values(point).items()}
            tags = {**variant.tags, **swept}
            metrics = {}
            for name, mean in WORLDS[study.name](tags, there).items():
                scatter = rng.normal(0.0, 0.004 * max(abs(mean), 0.05), variant.config.seeds)
                scatter *= name not in (COVERED, "information/floor_10")
                low, high = domain(name)
                values = np.clip(mean + scatter, low, high).tolist()
                metrics[name] = {"per_seed": values} | (
                    {"n": 1000} if name in (SR, "bridge_fraction") else {}
                )
            entries.append(Entry(tags, metrics, {}))
    return Results(entries)


@pytest.mark.parametrize(("study", "claim"), CASES)
def test_it_holds_where_the_effect_is_and_seldom_without(study, claim):
    results = planted(study, True)
    found = claim.check(results)
    assert found.holds is True, found.evidence
    assert null_rate(claim, results, 300) <= LIMIT


@pytest.mark.parametrize(("study", "claim"), CASES)
def test_it_fails_where_the_effect_is_not(study, claim):
    assert claim.check(planted(study, False)).holds is False


def test_every_claim_of_every_scale_has_a_null_and_names_variants_that_exist():
    for name in FILES:
        for study in load_module(FOLDER / f"{name}.py").get_studies("full"):
            assert all(claim.null is not None for claim in study.claims)
    for study in STUDIES:
        assert min(variant.config.seeds for variant in study.variants) >= 4


def test_the_crossing_is_interpolated_in_log_beta():
    """From .5 above the floor at .04 to 1 below it at .06: a third of the way."""
    (study,) = [one for one in STUDIES if one.name == "regularisation"]
    crossings = load_module(FOLDER / "regularisation.py").crossings
    found = np.exp(crossings(planted(study, True), "normal"))
    np.testing.assert_allclose(found, 0.04 * (0.06 / 0.04) ** (1 / 3) / 0.18, rtol=0.05)
    assert np.isinf(crossings(planted(study, False), "normal")).all()


def test_noise_about_the_path_is_no_drift():
    """White noise from a start on the path, 300 trials of six seeds: a rising slope passes in 8 %, growth in none."""
    rng, trials, seeds = np.random.default_rng(0), 300, 6
    passed = np.zeros(2)
    for _ in range(trials):
        walk = rng.normal(0.0, 0.003, (seeds, 101, 2)) * np.exp(rng.normal(0.0, 0.5, (seeds, 1, 1)))
        walk[:, 0] = 0.0
        e = np.linalg.norm(walk, axis=-1)
        found = [_deviations(one[None, None], np.ones((1, 101), bool), 1.7) for one in e]
        metrics = {
            name: {"per_seed": [one[name] for one in found]} for name in ("drift/slope", "drift/growth")
        }
        results = Results([Entry({}, metrics, {})])
        slope = results.span("drift/slope")[0] > 0.0
        growth = interval_bound("", "drift/growth", ">", 1.5).check(results).holds
        passed += np.array([slope, growth])
    slope, growth = passed / trials
    assert 0.04 < slope < 0.13
    assert growth == 0.0
