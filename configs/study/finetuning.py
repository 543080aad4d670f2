"""Every fine-tuner with and without mode discovery: what it keeps of the clone's ways, and what that costs.

Run:     python -m mmbc_jax.study --config configs/study/finetuning.py --config.scale=small --workdir runs/finetuning
Expect:  small, all methods on the landscape whose reward prefers one goal, 6 seeds, and five of them on Avoiding:
         an hour and a half, and four hours, on two cores. full adds the other rewards and the other methods on
         Avoiding: an accelerator.

All cells of a task take as many environment steps from clones of the same demonstrations. `command` is z with its
reward (lambda, and the same without: 0) or one z. Learning rates are those that kept the most ways on the landscape's
unbalanced reward, seed 90, of a third, one and three times the default, each with SR >= .95; on a tie the default.
Other options are the defaults. What an off-policy learner collects per update is set so that its environment steps
are those of PPO.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import load_module, plugin
from mmbc_jax.study.claims import interval_bound
from mmbc_jax.study.paired import paired_gap
from mmbc_jax.study.plan import Claim, Study, Variant

LANDSCAPE, AVOIDING = "configs/finetune/landscape_bmd.py", "configs/finetune/avoiding_bmd.py"
COLUMNS = (
    ("success_rate", "SR", 3),
    ("sr_m", "SR_M", 2),
    ("mc_08", "mc@.8", 2),
    ("mode_entropy", "entropy", 2),
    ("modes_kept", "kept", 1),
    ("commandable", "comm.", 1),
    ("mi_estimate", "MI", 2),
    ("mi_z_mode", "I(z; mode)", 2),
    ("env_steps_to_95", "steps to .95", 0),
)
SEEDS = {"small": 6, "full": 6}
REWARDS = {"small": ("unbalanced",), "full": ("balanced", "unbalanced", "rotated")}
PPO, SAC, NA, Q = "ppo", "sac", "dsrl_na", "q_chunk"
METHODS = {
    "steer": (PPO, "steer", {}),
    "denoise": (PPO, "denoise", {}),
    "flow_sde": (PPO, "flow_sde", {}),
    "cfm_ratio": (PPO, "cfm_ratio", {}),
    "residual": (PPO, "residual", {}),
    "residual_sac": (SAC, "residual", {}),
    "dsrl": (SAC, "steer", {"box": 3.0}),
    "dsrl_na": (NA, "steer", {"box": 3.0}),
    "q_chunk": (Q, "residual", {"sees_noise": True, "scale": 0.5}),
}
"""Learner, actor and its options."""
ON_AVOIDING = ("steer", "denoise", "flow_sde", "residual", "dsrl")
RATES = {"cfm_ratio": 1.5e-4, "dsrl_na": 1e-3}
"""Learning rates of the actors that are not the default."""


def cell(scale: str, task: str, method: str, command: str, reward: str = "") -> Variant:
    """One method on one task, with z and both lambdas (`command` z), or with one z."""
    config: ConfigDict = load_module(LANDSCAPE if task == "landscape" else AVOIDING).get_config()
    learner, actor, fields = METHODS[method]
    if reward:
        config.env.reward = reward
        config.discover.update({"iterations": 20, "start_horizon": 8})
        config.finetune.update({"iterations": 40})
    config.actor = plugin("actor", actor, **fields)
    if learner != PPO:
        replaying(config, learner)
    if method == "residual_sac" and command == "z":
        config.discover.learner = load_module(LANDSCAPE).get_config().learner  # SAC leaves a head as it is
    if method in RATES:
        config.learner.learning_rate = RATES[method]
    config.stages = ("bc", "discover", "finetune") if command == "z" else ("bc", "finetune")
    if command == "z":
        config.sweep.grid = f"finetune.mi_coef=0,{config.finetune.mi_coef}"
    else:
        together = config.discover.iterations + config.finetune.iterations
        config.finetune.update({"num_modes": 1, "iterations": together, "mi_coef": 0.0})
    config.seeds, config.figures = SEEDS[scale], ()
    tags = {"method": method, "reward": reward, "command": command}
    named = "-".join(part for part in (task, method, command, reward) if part)
    return Variant(named, {k: v for k, v in tags.items() if v}, config, stage="finetune")


def replaying(config: ConfigDict, learner: str) -> None:
    """An off-policy learner that collects what PPO collects in an iteration, and takes 96 steps on it."""
    before = config.learner
    config.learner = plugin(
        "learner",
        learner,
        num_envs=before.num_envs,
        decisions=before.decisions,
        updates=96,
        iterations_per_epoch=before.get("iterations_per_epoch", 10),
    )


def kept(method: str, **tags: object) -> list[Claim]:
    """What mode discovery is to do for a method, seed by seed."""
    whole = {"method": method, "command": "z", **tags}
    paid = {key: value for key, value in whole.items() if key != "mi_coef"}
    lam = 0.5 if "reward" in tags else 2.0
    with_mi, without = {**paid, "mi_coef": lam}, {**paid, "mi_coef": 0.0}
    one = {"method": method, "command": "one", **tags}
    return [
        interval_bound(f"{method}: succeeds with the MI reward", "success_rate", ">", 0.95, **with_mi),
        paired_gap(f"{method}: MI adds control", "mi_z_mode", with_mi, without),
        paired_gap(f"{method}: discovery and MI keep more ways than one z", "modes_kept", with_mi, one),
    ]


def get_studies(scale: str) -> list[Study]:
    commands = ("z", "one")
    land = [cell(scale, "landscape", m, c, r) for m in METHODS for r in REWARDS[scale] for c in commands]
    chosen = ON_AVOIDING if scale == "small" else tuple(METHODS)
    avoid = [cell(scale, "avoiding", m, c) for m in chosen for c in commands]
    asked = "What does each fine-tuner keep of four ways, by itself and with mode discovery?"
    far = "What does each fine-tuner keep of 24 ways under noise, by itself and with mode discovery?"
    return [
        Study(
            "landscape",
            asked,
            land,
            COLUMNS,
            [claim for m in METHODS for claim in kept(m, reward="unbalanced")],
        ),
        Study("avoiding", far, avoid, COLUMNS, [claim for m in chosen for claim in kept(m)]),
    ]
