"""What a configuration asks to measure."""

from __future__ import annotations

from mmbc_jax.diagnostics.chosen import build_instruments
from mmbc_jax.evaluation.measure import Measurement
from mmbc_jax.runs.setup import Setup


def measurement(setup: Setup, *, offline: bool = True) -> Measurement:
    """What is measured of the stages of a setup; `offline` metrics on held-out windows among it."""
    config = setup.config
    samples = config.evaluation.samples if offline else 0
    return Measurement(setup.env, config.chunk.execute, samples, build_instruments(config))
