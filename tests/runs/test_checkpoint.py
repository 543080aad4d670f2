from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.errors import CheckpointError
from mmbc_jax.core.state import TrainState
from mmbc_jax.runs import checkpoint as checkpoint_lib
from mmbc_jax.runs import packing
from mmbc_jax.runs.checkpoint import StageCheckpoints, checkpoint_steps, checksum, find_stage, read_meta
from tests.toys.products import spared

ROOT = Path(__file__).parents[2]


def make_state(scale: float = 1.0) -> TrainState:
    """Every kind of leaf that a state holds: floats, integers, booleans, typed keys, empty trees."""
    return TrainState(
        step=jnp.array([3, 4], jnp.int32),
        key=jax.random.split(jax.random.key(5), 2),
        params={"dense": {"kernel": scale * jnp.linspace(0.0, 1.0, 2 * 300 * 20).reshape(2, 300, 20)}},
        opt_state={"mu": (jnp.full((2, 4), scale), {}), "finite": jnp.array([True, False])},
        ema={},
        stats={"small": jnp.array([1e-38, jnp.nan], jnp.float32)},
        env_state={
            "keys": jax.random.split(jax.random.key(6), (2, 3)),
            "mode": jnp.array([-1, 2], jnp.int32),
        },
        hparams={"bc.learning_rate": jnp.array([1e-3, 2e-3])},
    )


def template(state):
    return jax.eval_shape(lambda: state)


def raw(tree):
    """Leaves as bytes, keys as their integers."""

    def one(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes()

    return [one(leaf) for leaf in jax.tree.leaves(tree)]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints" / "bc"


def save(folder, *steps, keep=2, state=None):
    checkpoints = StageCheckpoints(folder, keep)
    for step in steps:
        checkpoints.save(step, state or make_state(float(step)), {"epoch": step, "log_bytes": 10 * step})
    checkpoints.close()


def restore(folder, step, state=None):
    checkpoints = StageCheckpoints(folder, read_only=True)
    try:
        return checkpoints.restore(step, template(state or make_state()))
    finally:
        checkpoints.close()


def test_every_leaf_comes_back_bit_for_bit(folder):
    save(folder, 7, state=make_state())
    found = restore(folder, 7)
    assert jax.tree.structure(found) == jax.tree.structure(make_state())
    assert raw(found) == raw(make_state())
    assert found.key.dtype == make_state().key.dtype
    assert not any(leaf.committed for leaf in jax.tree.leaves(found))  # or nothing fits the compiled programs
    drawn = jax.vmap(jax.random.normal)(found.key)
    np.testing.assert_array_equal(drawn, jax.vmap(jax.random.normal)(make_state().key))


def test_a_save_holds_the_values_of_its_moment(folder):
    """The next epoch is given the same buffers while the checkpoint is still being written."""
    advance = jax.jit(lambda x: jax.tree.map(lambda leaf: leaf + 1, x), donate_argnums=0)
    values = {"a": jnp.zeros((64, 64, 64)), "b": jnp.zeros((7,), jnp.int32)}
    checkpoints = StageCheckpoints(folder, keep=20)
    for step in range(6):
        checkpoints.save(step, values, {})
        values = advance(values)
    checkpoints.close()
    for step in range(6):
        found = restore(folder, step, values)
        assert (np.asarray(found["a"]) == step).all()
        assert (np.asarray(found["b"]) == step).all()


def test_the_checksum_is_computed_by_the_thread_that_writes(folder, monkeypatch):
    """Of the values of the moment of the save: meanwhile the next epoch overwrites them."""
    go, threads = threading.Event(), []

    def patient(state):
        threads.append(threading.get_ident())
        assert go.wait(30)
        return checksum(state)

    monkeypatch.setattr(checkpoint_lib, "checksum", patient)
    advance = jax.jit(lambda x: jax.tree.map(lambda leaf: leaf + 1, x), donate_argnums=0)
    values = {"a": jnp.zeros((64, 64)), "b": jnp.arange(3)}
    checkpoints = StageCheckpoints(folder)
    checkpoints.save(1, values, lambda: {"thread": threading.get_ident()})
    values = jax.block_until_ready(advance(values))
    assert checkpoint_steps(folder) == []  # nothing is there before it is whole
    go.set()
    checkpoints.close()
    monkeypatch.undo()
    (thread,) = threads
    assert thread != threading.get_ident()
    assert read_meta(folder)[1]["thread"] == thread
    found = restore(folder, 1, values)
    assert (np.asarray(found["a"]) == 0).all()
    np.testing.assert_array_equal(found["b"], [0, 1, 2])


@pytest.mark.parametrize("ends_with", ["save", "wait", "latest", "close"])
def test_what_goes_wrong_in_the_thread_is_raised(folder, ends_with):
    def broken():
        raise OSError("no space left")

    checkpoints = StageCheckpoints(folder)
    checkpoints.save(1, make_state(), broken)
    arguments = (2, make_state(), {}) if ends_with == "save" else ()
    with pytest.raises(OSError, match="no space left"):
        getattr(checkpoints, ends_with)(*arguments)
    checkpoints.close()
    assert checkpoint_steps(folder) == []


KILLED = """
import os, signal, sys, threading
import jax.numpy as jnp
from mmbc_jax.runs import checkpoint
folder, moment = sys.argv[1:]
checkpoints = checkpoint.StageCheckpoints(folder)
checkpoints.save(1, {"a": jnp.full(9, 1.0)}, {"log_bytes": 1})
checkpoints.wait()
die = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
if moment == "checksum":
    checkpoint.checksum = die
elif moment == "written":
    os.rename = os.replace = die  # the directory is whole but for its name
checkpoints.save(2, {"a": jnp.full(9, 2.0)}, die if moment == "meta" else {"log_bytes": 2})
if moment == "handed over":
    die()
checkpoints.wait()
"""


@pytest.mark.parametrize("moment", ["handed over", "meta", "checksum", "written"])
@spared("meta", "checksum")
def test_a_kill_while_one_is_written_leaves_the_one_before(folder, moment):
    script = [sys.executable, "-c", KILLED, str(folder), moment]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert checkpoint_steps(folder) == [1]
    assert read_meta(folder)[1]["log_bytes"] == 1
    found = restore(folder, 1, {"a": jnp.zeros(9)})
    np.testing.assert_array_equal(found["a"], np.ones(9))


def test_only_the_newest_are_kept_and_the_last_is_found(folder):
    save(folder, 1, 2, 3, 10, keep=2)
    assert checkpoint_steps(folder) == [3, 10]
    step, meta = read_meta(folder)
    assert (step, meta["epoch"], meta["log_bytes"]) == (10, 10, 100)
    checkpoints = StageCheckpoints(folder)
    assert checkpoints.latest() == 10
    checkpoints.close()


def test_nothing_there(folder):
    checkpoints = StageCheckpoints(folder)
    assert checkpoints.latest() is None
    checkpoints.close()
    assert checkpoint_steps(folder / "missing") == []
    with pytest.raises(CheckpointError, match="bc holds no checkpoint"):
        read_meta(folder)


def test_a_half_written_checkpoint_does_not_count(folder):
    save(folder, 4)
    shutil.copytree(folder / "4", folder / "8.orbax-checkpoint-tmp-123")
    assert read_meta(folder)[0] == 4
    checkpoints = StageCheckpoints(folder)
    assert checkpoints.latest() == 4
    checkpoints.save(8, make_state(8.0), {})
    checkpoints.close()
    assert checkpoint_steps(folder) == [4, 8]
    assert raw(restore(folder, 8)) == raw(make_state(8.0))


def test_an_old_one_that_was_being_removed_does_no_harm(folder):
    save(folder, 4, 8)
    for path in ("state", "meta", "_CHECKPOINT_METADATA"):
        target = folder / "4" / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    checkpoints = StageCheckpoints(folder)
    assert checkpoints.latest() == 8
    checkpoints.save(12, make_state(12.0), {})
    checkpoints.close()
    assert checkpoint_steps(folder) == [8, 12]


def data_files(folder, step):
    return sorted(
        (p for p in (folder / str(step) / "state").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )


@pytest.mark.parametrize("damage", ["cut", "flipped", "lost"])
def test_a_damaged_checkpoint_is_named(folder, damage):
    save(folder, 5)
    victim = data_files(folder, 5)[-1]
    whole = victim.read_bytes()
    if damage == "cut":
        victim.write_bytes(whole[: len(whole) // 2])
    elif damage == "flipped":
        middle = len(whole) // 2
        victim.write_bytes(
            whole[:middle] + bytes(255 - b for b in whole[middle : middle + 64]) + whole[middle + 64 :]
        )
    else:
        shutil.rmtree(folder / "5" / "state")
    with pytest.raises(CheckpointError, match=r"checkpoints/bc/5 is damaged \("):
        restore(folder, 5)


def test_arrays_of_another_shape_or_type_are_refused(folder):
    save(folder, 5)
    other = make_state().replace(hparams={"bc.learning_rate": jnp.zeros(3)})
    fit = r"bc/5, .* does not fit this configuration: .*hparams\['bc.learning_rate'\] is float32\[2\] there"
    with pytest.raises(CheckpointError, match=fit + r", float32\[3\] here"):
        restore(folder, 5, other)
    with pytest.raises(CheckpointError, match=fit + ", no such array here"):
        restore(folder, 5, make_state().replace(hparams={"bc.weight_decay": jnp.zeros(2)}))


def test_an_array_without_elements_comes_back(folder):
    """The linear part of a base that sees images alone; orbax refuses to store it."""
    state = make_state().replace(stats={"linear": jnp.zeros((2, 0, 8))})
    save(folder, 5, state=state)
    found = restore(folder, 5, state)
    assert found.stats["linear"].shape == (2, 0, 8)
    assert raw(found) == raw(state)
    for other in (jnp.zeros((2, 0, 6)), jnp.zeros((2, 1, 8)), jnp.zeros(3, jnp.int32)):
        with pytest.raises(CheckpointError, match=r"bc/5.*(does not fit|is damaged)"):
            restore(folder, 5, state.replace(stats={"linear": other}))


@pytest.mark.parametrize("text", ["", '{"epoch": 5', "[]", "{}"])
def test_a_damaged_description_is_named(folder, text):
    save(folder, 5)
    (folder / "5" / "meta" / "metadata").write_text(text)
    with pytest.raises(CheckpointError, match=r"bc/5 is damaged"):
        read_meta(folder)


def test_another_format_is_refused(folder, monkeypatch):
    monkeypatch.setattr(checkpoint_lib, "FORMAT", 99)
    save(folder, 5)
    monkeypatch.undo()
    with pytest.raises(
        CheckpointError,
        match=r"written by mmbc_jax .* has format 99; .* reads 5: use the version that wrote it",
    ):
        read_meta(folder)


def test_other_random_numbers_are_refused(folder, monkeypatch):
    monkeypatch.setattr(checkpoint_lib, "RANDOM", "rbg")
    save(folder, 5)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="random numbers of 'rbg'; .* 'threefry2x32, partitionable'"):
        read_meta(folder)


def test_find_stage(folder, tmp_path):
    save(folder, 5)
    save(tmp_path / "checkpoints" / "finetune", 2)
    (tmp_path / "checkpoints" / "plain").mkdir()  # started and saved nothing
    order = ("plain", "finetune", "bc")
    assert find_stage(tmp_path, order) == (tmp_path / "checkpoints" / "finetune", "finetune")
    assert find_stage(tmp_path / "checkpoints", order)[1] == "finetune"
    assert find_stage(folder, order) == (folder, "bc")
    assert find_stage(tmp_path, ("bc",))[1] == "bc"
    with pytest.raises(CheckpointError, match=r"holds no checkpoint of a stage \(plain\)"):
        find_stage(tmp_path, ("plain",))
    with pytest.raises(CheckpointError, match="does not exist"):
        find_stage(tmp_path / "missing", order)


def test_reading_changes_nothing(folder):
    save(folder, 5)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    restore(folder, 5)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert json.loads((folder / "5" / "meta" / "metadata").read_text())["format"] == 5


def test_a_checkpoint_names_no_device(folder):
    """So what a GPU wrote comes back where there is none, and in any number: nothing has to be found again."""
    checkpoints = StageCheckpoints(folder)
    checkpoints.save(5, make_state(), {})
    checkpoints.close()
    files = [path for path in (folder / "5").rglob("*") if path.is_file()]
    assert files
    assert not any(word in path.read_bytes().lower() for path in files for word in (b"cpu", b"cuda"))


def test_what_is_read_into_takes_no_memory():
    tree = {"a": np.ones((3, 2), np.float32), "b": np.ones(4, np.int32), "c": np.ones((), np.float32)}
    room, held = packing.room_for(tree), packing.packed(tree)
    assert {name: (x.shape, x.dtype) for name, x in room.items()} == {
        name: (x.shape, x.dtype) for name, x in held.items()
    }
    assert all(x.strides == (0,) for x in room.values())
    back = packing.unpacked(held, tree)
    assert all(
        np.array_equal(back[name], tree[name]) and back[name].shape == tree[name].shape for name in tree
    )
