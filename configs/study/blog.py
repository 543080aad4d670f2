"""The blog's five experiments as closed-loop behaviour over 6 seeds: drift, chunks, averaging, capacity; and DAgger.

Run:     python -m mmbc_jax.study --config configs/study/blog.py --workdir runs/blog
"""

from mmbc_jax.study.claims import every_mode, gap, interval_bound, together
from mmbc_jax.study.drawings import episodes, errors_over_time
from mmbc_jax.study.family_settings import closed_loop
from mmbc_jax.study.plan import Change, Claim, Drawing, Study, Variant

NETS = {"small": (64, 64), "deep": (128, 128, 128, 128)}
STEPS, ROUNDS, SEEDS = 2000, 4, 6
DRIFT = (
    ("drift/final", "e at the end", 4),
    ("drift/slope", "slope of e per step", 6),
    ("drift/growth", "growth of e", 2),
    ("offline/best_of_1", "held-out error", 4),
    ("success_rate", "SR", 2),
)
CHOICE = (
    ("success_rate", "SR", 3),
    ("drift/middle", "in the middle", 2),
    ("drift/switches", "switches", 2),
    ("drift/final", "e at the end", 3),
    ("mode_entropy", "entropy", 2),
    ("valid_mode_coverage", "valid cov.", 2),
    ("separation/path_modes", "modes shown", 2),
    ("separation/path_delta", "Delta", 2),
    ("offline/best_of_1", "held-out error", 4),
)


SLOPE = Change(
    2,
    "weak: e is 0 at the start, so that white noise about the path has a rising slope on average: 8.5 % of trials "
    "with six seeds passed",
    "e in the last quarter of the steps is more than 1.5 times that in the first, by an interval over seeds of level "
    ".98, before a slope above 0 at .95",
    "drift is growth over the whole path; e that is steady from the second step on has a ratio of 1.04",
)
HALF = Change(
    2,
    "weak: two means are in order by chance in half of the draws",
    "a permutation test",
    "a claim is to fail where its effect is absent",
)
MIDDLE = Change(
    2,
    "two claims on means, weak: nulls passed in 6 to 9 % of draws",
    "both at once, and by intervals over seeds",
    "a claim on several settings is to fail where one of them does",
)
LEAVES = Change(
    2,
    "beside it stood two claims that could not fail: that a deterministic clone from one start covers at most one "
    "side, and that no clone switches sides, which one that stays in the middle does not either",
    "both are gone; its success, too, exceeds that of the small net by .3",
    "to leave the middle for good is to pass the box",
)
SIDES = Change(
    2,
    "weak: two claims, of which one on a mean success at its limit passed in 47 % of draws",
    "both at once, by an interval over seeds, and success exceeds that of one Gaussian by .5",
    "what spread alone reaches is no merit",
)


def grows(statement: str, **tags: object) -> Claim:
    """e at the end of the path is more than a half above that at its beginning, whatever its level."""
    return interval_bound(statement, "drift/growth", ">", 1.5, **tags).changed(SLOPE)


def make(task: str, family: str, chunk: int, net: str, dagger: bool = False) -> Variant:
    """A clone; with `dagger` after half of the steps the rest is spent on the states that it visits."""
    config = closed_loop(task, chunk, family, hidden=NETS[net], fourier_octaves=0)
    config.seeds = SEEDS
    config.data.holdout = 0.2
    config.bc.steps = STEPS
    name = f"{family.replace(' ', '_')}-{net}-h{chunk}"
    if dagger:
        config.stages = ("bc", "dagger")
        config.bc.steps = STEPS // 2
        config.dagger.update({"rounds": ROUNDS, "episodes": 10, "steps_per_round": STEPS // 2 // ROUNDS})
        name += "-dagger"
    tags = {"family": family, "net": net, "chunk": chunk, "DAgger": "yes" if dagger else "no"}
    return Variant(name, tags, config, "dagger" if dagger else "bc")


def label(variant: Variant) -> str:
    tags = variant.tags
    family = "" if tags["family"] == "deterministic" else f"{tags['family']}, "
    return f"{family}{tags['net']}, chunk {tags['chunk']}" + (", DAgger" if tags["DAgger"] == "yes" else "")


def smooth() -> Study:
    chunks = [make("smooth_path", "deterministic", h, "small") for h in (1, 8, 16)]
    deep = [make("smooth_path", "deterministic", h, "deep") for h in (1, 8)]
    variants = [*chunks, *deep]
    for variant in variants:  # the demonstrations never leave the path, so that they show no way back
        variant.config.env.start_std = 0.0
        variant.config.diagnostics = ("drift",)
    one = {"net": "small", "chunk": 1}
    claims = [
        grows("1. one-step cloning drifts: e grows with time", **one),
        gap("2. chunks of 8 end nearer to the path than single steps", "drift/final", one, {**one, "chunk": 8})
        .changed(HALF),
        grows("2. no chunk length cures it: e still grows", net="small"),
        gap("4. the deeper net fits better (held-out error)", "offline/best_of_1", one, {**one, "net": "deep"})
        .changed(HALF),
        grows("4. and still drifts", net="deep"),
    ]  # fmt: skip
    names = [label(v) for v in variants]
    drawings = [
        Drawing(
            "chunks",
            "Experiments 1 and 2: distance to the expert's position over time, by chunk length.",
            errors_over_time(chunks, names[: len(chunks)], "drift by chunk length"),
        ),
        Drawing(
            "capacity",
            "Experiment 4: the deeper net starts lower and grows as well.",
            errors_over_time(
                [chunks[0], *deep], [names[0], *names[len(chunks) :]], "drift by size of the net"
            ),
        ),
        Drawing("paths", "Episodes; a colour per seed.", episodes(variants, names, "smooth path", 2)),
    ]
    question = (
        "Experiments 1, 2 and 4. One smooth path, demonstrated without error, so that nothing shows the way back. "
        "e is the distance to the expert's position at the same time, over 100 steps; the path is 1.7 long."
    )
    return Study("blog-smooth", question, variants, DRIFT, claims, (), drawings)


def aggregation() -> Study:
    variants = [make("smooth_path", "deterministic", h, "deep", d) for d in (False, True) for h in (1, 8)]
    for variant in variants:  # two demonstrations from scattered starts; the expert's clock is observed
        variant.config.env.update({"start_std": 0.05, "clock": True})
        variant.config.data.update({"episodes": 2, "holdout": 0.0})
        variant.config.diagnostics = ("drift",)
    clone, shown = {"chunk": 1, "DAgger": "no"}, {"chunk": 1, "DAgger": "yes"}
    claims = [
        gap("DAgger ends nearer to the path than cloning, in as many gradient steps", "drift/final", clone, shown)
        .changed(HALF),
        gap("and than chunks of 8 do", "drift/final", {**clone, "chunk": 8}, shown).changed(HALF),
        gap("DAgger of chunks succeeds more often than chunks alone, by more than .1", "success_rate",
            {**shown, "chunk": 8}, {**clone, "chunk": 8}, margin=0.1).changed(HALF),
    ]  # fmt: skip
    names = [label(v) for v in variants]
    drawings = [
        Drawing(
            "drift",
            "Distance to the expert's position over time.",
            errors_over_time(variants, names, "DAgger"),
        ),
        Drawing("paths", "Episodes; a colour per seed.", episodes(variants, names, "two demonstrations", 4)),
    ]
    question = (
        "The blog's next step. Two demonstrations, starts scattered with a standard deviation of .05: most starts "
        "were not shown. DAgger spends half of the gradient steps on 40 episodes of the clone, relabelled by the "
        "expert in the compiled loop. The time is observed, for the expert acts by it: without, its answers to a "
        "clone that is late contradict each other."
    )
    return Study(
        "blog-dagger", question, variants, [c for c in DRIFT if "offline" not in c[0]], claims, (), drawings
    )


def high_low() -> Study:
    chunks = [make("high_low", "deterministic", h, "small") for h in (1, 8, 16)]
    deep = [make("high_low", "deterministic", h, "deep") for h in (1, 8)]
    other = [make("high_low", family, 8, "deep") for family in ("gaussian", "cvae", "mixture flow")]
    variants = [*chunks, *deep, *other]
    for variant in variants:  # from one point, so that only the expert's noise tells its sides apart
        variant.config.env.update({"start_std": 0.0, "noise": 0.003})
    small = {"family": "deterministic", "net": "small"}
    one, ours = {"family": "deterministic", "net": "deep", "chunk": 1}, {"family": "mixture flow"}
    claims = [
        together("3. regression goes down the middle, nearer to it than .6, and into the box",
                 interval_bound("", "drift/middle", ">", 0.6, **small),
                 interval_bound("", "success_rate", "<", 0.25, **small)).changed(MIDDLE),
        together("5. the deeper net leaves the middle, by .2, and passes the box more often, by .3",
                 gap("", "drift/middle", {**small, "chunk": 1}, one, margin=0.2),
                 gap("", "success_rate", one, {**small, "chunk": 1}, margin=0.3)).changed(LEAVES),
        together("mixture flow keeps both sides, succeeds in more than .95, and more often than one Gaussian by .5",
                 every_mode("", "valid_mode_coverage", lambda tags: 2, **ours),
                 interval_bound("", "success_rate", ">", 0.95, **ours),
                 gap("", "success_rate", ours, {"family": "gaussian"}, margin=0.5)).changed(SIDES),
    ]  # fmt: skip
    drawings = [
        Drawing(
            "paths",
            "Experiments 3 and 5: episodes of regression and of generative policies; a colour per seed.",
            episodes(variants, [label(v) for v in variants], "high or low", 4),
        )
    ]
    question = (
        "Experiments 3 and 5. The expert goes over or under a box, at random; regression of its action averages the "
        "two. Switches are changes of the nearer mode within an episode; in the middle: 1 is halfway between them."
    )
    return Study("blog-high-low", question, variants, CHOICE, claims, (), drawings)


def get_studies(scale: str) -> list[Study]:
    return [smooth(), aggregation(), high_low()]
