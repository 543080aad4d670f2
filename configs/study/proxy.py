"""A number of modes without labels: what trained commands, and the paths themselves, tell of 1, 2 and 4 ways.

Run:     python -m mmbc_jax.study --config configs/study/proxy.py --workdir runs/proxy
Expect:  7 minutes on two cores. Paper B's proxy, at its own scale: 0.00, 0.58 and 1.06 nats.

Clones of radial demonstrations that go one, two or four ways; then discovery of 8 commands. `MI` is the bound of the
trained q, a proxy that needs training; `paths` is the information of a path through noise of .3, which needs none.
"""

import math

from ml_collections import ConfigDict

from mmbc_jax.core.config import load_module, plugin
from mmbc_jax.study.claims import interval_bound, trend
from mmbc_jax.study.plan import Study, Variant

MODES = (1, 2, 4)
SEEDS = {"small": 6, "full": 12}
COLUMNS = (
    ("paths/information", "paths", 2),
    ("mi_estimate", "MI", 2),
    ("mi_z_mode", "I(z; mode)", 2),
    ("mode_entropy", "entropy", 2),
    ("modes_kept", "kept", 1),
    ("success_rate", "SR", 3),
)


def variant(scale: str, modes: int) -> Variant:
    """Demonstrations of so many ways, and 8 commands."""
    config: ConfigDict = load_module("configs/finetune/landscape_bmd.py").get_config()
    config.env = plugin("env", "radial", num_modes=modes)
    config.stages = ("bc", "discover")
    config.data.noise, config.diagnostics = 0.0, ("paths",)
    config.discover.update({"iterations": 40})
    config.seeds, config.figures = SEEDS[scale], ()
    return Variant(f"K{modes}", {"K": modes}, config, stage="discover")


def get_studies(scale: str) -> list[Study]:
    return [
        Study(
            "proxy",
            "Does the number of ways show without labels?",
            [variant(scale, modes) for modes in MODES],
            COLUMNS,
            [
                interval_bound("one way holds next to no information", "paths/information", "<", 0.1, K=1),
                interval_bound("two ways hold half a nat or more", "paths/information", ">", 0.5, K=2),
                interval_bound("four ways hold a nat or more", "paths/information", ">", 1.0, K=4),
                interval_bound(
                    "two ways hold no more than log 2", "paths/information", "<", math.log(2) + 0.05, K=2
                ),
                trend("trained commands extract more of more ways", "mi_estimate", "K", 1, margin=0.2),
            ],
        )
    ]
