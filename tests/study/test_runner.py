from __future__ import annotations

import json

from mmbc_jax.study import runner
from mmbc_jax.study.plan import Study, Variant

SUMMARY = {"points": [{"values": {}, "stages": {"bc": {"sr": {"per_seed": [0.5]}}}}], "run": {}}
WRITE = (
    "import json, pathlib, sys; p = pathlib.Path(sys.argv[1]); p.mkdir(parents=True); "
    "(p / 'summary.json').write_text(sys.argv[2])"
)


def study(*names):
    return Study("toy", "", [Variant(name, {"name": name}, None) for name in names], ())


def run(tmp_path, one, code, jobs=2):
    said = []

    def command(study, variant):
        calls.append(variant.name)
        folder = runner.variant_dir(tmp_path, study, variant)
        return ["-c", code, str(folder), json.dumps(SUMMARY)]

    calls: list[str] = []
    failed = runner.run_all(tmp_path, [one], command, jobs, said.append)
    return failed, calls, said


def test_every_variant_runs_once_and_is_collected(tmp_path):
    one = study("a", "b", "c")
    failed, calls, said = run(tmp_path, one, WRITE)
    assert failed == []
    assert sorted(calls) == ["a", "b", "c"]
    assert len(said) == 3
    results, missing = runner.collect(tmp_path, one)
    assert [entry.tags["name"] for entry in results.entries] == ["a", "b", "c"]
    assert missing == []
    assert run(tmp_path, one, WRITE) == ([], [], [])


def test_a_failure_is_reported_and_the_others_go_on(tmp_path):
    code = "import sys; sys.exit('no' if sys.argv[1].endswith('b') else 0)"
    one = study("a", "b", "c")
    failed, calls, said = run(tmp_path, one, code, jobs=1)
    assert failed == ["toy/b"]
    assert calls == ["a", "b", "c"]
    assert "failed" in said[1]
    assert (tmp_path / "toy" / "b.log").read_text().strip() == "no"
    assert runner.collect(tmp_path, one)[1] == ["a", "b", "c"]
