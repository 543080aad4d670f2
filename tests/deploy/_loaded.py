"""Policies of the finished toy run, loaded once."""

from __future__ import annotations

import functools

import mmbc_jax
from mmbc_jax.deploy.deployed import Deployed
from tests.toys.landscape import finished_run, unchecked


@functools.cache
def loaded(stage: str) -> Deployed:
    """The first seed's policy of a stage."""
    with unchecked():
        return mmbc_jax.load(finished_run(), stage)
