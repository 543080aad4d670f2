"""Multimodal behavioural cloning and mode-preserving RL fine-tuning."""

import sys

if sys.argv[:1] == [
    "-m"
]:  # `python -m mmbc_jax...` is looking its module up: before anything else is imported
    from mmbc_jax.core import interrupts

    interrupts.install()
