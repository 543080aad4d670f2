"""Human data: the families side by side on Push-T episodes and on hand-drawn paths, without a simulator.

Needs:   $MMBC_DATA/pusht/pusht_human_164.npz and $MMBC_DATA/lair (see docs/data.md)
Run:     python -m mmbc_jax.study --config configs/study/human.py --config.scale=small --workdir runs/human
Fresh:   --config.first_seed=100 --config.data.seed=100: the file stays, another fifth is held out
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from mmbc_jax.core.config import plugin
from mmbc_jax.study.claims import gap
from mmbc_jax.study.family_settings import FAMILIES, LATENT, clone
from mmbc_jax.study.plan import Change, Claim, Study, Variant

COLUMNS = (
    ("offline/best_of_1", "best of 1", 4),
    ("offline/best_of_16", "best of 16", 4),
    ("offline/covered", "covered", 3),
    ("offline/spread", "spread", 3),
    ("separation/modes", "modes / obs", 2),
    ("separation/multimodal", "multimodal", 2),
    ("separation/ratio", "ratio", 2),
    ("bridges/off_support", "off support", 3),
    ("bridges/off_support_demos", "of demos", 3),
)


CONTROL = Change(
    2,
    "weak: with six families that do not differ, some other one is nearer than regression in 84 % of draws; and on "
    "unimodal data any noisy sampler's best of 16 beats one answer",
    "of a family named in advance, against one Gaussian with the residuals' covariance, by a permutation test; on "
    "Push-T, where no observation shows two modes, the claim is that there is nothing to gain",
    "what spread alone reaches says nothing of modes",
)
ONE_SAMPLE = Change(
    2,
    "weak: with six families that do not differ, regression is the best in 17 % of draws",
    "a permutation test against each of the others",
    "a claim on several families is to fail where one of them is as near",
)


def pusht(family: str) -> ConfigDict:
    config = clone(plugin("env", ""), family)
    config.chunk.update({"predict": 16, "execute": 8})
    config.data.update({"path": "$MMBC_DATA/pusht/pusht_human_164.npz"})
    config.data.reader.obs_keys = ("keypoint", "state[0:2]")
    config.policy.fourier_octaves = 0
    return config


def lair(family: str) -> ConfigDict:
    config = clone(plugin("env", ""), family)
    config.chunk.update({"predict": 16, "execute": 8})
    config.data.update({"path": "$MMBC_DATA/lair/lair_human_2d.npz"})
    config.data.reader.shapes = ("two_roads", "mountain", "G_angle")
    config.data.reader.stride = 4
    config.policy.fourier_octaves = 4
    return config


def unimodal(family: str) -> Claim:
    """Where no observation shows two modes, several samples have nothing to find that one Gaussian has not."""
    return gap(
        f"the best of 16 samples of {family} is not nearer than that of one Gaussian by .02",
        "offline/best_of_16",
        {"family": family},
        {"family": "gaussian"},
        margin=-0.02,
    )


def multimodal(family: str) -> Claim:
    """Where observations show several modes, a sampler that has them is nearer than one Gaussian is."""
    return gap(
        f"the best of 16 samples of {family} is nearer than that of one Gaussian",
        "offline/best_of_16",
        {"family": "gaussian"},
        {"family": family},
    )


def study(
    name: str,
    make: Callable[[str], ConfigDict],
    best: Callable[[str], Claim],
    families: tuple[str, ...],
    question: str,
    steps: int,
) -> Study:
    variants = []
    for family in families:
        config = make(family)
        config.chunk.coordinates = "whitened" if family == "gaussian" else config.chunk.coordinates
        config.data.holdout = 0.2
        config.bc.update({"steps": steps, "batch_size": 256, "learning_rate": 1e-3, "ema_decay": 0.999})
        config.evaluation.samples = 16
        if FAMILIES[family].policy in LATENT:
            config.policy.latent_dim = 8
        variants.append(Variant(family.replace(" ", "_"), {"family": family}, config))
    claims = [
        gap("one sample of each other family is farther from held-out chunks than regression", "offline/best_of_1",
            [{"family": family} for family in families if family != "deterministic"], {"family": "deterministic"},
            ).changed(ONE_SAMPLE),
        *(best(family).changed(CONTROL) for family in ("mixture flow", "vq")),
    ]  # fmt: skip
    return Study(name, question, variants, COLUMNS, claims, [])


def get_studies(scale: str) -> list[Study]:
    small = scale == "small"
    families = ("deterministic", "gaussian", "vq", "flow", "mixture flow") if small else tuple(FAMILIES)
    steps = 2000 if small else 10000
    return [
        study(
            "human-pusht",
            pusht,
            unimodal,
            families,
            "164 human Push-T episodes, keypoints, chunks of 16, a fifth held out. Separation first: how many modes "
            "does an observation have? The control is one Gaussian with a covariance. "
            "Covered: held-out chunks with one of 16 samples within .1 (of a range of 2).",
            steps,
        ),
        study(
            "human-lair",
            lair,
            multimodal,
            families,
            "41 hand-drawn paths of three shapes whose strokes cross (one position, two headings), chunks of 16, a "
            "fifth held out.",
            steps,
        ),
    ]
