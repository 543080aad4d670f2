"""Epochs lower for CPU, CUDA and TPU from any machine: nothing in them needs one backend."""

from __future__ import annotations

import jax
import jax.export  # noqa: F401  (not imported by jax itself)
import pytest

from tests.toys import cloning as _toy

PLATFORMS = ("cpu", "cuda", "tpu")


@pytest.fixture(autouse=True, scope="module")
def _without_key_checks():
    """JAX takes a scan over keys under vmap for a reuse; test_epoch.py checks single runs instead."""
    with jax.debug_key_reuse(False):
        yield


@pytest.mark.parametrize("name", ["bc", "discover"])
def test_landscape_exports_for_every_platform(name):
    state, shared = _toy.shapes(name)
    exported = jax.export.export(jax.jit(_toy.epoch_fn(name)), platforms=PLATFORMS)(state, shared)
    assert exported.platforms == PLATFORMS
    assert exported.mlir_module_serialized
    out, _ = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    assert [x.shape for x in jax.tree.leaves(out)] == [x.shape for x in jax.tree.leaves(state)]


@pytest.mark.slow
def test_avoiding_exports_for_every_platform():
    state, shared = _toy.shapes("discover", "avoiding")
    epoch = jax.jit(_toy.epoch_fn("discover", env="avoiding"))
    assert jax.export.export(epoch, platforms=PLATFORMS)(state, shared).platforms == PLATFORMS
