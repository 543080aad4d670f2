"""How steep is a learned transport, and what makes it steeper: size, weight decay, integration steps.

Run:     python -m mmbc_jax.study --config configs/study/transport.py --config.scale=small --workdir runs/transport
"""

from ml_collections import ConfigDict

from mmbc_jax.study.claims import custom, trend
from mmbc_jax.study.family_settings import open_loop
from mmbc_jax.study.plan import Change, Check, Plot, Results, Study, Variant

COLUMNS = (
    ("success_rate", "SR", 3),
    ("bridge_fraction", "bridges", 3),
    ("mode_coverage", "cov.", 2),
    ("capacity/lipschitz_global", "L sampled", 2),
    ("capacity/lipschitz_local", "mean local L", 2),
    ("capacity/delta", "Delta", 2),
    ("capacity/required_lipschitz", "L required", 2),
    ("capacity/needed_lipschitz", "L needed", 2),
    ("bridges/sharpness", "sharpness", 1),
)


def required(results: Results) -> Check:
    """The L that the masses of each seed's modes require beside the steepest slope that was sampled there."""
    metrics = ("capacity/required_lipschitz", "capacity/lipschitz_global")
    pairs = [pair for entry in results.entries for pair in entry.together(*metrics)]
    if not pairs:
        return Check(None, "no figures")
    worst = max(need / found for need, found in pairs)
    return Check(worst <= 1.0, f"largest ratio of required to sampled L over {len(pairs)} runs: {worst:.2f}")


def starved(results: Results) -> Check:
    """Bridges of the runs whose sampled L stays below what at most 5 % of bridges would need."""
    metrics = ("capacity/needed_lipschitz", "capacity/lipschitz_global", "bridge_fraction")
    runs = [run for entry in results.entries for run in entry.together(*metrics)]
    shares = [share for need, found, share in runs if found < need]
    if not shares:
        return Check(None, "no run is that flat")
    return Check(min(shares) > 0.05, f"{len(shares)} runs, bridges {min(shares):.3g} to {max(shares):.3g}")


def make(name: str, k: int, change: str, config: ConfigDict, **value: float) -> Variant:
    config.diagnostics = ("capacity", "bridges")
    return Variant(f"{name}-K{k}", {"change": change, "K": k, **value}, config)


def get_studies(scale: str) -> list[Study]:
    small = scale == "small"
    ks = (16,) if small else (2, 4, 8, 16, 32)
    variants = []
    for k in ks:
        for steps in (1, 100) if small else (1, 2, 5, 10, 20, 50, 100):
            config = open_loop("radial", k, "flow")
            config.sampler.steps = steps
            variants.append(make(f"nfe{steps}", k, "NFE", config, NFE=steps))
        for width in (64,) if small else (32, 64, 128, 256, 512, 1024):
            config = open_loop("radial", k, "flow", hidden=(width,) * 3)
            variants.append(make(f"width{width}", k, "width", config, width=width))
        config = open_loop("radial", k, "flow")
        config.sweep.grid = f"bc.weight_decay={'1' if small else '0,0.0001,0.01,0.1,1,10'}"
        variants.append(make("decay", k, "weight decay", config))
        for limit in (2.0,) if small else (1.0, 2.0, 4.0, 8.0):
            config = open_loop("radial", k, "flow", spectral_norm=limit)
            variants.append(make(f"spectral{limit:g}", k, "layer norm bound", config, layer_bound=limit))
    nfe = {"change": "NFE", "K": 16}
    claims = [
        trend("more integration steps leave fewer bridges", "bridge_fraction", "NFE", -1, slack=0.02, **nfe),
        trend(
            "more integration steps make the transport steeper",
            "capacity/lipschitz_global",
            "NFE",
            1,
            slack=1.0,
            **nfe,
        ),
        custom("no run has modes that require more than the steepest slope sampled", required).changed(
            Change(
                2,
                "not recorded",
                "15e36ef: each run's L required by the masses that its modes have, before the mean L needed for all "
                "modes of a setting; the claim on runs below L needed was added",
                "studies compare L with what the masses require",
            )
        ),
        custom("where the sampled L is below what 5 % of bridges needs, there are more than 5 %", starved),
    ]
    plots = [Plot("bridge_fraction", "NFE", "K", "share of bridges", True, {"change": "NFE"}),
             Plot("capacity/lipschitz_global", "NFE", "K", "L sampled", True, {"change": "NFE"})]  # fmt: skip
    question = (
        "Flow matching from N(0, I) on radial. Sampled Lipschitz constants are lower bounds and certify nothing; "
        "what the isoperimetric bound says is how large L must be for the masses that the modes were seen to have (L "
        "required), and for all modes with 5 % of bridges (L needed). Bounds with "
        "certified L (analytic and norm-bounded maps) are checked in the tests."
    )
    return [Study("transport", question, variants, COLUMNS, claims, plots)]
