"""Files of demonstrations that are none: refused in one line, before memory is taken, and never unpickled."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mmbc_jax.core import memory
from mmbc_jax.core.errors import DataError
from mmbc_jax.data.load import load
from mmbc_jax.data.loaders import _columns
from tests.malformed import archives, stores
from tests.malformed.calls import refusal

NPZ = archives.from_changes() | archives.of_archives()
NPZ |= archives.of_files(".npz", lambda folder: archives.npz(folder / "w.npz", archives.GOOD))
ZARR = {}
if pytest.importorskip("zarr"):
    ZARR = stores.of_zarr(2) | stores.of_zarr(3) | stores.of_zarr_zips()


RENAMED = ("suffix", "missing", "NUL", "long path", "below")  # kinds of files of other names


def read(argv):
    load(argv[0])
    return 0


def wrong(cases, folder, monkeypatch) -> list[str]:
    """One line for every file that is not refused as it must be, in a folder of its own that stays as it is."""
    found = []
    for number, (kind, write) in enumerate(cases.items()):
        own = folder / str(number)
        own.mkdir()
        monkeypatch.chdir(own)
        try:
            line = refusal(read, [write(own)], own)
            named = any(word in line for word in ("a.npz", "a.zarr", "a.zip", "aaaaa"))
            if not named and not any(word in kind for word in RENAMED):
                found.append(f"{kind}: {line.strip()} does not name the file")
        except (Exception, pytest.fail.Exception) as error:
            found.append(f"{kind}: {type(error).__name__}: {str(error).strip()[:300]}")
        shutil.rmtree(own)
    return found


def test_archives(tmp_path, monkeypatch):
    assert len(NPZ) > 150
    assert not wrong(NPZ, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_stores(tmp_path, monkeypatch):
    assert len(ZARR) > 150
    assert not wrong(ZARR, tmp_path, monkeypatch)


def test_a_header_takes_no_memory(tmp_path):
    """10^13 rows that the file seems to hold: refused by what the header says against what is free."""
    path = archives.of_archives()["npz bomb"](tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"a.npz: array 'obs' is float64 with shape .* it is damaged"):
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_an_array_takes_half_of_the_memory_at_most(tmp_path, monkeypatch):
    path = archives.npz(tmp_path / "a.npz", archives.GOOD)
    monkeypatch.setattr(_columns, "free_bytes", lambda: 2 * archives.GOOD["obs"].nbytes - 2)
    with pytest.raises(
        DataError, match=r"'obs' needs .* GiB, and .* GiB of memory are free, of which an array may"
    ):
        load(path)
    monkeypatch.setattr(_columns, "free_bytes", lambda: 2 * archives.GOOD["obs"].nbytes)
    load(path)
    assert memory.free_bytes() > 2**20


def same(one, other) -> bool:
    return all(
        np.array_equal(a, b)
        for a, b in ((one.obs, other.obs), (one.action, other.action), (one.ends, other.ends))
    )


def fuzzed(whole: bytes, path: Path, rounds: int, seed: int) -> list[str]:
    """What became of randomly damaged copies of a file, where it was neither a DataError nor the same numbers."""
    path.write_bytes(whole)
    truth, rng, found, refused = load(path), np.random.default_rng(seed), [], 0
    for number in range(rounds):
        data = bytearray(whole)
        way = number % 4
        if way == 0:  # one bit
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        elif way == 1:  # a few bytes
            for at in rng.integers(len(data), size=rng.integers(1, 16)):
                data[at] = rng.integers(256)
        elif way == 2:
            del data[rng.integers(len(data)) :]
        else:  # a stretch moved away
            first, last = np.sort(rng.integers(len(data), size=2))
            del data[first:last]
        path.write_bytes(bytes(data))
        try:
            if not same(load(path), truth):
                found.append(f"{number}: other numbers")
        except DataError:
            refused += 1
        except Exception as error:
            found.append(f"{number}: {type(error).__name__}: {error}")
    assert refused > rounds / 3
    return found


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layout", ["GOOD", "TRAJECTORIES", "DRAWINGS"])
def test_random_damage_to_archives(tmp_path, layout, packed):
    save = np.savez_compressed if packed else np.savez
    save(tmp_path / "a.npz", **getattr(archives, layout))
    assert not fuzzed((tmp_path / "a.npz").read_bytes(), tmp_path / "a.npz", 400, len(layout) + packed)


def test_random_damage_to_zipped_stores(tmp_path):
    path = stores.zarr_store(tmp_path / "a.zip", archives.GOOD)
    assert not fuzzed(path.read_bytes(), path, 100, 3)
