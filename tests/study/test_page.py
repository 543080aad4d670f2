from __future__ import annotations

import json

from mmbc_jax.report import style
from mmbc_jax.study import page as report
from mmbc_jax.study.claims import interval_bound, trend
from mmbc_jax.study.frozen import Frozen
from mmbc_jax.study.judging import judge
from mmbc_jax.study.plan import Drawing, Entry, Plot, Results, Study

RUN = {
    "timings": {"bc": {"wall_s": 10.0, "compile_s": 4.0}},
    "process_seconds": 17.0,
    "peak_host_bytes": 2**31,
    "device": {"kind": "cpu", "cpu_cores": 2},
    "seeds": [0, 1],
}
JUDGED = {"mechanism": "bridges", "text": "flow: bridges."}


def study(**fields):
    return Study(
        "toy",
        "Does it fall?",
        [],
        [("sr", "SR", 2)],
        [
            trend("it falls", "sr", "K", -1, margin=0.3),
            interval_bound("it is high", "sr", ">", 0.5),
            interval_bound("?", "x", "<", 1),
        ],
        [Plot("sr", "K", "family", "success rate", True, reference={"paper": 0.5})],
        [
            Drawing("two", "two", lambda runs: style.new_figure(2, 2) if "flow-K2" in runs else None),
            Drawing("other", "absent", lambda runs: None),
        ],
        **fields,
    )


def results():
    return Results(
        Entry(
            {"family": "flow", "K": k},
            {"sr": {"per_seed": values}, "verdict": {"per_seed": [JUDGED, JUDGED]}},
            RUN,
        )
        for k, values in ((2, [0.9, 0.8, 0.9, 0.8]), (16, [0.4, 0.2, 0.4, 0.2]))
    )


def test_section_states_claims_costs_seeds_and_verdicts(tmp_path):
    judged = judge(study(), results(), Frozen(tmp_path, {}))
    runs = {"flow-K2": tmp_path}
    text = report.section(study(), results(), judged, ["flow-K8"], tmp_path / "figures", runs)
    assert "0 of 3 claims count" in text
    assert "  - not counted: not frozen" in text
    assert "- holds: it falls" in text
    assert "- **does not hold**: it is high" in text
    assert "- no figures: ?\n" in text  # named alone: what it lacks is what did not run
    whole = report.section(study(), results(), judged, [], tmp_path / "figures", runs)
    assert "- no figures: ? — " in whole
    assert "2 runs" not in text  # both entries come from one run
    assert "1 run, seeds 0, 1: 17 s of process time, of it 10 s" in text
    assert "2.00 GiB" in text
    assert "| flow | 2 | 0.85 [0.76, 0.94] (0.90, 0.80, 0.90, 0.80) |" in text
    assert "No result from: flow-K8." in text
    assert "(2 x bridges): flow: bridges." in text
    assert "![success rate](figures/toy_sr.png)" in text
    assert "![two](figures/toy_two.png)" in text
    assert "absent" not in text
    assert (tmp_path / "figures" / "toy_two.png").exists()
    assert (tmp_path / "figures" / "toy_sr.png").stat().st_size > 5000
    saved = json.loads((tmp_path / "figures" / "toy.json").read_text())
    assert [claim["holds"] for claim in saved["claims"]] == [True, False, None]
    assert saved["entries"][1]["metrics"]["sr"]["per_seed"] == [0.4, 0.2, 0.4, 0.2]


def test_a_metric_of_every_mode_is_shown_mode_by_mode():
    shares = {
        "share": {"per_seed": [[0.25, 0.75], [0.75, 0.25], None, [0.5, None]]},
        "none": {"per_seed": [None]},
    }
    shares["partly"] = {"per_seed": [[0.5, None]]}
    asked = Study("toy", "?", [], [(name, name, 2) for name in ("share", "partly", "none")])
    text = report.table(asked, Results([Entry({"family": "flow"}, shares, RUN)]))
    assert text.splitlines()[-1] == "| flow | 0.50 / 0.50 | – | – |"


def test_written_report_begins_with_its_command(tmp_path):
    report.write(tmp_path / "r.md", "Title", "python -m mmbc_jax.study", ["## a", "## b"])
    lines = (tmp_path / "r.md").read_text().splitlines()
    assert lines[0] == "# Title"
    assert "    python -m mmbc_jax.study" in lines
    assert lines[-1] == "## b"


def test_lines_carry_lipschitz_constants_and_beta():
    entries = [
        Entry(
            {"family": "cvae", "K": k, "beta": 0.01},
            {"sr": {"per_seed": [0.5]}, "capacity/lipschitz": {"per_seed": [v]}},
            {},
        )
        for k, v in ((2, 3.0), (8, 41.0))
    ]
    drawn = report.figure(Plot("sr", "K", "family", "SR"), Results(entries), "title")
    (text,) = drawn.legends[0].get_texts()
    assert text.get_text() == "cvae; L 3 to 41; beta 0.01"
    over_beta = report.figure(Plot("sr", "beta", "family", "SR"), Results(entries), "title")
    assert "beta" not in over_beta.legends[0].get_texts()[0].get_text()
