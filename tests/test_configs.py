"""Every file in configs/ is what it says: it builds, and it runs at shrunken sizes."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mmbc_jax import train
from mmbc_jax.core.config import apply_overrides
from mmbc_jax.runs import setup as setup_lib
from tests.toys.landscape import toy_run
from tests.toys.products import spared, sparing

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "configs").rglob("*.py"))
CONFIGS = [
    path for path in FILES if "def get_config" in path.read_text()
]  # studies: see tests/study/test_main.py
NAMES = [str(path.relative_to(ROOT)) for path in CONFIGS]
# Two training steps of every stage, each an epoch; networks and batches as small as they get.
SHRUNK = {
    "seeds": 1,
    "bc.steps": 2,
    "bc.steps_per_epoch": 1,
    "bc.steps_per_row": 1,
    "bc.warmup_steps": 0,
    "bc.batch_size": 8,
    "learner.num_envs": 4,
    "learner.decisions": 2,
    "learner.iterations_per_epoch": 1,
    "learner.critic_hidden": "(8,)",
    "policy.hidden": "(8,)",
    "baseline.hidden": "(8,)",
    "actor.hidden": "(8,)",
    "discriminator.hidden": "(8,)",
    "discover.iterations": 2,
    "finetune.iterations": 2,
    "finetune.num_modes": 2,
    "evaluation.episodes": 4,
    "evaluation.paths": 2,
    "evaluation.samples": 1,
    "data.episodes": 24,
}
LEARNERS = {
    "ppo": {"learner.minibatches": 2, "learner.epochs": 1},
    "sac": {"learner.updates": 2, "learner.batch_size": 4, "learner.capacity": 32, "learner.warmup": 4},
}


@pytest.fixture
def config(request, monkeypatch):
    """The configuration of a file; skips where it needs recorded data that is absent."""
    found, *_ = train.parse(["--config", str(request.param)])
    if "$MMBC_DATA" in found.data.path:
        monkeypatch.setenv("MMBC_DATA", str(request.getfixturevalue("shared_data")))
    return found


def expensive(path):
    """Compiling MuJoCo XLA, or all stages, takes a minute: `test_readme.py` trains smoke.py."""
    marks = [] if path.name == "pusht_human.py" else [pytest.mark.slow]
    return pytest.param(path, marks=marks, id=str(path.relative_to(ROOT)))


def test_there_are_configs():
    assert {"configs/smoke.py", "configs/finetune/avoiding_bmd.py"} <= set(NAMES)
    assert train.DEFAULT_CONFIG in NAMES


@pytest.mark.parametrize(
    "config",
    sparing(CONFIGS, ("configs/bc/lift.py", "configs/bc/reach.py"), lambda path: str(path.relative_to(ROOT))),
    indirect=True,
)
@spared("configs/finetune/reach_bmd.py")
def test_it_builds(config):
    setup = setup_lib.build(config)
    assert setup.obs.size > 0
    assert setup.policy.spec.chunk_len == config.chunk.predict


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_it_says_how_to_run_it(path):
    text = ast.get_docstring(ast.parse(path.read_text()))
    command = "train" if path in CONFIGS else "study"
    assert f"python -m mmbc_jax.{command} --config {path.relative_to(ROOT)} " in text


@pytest.mark.parametrize("config", [expensive(path) for path in CONFIGS], indirect=True)
def test_it_runs_two_steps(config, tmp_path):
    shrunk = SHRUNK | LEARNERS[config.learner.name]
    apply_overrides(config, [(key, str(value)) for key, value in shrunk.items()])
    results = toy_run(tmp_path / "run", config)
    assert set(results) == set(config.stages)
    for result in results.values():
        assert result.facts["train_steps"] in (
            2,
            4,
        )  # `plain` takes as many as discover and finetune together
        assert (result.rollouts is None) == (not config.env.name)
