"""How steep is a learned transport, and what makes it steeper: size, weight decay, integration steps.

Run:     python -m mmbc_jax.sweep --config configs/study/transport.py --config.scale=small --workdir runs/transport
"""

from ml_collections import ConfigDict

from mmbc_jax.study.claims import custom, trend
from mmbc_jax.study.families import open_loop
from mmbc_jax.study.plan import Check, Plot, Results, Study, Variant

COLUMNS = (
    ("success_rate", "SR", 3),
    ("bridge_fraction", "bridges", 3),
    ("mode_coverage", "cov.", 2),
    ("capacity/lipschitz", "L median", 1),
    ("capacity/lipschitz_max", "L largest", 1),
    ("capacity/lipschitz_global", "L secants", 1),
    ("capacity/delta", "Delta", 2),
    ("capacity/needed_lipschitz", "L needed", 1),
    ("bridges/sharpness", "sharpness", 1),
)


def needed(results: Results) -> Check:
    """L needed beside the largest L that was sampled."""
    pairs = [
        (e.per_seed("capacity/needed_lipschitz").mean(), e.per_seed("capacity/lipschitz_global").mean())
        for e in results.entries
        if e.per_seed("capacity/needed_lipschitz").size and e.per_seed("capacity/lipschitz_global").size
    ]
    if not pairs:
        return Check(None, "no figures")
    worst = max(a / b for a, b in pairs)
    return Check(
        worst <= 1.0, f"largest ratio of needed to sampled L over {len(pairs)} settings: {worst:.2f}"
    )


def make(name: str, k: int, change: str, value: float, config: ConfigDict) -> Variant:
    config.diagnostics = ("capacity", "bridges")
    return Variant(f"{name}-K{k}", {"change": change, "value": value, "K": k}, config)


def get_studies(scale: str) -> list[Study]:
    small = scale == "small"
    ks = (16,) if small else (2, 4, 8, 16, 32)
    variants = []
    for k in ks:
        for steps in (1, 100) if small else (1, 2, 5, 10, 20, 50, 100):
            config = open_loop("radial", k, "flow")
            config.sampler.steps = steps
            variants.append(make(f"nfe{steps}", k, "NFE", steps, config))
        for width in (64,) if small else (32, 64, 128, 256, 512, 1024):
            config = open_loop("radial", k, "flow", hidden=(width,) * 3)
            variants.append(make(f"width{width}", k, "width", width, config))
        config = open_loop("radial", k, "flow")
        config.sweep.grid = f"bc.weight_decay={'1' if small else '0,0.0001,0.01,0.1,1,10'}"
        variants.append(make("decay", k, "weight decay", 0.0, config))
        for limit in (2.0,) if small else (1.0, 2.0, 4.0, 8.0):
            config = open_loop("radial", k, "flow", spectral_norm=limit)
            variants.append(make(f"spectral{limit:g}", k, "layer norm bound", limit, config))
    nfe = {"change": "NFE", "K": 16}
    claims = [
        trend(
            "more integration steps leave fewer bridges", "bridge_fraction", "value", -1, slack=0.02, **nfe
        ),
        trend(
            "more integration steps make the transport steeper",
            "capacity/lipschitz_global",
            "value",
            1,
            slack=1.0,
            **nfe,
        ),
        custom("the L that the observed modes need does not exceed the steepest secant", needed),
    ]
    plots = [Plot("bridge_fraction", "value", "K", "share of bridges", True, {"change": "NFE"}),
             Plot("capacity/lipschitz_global", "value", "K", "L (secants)", True, {"change": "NFE"})]  # fmt: skip
    question = (
        "Flow matching from N(0, I) on radial. Sampled Lipschitz constants are lower bounds and certify nothing; "
        "what the isoperimetric bound says is how large L must be for the modes that were observed. Bounds with "
        "certified L (analytic and norm-bounded maps) are checked in the tests."
    )
    return [Study("transport", question, variants, COLUMNS, claims, plots)]
