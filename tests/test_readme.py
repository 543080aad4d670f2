"""The README's commands, executed as written; `make` lines are only looked up in the Makefile."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BASH = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
# What makes the smoke configuration smaller still; the commands themselves stay as the README has them.
SHRINK = (
    "--config.bc.steps=100 --config.bc.steps_per_epoch=100 --config.bc.warmup_steps=10 --config.bc.batch_size=32 "
    "--config.ppo.num_envs=16 --config.ppo.iterations_per_epoch=1 --config.discover.iterations=1 "
    "--config.finetune.iterations=1 --config.evaluation.episodes=32 --config.data.episodes=40"
)

# One variant of a study, which as a whole takes an hour.
STUDY = (
    "--only=modes-radial/deterministic-K2/seed0 --config.bc.steps=100 --config.bc.steps_per_epoch=100 "
    "--config.bc.warmup_steps=10 --config.data.episodes=40 --config.evaluation.episodes=32 "
)


def commands() -> list[str]:
    return [line for block in BASH for line in block.splitlines() if line.startswith("python ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A place with the repository's configs, the example policy and the example data."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "configs").symlink_to(ROOT / "configs")
    policy, data = PYTHON
    (folder / "my_policies.py").write_text(policy)
    subprocess.run([sys.executable, "-c", data], cwd=folder, check=True, timeout=120)
    return folder


def run(command: str, folder: Path) -> None:
    extra = SHRINK if "mmbc_jax.train" in command else STUDY if "mmbc_jax.study" in command else ""
    argv = [sys.executable, *shlex.split(command)[1:], *shlex.split(extra)]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def test_the_readme_has_its_two_commands_and_make_knows_all_it_names():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"make ([a-z-]+)", README))
    assert {"train", "test"} <= named <= targets


def test_files_that_the_readme_names_exist():
    for path in re.findall(r"`(configs/[\w/]+\.py)`|\]\(((?!http)[^)#]+)\)", README):
        name = next(part for part in path if part)
        assert (ROOT / name).exists(), name


def test_own_policy_trains(folder):
    (command,) = [c for c in commands() if "my_policies" in c]
    run(command + " --config.stages=bc", folder)


def test_own_data_trains(folder):
    (command,) = [c for c in commands() if "my_demos" in c]
    run(command, folder)


@pytest.mark.slow
def test_every_other_command_runs_in_order(folder):
    for command in commands():
        if "my_" not in command:
            run(command, folder)
