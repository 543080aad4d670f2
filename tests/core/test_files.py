import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from mmbc_jax.core import files


def test_json_round_trip_with_nan_and_arrays(tmp_path):
    path = tmp_path / "s.json"
    value = {
        "nan": float("nan"), "inf": np.float32(np.inf), "array": np.array([[1.0, np.nan], [3.0, 4.0]]),
        "jax": jnp.arange(3), "scalar": jnp.float32(0.5), "bool": np.bool_(True),
        "int": np.int32(7), "none": None, "tuple": (1, "a"), 3: "key",
        "config": ConfigDict({"lam": 0.5}), "path": Path("/somewhere/else/run"),
    }  # fmt: skip
    files.write_json(path, value)
    assert files.read_json(path) == {
        "nan": None, "inf": None, "array": [[1.0, None], [3.0, 4.0]], "jax": [0, 1, 2], "scalar": 0.5,
        "bool": True, "int": 7, "none": None, "tuple": [1, "a"], "3": "key",
        "config": {"lam": 0.5}, "path": "run",
    }  # fmt: skip
    assert "NaN" not in path.read_text()


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "s.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(TypeError, match="object has no JSON form"):
        files.write_json(path, {"a": object()})

    def fail(*_):
        raise OSError("disk")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk"):
        files.write_json(path, {"a": 2})
    assert files.read_json(path) == {"a": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["s.json"]


def test_written_files_can_be_read_by_others(tmp_path):
    path = tmp_path / "a.bin"
    files.write_atomic(path, lambda file: file.write(b"abc"))
    assert path.read_bytes() == b"abc"
    assert path.stat().st_mode & 0o777 == 0o644
