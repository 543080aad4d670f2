"""A seed of a variant is a process with demonstrations of its own; their figures are one entry."""

from __future__ import annotations

from mmbc_jax.runs.sections import base_config
from mmbc_jax.study.cells import joined, of_variant, split, told_together
from mmbc_jax.study.plan import Entry, Study, Variant
from mmbc_jax.study.runner import entries_of


def variant(name="v", **data):
    config = base_config()
    config.seeds, config.first_seed = 2, 5
    config.data.update(data)
    return Variant(name, {"K": 2}, config)


def test_each_seed_has_demonstrations_of_its_own():
    (first, second) = split(Study("s", "", [variant(seed=100)], ())).variants
    assert [one.name for one in (first, second)] == ["v/seed5", "v/seed6"]
    assert [(one.config.seeds, one.config.first_seed, one.config.data.seed) for one in (first, second)] == [
        (1, 5, 105), (1, 6, 106),
    ]  # fmt: skip
    assert (first.group, first.tags) == ("v", {"K": 2})
    assert of_variant(variant(), first.name)
    assert not of_variant(variant("w"), first.name)


def test_a_file_of_demonstrations_and_an_unpaired_study_stay_whole():
    assert [v.name for v in split(Study("s", "", [variant(path="x.npz")], ())).variants] == ["v"]
    assert [v.name for v in split(Study("s", "", [variant()], (), paired=False)).variants] == ["v"]


def test_cells_are_joined_by_group_and_tags():
    def part(seed, value, beta):
        metrics = {"x": {"per_seed": [value], "n": 9}, "stability": None}
        run = {
            "seeds": [seed],
            "data_seeds": [seed],
            "timings": {"bc": {"wall_s": 1.0}},
            "process_seconds": 2.0,
        }
        return "v", Entry({"K": 2, "beta": beta}, metrics, run)

    found = joined([part(0, 1.0, 0.1), part(0, 2.0, 0.2), part(1, 3.0, 0.1), part(1, None, 0.2)])
    assert [e.tags["beta"] for e in found] == [0.1, 0.2]
    assert [e.metrics["x"] for e in found] == [
        {"per_seed": [1.0, 3.0], "n": 9},
        {"per_seed": [2.0, None], "n": 9},
    ]
    assert found[0].metrics["stability"] is None
    assert (found[0].run["seeds"], found[0].run["data_seeds"]) == ([0, 1], [0, 1])
    assert found[0].run["process_seconds"] == 4.0
    assert set(found[0].run["timings"]) == {"bc 0", "bc 1"}


def test_seconds_to_success_are_a_column_like_a_metric():
    point = {"stages": {"bc": {"x": {"per_seed": [1.0, 2.0]}}}, "values": {}}
    timings = {"bc": {"wall_s_to_95": [[3.0, None], [4.0, 5.0]]}}
    found = entries_of(variant(), {"points": [point, point], "run": {"timings": timings}})
    assert [entry.per_seed("wall_s_to_95").tolist() for entry in found] == [[3.0], [4.0, 5.0]]
    (without,) = entries_of(variant(), {"points": [point], "run": {"timings": {}}})
    assert without.column("wall_s_to_95").size == 0


def test_a_metric_that_one_cell_lacks_keeps_the_seeds_in_order():
    a = Entry({}, {"x": {"per_seed": [1.0]}}, {})
    b = Entry({}, {"x": {"per_seed": [2.0]}, "y": {"per_seed": [3.0]}}, {})
    (found,) = joined([("v", a), ("v", b)])
    assert found.metrics["y"]["per_seed"] == [None, 3.0]


def test_cells_of_a_variant_are_told_together():
    names = ["flow-K8", "flow-K2/seed100", "flow-K2/seed101", "mdn/seed7"]
    assert told_together(names) == "flow-K8, flow-K2 (seeds 100, 101), mdn (seed 7)"
    assert told_together([]) == ""
