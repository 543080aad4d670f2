"""The blog's five experiments as closed-loop behaviour over 8 seeds: drift, chunks, averaging, capacity; and DAgger.

Run:     python -m mmbc_jax.study --config configs/study/blog.py --workdir runs/blog
"""

from mmbc_jax.study.claims import bound, gap, interval_bound, mean_bound
from mmbc_jax.study.drawings import episodes, errors_over_time
from mmbc_jax.study.family_settings import closed_loop
from mmbc_jax.study.plan import Drawing, Study, Variant

NETS = {"small": (64, 64), "deep": (128, 128, 128, 128)}
STEPS, ROUNDS = 2000, 4
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


def make(task: str, family: str, chunk: int, net: str, dagger: bool = False) -> Variant:
    """A clone; with `dagger` after half of the steps the rest is spent on the states that it visits."""
    config = closed_loop(task, chunk, family, hidden=NETS[net], fourier_octaves=0)
    config.seeds = 8
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
    chunks = [make("smooth_path", "deterministic", h, "small") for h in (1, 4, 8, 16)]
    deep = [make("smooth_path", "deterministic", h, "deep") for h in (1, 8)]
    variants = [*chunks, *deep]
    for variant in variants:  # the demonstrations never leave the path, so that they show no way back
        variant.config.env.start_std = 0.0
        variant.config.diagnostics = ("drift",)
    one = {"net": "small", "chunk": 1}
    claims = [
        interval_bound("1. one-step cloning drifts: e grows with time", "drift/slope", ">", 0.0, **one),
        gap(
            "2. chunks of 8 end nearer to the path than single steps", "drift/final", one, {**one, "chunk": 8}
        ),
        interval_bound("2. no chunk length cures it: e still grows", "drift/slope", ">", 0.0, net="small"),
        gap(
            "4. the deeper net fits better (held-out error)", "offline/best_of_1", one, {**one, "net": "deep"}
        ),
        interval_bound("4. and still drifts", "drift/slope", ">", 0.0, net="deep"),
    ]
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
        gap("DAgger ends nearer to the path than cloning, in as many gradient steps", "drift/final", clone, shown),
        gap("and than chunks of 8 do", "drift/final", {**clone, "chunk": 8}, shown),
        gap("DAgger of chunks succeeds more often than chunks alone", "success_rate",
            {**shown, "chunk": 8}, {**clone, "chunk": 8}),
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
    chunks = [make("high_low", "deterministic", h, "small") for h in (1, 4, 8, 16)]
    deep = [make("high_low", "deterministic", h, "deep") for h in (1, 8)]
    other = [make("high_low", family, 8, "deep") for family in ("cvae", "mixture flow")]
    variants = [*chunks, *deep, *other]
    for variant in variants:  # from one point, so that only the expert's noise tells its sides apart
        variant.config.env.update({"start_std": 0.0, "noise": 0.003})
    small = {"family": "deterministic", "net": "small"}
    one = {"family": "deterministic", "net": "deep", "chunk": 1}
    claims = [
        mean_bound("3. regression goes down the middle", "drift/middle", ">=", 0.6, **small),
        mean_bound("3. and into the box", "success_rate", "<=", 0.25, **small),
        gap("5. the deeper net leaves the middle", "drift/middle", {**small, "chunk": 1}, one, margin=0.2),
        bound("5. for one of the two sides: it covers at most one", "valid_mode_coverage", "<=", 0.5, **one),
        bound("no seed of a one-step or chunked clone switches sides", "drift/switches", "<=", 0.0, null=0.05,
              family="deterministic"),
        bound("mixture flow keeps both sides", "valid_mode_coverage", ">=", 1.0, null=0.95,
              family="mixture flow"),
        mean_bound("and succeeds", "success_rate", ">=", 0.95, family="mixture flow"),
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
