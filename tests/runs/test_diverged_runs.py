"""Runs in which environment instances diverge: they go on, count it, say so once, and name it where they must end."""

from __future__ import annotations

import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from rich.console import Console

from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import DivergenceError
from mmbc_jax.core.registry import register
from mmbc_jax.evaluation.results import StageResult
from mmbc_jax.runs.divergence import INSTANCES, Divergence, evaluated_lines
from mmbc_jax.runs.pipeline import make_pipeline
from tests.toys.fragile import Fragile
from tests.toys.landscape import rows, toy_config, unchecked


class Brittle(Fragile):
    """One instance in four breaks after its third step."""

    def reset(self, key, params=None):
        state = super().reset(key, params)
        state.data["weak"] = jax.random.bernoulli(jax.random.fold_in(key, 1), 0.25)
        return state

    def step(self, state, action):
        nstate = super().step(state, action)
        breaks = nstate.data["weak"] & (nstate.data["t"] == 3)
        return nstate.replace(obs=jnp.where(breaks, jnp.nan, nstate.obs))


@register("env", lambda: ConfigDict())
def brittle(cfg):
    """See `Brittle`."""
    return Brittle()


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """(work directory, what was said, results) of two iterations of `plain`, evaluated in the end."""
    folder = tmp_path_factory.mktemp("brittle") / "run"
    config = toy_config(stages="plain", seeds=1, chunk__predict=2, chunk__execute=2, finetune__iterations=3)
    config.env = ConfigDict({"name": f"{__name__}:brittle"})
    config.actor = plugin("actor", "gaussian", hidden=(8,))
    config.evaluation.update({"episodes": 16, "every_epochs": 0})
    out = io.StringIO()
    with unchecked():
        results = make_pipeline(config, folder, Console(file=out, width=400)).run()
    return folder, out.getvalue(), results["plain"]


def test_the_run_goes_on_and_counts(ran):
    folder, _, result = ran
    logged = rows(folder)
    counts = [row["rollout/diverged"] for row in logged]
    assert sum(counts) == result.facts["diverged"] > 0
    assert logged[-1]["train/skipped_updates"] == 0
    assert all(row["rollout/success_rate"] in (1.0, None) for row in logged)  # the others all succeed


def test_it_is_said_once(ran):
    folder, said, result = ran
    lines = [line for line in said.splitlines() if "environment instances diverged up to step" in line]
    first = next(row["rollout/diverged"] for row in rows(folder) if row["rollout/diverged"])
    assert len(lines) == 1
    assert f"plain: {first:.0f} of 8 environment instances diverged up to step" in lines[0]


def test_its_evaluation_has_a_share_of_them(ran):
    folder, said, result = ran
    share = result.metrics[0]["diverged_fraction"]
    assert 0 < share < 1
    assert result.metrics[0]["success_rate"] == 1 - share
    assert f"plain: {share * 16:.0f} of 16 environment instances diverged in evaluation" in said
    saved = json.loads((folder / "stages" / "plain" / "result.json").read_text())
    assert saved["metrics"][0]["diverged_fraction"] == share


def test_nothing_is_said_where_nothing_happened():
    result = StageResult("bc", 1, np.zeros((1, 1)), [{"n": 8, "diverged_fraction": 0.0}, {"n": 8}], {}, None)
    assert evaluated_lines(result) == []


@pytest.mark.parametrize(
    ("diverged", "cause"),
    [
        (0, "lower the learning rate, or look for extreme values in the data"),
        (3, "3 of 512 environment instances diverged before that, which is the likelier cause"),
        (9999, r"environment instances \(512\) diverged 9999 times before that"),
    ],
)
def test_what_ends_a_run_names_them(diverged, cause):
    look = Divergence("plain", [(0, 3)], 512, 5, {INSTANCES: diverged}).look
    with pytest.raises(DivergenceError, match=f"stage plain, seed 3, .*; {cause}"):
        look({"train/skipped_in_a_row": np.array([[7.0]])}, [1], lambda line: None)
