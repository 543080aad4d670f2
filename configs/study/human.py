"""Human data: the families side by side on Push-T episodes and on hand-drawn paths, without a simulator.

Needs:   $MMBC_DATA/pusht/pusht_human_164.npz and $MMBC_DATA/lair (see docs/data.md)
Run:     python -m mmbc_jax.study --config configs/study/human.py --config.scale=small --workdir runs/human
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import plugin
from mmbc_jax.study.claims import against_the_rest
from mmbc_jax.study.family_settings import FAMILIES, LATENT, clone
from mmbc_jax.study.plan import Study, Variant

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


def study(name: str, make: object, families: tuple[str, ...], question: str, steps: int) -> Study:
    variants = []
    for family in families:
        config = make(family)  # type: ignore[operator]
        config.data.holdout = 0.2
        config.bc.update({"steps": steps, "batch_size": 256, "learning_rate": 1e-3, "ema_decay": 0.999})
        config.evaluation.samples = 16
        if FAMILIES[family].policy in LATENT:
            config.policy.latent_dim = 8
        variants.append(Variant(family.replace(" ", "_"), {"family": family}, config))
    claims = [
        against_the_rest(
            "the best of 16 samples of some family is nearer to held-out chunks than regression",
            "offline/best_of_16",
            "deterministic",
            wins=False,
            lower=True,
        ),
        against_the_rest(
            "one sample of no family is nearer than regression",
            "offline/best_of_1",
            "deterministic",
            wins=True,
            lower=True,
        ),
    ]
    return Study(name, question, variants, COLUMNS, claims, [])


def get_studies(scale: str) -> list[Study]:
    small = scale == "small"
    families = (
        ("deterministic", "cvae", "vq", "diffusion", "flow", "mixture flow") if small else tuple(FAMILIES)
    )
    steps = 2000 if small else 10000
    return [
        study(
            "human-pusht",
            pusht,
            families,
            "164 human Push-T episodes, keypoints, chunks of 16, a fifth held out. Separation first: how many modes "
            "does an observation have? Covered: held-out chunks with one of 16 samples within .1 (of a range of 2).",
            steps,
        ),
        study(
            "human-lair",
            lair,
            families,
            "41 hand-drawn paths of three shapes whose strokes cross (one position, two headings), chunks of 16, a "
            "fifth held out.",
            steps,
        ),
    ]
