"""Push-T: families side by side on human episodes, played in the simulator.

Needs:   $MMBC_DATA/pusht/pusht_human_164.npz (see docs/data.md)
Run:     python -m mmbc_jax.study --config configs/study/push_t.py --config.scale=small --workdir runs/push_t
Fresh:   --config.first_seed=100: other networks and other starts; the file stays
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import load_module, plugin
from mmbc_jax.study.plan import Study, Variant

COLUMNS = (
    ("success_rate", "SR", 3),
    ("final_best_coverage", "best coverage", 3),
    ("final_coverage", "last coverage", 3),
    ("mode_entropy", "entropy", 2),
    ("separation/modes", "modes / obs", 2),
    ("separation/multimodal", "multimodal", 2),
    ("separation/spread", "spread", 2),
)
FAMILIES = {
    "flow": plugin("policy", "flow", skip=True),
    "deterministic": plugin("policy", "mse"),
    "diffusion": plugin("policy", "diffusion", skip=True, train_steps=100),
    "mdn": plugin("policy", "mdn", num_components=8),
    "bet": plugin("policy", "bet"),
}


def make(family: str, steps: int) -> Variant:
    config: ConfigDict = load_module("configs/bc/push_t.py").get_config()
    config.stages, config.seeds, config.diagnostics = ("bc",), 3, ("separation",)
    config.policy = ConfigDict(FAMILIES[family])
    config.policy.update({"hidden": (512, 512, 512), "fourier_octaves": 0})
    if family == "diffusion":
        config.sampler = plugin("sampler", "ddim", steps=10)
    config.bc.steps = steps
    config.evaluation.episodes = 512
    return Variant(family, {"family": family}, config)


def get_studies(scale: str) -> list[Study]:
    steps = 6000 if scale == "small" else 50000
    question = (
        "164 human episodes, keypoints and disc of two observations, 16 targets predicted and 8 executed, 300 steps. "
        "Success is a coverage above .95, which the recordings do not show: their last one is .85 in the median, .90 "
        f"at most. {steps:,} steps of 256 windows for every family. Separation first: how many modes does an "
        "observation have?"
    )
    return [Study("push-t", question, [make(family, steps) for family in FAMILIES], COLUMNS, [])]
