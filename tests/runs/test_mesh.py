"""Meshes: figures that do not depend on the devices or processes that make them, and nothing at all on one device."""

from __future__ import annotations

import functools
import json
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax import cli
from mmbc_jax.core.errors import ConfigError, UserError
from mmbc_jax.runs import mesh as mesh_lib
from mmbc_jax.runs.epoch import make_epoch
from mmbc_jax.runs.mesh import Mesh, connect, make_mesh
from mmbc_jax.runs.programs import Programs
from tests.runs import _processes, _sharded
from tests.toys import cloning as toy
from tests.toys.landscape import rows
from tests.toys.products import spared

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True, scope="module")
def _without_key_checks():
    """JAX takes a scan over keys under vmap for a reuse; single runs are checked in `test_epoch`."""
    with jax.debug_key_reuse(False):
        yield


# One device: nothing.


@pytest.mark.parametrize("name", ["bc", "discover"])
@pytest.mark.parametrize("runs", [1, 8])
@spared("1-*", "8-bc")
def test_on_one_device_the_program_is_the_plain_one(name, runs):
    """The text handed to the compiler is that of `vmap(scan(scan(step)))`, and says nothing of devices."""
    stage = toy.stage(name)
    state, shared = toy.shapes(name)
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((runs, *leaf.shape[1:]), leaf.dtype), state)
    logs = stage.logs

    def epoch(state, shared):
        def row(state, _):
            state, metrics = jax.lax.scan(lambda s, _: stage.train_step(s, shared), state, None, 3)
            how = {"mean": lambda x: x.mean(0), "last": lambda x: x[-1], "sum": lambda x: x.sum(0)}
            how["known"] = lambda x: jnp.nanmean(x, 0)
            return state, {name: how[logs.get(name, "mean")](x) for name, x in metrics.items()}

        return jax.lax.scan(row, state, None, 2)

    def plain(state, shared):
        if runs > 1:
            return jax.vmap(epoch, in_axes=(0, None))(state, shared)
        found = epoch(jax.tree.map(lambda leaf: leaf[0], state), shared)
        return jax.tree.map(lambda leaf: leaf[None], found)

    def ours(state, shared):
        return make_epoch(stage.train_step, 2, 3, make_mesh("shard"), logs)(state, shared)

    texts = [
        jax.jit(f).lower(state, shared).as_text().replace("jit_plain", "jit_ours") for f in (plain, ours)
    ]
    assert texts[0] == texts[1]
    assert '"runs"' not in texts[1]
    assert '"batch"' not in texts[1]


def test_on_one_device_trees_are_returned_as_they_are():
    mesh, tree = make_mesh("shard"), {"a": jnp.ones((3, 2))}
    assert mesh == Mesh("shard")
    assert mesh.is_writer
    assert (mesh.runs, mesh.batch, mesh.padded(5)) == (1, 1, 5)
    assert mesh.place(tree) is tree
    assert mesh.share(tree) is tree
    assert mesh.fetch(tree, 3) is tree
    assert not mesh.any_process(False)
    assert mesh.any_process(True)
    with mesh.writer_first():
        pass


# What cannot work.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vmap", 1, 2), r"mesh.batch = 2 .*1 to 1, the number of devices"),
        (("vmap", 1, 0), r"mesh.batch = 0"),
        (("shard", 2, 1), r"mesh.runs = 2 .*at most 1"),
        (("vmap", -1, 1), r"mesh.runs = -1"),
        (("vmapp", 0, 1), r"did you mean 'vmap'"),
    ],
)
def test_meshes_that_cannot_be(arguments, message):
    with pytest.raises(ConfigError, match=message):
        make_mesh(*arguments)


def test_connecting_alone_or_with_a_bad_number(monkeypatch):
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
    connect()
    assert jax.process_count() == 1
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(UserError, match=r"\$JAX_NUM_PROCESSES = 'two' is not a whole number"):
        connect()


def test_host_copies():
    """A view of a buffer that is then donated would change under the caller."""
    array = jnp.arange(3.0)
    held = mesh_lib.host(array)
    jax.block_until_ready(jax.jit(lambda x: x + 1, donate_argnums=0)(array))
    np.testing.assert_array_equal(held, [0, 1, 2])
    np.testing.assert_array_equal(mesh_lib.host(jax.random.key(7)), [0, 7])


# Eight devices.


def spawn(module: str, *arguments: object, forced: dict[str, str] | None = None) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env=_sharded.environment(forced),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen, code: int = 0) -> str:
    out, err = process.communicate(timeout=900)
    assert process.returncode == code, err[-3000:]
    return out


def test_placing_padding_and_refusing_on_eight_devices():
    assert finish(spawn("tests.runs._placing")).strip().endswith("done")


@functools.cache
def alone(name: str, runs: int) -> dict[str, np.ndarray]:
    return _sharded.figures(name, runs, Mesh())


def check_eight_devices(tmp_path, name: str, runs: int, meshes: dict[str, int]) -> None:
    """Each mesh, with the rows that a state has on it, against one device in this process."""
    path = tmp_path / "sharded.npz"
    process = spawn("tests.runs._sharded", name, runs, path, *meshes)
    expected = alone(name, runs)
    finish(process)
    with np.load(path, allow_pickle=False) as file:
        for mesh, rows in meshes.items():
            assert int(file[f"{mesh}/rows"]) == rows
            for key, value in expected.items():
                if key != "rows":
                    check_close(file[f"{mesh}/{key}"], value, key, f"{mesh} {key}")


def check_close(found: np.ndarray, expected: np.ndarray, key: str, message: str) -> None:
    """Relative to the norm of a leaf, whose entries share their rounding: 1e-5 after one step, 1e-3 after ten."""
    assert found.shape == expected.shape, message
    rtol = 1e-5 if key.split("_")[0] in ("params1", "metrics1") else 1e-3
    difference = np.linalg.norm(found.astype(float) - expected.astype(float))
    assert difference <= rtol * np.linalg.norm(expected.astype(float)) + 1e-6 * rtol, message


@pytest.mark.slow
def test_twelve_clones_on_eight_devices_agree_with_one(tmp_path):
    """12 runs over 8 devices take 16 rows, of which nothing is seen in what they leave."""
    check_eight_devices(tmp_path, "bc", 12, {"8x1": 16})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "runs", "meshes"),
    [
        ("bc", 1, {"1x8": 1}),
        ("bc", 12, {"1x8": 12, "4x2": 12, "5x1": 15}),
        ("discover", 1, {"1x8": 1}),
        ("discover", 12, {"8x1": 16, "4x2": 12, "1x8": 12}),
        ("sac", 12, {"8x1": 16, "4x2": 12, "1x8": 12}),
    ],
)
def test_eight_devices_agree_with_one(tmp_path, name, runs, meshes):
    check_eight_devices(tmp_path, name, runs, meshes)


# Processes.


def force(devices: int) -> dict[str, str]:
    return {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
    }


def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def train(folder: Path, processes: int, devices: int, mesh: tuple[int, int], steps: tuple[int, int]) -> list:
    """Facts that each process prints."""
    common = (processes, port(), folder, *mesh, *steps)
    spawned = [spawn("tests.runs._processes", i, *common, forced=force(devices)) for i in range(processes)]
    return [json.loads(finish(process).splitlines()[-1]) for process in spawned]


@pytest.fixture(scope="module")
def straight() -> np.ndarray:
    """Losses [4, R] of four steps on one device."""
    programs = Programs(toy.setup(), Mesh())
    state, data = _sharded.begin(programs, "bc", _processes.R)
    program, losses = programs.epoch(toy.stage("bc"), state, data), []
    for _ in range(4):
        state, metrics = program(state, data)
        losses.append(np.asarray(metrics["bc/loss"])[:, 0])
    return np.array(losses)


@pytest.mark.slow
def test_two_processes_train_save_and_resume(tmp_path, straight):
    """Six runs on two processes of two devices each; what they saved continues on one device."""
    folder = tmp_path / "checkpoints"
    facts = train(folder, 2, 2, (2, 2), (0, 2))
    assert [fact["writer"] for fact in facts] == [True, False]
    assert [fact["order_seen"] for fact in facts] == [False, True]  # process 0 went first
    for fact in facts:
        assert (fact["processes"], fact["devices"]) == (2, 4)
        assert fact["any"]
        assert not fact["none"]
        np.testing.assert_allclose(fact["losses"], straight[:2], rtol=1e-4)
    np.testing.assert_allclose(_processes.train(folder, Mesh(), 2, 4), straight[2:], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "devices", "mesh"),
    [(2, 1, (2, 1)), (2, 2, (4, 1)), (2, 2, (1, 4)), (1, 1, (1, 1)), (1, 8, (2, 4))],
)
def test_a_checkpoint_of_eight_devices_resumes_anywhere(tmp_path, straight, processes, devices, mesh):
    folder = tmp_path / "checkpoints"
    (first,) = train(folder, 1, 8, (4, 2), (0, 2))
    np.testing.assert_allclose(first["losses"], straight[:2], rtol=1e-4)
    for fact in train(folder, processes, devices, mesh, (2, 4)):
        np.testing.assert_allclose(fact["losses"], straight[2:], rtol=1e-4)


def command(workdir: Path, stops: tuple[str, ...], code: int, *arguments: str) -> None:
    """The training command in as many processes as `stops` has entries, on two devices each."""
    number, count = port(), len(stops)
    spawned = [
        spawn(
            "tests.runs._command",
            workdir,
            stop,
            "--config.seeds=3",
            *arguments,
            forced=force(2) | _processes.joined(i, count, number),
        )
        for i, stop in enumerate(stops)
    ]
    for process in spawned:
        finish(process, code)


@pytest.mark.slow
def test_a_command_on_two_processes_that_is_stopped_in_one_continues_on_one(tmp_path):
    """A signal that reaches process 1 stops both; all rows are those of one device."""
    command(tmp_path / "one", ("-",), 0)
    command(tmp_path / "two", ("-", "discover"), cli.INTERRUPTED, "--config.mesh.batch=2")
    assert rows(tmp_path / "two")[-1]["stage"] == "discover"
    command(tmp_path / "two", ("-",), 0)
    expected, found = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            same = pytest.approx(value, rel=1e-3, abs=1e-5) if isinstance(value, float) else value
            assert ours[key] == same, key
