"""Claims count on seeds and demonstrations that nobody had seen when they were frozen."""

from __future__ import annotations

import datetime

import pytest

from mmbc_jax.runs.sections import base_config
from mmbc_jax.study.claims import custom, interval_bound
from mmbc_jax.study.frozen import Frozen, digest, freeze
from mmbc_jax.study.judging import judge
from mmbc_jax.study.plan import Change, Check, Entry, Results, Study, Variant
from tests.toys.products import spared

DAY = datetime.date(2026, 1, 2)


@pytest.fixture
def study(tmp_path):
    file = tmp_path / "one.py"
    file.write_text("claims = 1\n")
    config = base_config()
    config.seeds, config.first_seed, config.data.seed = 3, 0, 4
    claims = [
        interval_bound("it is high", "x", ">", 0.0, null=-1.0).changed(Change(2, "a", "b", "c")),
        interval_bound("it is above zero", "x", ">", -2.0, null=3.0),
        custom("it is", lambda results: Check(True, "seen")),
    ]
    return Study("toy", "", [Variant("v", {}, config)], (), claims, source=str(file))


def results(seeds, data_seeds):
    values = [3.0, 3.1, 2.9]
    return Results([Entry({}, {"x": {"per_seed": values}}, {"seeds": seeds, "data_seeds": data_seeds})])


def reasons(study, seeds=(10, 11, 12), data_seeds=(10, 11, 12)):
    frozen = Frozen.read(study.source.rpartition("/")[0])
    return [one.reasons for one in judge(study, results(seeds, data_seeds), frozen)]


def test_the_record(study):
    path = freeze([study], DAY)
    (entry,) = Frozen.read(path.parent).files.values()
    assert entry == {
        "sha256": digest(study.source),
        "date": "2026-01-02",
        "seeds": [0, 2],
        "data_seeds": [4, 4],
    }
    study.variants[0].config.first_seed = 7
    freeze([study], DAY)
    assert Frozen.read(path.parent).files["one.py"]["seeds"] == [0, 9]


def test_what_counts(study):
    assert reasons(study)[0] == ("not frozen",)
    freeze([study], DAY)
    high, weak, no_null = reasons(study)
    assert high == ()
    assert weak == ("weak: a null passes 100.0%",)
    assert no_null == ("no null is stated",)


@pytest.mark.parametrize(
    ("seeds", "data_seeds", "found"),
    [((2, 3), (10, 11), "seeds 0 to 2"), ((10, 11), (4, 5), "data seeds 4 to 4"), ((10,), (), "data seeds")],
)
@spared("seeds1*", "seeds2*")
def test_seen_seeds_and_seen_demonstrations_do_not_count(study, seeds, data_seeds, found):
    freeze([study], DAY)
    (reason,) = reasons(study, seeds, data_seeds)[0]
    assert reason.startswith("seen data")
    assert found in reason


def test_a_file_that_changed_is_not_frozen(study):
    freeze([study], DAY)
    with open(study.source, "a") as file:
        file.write("claims = 2\n")
    assert reasons(study)[0] == ("changed since it was frozen",)


def test_the_page_tells_null_reasons_and_history(study):
    freeze([study], DAY)
    frozen = Frozen.read(study.source.rpartition("/")[0])
    first, _, last = judge(study, results((10, 11, 12), (10, 11, 12)), frozen)
    assert first.lines == [
        "- holds: it is high (version 2) — x : 3 [2.6, 3.4]",
        "  - supposing that x of one entry is -1 on average, 0.0% of draws pass",
        "  - version 2: a; b; c",
    ]
    assert last.lines[-1] == "  - not counted: no null is stated"
    assert first.facts["counted"]
    assert not last.facts["counted"]


def test_a_claim_on_every_entry_does_not_count_while_one_is_missing(tmp_path):
    """.99 in `a`, nothing of `b`: that all are above .5 holds of what there is, and is not known."""
    variants = [Variant(name, {"name": name}, base_config()) for name in ("a", "b")]
    every = interval_bound("all", "success_rate", ">", 0.5)
    first = interval_bound("a", "success_rate", ">", 0.5, name="a")
    found = Study("one", "?", variants, (), [every, first], source=str(tmp_path / "one.py"))
    entry = Entry({"name": "a"}, {"success_rate": {"per_seed": [0.99, 0.98, 0.99]}}, {"seeds": [10, 11, 12]})
    everything, one = judge(found, Results([entry]), Frozen(tmp_path, {}), ["b"])
    assert "no result from b" in everything.reasons
    assert everything.check.holds
    assert "no result from b" not in one.reasons
