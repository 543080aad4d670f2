"""The figures of a verdict in words that a person reads; `report` tables and `summary.json` have their names."""

from __future__ import annotations

_SHARES = {
    "outcome/success": "of the episodes succeed",
    "bridges/off_support": "of the samples lie on no demonstrated way",
    "bridges/off_support_demos": "of the demonstrations themselves do by the same rule",
    "bridges/between": "of the samples lie between modes",
    "bridges/around": "of the samples left their mode sideways",
    "bridges/multimodal": "of the observations have several modes",
    "bridges/reached": "of the modes are reached",
    "bridges/served": "of the modes have samples near them",
    "bridges/walk_off": "of a walk between modes in the base lies on no demonstrated way",
    "coverage/above": "of the demonstrated latents are likely under the prior",
    "coverage/gap": "of the prior's mass is where the modes do not need it",
    "coverage/min_mass": "of the prior's mass is in the mode that has least",
    "drift/middle": "of the way from a mode to the middle between two, in episodes",
    "drift/relative": "of a path's length is what episodes end away from it",
    "information/z_advantage": "of a chunk's error is what knowing its latent saves",
}
_NUMBERS = {
    "bridges/middle": "samples are {} times as far from the middle of the modes as demonstrations",
    "bridges/modes": "{} modes at an observation",
    "bridges/sharpness": "the steepest place of a walk between modes is {} times its mean",
    "bridges/spread": "samples spread {} times as widely as demonstrations",
    "capacity/delta": "modes are {} apart",
    "capacity/lipschitz": "the transport is {} steep as sampled",
    "capacity/needed_lipschitz": "the modes need {}",
    "coverage/missed": "the prior misses {} modes",
    "drift/growth": "deviations grow {}-fold along an episode",
    "drift/slope": "deviations grow by {} per step",
    "drift/switches": "{} changes of the mode per episode",
    "information/beta": "the KL weight is {}",
    "information/beta_limit": "its limit is {}",
    "information/floor_10": "telling the modes apart takes {} nats",
    "information/mode_information": "the latent holds at least {} nats of the mode",
    "information/mutual": "the latent holds {} nats of the chunk",
    "separation/modes": "{} modes at an observation of the data",
}


def in_words(name: str, value: float) -> str:
    """A figure of an instrument as a clause: `51 % of the samples lie between modes`; one unknown by its name."""
    if name in _SHARES:
        return f"{100 * value:.3g} % {_SHARES[name]}"
    if name in _NUMBERS:
        return _NUMBERS[name].format(f"{value:.3g}")
    return f"{name} {value:.3g}"
