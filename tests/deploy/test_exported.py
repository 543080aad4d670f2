"""An exported policy runs in a process that never hears of this package, and gives the same numbers."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from mmbc_jax import export
from mmbc_jax.core.errors import UserError
from tests.deploy._loaded import loaded
from tests.toys.landscape import finished_run, unchecked

OBS = np.random.default_rng(1).normal(size=(5, 2)).astype(np.float32)
ALONE = """
import sys
import jax
import numpy as np

policy = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
key, obs, z = (np.load(f"{sys.argv[2]}/{name}.npy") for name in ("key", "obs", "z"))
np.save(f"{sys.argv[2]}/all.npy", policy.call(key, obs, z))
np.save(f"{sys.argv[2]}/one.npy", policy.call(key, obs[:1], z[:1]))
assert not [name for name in sys.modules if name.startswith(("mmbc_jax", "flax", "distrax"))]
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(the artefact, what its JSON file says)."""
    out = tmp_path_factory.mktemp("exported") / "deep" / "policy.stablehlo"
    with unchecked():
        assert export.main(["--checkpoint", str(finished_run()), "--out", str(out)]) == 0
    return out, json.loads(out.with_suffix(".json").read_text())


def test_the_same_numbers_without_the_package(written, tmp_path):
    out, _ = written
    z = np.array([0, 1, -1, 1, -1], np.int32)
    for name, value in {"key": np.array([3, 9], np.uint32), "obs": OBS, "z": z}.items():
        np.save(tmp_path / f"{name}.npy", value)
    command = [sys.executable, "-I", "-c", ALONE, str(out), str(tmp_path)]
    subprocess.run(command, check=True, timeout=300, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    policy, words = loaded("finetune"), np.array([3, 9], np.uint32)
    drawn = np.where(z < 0, policy.draw(words, (5,)), z)
    np.testing.assert_allclose(np.load(tmp_path / "all.npy"), policy(OBS, drawn, words), atol=1e-6)
    np.testing.assert_allclose(np.load(tmp_path / "one.npy"), policy(OBS[:1], 0, words), atol=1e-6)


def test_the_file_beside_it(written):
    out, said = written
    assert said["inputs"]["obs"]["shape"] == ["b", 2]
    assert (said["output"]["shape"], said["output"]["low"]) == (["b", 4, 2], [-0.15, -0.15])
    assert said["platforms"] == ["cpu", "cuda"]
    assert said["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert [mode["z"] for mode in said["commands"]] == [0, 1]
    assert said["source"]["stage"] == "finetune"


def test_a_file_for_a_gpu_is_written_where_there_is_none(tmp_path, written):
    both, _ = written
    out = tmp_path / "gpu.stablehlo"
    with unchecked():
        argv = ["--checkpoint", str(finished_run()), "--out", str(out), "--platforms", "cuda"]
        assert export.main(argv) == 0
    program = jax.export.deserialize(bytearray(out.read_bytes()))
    assert program.platforms == ("cuda",)
    two = jax.export.deserialize(bytearray(both.read_bytes()))
    assert two.platforms == ("cpu", "cuda")
    with pytest.raises(ValueError, match="cuda"):
        program.call(np.zeros(2, np.uint32), OBS, np.zeros(5, np.int32))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--out", "a.json"), "--out a.json must be a file that does not end in .json"),
        (("--out", "/"), "--out / must be a file"),
        (("--out", "a", "--platforms", "tpu"), "--platforms 'tpu' must be one of cpu, cuda"),
        (("--out", "a", "--format", "torch"), "--format: invalid choice: 'torch'"),
        (("--out", "a", "--format", "onnx", "--platforms", "cpu"), "--platforms is of --format stablehlo"),
        (("--out", "a", "--more"), "unrecognized arguments: --more"),
        ((), "arguments are required: --out"),
    ],
)
def test_arguments_that_cannot_work(argv, message):
    with pytest.raises(UserError, match=message):
        export.parse(["--checkpoint", "x", *argv])
