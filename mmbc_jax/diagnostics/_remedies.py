"""What a verdict says: the figures behind each mechanism, its meaning, and what to change in a policy of its kind."""

from __future__ import annotations

from collections.abc import Mapping

FIGURES: Mapping[str, tuple[str, ...]] = {
    "none": ("outcome/success", "bridges/off_support", "bridges/reached", "drift/relative", "drift/switches"),
    "unmeasured": ("outcome/success", "separation/modes", "drift/relative", "drift/switches"),
    "unexplained": (
        "outcome/success", "bridges/off_support", "bridges/off_support_demos", "bridges/reached", "drift/relative",
        "drift/growth",
    ),
    "information": (
        "information/mutual", "information/mode_information", "information/floor_10", "information/z_advantage",
        "information/beta", "information/beta_limit",
    ),
    "coverage": (
        "coverage/gap", "coverage/missed", "coverage/above", "coverage/min_mass", "bridges/reached",
        "bridges/served",
    ),
    "averaging": (
        "bridges/spread", "bridges/middle", "bridges/off_support", "bridges/modes", "bridges/multimodal",
        "drift/middle",
    ),
    "capacity": (
        "capacity/lipschitz", "capacity/needed_lipschitz", "capacity/delta", "bridges/off_support",
        "bridges/between", "bridges/walk_off",
    ),
    "bridges": (
        "bridges/off_support", "bridges/between", "bridges/off_support_demos", "bridges/walk_off",
        "bridges/sharpness",
    ),
    "dispersion": (
        "bridges/off_support", "bridges/around", "bridges/between", "bridges/off_support_demos", "bridges/served",
    ),
    "drift": ("drift/relative", "drift/growth", "drift/slope", "drift/switches", "bridges/off_support"),
}  # fmt: skip

MEANING: Mapping[str, str] = {
    "none": "no failure at demonstrated observations or along episodes, as far as they were measured",
    "unmeasured": "the figures that could name a mechanism are missing",
    "unexplained": "the policy fails and no mechanism shows in what was measured",
    "information": "the latent does not tell the modes apart",
    "coverage": "the base does not put its mass where the modes need it",
    "averaging": "one answer stands in for several modes",
    "capacity": "the transport is too smooth to split its base over the modes",
    "bridges": "mass lies between the modes although the transport is steep enough",
    "dispersion": "samples leave the modes sideways: each is wider than it was demonstrated",
    "drift": "answers are right where demonstrated, but episodes leave the demonstrated paths",
}

_MODES_IN_THE_BASE = "give the base the modes (a mixture base, the mixture flow, codes)"
_MORE_STEPS = "more integration steps, longer training"
REMEDY: Mapping[str, Mapping[str, str]] = {
    "none": {"": "Nothing to change on these grounds."},
    "unmeasured": {"": "Run the instruments that are missing (--diagnostics all) before changing anything."},
    "unexplained": {
        "": "Look at episodes: what the figures do not see is a fit that misses the demonstrations everywhere, or a "
        "task that punishes what they count as near."
    },
    "information": {
        "beta": "Lower the KL weight (below the limit where one is given), or match the aggregate posterior "
        "instead of each posterior (WAE).",
        "": "Give the latent more room (entries, or codes) and its reconstruction more weight.",
    },
    "coverage": {
        "posterior": "Learn the prior, conditioned on the observation (conditional Gaussian, mixture, VampPrior or "
        "latent flow), or match the aggregate posterior to it more strongly.",
        "log_prob": "Give the mixture more components, and balance their load.",
        "still": "Use a policy with a base: one answer can serve one mode.",
        "": "Give the base mass for every mode: more components or codes, learned on balanced data.",
    },
    "averaging": {
        "field": "Its base has next to no effect: train longer, and check that the sampler starts from noise.",
        "still": "Use a generative policy: any base with mass for each mode.",
        "": "Its base has next to no effect: give it components or a latent that the answer depends on.",
    },
    "capacity": {
        "field": f"{_MODES_IN_THE_BASE.capitalize()}, or let the transport be steeper: {_MORE_STEPS}, less weight "
        "decay.",
        "posterior": "Give the latent the modes (codes, or a learned mixture as the prior), or let the decoder be "
        "steeper: deeper, longer training, less weight decay.",
        "log_prob": "One Gaussian is one mode: use a mixture of more components than modes.",
        "": f"{_MODES_IN_THE_BASE.capitalize()}, or let the transport be steeper: longer training, less weight "
        "decay.",
    },
    "bridges": {
        "field": f"Sharpen the transport: {_MORE_STEPS}. Or {_MODES_IN_THE_BASE}.",
        "posterior": "Keep the prior off the latents between the modes: learn it with as many pieces as modes, or "
        "use codes.",
        "log_prob": "Give the mixture more components: one that lies between two modes serves both.",
        "": f"Train longer, or {_MODES_IN_THE_BASE}.",
    },
    "dispersion": {
        "field": f"Let samples settle inside their mode: {_MORE_STEPS}, whitened coordinates.",
        "posterior": "Let the decoder depend less on where inside a mode the latent lies: longer training, or a "
        "prior no wider than the posteriors.",
        "log_prob": "Lower its floor of standard deviation (policy.min_std), or train longer.",
        "": "Narrow what is added inside a mode: a lower temperature where there is one, longer training.",
    },
    "drift": {
        "": "Execute more of every chunk, record recoveries (noisy starts, corrections along the way), or "
        "condition on more history."
    },
}


def remedy(mechanism: str, traits: frozenset[str]) -> str:
    """What to change in a policy with these traits: its capabilities, "still" without spread, "beta" with one."""
    by_trait = REMEDY[mechanism]
    return next((text for trait, text in by_trait.items() if trait in traits), by_trait[""])
