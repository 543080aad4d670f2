"""What leaves bridges where capacity does not: one cause at a time around one flow, and families that have none.

Run:     python -m mmbc_jax.study --config configs/study/causes.py --config.scale=small --workdir runs/causes
Costs:   at small scale 19 variants, about 2,800 s of process time for 4 seeds, 23 minutes on two cores (measured: 26
         for the base with its compilation, of it 13 for 10,000 steps; 41 at width 256; 118 with optimal transport).

On radial with K = 16 the steepest slope that was sampled, 2.3, exceeds the 1.3 that 5 % of bridges need, and the
bound asks for .028 of bridges where .555 were seen. Seeds 90 and 91 were used to time the variants and to choose the
base: in batches of 128 they left .54 and .95 off support after 10,000 steps (one still had the shape of one Gaussian,
.96), in batches of 256 one left .56, as all seeds of the failure study did. Neither is to be among those that count.
"""

from typing import Any

from ml_collections import ConfigDict

from mmbc_jax.study.claims import gap, interval_bound, together, within
from mmbc_jax.study.family_settings import open_loop
from mmbc_jax.study.plan import Claim, Plot, Study, Variant

COLUMNS = (
    ("bridges/off_support", "off support", 3),
    ("success_rate", "SR", 3),
    ("valid_mode_coverage", "valid cov.", 2),
    ("mode_entropy", "entropy", 3),
    ("bridges/walk_off", "off on walks", 3),
    ("bridges/sharpness", "sharpness", 1),
)
OFF, SR = "bridges/off_support", "success_rate"
STEPS, BATCH, HALF = 10000, 256, 128
SETTINGS = {"radial": 16, "corridor": 8}
BUDGETS = {"radial": (3, 9), "corridor": (3,)}
ALONE = (
    ("width", "256"),
    ("batch", str(HALF)),
    ("coupling", "ot"),
    ("times", "beta"),
    ("steps near t = 1", "2"),
)
FEWER = {
    "coupling": "noise and data paired by optimal transport in batches of 128",
    "times": "training times that lean towards the data",
}
THE_SAME = {"width": "twice the width", "steps near t = 1": "crowding the sampler's steps near t = 1"}
# At small scale the more expensive ones are tried on one task. Optimal transport costs five times the base even in
# batches of half the size, and is compared with independent pairs in such batches.
NOT_SMALL = {
    "radial": [("base with modes", "mixture flow 0.6")],
    "corridor": [*ALONE[:3], ("base with modes", "mdn"), ("base with modes", "vq")],
}
MOVES = 0.1  # a fifth of the bridges of the base on radial


def flow(task: str, k: int, budget: float = 1.0, batch: int = BATCH, **policy: Any) -> ConfigDict:
    """The base, but for a budget of other length, another batch and fields of the policy."""
    config = open_loop(task, k, "flow", **policy)
    config.bc.update({"steps": round(STEPS * budget), "batch_size": batch})
    return config


def causes(task: str, k: int, small: bool) -> list[Variant]:
    """The base of a task and what differs from it in one thing, with families that have the modes in their base."""
    found: list[tuple[str, str, int, ConfigDict]] = [("base", "", k, flow(task, k))]
    budgets = BUDGETS[task] if small else (3, 9)
    found += [("budget", f"x {times}", k, flow(task, k, times)) for times in budgets]
    for other in (k // 2,) if small else (k // 4, k // 2, 2 * k):  # budgets in proportion to K
        found.append(("budget per mode", f"x {other / k:g}", other, flow(task, other, other / k)))
    for width in (256,) if small else (64, 256, 512):
        found.append(("width", str(width), k, flow(task, k, hidden=(width,) * 3)))
    found.append(("batch", str(HALF), k, flow(task, k, batch=HALF)))
    found.append(("coupling", "ot", k, flow(task, k, batch=HALF, coupling="ot")))
    found.append(("times", "beta", k, flow(task, k, times="beta")))
    for crowding in (2.0,) if small else (2.0, 4.0):
        config = flow(task, k)
        config.sampler.crowding = crowding
        found.append(("steps near t = 1", f"{crowding:g}", k, config))
    if not small:
        for steps in (100, 500):
            config = flow(task, k)
            config.sampler.steps = steps
            found.append(("steps", str(steps), k, config))
    found.append(("base with modes", "mdn", k, open_loop(task, k, "mdn", num_components=2 * k)))
    found.append(("base with modes", "vq", k, open_loop(task, k, "vq")))
    for temperature in (1.0, 0.6):
        config = open_loop(task, k, "mixture flow", temperature=temperature)
        found.append(("base with modes", f"mixture flow {temperature:g}", k, config))
    variants = []
    for cause, setting, modes, config in found:
        if small and (cause, setting) in NOT_SMALL[task]:
            continue
        config.diagnostics = ("bridges",)
        name = f"{task}-{cause} {setting}".strip().replace(" = ", "").replace(" ", "_")
        tags = {"task": task, "cause": cause, "setting": setting, "K": modes}
        if cause in ("base", "budget"):
            tags["steps"] = config.bc.steps
        variants.append(Variant(name, tags, config))
    return variants


def claims_of(task: str, variants: list[Variant]) -> list[Claim]:
    """What the science lets expect of a task's variants, in advance; see the question."""
    there = {
        (v.tags["cause"], v.tags["setting"]): {n: v.tags[n] for n in ("task", "cause", "setting")}
        for v in variants
    }
    base, longest = there["base", ""], there["budget", f"x {BUDGETS[task][-1]}"]
    alone = {cause: there[cause, setting] for cause, setting in ALONE if (cause, setting) in there}
    claims = [
        gap(f"{task}: training {longest['setting']} as long leaves fewer bridges, by .2", OFF, base, longest, 0.2),
        gap(f"{task}: and fewer than each other cause that is changed alone", OFF, list(alone.values()), longest),
        gap(f"{task}: half of the modes in half of the steps have fewer bridges, by .1", OFF, base,
            there["budget per mode", "x 0.5"], MOVES),
    ]  # fmt: skip
    for cause, text in FEWER.items():
        if cause in alone:
            beside = alone["batch"] if cause == "coupling" else base
            claims.append(gap(f"{task}: {text} leave fewer, by .1", OFF, beside, alone[cause], MOVES))
    if "batch" in alone:
        claims.append(
            gap(f"{task}: batches of {HALF} leave more bridges, by .1", OFF, alone["batch"], base, MOVES)
        )
    for cause, text in THE_SAME.items():
        if cause in alone:
            claims.append(
                within(f"{task}: {text} moves them by less than .1", OFF, base, alone[cause], MOVES)
            )
    for name in ("mdn", "vq", "mixture flow 1"):
        if ("base with modes", name) in there:
            own = there["base with modes", name]
            text = (
                f"{task}: {name}, with modes in its base, leaves less than .05 and succeeds in more than .9"
            )
            low, high = (OFF, "<", 0.05), (SR, ">", 0.9)
            claims.append(together(text, interval_bound("", *low, **own), interval_bound("", *high, **own)))
    ours, cooler = (("base with modes", f"mixture flow {one}") for one in ("1", "0.6"))
    if cooler in there:
        text = f"{task}: the temperature .6 of the mixture flow moves success by less than .05"
        claims.append(within(text, SR, there[ours], there[cooler], 0.05))
    return claims


def get_studies(scale: str) -> list[Study]:
    small = scale == "small"
    of_task = {task: causes(task, k, small) for task, k in SETTINGS.items()}
    variants = [variant for own in of_task.values() for variant in own]
    claims = [claim for task, own in of_task.items() for claim in claims_of(task, own)]
    question = (
        "Capacity does not explain the bridges of the flow on radial, K = 16. What does? Around one flow (10,000 "
        "steps of 256 windows, width 128, independent coupling, uniform times, 50 even Euler steps; radial with "
        "K = 16, corridor with K = 8) one thing is changed at a time. Stated in advance: the loss of a field is "
        "mostly noise that nothing predicts, so that modes are learned late, the later the more there are: "
        "training is the cause: fewer windows a step leave more bridges, and steps in proportion to K are not "
        "enough. A wider net does not help where a narrow one is steep enough; the transport splits its base over an "
        "interval of times, so that finer steps near t = 1, where fields of separate modes are steep, do nothing. "
        "Straighter paths (optimal transport) and training times near the data, where the modes part, help. What has "
        "the modes in its base has no bridges in a fifth of the steps."
    )
    plots = [Plot(OFF, "steps", "task", "share off support", True)]
    return [Study("causes", question, variants, COLUMNS, claims, plots)]
