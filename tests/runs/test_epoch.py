"""Epochs: one compilation for a grid, modes that agree, nothing on the host, resume bit for bit."""

from __future__ import annotations

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.runs.checkpoint import StageCheckpoints
from mmbc_jax.runs.epoch import compile_program, make_epoch, stack_runs, take_runs
from mmbc_jax.runs.mesh import make_mesh
from tests.toys import cloning as _toy

FORBIDDEN = ("callback", "infeed", "outfeed", "debug_print")


@pytest.fixture(autouse=True, scope="module")
def _without_key_checks():
    """JAX takes a scan over keys under vmap for a reuse; single runs are checked below instead."""
    with jax.debug_key_reuse(False):
        yield


@pytest.mark.parametrize("name", ["bc", "discover"])
def test_no_key_is_used_twice(name):
    state, shared = _toy.start(name)
    single = jax.tree.map(lambda x: x[0], state)
    with jax.debug_key_reuse(True):
        jax.eval_shape(jax.jit(_toy.stage(name).train_step), single, shared)


def test_the_search_for_reused_keys_finds_them():
    def careless(key, rows):
        return jax.lax.scan(lambda total, _: (total + jax.random.normal(key), None), 0.0, rows)

    with jax.debug_key_reuse(True), pytest.raises(jax.errors.KeyReuseError):
        jax.eval_shape(jax.jit(careless), jax.random.key(0), jnp.zeros(2))


def counting_step(state, shared):
    """A step that any arithmetic can follow: x <- rate x + shared."""
    x = state["rate"] * state["x"] + shared
    return {**state, "x": x}, {"x": x}


def test_metrics_are_runs_by_rows_and_averaged_within_a_row():
    """x = 0 1 2 3 .. at rate 1; rows average two steps: 1.5, 3.5. At rate 2: 1 3 7 15 -> 2, 11."""
    state = {"x": jnp.zeros(2), "rate": jnp.array([1.0, 2.0])}
    for mode in ("vmap", "map", "shard"):
        final, metrics = jax.jit(make_epoch(counting_step, 2, 2, make_mesh(mode), {}))(state, jnp.ones(()))
        assert metrics["x"].shape == (2, 2)
        np.testing.assert_allclose(metrics["x"], [[1.5, 3.5], [2, 11]])
        np.testing.assert_allclose(final["x"], [4, 15])


def test_unknown_mode():
    with pytest.raises(ConfigError, match="did you mean 'vmap'"):
        make_mesh("vmapp")


def test_stack_and_take_runs():
    stacked = stack_runs([{"a": jnp.full(2, float(i))} for i in range(3)])
    assert stacked["a"].shape == (3, 2)
    np.testing.assert_array_equal(take_runs(stacked, np.array([2, 0, 2]))["a"][:, 0], [2, 0, 2])


def test_a_program_has_one_set_of_shapes():
    program = compile_program(lambda x, y: x + y, jnp.ones(3), jnp.ones(()))
    assert program.compile_seconds > 0
    np.testing.assert_array_equal(program(jnp.ones(3), jnp.ones(())), 2 * np.ones(3))
    with pytest.raises(TypeError):
        program(jnp.ones(4), jnp.ones(()))


def compilations(caplog, call):
    """Runs `call` and returns what XLA compiled meanwhile."""
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        caplog.clear()
        call()
    return [r.getMessage() for r in caplog.records if "Compiling" in r.getMessage()]


@pytest.mark.parametrize("name", ["bc", "discover"])
def test_one_compilation_serves_a_grid(name, caplog):
    """Other values of every traced scalar reuse the program, and change the result."""
    state, shared = _toy.start(name)
    epoch = _toy.epoch(name)
    first, _ = jax.block_until_ready(epoch(state, shared))
    other = state.replace(hparams={k: 1.5 * v for k, v in state.hparams.items()})
    jax.block_until_ready(other)
    results = []
    assert compilations(caplog, lambda: results.append(jax.block_until_ready(epoch(other, shared)))) == []
    pairs = zip(_toy.arrays(results[0][0].params), _toy.arrays(first.params), strict=True)
    assert any(np.abs(a - b).max() > 1e-4 for a, b in pairs)


def test_programs_compile_each_stage_once_and_share_fine_tuning():
    """Two points x four seeds; discovery and fine-tuning differ in traced scalars alone."""
    programs = _toy.programs("vmap")
    state, shared = _toy.start("finetune", "finetune.mi_coef=0.1,0.3", 4)
    program = programs.epoch(_toy.stage("discover"), *_toy.start("discover"))
    assert programs.epoch(_toy.stage("finetune"), state, shared) is program
    trained = [name for name, what, _ in programs.compiled if what == "train" and name != "bc"]
    assert trained == ["discover"]
    assert programs.facts(_toy.stage("discover"), 8)["train_compilations"] == 1
    assert programs.facts(_toy.stage("finetune"), 8)["train_compilations"] == 0
    after, metrics = _toy.epoch("finetune")(state, shared)
    assert all(value.shape == (8, 1) for value in metrics.values())
    np.testing.assert_allclose(after.hparams["stage.mi_coef"], [0.1] * 4 + [0.3] * 4)
    # same seed, other lambda: the same experience, and other updates once q has learned to tell modes
    reward = np.asarray(metrics["rollout/env_reward"])[:, 0]
    np.testing.assert_allclose(reward[:4], reward[4:], rtol=1e-5)
    after, _ = _toy.epoch("finetune")(after, shared)
    critic = _toy.arrays(after.params["critic"])
    assert any(np.abs(leaf[:4] - leaf[4:]).max() > 1e-5 for leaf in critic)


SLOW_TUNING = ["bc", pytest.param("discover", marks=pytest.mark.slow)]


def close(a, b, rtol):
    """Every leaf agrees relative to its norm (entries of a leaf share their rounding)."""
    for x, y in zip(_toy.arrays(a), _toy.arrays(b), strict=True):
        x, y = x.astype(np.float64), y.astype(np.float64)
        assert np.linalg.norm(x - y) <= rtol * np.linalg.norm(y) + 1e-12


@pytest.mark.parametrize("name", SLOW_TUNING)
def test_map_equals_vmap(name):
    state, shared = _toy.start(name)
    together, metrics = _toy.epoch(name)(state, shared)
    apart, other = _toy.epoch(name, "map")(state, shared)
    close(apart.params, together.params, 1e-5)
    assert metrics.keys() == other.keys()
    for key in metrics:
        assert metrics[key].shape == (8, 1)
        np.testing.assert_allclose(other[key], metrics[key], rtol=1e-4, atol=1e-5, err_msg=key)


def test_runs_differ_by_seed_and_reruns_agree():
    state, shared = _toy.start("discover")
    first, _ = _toy.epoch("discover")(state, shared)
    second, _ = _toy.epoch("discover")(state, shared)
    for a, b in zip(_toy.arrays(first), _toy.arrays(second), strict=True):
        np.testing.assert_array_equal(a, b)
    kernel = _toy.arrays(first.params["actor"]["network"])[1]
    assert len(np.unique(kernel.reshape(8, -1), axis=0)) == 8


def primitives(jaxpr):
    """Names of all primitives in a jaxpr and in those inside it."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for inner in jax.tree.leaves(
            equation.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from primitives(inner)


def test_the_search_for_callbacks_finds_them():
    def noisy(x):
        jax.debug.print("{}", x)
        return jax.lax.scan(lambda c, _: (c + 1, None), x, None, 2)[0]

    found = set(primitives(jax.make_jaxpr(jax.jit(noisy))(1.0).jaxpr))
    assert any(word in name for name in found for word in FORBIDDEN)
    assert "add" in found  # inside the scan


@pytest.mark.parametrize("name", ["bc", "discover"])
def test_an_epoch_stays_on_the_device(name):
    """No callback in its jaxpr, and it runs under the transfer guard once its inputs are placed."""
    state, shared = _toy.start(name)
    found = set(primitives(jax.make_jaxpr(_toy.epoch_fn(name))(state, shared).jaxpr))
    assert "scan" in found
    assert not {n for n in found for word in FORBIDDEN if word in n}
    epoch = _toy.epoch(name)
    with jax.transfer_guard("disallow"):
        after, _ = jax.block_until_ready(epoch(state, shared))
    np.testing.assert_array_equal(after.step, 1)


@pytest.mark.parametrize("name", ["bc", "discover"])
def test_resume_is_bit_identical(name, tmp_path):
    """4 steps == 2 steps, saved, restored into shapes alone, 2 steps."""
    state, shared = _toy.start(name)
    epoch = _toy.epoch(name)
    straight, half = state, None
    for i in range(4):
        straight, metrics = epoch(straight, shared)
        half = straight if i == 1 else half
    store = StageCheckpoints(tmp_path / name)
    store.save(2, half, {"stage": name})
    store.close()
    store = StageCheckpoints(tmp_path / name, read_only=True)
    template = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
    resumed = store.restore(store.latest(), template)
    store.close()
    for _ in range(2):
        resumed, again = epoch(resumed, shared)
    assert jax.tree.structure(resumed) == jax.tree.structure(straight)
    for a, b in zip(_toy.arrays((straight, metrics)), _toy.arrays((resumed, again)), strict=True):
        np.testing.assert_array_equal(a, b)
