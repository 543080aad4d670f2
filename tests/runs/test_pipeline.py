"""Sweeps, what stages share, where they may start from, and runs that diverge."""

from __future__ import annotations

import dataclasses
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from mmbc_jax import train
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import CheckpointError, DivergenceError, WorkdirError
from mmbc_jax.core.options import option
from mmbc_jax.core.registry import register
from mmbc_jax.policies import mse
from mmbc_jax.report import run_report
from mmbc_jax.runs import checkpoint as checkpoint_lib
from mmbc_jax.runs.epoch import take_runs
from mmbc_jax.runs.grid import parent_index
from mmbc_jax.runs.pipeline import make_pipeline
from mmbc_jax.runs.restored import restore
from mmbc_jax.runs.workdir import changed_fields
from tests.toys.landscape import events, finished_run, rows, toy_config, toy_pipeline, toy_run, unchecked

GRID = "finetune.mi_coef=0,0.3"
# Rows of one run among four against the same run among two: the batch is summed in another order, and
# Adam's first steps enlarge rounding where a gradient is near zero.
RTOL, ATOL = 2e-3, 2e-4


def of(found, stage, point, seed):
    """Training rows of one run, without its labels."""
    own = [row for row in found if (row["stage"], row["point"], row["seed"]) == (stage, point, seed)]
    own = [row for row in own if "train/skipped_updates" in row]
    return [{k: v for k, v in row.items() if k not in ("point", "seed", "stage")} for row in own]


def assert_close(ours, theirs, rtol=RTOL, atol=ATOL):
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            if one[name] is None or other[name] is None:
                assert one[name] == other[name], name
            else:
                np.testing.assert_allclose(one[name], other[name], rtol=rtol, atol=atol, err_msg=name)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("sweep") / "run"
    config = toy_config(sweep__grid=GRID, evaluation__every_epochs=0)
    with unchecked():
        pipeline = toy_pipeline(workdir, config)
        return workdir, pipeline, pipeline.run()


@pytest.mark.slow
def test_stages_that_do_not_depend_on_the_grid_run_once(sweep):
    _, pipeline, results = sweep
    assert {name: len(result.metrics) for name, result in results.items()} == {
        "bc": 2,
        "discover": 2,
        "finetune": 4,
    }
    assert results["bc"].index.tolist() == results["discover"].index.tolist() == [[0, 1], [0, 1]]
    assert results["finetune"].index.tolist() == [[0, 1], [2, 3]]
    trained = [(stage, what) for stage, what, _ in pipeline.programs.compiled if what == "train"]
    assert trained == [("bc", "train"), ("discover", "train"), ("finetune", "train")]
    for result in results.values():
        assert result.facts["train_compilations"] == 1


def test_stages_of_one_shape_share_a_program():
    facts = [
        json.loads((finished_run() / "stages" / name / "result.json").read_text())["facts"]
        for name in ("bc", "discover", "finetune")
    ]
    assert [fact["train_compilations"] for fact in facts] == [1, 1, 0]


def test_rows_say_point_and_seed(sweep):
    found = rows(sweep[0])
    runs = {name: sorted({(r["point"], r["seed"]) for r in found if r["stage"] == name}) for name in sweep[2]}
    assert runs["bc"] == runs["discover"] == [(0, 3), (0, 4)]
    assert runs["finetune"] == [(0, 3), (0, 4), (1, 3), (1, 4)]
    assert len(of(found, "finetune", 1, 4)) == 4
    assert of(found, "finetune", 0, 3)[-1] != of(found, "finetune", 1, 3)[-1]
    assert {run for run, *_ in events(sweep[0])} >= {"bc/seed=3", "finetune/mi_coef=0.3/seed=4"}


@pytest.mark.parametrize(("point", "coefficient"), [pytest.param(0, 0.0, marks=pytest.mark.slow), (1, 0.3)])
def test_a_point_is_the_run_without_the_sweep(tmp_path, sweep, point, coefficient):
    config = toy_config(finetune__mi_coef=coefficient, evaluation__every_epochs=0)
    toy_run(tmp_path / "run", config)
    ours, theirs = rows(sweep[0]), rows(tmp_path / "run")
    for seed in (3, 4):
        assert of(ours, "bc", 0, seed) == of(theirs, "bc", 0, seed)
        assert of(ours, "discover", 0, seed) == of(theirs, "discover", 0, seed)
        assert_close(of(ours, "finetune", point, seed), of(theirs, "finetune", 0, seed))


@pytest.mark.slow
def test_a_seed_does_not_know_of_the_others(tmp_path):
    toy_run(tmp_path / "run", toy_config(seeds=1, first_seed=4))
    for stage in ("bc", "discover", "finetune"):
        assert_close(of(rows(tmp_path / "run"), stage, 0, 4), of(rows(finished_run()), stage, 0, 4))


@pytest.mark.slow
def test_one_after_another_and_with_keys_checked(tmp_path):
    """`map` runs the same programs unbatched, where the check for reused keys sees through them."""
    toy_pipeline(tmp_path / "run", toy_config(sweep__mode="map")).run()
    for stage in ("bc", "discover", "finetune"):
        assert_close(of(rows(tmp_path / "run"), stage, 0, 4), of(rows(finished_run()), stage, 0, 4))


def test_start_from_takes_the_seeds_asked_for(tmp_path):
    config = toy_config(stages="finetune", start_from=finished_run(), first_seed=4, seeds=1)
    pipeline = toy_pipeline(tmp_path / "run", config)
    stage = pipeline.stages["finetune"]
    with unchecked():
        done = pipeline._finals.parent_of(stage)
    found = take_runs(done.state, parent_index(done.runs, stage.runs(pipeline.grid))).params
    expected = restore(finished_run(), "discover", []).state.params
    assert stage.parent.name == "discover"
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs[1:])


def test_start_from_misses_seeds(tmp_path):
    config = toy_config(stages="finetune", start_from=finished_run(), first_seed=4)
    with pytest.raises(CheckpointError, match=r"one point with seeds \[4, 5\] is needed"):
        toy_pipeline(tmp_path / "more", config)


@pytest.mark.slow
def test_start_from_continues_as_the_same_run_does(tmp_path):
    toy_run(tmp_path / "run", toy_config(stages="finetune", start_from=finished_run(), first_seed=4, seeds=1))
    assert_close(of(rows(tmp_path / "run"), "finetune", 0, 4), of(rows(finished_run()), "finetune", 0, 4))


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ({"policy__hidden": "(9,)"}, r"policy.hidden: \[8\] -> \[9\]"),
        ({"policy__name": "diffusion"}, "policy."),
        ({"env__name": "avoiding"}, r"env.observation .*vector\[2\].* -> .*vector\[4\]"),
        ({"env__name": "radial"}, "env.action_low"),
        ({"sampler__steps": 3}, "sampler.steps: 2 -> 3"),
        ({"chunk__execute": 2}, "chunk.execute: 4 -> 2"),
        ({"actor__init_std": 0.5}, "actor.init_std: 0.3 -> 0.5"),
        ({"finetune__num_modes": 3}, "finetune.num_modes = 2, not 3"),
    ],
)
def test_start_from_another_configuration_names_the_field(tmp_path, override, found):
    config = toy_config(stages="finetune", start_from=finished_run(), **override)
    with pytest.raises(CheckpointError, match=found):
        toy_pipeline(tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_clone_is_finetuned_under_a_shift(tmp_path):
    """Another start noise, and less of a chunk executed: it works, says so, and keeps the clone's normaliser."""
    config = toy_config(
        stages="finetune", start_from=finished_run() / "checkpoints/bc", env__start_std=0.3, chunk__execute=2
    )
    out = io.StringIO()
    pipeline = make_pipeline(config, tmp_path / "run", Console(file=out, width=60))
    with unchecked():
        results = pipeline.run()
    found = run_report.write(pipeline, results, [], 1.0)["run"]["start_from"]
    assert found == [
        {"field": "env.start_std", "clone": 0.05, "run": 0.3},
        {"field": "chunk.execute", "clone": 4, "run": 2},
    ]
    (line,) = [one for one in out.getvalue().splitlines() if one.startswith("start_from")]
    assert line == "start_from: the clone had another env.start_std 0.05 -> 0.3, chunk.execute 4 -> 2"
    assert json.loads((tmp_path / "run/summary.json").read_text())["run"]["start_from"] == found
    tuned, clone = (restore(folder, stage, []).state.stats["normalizer"]
                    for folder, stage in ((tmp_path / "run", "finetune"), (finished_run(), "bc")))  # fmt: skip
    for ours, theirs in zip(jax.tree.leaves(tuned), jax.tree.leaves(clone), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_without_a_difference_nothing_is_said(tmp_path):
    config = toy_config(stages="finetune", start_from=finished_run())
    sources = toy_pipeline(tmp_path / "run", config).sources
    assert (sources.differences, sources.line) == ([], "")
    assert set(sources.directories) == {"bc", "discover"}


def test_another_configuration_is_refused_and_named(tmp_path):
    config = toy_config(stages="bc")
    toy_run(tmp_path, config)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(WorkdirError, match=r"another configuration \(bc.steps: 16 -> 32; seeds: 2 -> 1\)"):
        toy_run(tmp_path, toy_config(stages="bc", bc__steps=32, seeds=1))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_changed_fields():
    assert changed_fields({"a": {"b": [1, 2]}, "c": 3}, {"a": {"b": (1, 2)}, "c": 3}) == []
    assert changed_fields({"a": {"b": [1]}}, {"a": {"b": [2]}, "d": 0}) == ["a.b: [1] -> [2]", "d: None -> 0"]


# Diverging policies: regression whose loss stops being finite at a chosen strength of the traced scalar.


@dataclasses.dataclass(frozen=True, kw_only=True)
class FragileOptions(mse.MSEOptions):
    poison: float = option(
        0.0, "distance from zero at which the loss is NaN; 0 for never", low=0.0, traced=True
    )


@dataclasses.dataclass(frozen=True)
class Fragile(mse.MSEPolicy):
    """A regression whose loss is NaN where `poison` > 0 and any weight has moved that far from zero."""

    def loss(self, variables, key, batch, hp):
        loss = super().loss(variables, key, batch, hp)
        largest = jnp.stack([jnp.abs(x).max() for x in jax.tree.leaves(variables.params["from_obs"])]).max()
        bad = (hp["poison"] > 0) & (largest > hp["poison"])
        return loss.replace(per_example=loss.per_example * jnp.where(bad, jnp.nan, 1.0))


@register("policy", FragileOptions, needs_prior="none", needs_sampler=False)
def fragile(options, spec, *, prior=None, sampler=None):
    """A policy from outside the package."""
    return Fragile(**vars(mse.build.builder(options, spec)))


def fragile_run(workdir, **overrides):
    config = toy_config(stages="bc", seeds=1, evaluation__every_epochs=0, **overrides)
    config.policy = plugin("policy", f"{__name__}:fragile", hidden=(8,))
    return toy_run(workdir, config)


def test_a_point_that_diverges_leaves_the_others_alone(tmp_path):
    fragile_run(tmp_path / "swept", sweep__grid="policy.poison=0,1e-6")
    fragile_run(tmp_path / "alone", sweep__grid="policy.poison=0,1e9")
    healthy = of(rows(tmp_path / "swept"), "bc", 0, 3)
    assert healthy == of(rows(tmp_path / "alone"), "bc", 0, 3)
    assert all(row["train/skipped_updates"] == 0 for row in healthy)
    sick = of(rows(tmp_path / "swept"), "bc", 1, 3)
    assert [row["bc/loss"] for row in sick] == [None] * 8
    assert sick[-1]["train/skipped_updates"] == 16  # steps 1 to 16
    assert healthy[-1]["bc/loss"] < healthy[0]["bc/loss"]


def test_a_run_that_stays_non_finite_is_frozen_beside_the_others(tmp_path):
    """The sick run takes step 1, then skips 5: it stays where it is, and has no figures; the healthy one goes on."""
    swept = {"sweep__grid": "policy.poison=0,1e-6", "nonfinite_limit": 5}
    results = fragile_run(tmp_path / "run", **swept)
    healthy, sick = (of(rows(tmp_path / "run"), "bc", point, 3) for point in (0, 1))
    assert sick[-1]["train/skipped_in_a_row"] == sick[-1]["train/skipped_updates"] == 5
    assert healthy[-1]["train/skipped_updates"] == 0
    assert results["bc"].facts["stopped"] == [[1, 3, 6]]
    figures = results["bc"].metrics
    assert figures[0]["success_rate"] is not None
    assert figures[1] == {**dict.fromkeys(figures[0]), "n": figures[0]["n"]}
    state = restore(tmp_path / "run", "bc", []).state
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.params, state.ema)))
    again = fragile_run(tmp_path / "run", **swept)
    assert again["bc"].facts["stopped"] == [[1, 3, 6]]


def test_where_all_runs_diverge_the_run_stops(tmp_path):
    with pytest.raises(
        DivergenceError, match=r"stage bc, seed 3, point \d: .* up to step 6 \(nonfinite_limit = 5\)"
    ):
        fragile_run(tmp_path / "run", sweep__grid="policy.poison=1e-7,1e-6", nonfinite_limit=5)
    assert checkpoint_lib.checkpoint_steps(tmp_path / "run" / "checkpoints" / "bc") == [1]
    with pytest.raises(DivergenceError, match="up to step 6"):  # and again from the checkpoint
        fragile_run(tmp_path / "run", sweep__grid="policy.poison=1e-7,1e-6", nonfinite_limit=5)


@pytest.mark.slow
def test_what_starts_from_a_diverged_run_has_diverged(tmp_path, capsys):
    config = toy_config(
        seeds=1, evaluation__every_epochs=0, nonfinite_limit=3, sweep__grid="bc.learning_rate=4e-3,1e30"
    )
    config.figures = ("all",)
    with unchecked():
        assert train.train(config, tmp_path / "run", []) == 3
    said = " ".join(capsys.readouterr().out.split())
    assert "bc: diverged, and left out of all figures: learning_rate=1e+30, seed 3 (step" in said
    assert (
        "finetune: diverged, and left out of all figures: learning_rate=1e+30, seed 3 (where it started from)"
        in said
    )
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["points"][1]["stages"]["finetune"]["success_rate"]["mean"] is None
    assert summary["points"][0]["stages"]["finetune"]["success_rate"]["mean"] is not None


def test_a_learning_rate_that_overflows_is_found(tmp_path):
    with pytest.raises(DivergenceError, match="lower the learning rate"):
        toy_run(
            tmp_path / "run",
            toy_config(stages="bc", bc__learning_rate=1e30, nonfinite_limit=4, evaluation__every_epochs=0),
        )
    skipped = [row["train/skipped_updates"] for row in rows(tmp_path / "run")]
    assert skipped[-1] >= 4
