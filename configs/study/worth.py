"""What each part of mode discovery is worth, for whom and for how long; and what does without it.

Run:     python -m mmbc_jax.study --config configs/study/worth.py --config.scale=small --workdir runs/worth
Expect:  small, the landscape whose reward prefers one goal on 3 seeds, and a frozen q on Avoiding: two hours on two
         cores. full: 6 seeds, so that a paired claim can count.

`parts`: with and without discovery (its iterations then go to fine-tuning), with and without the MI reward, at the
budget of `finetuning.py` and at four times that. `scratch`: no demonstrations; and a clone with one z and a bonus on
the entropy of its noise, which may keep ways but commands none. `frozen`: q stays as discovery left it.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import load_module, plugin
from mmbc_jax.study.claims import interval_bound
from mmbc_jax.study.paired import paired_gap
from mmbc_jax.study.plan import Claim, Study, Variant

FINETUNING = load_module("configs/study/finetuning.py")
COLUMNS = FINETUNING.COLUMNS
SEEDS = {"small": 3, "full": 6}
METHODS = ("steer", "denoise", "flow_sde", "residual", "dsrl")
REWARD = "unbalanced"


def part(scale: str, method: str, discovery: str, budget: int) -> Variant:
    """One fine-tuner, with or without discovery, at so many times the budget; both lambdas."""
    config: ConfigDict = FINETUNING.cell(scale, "landscape", method, "z", REWARD).config
    config.seeds = SEEDS[scale]
    config.discover.iterations *= budget
    config.finetune.iterations *= budget
    if discovery == "no":
        config.stages = ("bc", "finetune")
        config.finetune.iterations += config.discover.iterations
    tags = {"method": method, "discovery": discovery, "budget": budget}
    return Variant(f"{method}-{discovery}-x{budget}", tags, config, stage="finetune")


def scratch(scale: str, name: str) -> Variant:
    """A Gaussian without a clone: PPO, DIAYN's skills or VIC's; 20 times the steps that fine-tuning takes."""
    config: ConfigDict = FINETUNING.cell(scale, "landscape", "steer", "z", REWARD).config
    config.seeds = SEEDS[scale]
    config.actor, config.sweep.grid = plugin("actor", "gaussian"), ""
    config.stages = ("finetune",) if name == "ppo" else ("discover", "finetune")
    config.discover.iterations, config.finetune.iterations = 400, 800
    if name == "ppo":
        config.finetune.update({"num_modes": 1, "mi_coef": 0.0, "iterations": 1200})
    else:
        config.reward = plugin("reward", "diayn")
        config.discriminator.input = "state" if name == "diayn" else "final"
    return Variant(f"scratch-{name}", {"baseline": name}, config, stage="finetune")


def entropic(scale: str) -> Variant:
    """A steered clone with one z and a bonus on the entropy of its noise, over four weights."""
    config: ConfigDict = FINETUNING.cell(scale, "landscape", "steer", "one", REWARD).config
    config.seeds = SEEDS[scale]
    config.sweep.grid = "learner.entropy_coef=0,0.003,0.01,0.03"
    return Variant("entropy", {"baseline": "entropy"}, config, stage="finetune")


def frozen(scale: str, trained: bool) -> Variant:
    """The main job on Avoiding with q trained on, or as discovery left it."""
    config: ConfigDict = load_module("configs/finetune/avoiding_bmd.py").get_config()
    config.stages, config.seeds, config.figures = ("bc", "discover", "finetune"), SEEDS[scale], ()
    config.finetune.train_discriminator = trained
    return Variant(
        f"q-{'trained' if trained else 'frozen'}",
        {"q": "trained" if trained else "frozen"},
        config,
        "finetune",
    )


def claims() -> list[Claim]:
    said = []
    for method in METHODS:
        for budget in (1, 4):
            plain = {"method": method, "discovery": "no", "budget": budget, "mi_coef": 0.0}
            found, paid = {**plain, "discovery": "yes"}, {**plain, "discovery": "yes", "mi_coef": 0.5}
            said += [
                paired_gap(f"{method}, x{budget}: discovery alone adds control", "mi_z_mode", found, plain),
                paired_gap(
                    f"{method}, x{budget}: the MI reward adds control to it", "mi_z_mode", paid, found
                ),
            ]
    return said


def get_studies(scale: str) -> list[Study]:
    parts = [part(scale, m, found, budget) for m in METHODS for found in ("yes", "no") for budget in (1, 4)]
    without = [*(scratch(scale, name) for name in ("ppo", "diayn", "vic")), entropic(scale)]
    return [
        Study("parts", "What is MI worth, for whom, and for how long?", parts, COLUMNS, claims()),
        Study(
            "scratch",
            "What do skills without demonstrations, and a bonus on entropy, keep of four ways?",
            without,
            COLUMNS,
            [
                interval_bound(
                    "PPO from scratch reaches one goal at most", "modes_kept", "<", 1.5, baseline="ppo"
                )
            ],
        ),
        Study(
            "frozen",
            "What does a q cost that does not follow the policy?",
            [frozen(scale, True), frozen(scale, False)],
            COLUMNS,
            [
                paired_gap(
                    "a q that is trained on keeps more ways that can be commanded",
                    "commandable",
                    {"q": "trained"},
                    {"q": "frozen"},
                )
            ],
        ),
    ]
