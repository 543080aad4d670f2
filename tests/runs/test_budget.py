"""One number that shortens a run: what it scales, and that with 1 nothing is touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmbc_jax import train
from mmbc_jax.core.config import apply_overrides, load, split_overrides
from mmbc_jax.core.config_text import as_overrides
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.files import plain
from mmbc_jax.runs.budget import shortened
from mmbc_jax.runs.pipeline import Pipeline
from mmbc_jax.runs.plain_screen import PlainScreen
from mmbc_jax.runs.sections import base_config, check_config
from mmbc_jax.runs.setup import build
from tests.toys.landscape import toy_config

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(
    path
    for path in (ROOT / "configs").rglob("*.py")
    if "study" not in path.parts and "recorded" not in path.name
)


def text(config):
    return json.dumps(plain(config), sort_keys=True)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("budget", [0.01, 0.1, 0.37, 2.0])
def test_every_configuration_can_be_shortened(path, budget, monkeypatch):
    """Every rule of lengths holds: whole epochs, warm-ups within, no fewer episodes than commands."""
    monkeypatch.chdir(ROOT)
    before = load(path)
    config = shortened(apply_overrides(load(path), [("budget", str(budget))]))
    check_config(config)
    assert config.bc.steps % config.bc.steps_per_epoch == 0
    assert config.bc.steps_per_epoch % config.bc.steps_per_row == 0
    assert config.bc.steps == pytest.approx(budget * before.bc.steps, rel=0.5, abs=1)
    for stage in ("discover", "finetune"):
        learner = config[stage].learner if config[stage].learner.name else config.learner
        assert config[stage].iterations % learner.get("iterations_per_epoch", 1) == 0
        wanted = budget * before[stage].iterations
        assert config[stage].iterations == pytest.approx(wanted, rel=0.5, abs=1)
    assert config.budget == budget
    # as an average over the same share of the training: half-lives in steps, over all steps
    same = pytest.approx(before.bc.ema_decay ** (1 / budget))
    assert config.bc.ema_decay == same


def test_with_a_budget_of_one_a_configuration_is_what_it_was():
    for path in CONFIGS:
        assert text(shortened(load(path))) == text(load(path))


def test_what_is_scaled_and_what_is_not():
    config = toy_config(learner__name="sac", bc__steps=400, bc__steps_per_epoch=100, bc__warmup_steps=40)
    config.budget = 0.25
    config.finetune.iterations, config.discover.iterations = 40, 20
    config.learner.iterations_per_epoch, config.learner.warmup = 10, 64
    config.evaluation.episodes, config.dagger.steps_per_round = 40, 100
    before = plain(config)
    after = plain(shortened(config))
    changed = {f"{section}.{name}": value for section in after if isinstance(after[section], dict)
               for name, value in after[section].items() if value != before[section][name]}  # fmt: skip
    assert changed == {
        "bc.steps": 100,
        "bc.warmup_steps": 10,
        "bc.ema_decay": pytest.approx(0.998**4),
        "finetune.iterations": 10,
        "discover.iterations": 5,
        "learner.iterations_per_epoch": 5,
        "learner.warmup": 16,
        "evaluation.episodes": 10,
        "evaluation.every_epochs": 1,
        "dagger.steps_per_round": 25,
    }


@pytest.mark.parametrize("budget", [0, -1, float("nan"), 2000])
def test_a_budget_that_cannot_be(budget):
    config = base_config()
    config.budget = float(budget)
    with pytest.raises(ConfigError, match="budget"):
        shortened(config)


def test_it_is_typed_and_recorded(tmp_path, monkeypatch):
    """In the configuration that a work directory keeps, from which it is not scaled again."""
    monkeypatch.chdir(ROOT)
    config, *_ = train.parse(
        ["--config", "configs/smoke.py", "--config.budget=0.1", "--config.bc.steps=2000"]
    )
    assert (config.budget, config.bc.steps, config.finetune.iterations) == (0.1, 200, 1)
    pipeline = Pipeline(build(config), tmp_path / "run", PlainScreen(open("/dev/null", "w")))  # noqa: SIM115
    assert pipeline.setup.config.bc.steps == 200


def test_printed_fields_are_the_configuration_again(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    argv = ["--config", "configs/smoke.py", "--config.policy.name=mdn", "--config.prior.name=normal"]
    assert train.main([*argv, "--print_config"]) == 0
    lines = capsys.readouterr().out.splitlines()
    config, *_ = train.parse(argv)
    assert lines == as_overrides(config)
    _, overrides = split_overrides(lines)
    assert text(apply_overrides(base_config(), overrides)) == text(config)
