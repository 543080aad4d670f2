"""Statistics, the shape of result files and the tables made from them; nothing here asserts a speed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import host, render, run
from benchmarks.timing import Contender, Samples, interleave, spread, summarise

RESULTS = Path(run.__file__).with_name("results")
SPREAD = {"median", "q25", "q75", "min", "max"}


def test_spread() -> None:
    # sorted 1 2 3 4 10: the quartiles sit at positions 1, 2 and 3
    assert spread([10, 1, 3, 2, 4]) == {"median": 3.0, "q25": 2.0, "q75": 4.0, "min": 1.0, "max": 10.0}


def test_ratio_is_taken_within_rounds() -> None:
    samples = {"ours": Samples([1.0, 2.0, 4.0], [1.0] * 3), "torch": Samples([2.0, 6.0, 8.0], [2.0] * 3)}
    result = summarise(samples, "ours")
    # 2/1, 6/2, 8/4: median 2, whereas the ratio of the medians would be 6/2 = 3
    assert result["ratio"]["torch"]["median"] == 2.0
    assert result["cpu_ratio"]["torch"]["median"] == 2.0
    assert set(result["ratio"]) == {"torch"}


def test_interleave_alternates_and_counts() -> None:
    calls: list[str] = []
    contenders = [Contender(name, lambda name=name: calls.append(name), 4) for name in "ab"]
    samples = interleave(contenders, rounds=3, warmup=1)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert [len(samples[name].wall) for name in "ab"] == [3, 3]


def test_memory_and_load() -> None:
    found = host.memory()
    assert 10e6 < found["rss_bytes"] <= found["peak_rss_bytes"]
    assert host.load_average() >= 0
    with pytest.raises(ValueError, match="cores asked for"):
        host.pin(100_000)


def test_table() -> None:
    assert render.table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    with pytest.raises(ValueError, match="under 2 headings"):
        render.table(["a", "b"], [["1"]])


def test_milliseconds_and_ratio() -> None:
    value = {"q25": 0.001, "median": 0.0015, "q75": 0.002}
    assert render.milliseconds(value) == "1.50 [1.00, 2.00]"
    assert render.ratio({"q25": 1.0, "median": 2.346, "q75": 3.0}) == "2.35 [1.00, 3.00]"


@pytest.mark.parametrize(
    ("cores", "before", "after", "busy"),
    [(1, 0.4, 1.3, False), (1, 3.0, 1.3, True), (2, 1.9, 3.9, False), (2, 0.2, 6.0, True)],
)
def test_contention_is_named(cores: int, before: float, after: float, busy: bool) -> None:
    run_ = {"cores": cores, "load_average": {"before": before, "after": after}}
    assert render.contended(run_) == busy
    assert bool(render.warnings({"quick": False, "runs": [run_]})) == busy
    assert "not for quoting" in render.warnings({"quick": True, "runs": [run_]})[0]


def test_unknown_names_and_cores_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--only", "nothing"], ["--cores", "0"], ["--cores", "100000"]):
        with pytest.raises(SystemExit) as stop:
            run.main(argv)
        assert stop.value.code == 2
    assert "between 1 and" in capsys.readouterr().err


@pytest.mark.parametrize("name", run.NAMES)
def test_written_results(name: str) -> None:
    """The results in the repository have the fields that the tables and the documentation read."""
    if not (RESULTS / f"{name}.json").exists():
        pytest.skip(f"{name} has not been measured")
    text = (RESULTS / f"{name}.json").read_text()
    result = json.loads(text)
    assert result["format"] == run.FORMAT
    assert result["benchmark"] == name
    assert result["command"].startswith("python -m benchmarks.run")
    assert result["versions"]["torch"]
    assert result["versions"]["jax"]
    assert not result["quick"]
    assert not re.search(r"(/home|/root|/work|/tmp|/Users)/", text)
    assert (RESULTS / f"{name}.md").read_text() == render.render(result)
    for record in result["runs"]:
        _check_record(record)


def _check_record(record: dict[str, Any]) -> None:
    assert record["device"]["cpu_cores"] == record["cores"]
    assert set(record["load_average"]) == {"before", "after"}
    assert record["memory"]["peak_rss_bytes"] > 0
    cases = next(record[key] for key in ("batches", "cases", "modes") if key in record)
    assert cases
    for case in cases:
        assert set(case["seconds"]) == set(case["cpu_seconds"])
        for group in ("seconds", "cpu_seconds", "ratio", "cpu_ratio", "share_of_iteration"):
            for values in case.get(group, {}).values():
                assert set(values) == SPREAD
                assert 0 < values["q25"] <= values["median"] <= values["q75"]
