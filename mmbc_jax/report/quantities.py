"""What logged metrics are called and measured in, for axes."""

from __future__ import annotations

_UNITS = (
    # (how the last part of a name ends or begins, unit)
    ("success_rate", "share of episodes"),
    ("success", "share of episodes"),
    ("diverged", "environments"),
    ("clip_fraction", "share of decisions"),
    ("accuracy", "share of decisions"),
    ("coverage", "share of modes"),
    ("commandable", "modes"),
    ("modes_kept", "modes"),
    ("mode_entropy", "nats / ln K"),
    ("q_loss", "nats"),
    ("log_q", "nats"),
    ("mi_reward", "nats an episode"),
    ("mi_z_mode", "nats"),
    ("mi_estimate", "nats"),
    ("mi_prefix", "nats"),
    ("mi", "nats"),
    ("kl", "nats"),
    ("entropy", "nats"),
    ("reward", "return an episode"),
    ("return", "return an episode"),
    ("episodes", "episodes"),
    ("steps", "control steps"),
    ("grad_norm", "norm, all parameters"),
    ("learning_rate", "step size"),
    ("explained_variance", "share of variance"),
    ("skipped_updates", "updates"),
    ("mse", "squared, normalised units"),
    ("loss", "objective, normalised units"),
)
SHARES = ("success_rate", "success", "mode_entropy", "clip_fraction", "accuracy", "coverage")
"""Endings of what lies between 0 and 1."""


def unit_of(name: str) -> str:
    """The unit of a metric `group/name`; "" for one that nothing is known of."""
    last = name.rsplit("/", 1)[-1]
    return next((unit for end, unit in _UNITS if last == end or last.endswith(f"_{end}")), "")


def is_share(name: str) -> bool:
    """Whether a metric lies between 0 and 1."""
    last = name.rsplit("/", 1)[-1]
    return any(last == end or last.endswith(f"_{end}") for end in SHARES)


def step_of(stage: str) -> str:
    """What a stage counts its steps in."""
    return "gradient steps" if stage in ("bc", "baseline", "dagger") else "training iterations"
