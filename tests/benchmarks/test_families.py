"""The benchmark of all families goes on where it was stopped, and its table has a row per subject."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from benchmarks import families, render
from benchmarks.kept import Kept
from benchmarks.weights import random_like
from mmbc_jax.core import registry

SPREAD = dict.fromkeys(("median", "q25", "q75", "min", "max"), 0.002)


def test_kept_records_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "part.jsonl"
    Kept(path, {"cores": 1}).add("a", {"value": np.float32(0.5)})
    again = Kept(path, {"cores": 1})
    assert again.records == {"a": {"value": 0.5}}
    with path.open("a", encoding="utf-8") as file:
        file.write('{"b": {"val')  # stopped while it wrote
    Kept(path, {"cores": 1}).add("c", {"value": 1})
    assert Kept(path, {"cores": 1}).records == {"a": {"value": 0.5}, "c": {"value": 1}}
    assert Kept(path, {"cores": 2}).records == {}
    assert len(path.read_text(encoding="utf-8").splitlines()) == 1


def test_nothing_is_kept_without_a_file() -> None:
    kept = Kept(None, {})
    kept.add("a", {"value": 1})
    assert kept.records == {"a": {"value": 1}}


def test_every_backbone_of_every_policy_is_a_subject() -> None:
    found = families.subjects()
    assert found[0] == families.REFERENCE
    assert len(found) == len(set(found))
    assert {name for name, _ in found} == set(registry.available("policy"))
    assert {backbone for name, backbone in found if name == "vq"} == set(families.BACKBONES)
    assert set(families.FEWER) < {name for name, _ in found}
    assert all(families.BATCH % size == 0 for size in families.FEWER.values())


def test_random_weights() -> None:
    shapes = {
        "scale": jax.ShapeDtypeStruct((1000,), "float32"),
        "kernel": jax.ShapeDtypeStruct((400, 50), "f4"),
    }
    found = random_like(shapes)
    assert float(found["scale"].mean()) == pytest.approx(1.0, abs=0.02)
    assert float(found["scale"].std()) == pytest.approx(0.1, abs=0.01)
    assert float(found["kernel"].std()) == pytest.approx(0.05, abs=0.001)


def record(subject: tuple[str, str], *_: Any) -> dict[str, Any]:
    """What `measure_subject` returns, without measuring."""
    name, reference = families.label(subject), families.label(families.REFERENCE)
    cases = [
        {
            "subject": name,
            "work": work,
            "seconds": {reference: SPREAD, name: SPREAD},
            "ratio": {name: SPREAD} if name != reference else {},
        }
        for work in families.WORKS
    ]
    facts = {
        "parameters": 500_000,
        "train_batch": 256,
        "compile_seconds": dict.fromkeys(families.WORKS, 3.0),
        "load_average": {"before": 0.5, "after": 1.0 + len(name)},
    }
    return {"facts": facts, "cases": cases}


def test_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def stop_at_second(subject: tuple[str, str], *rest: Any) -> dict[str, Any]:
        measured.append(families.label(subject))
        if len(measured) == 2:
            raise KeyboardInterrupt
        return record(subject, *rest)

    monkeypatch.setattr(families, "programs", lambda *_: ({}, 0))
    monkeypatch.setattr(families, "measure_subject", stop_at_second)
    path = tmp_path / "part.jsonl"
    with pytest.raises(KeyboardInterrupt):
        families.measure(1, True, path)
    found = families.measure(1, True, path)
    labels = [families.label(subject) for subject in families.subjects()[:3]]
    assert measured == [labels[0], labels[1], *labels[1:]]
    assert list(found["facts"]) == labels
    assert found["load_average"] == {"before": 0.5, "after": 1.0 + max(map(len, labels))}
    table = render.families({"runs": [{"cores": 1, **found}]})[0].splitlines()
    assert len(table) == 2 + 3
    cells = "2.00 [2.00, 2.00]"
    assert table[2] == f"| 1 | flow / mlp | 0.50 | 256 | {cells} | {cells} | {cells} |  | 3.0 |"
    assert table[3].endswith("| 0.00 [0.00, 0.00] | 3.0 |")
