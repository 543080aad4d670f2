"""Bad input: one line on stderr that names the field as typed, exit code 2, nothing compiled or written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmbc_jax import cli, evaluate, train
from mmbc_jax.core.registry import register
from mmbc_jax.envs.synthetic import landscape
from mmbc_jax.envs.wrappers import Wrapper
from mmbc_jax.runs import setup
from mmbc_jax.runs.programs import Programs

ROOT = Path(__file__).parents[1]
SMOKE = str(ROOT / "configs" / "smoke.py")


@pytest.fixture
def call(monkeypatch, capsys):
    """Calls a command line that must fail; returns what it wrote to stderr."""

    def never(*args, **kwargs):
        raise AssertionError("got as far as compiling")

    monkeypatch.setattr(Programs, "epoch", never)
    monkeypatch.setattr(Programs, "evaluate", never)
    monkeypatch.setattr(setup, "record", never)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")

    def run(*argv, main=train.main):
        monkeypatch.setattr(sys, "argv", ["command", *map(str, argv)])
        with pytest.raises(SystemExit) as exit_:
            cli.run_main(main)
        out, err = capsys.readouterr()
        assert exit_.value.code == 2, err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert out == ""
        return err

    return run


@pytest.fixture
def refused(call, tmp_path):
    """Calls the trainer on the smoke configuration with overrides that must be refused."""

    def run(*overrides, workdir=None):
        folder = workdir or tmp_path / "run"
        err = call("--config", SMOKE, "--workdir", folder, *(f"--config.{text}" for text in overrides))
        assert workdir or not folder.exists()
        return err

    return run


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("bc.stepz=3", r"config.bc.stepz.*did you mean 'steps'"),
        ("bcc.steps=3", r"config.bcc .*no such field"),
        ("seeds.x=3", r"seeds is a value, not a section"),
        ("policy.name=flwo", r"config.policy.name = 'flwo' .*did you mean 'flow'"),
        ("baseline.name=msee", r"name = 'msee' .*'mse'"),
        ("env.name=landscap", r"config.env.name = 'landscap' .*'landscape'"),
        ("actor.name=no.module:build", r"config.actor.name = 'no.module:build' .*cannot be imported"),
        ("prior.name=uniform", r"config.prior.name = 'uniform'"),
        ("bc.steps=many", r"config.bc.steps = 'many' .*a whole number"),
        ("bc.steps=1.5", r"config.bc.steps = '1.5' .*a whole number"),
        ("ppo.mi_forfeit=3", r"config.reward.forfeit = '3' .*True or False"),
        ("policy=3", r"config.policy = '3' .*a section"),
        ("seeds=0", r"config.seeds = 0 "),
        ("first_seed=4294967296", r"config.first_seed = 4294967296 "),
        ("env.start_std=-1", r"config.env.start_std = -1.0 "),
        ("env.reward=steep", r"config.env.reward = 'steep' .*balanced"),
        ("policy.fourier_octaves=99", r"config.policy.fourier_octaves = 99 "),
        ("baseline.fourier_octaves=99", None),
        ("policy.hidden=()", r"config.policy.hidden = \(\)"),
        ("sampler.steps=0", r"config.sampler.steps = 0 "),
        ("actor.init_std=2", r"config.actor.init_std = 2.0 "),
        ("discriminator.window=0", r"config.discriminator.window = 0 "),
        ("chunk.execute=9", r"config.chunk.execute = 9 .*at most chunk.predict = 4"),
        ("chunk.predict=17", r"config.chunk.predict = 17 .*at most the episode length 16"),
        ("data.holdout=1", r"config.data.holdout = 1.0 "),
        ("data.jitter=-1", r"config.data.jitter = -1.0 "),
        ("data.seed=-1", r"config.data.seed = -1 "),
        ("bc.learning_rate=0", r"config.bc.learning_rate = 0.0 "),
        ("bc.learning_rate=1e400", r"config.bc.learning_rate = inf .*finite"),
        ("bc.ema_decay=nan", r"config.bc.ema_decay = 'nan' .*a number"),
        ("bc.steps=700", r"config.bc.steps = 700 .*a multiple of bc.steps_per_epoch = 500"),
        ("ppo.minibatches=7", r"config.learner.minibatches = 7 .*divisor of num_envs x decisions = 512"),
        ("ppo.mi_payment=never", r"config.reward.payment = 'never'"),
        ("discover.iterations=7", r"config.discover.iterations = 7 .*multiple"),
        ("discover.start_horizon=17", r"config.discover.start_horizon = 17 .*at most"),
        ("finetune.mi_coef=nan", r"config.finetune.mi_coef = 'nan' .*a number"),
        ("finetune.mi_coef=-1", r"config.finetune.mi_coef = -1.0 "),
        ("finetune.num_modes=257", r"config.evaluation.episodes = 256 .*finetune.num_modes = 257"),
        ("evaluation.samples=0", r"config.evaluation.samples = 0 "),
        ("checkpoint.keep=0", r"config.checkpoint.keep = 0 "),
        ("nonfinite_limit=0", r"config.nonfinite_limit = 0 "),
        (
            "policy.hidden=1000000000,",
            r"config.policy.hidden = 1000000000 .*lower: the states of 1 runs .* GiB",
        ),
        ("seeds=1000000", r"config.seeds = 1000000 .*lower: .* need at least"),
        ("seeds=100000000", r"config.seeds = 100000000 .*at most 1048576"),
        ("learner.num_envs=1000000000", r"config.learner.num_envs = 1000000000 .*lower: the states"),
        ("evaluation.episodes=10000000000", r"config.evaluation.episodes = 10000000000 .*lower: "),
        ("data.episodes=10000000000", r"config.data.episodes = 10000000000 .*lower: "),
        ("stages=", r"config.stages = \(\) .*at least one"),
        ("stages=bc,bc", r"config.stages = \('bc', 'bc'\) .*without naming bc twice"),
        ("stages=bc,tune", r"config.stages = 'tune' .*finetune"),
        ("stages=finetune", r"config.actor.name = 'steer' .*start_from"),
        ("sweep.mode=fast", r"config.sweep.mode = 'fast' .*vmap"),
        ("sweep.grid=finetune.mi_coef", r"config.sweep.grid = 'finetune.mi_coef' .*of the form"),
        ("sweep.grid=finetune.mi_coef=0,0.5,0.50", r"config.sweep.grid .*finetune.mi_coef that comes twice"),
        ("sweep.grid=finetune.mi_coef=0;;finetune.mi_coef=1", r"config.sweep.grid .*of the form"),
        ("sweep.grid=finetune.mi_coef=a,b", r"config.sweep.grid .*of the form"),
        ("sweep.grid=bc.batch_size=1,2", r"config.sweep.grid = 'bc.batch_size' .*a traced scalar"),
        ("sweep.grid=finetune.mi_coef=0,-1", r"config.finetune.mi_coef = -1.0 "),
        ("sweep.grid=bc.learning_rate=1e-3,1e400", r"config.bc.learning_rate = inf .*finite"),
        ("sweep.grid=finetune.mi_coef=0;finetune.mi_coef=1", r"config.sweep.grid .*twice"),
    ],
)
def test_a_field_that_cannot_work(refused, override, found):
    if found is None:  # a baseline that no stage trains is not built
        err = refused(override, "stages=bc,baseline")
        found = r"config.baseline.fourier_octaves = 99 "
    else:
        err = refused(override)
    assert re.search(found, err), err


@pytest.mark.parametrize("address", ["gs://bucket/run", "s3://bucket/run"])
def test_an_address_that_is_no_local_path(call, address):
    err = call("--config", SMOKE, "--workdir", address)
    assert f"--workdir {address}: must be a local path or file://; mount" in err
    assert not Path(address.split("/")[0]).exists()
    assert "--checkpoint" in call("--checkpoint", address, main=evaluate.main)
    for field, argv in (("start_from", "--config.stages=finetune"), ("data.path", "--config.env.name=")):
        assert f"config.{field} {address}" in call("--config", SMOKE, f"--config.{field}={address}", argv)


@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        (("policy.name=mse",), "config.actor.name = 'steer'"),
        (("sampler.name=ddpm", "prior.name=mixture", "policy.name=diffusion"), "config.sampler.name = 'ddpm'"),
        (("env.name=", "stages=bc"), "config.data.path = ''"),
        (("env.name=", "stages=bc,finetune", "data.path=$DEMOS"), "config.stages"),
        (("chunk.predict=17", "chunk.execute=1", "env.name=", "stages=bc", "data.path=$DEMOS"),
         "config.chunk.predict = 17"),
        (("chunk.predict=17", "stages=bc", "data.path=$DEMOS"), "a chunk of 17 actions is longer"),
        (("start_from=/no/such/run", "stages=finetune"), "/no/such/run does not exist"),
    ],
)  # fmt: skip
def test_parts_that_do_not_go_together(refused, monkeypatch, tmp_path, overrides, found):
    monkeypatch.setenv("DEMOS", str(demonstrations(tmp_path)))
    assert found in refused(*overrides)


@register("env", landscape.LandscapeOptions)
def silent(options):
    """The landscape without an expert."""
    return Wrapper(landscape.Landscape(options))


def test_no_demonstrations_at_all(refused):
    err = refused("stages=bc", f"env.name={__name__}:silent")
    assert "config.data.path = '' is not allowed: a file of demonstrations" in err


def demonstrations(folder, **changes):
    """A file of two landscape episodes of 16 steps."""
    rng = np.random.default_rng(0)
    arrays = {
        "obs": rng.normal(size=(32, 2)),
        "action": rng.uniform(-0.1, 0.1, (32, 2)),
        "episode_ends": np.array([16, 32]),
    }
    np.savez(folder / "demos.npz", **(arrays | changes))
    return folder / "demos.npz"


def with_value(row, value):
    obs = np.zeros((32, 2))
    obs[row] = value
    return obs


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"obs": with_value(20, np.nan)}, "obs of episode 1, step 4, column 0 is nan"),
        ({"obs": with_value(3, 1e300)}, "obs of episode 0, step 3"),
        ({"obs": np.zeros((32, 3))}, "observations have size 3, environment 'landscape' has 2"),
        ({"action": np.full((32, 2), 7.0)}, "action of episode 0, step 0, column 0 is 7"),
        ({"episode_ends": np.array([16, 30])}, "the last episode ends at row 30"),
    ],
)
def test_demonstrations_that_cannot_be_used(refused, tmp_path, changes, found):
    path = demonstrations(tmp_path, **changes)
    err = refused("stages=bc", f"data.path={path}")
    assert found in err
    assert "demos.npz" in err


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "text", "suffix"])
def test_a_damaged_file_of_demonstrations(refused, tmp_path, damage):
    path = demonstrations(tmp_path)
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "flipped":
        path.write_bytes(whole[:200] + bytes(255 - b for b in whole[200:240]) + whole[240:])
    elif damage == "text":
        path.write_text("obs,action\n")
    else:
        path = path.rename(tmp_path / "demos.csv")
    assert path.name in refused("stages=bc", f"data.path={path}")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def get_config(:", "SyntaxError"),
        ("import no_such_module", "at line 1: ModuleNotFoundError"),
        ("def get_config():\n    return 1 / 0", "at line 2: ZeroDivisionError"),
        ("def config(): pass", "has no get_config()"),
        ("def get_config(): return {}", "returns dict, must be a ConfigDict"),
        (
            "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict()",
            "config.actor = None",
        ),
        ("config.bc.stepz = 3", "config.bc.stepz"),
        ("config.bc = ConfigDict({'steps': 'x'})", "config.bc.steps = 'x'"),
        ("del config.bc.steps", "config.bc.steps = None is not allowed: the field is missing"),
        ("config.bc.learning_rate = float('nan')", "config.bc.learning_rate = nan"),
        ("config.policy.girth = 3", "config.policy.girth"),
    ],
)
def test_a_config_file_that_cannot_be_used(call, tmp_path, text, found):
    if text.startswith(("config.", "del ")):
        text = (
            "from ml_collections import ConfigDict\nfrom mmbc_jax.runs.sections import base_config\n"
            f"def get_config():\n    config = base_config()\n    {text}\n    return config"
        )
    (tmp_path / "mine.py").write_text(text)
    err = call("--config", tmp_path / "mine.py", "--workdir", tmp_path / "run")
    assert found in err
    assert not (tmp_path / "run").exists()


def test_a_config_file_that_does_not_exist(call, tmp_path):
    assert "smoke.py is not a file" in call("--config", tmp_path / "smoke.py")


@pytest.mark.parametrize("argument", ["--confg", "--work=x", "extra", "--config"])
def test_an_unknown_argument(call, argument):
    assert argument.split("=")[0] in call(argument)


def test_work_directories_that_cannot_be_used(refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "is a file" in refused(workdir=tmp_path / "file")
    assert "cannot be used" in refused(workdir=tmp_path / "file" / "below")
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.tex").write_text("mine")
    assert "not empty and holds no run" in refused(workdir=full)
    (full / "config.json").write_text('{"seeds": 2')
    assert "config.json is damaged" in refused(workdir=full)
    (full / "config.json").write_text('{"seeds": 2}')
    (full / "summary.json").write_text("{}")  # or it has trained nothing, and gives way
    assert "another configuration" in refused(workdir=full)
    assert (full / "thesis.tex").read_text() == (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in full.iterdir()) == ["config.json", "summary.json", "thesis.tex"]


@pytest.mark.skipif(os.name != "posix", reason="permissions as on POSIX")
def test_a_work_directory_that_may_not_be_written(refused, monkeypatch, tmp_path):
    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    assert "Permission denied" in refused(workdir=tmp_path / "run")


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        ((), "--checkpoint"),
        (("--checkpoint", "/no/such/run"), "/no/such/run does not exist"),
        (("--checkpoint", "."), "holds no checkpoint"),
        (("--checkpoint", ".", "--stage", "tune"), "--stage tune: known are bc"),
        (("--checkpoint", ".", "--seed", "x"), "--seed"),
        (("--checkpoint", ".", "--seed", "-1"), "--seed -1"),
        (("--checkpoint", ".", "--episodes", "-1"), "--episodes -1"),
        (("--checkpoint", ".", "--config.policy.hidden=3"), "must be of env, evaluation, precision, sampler"),
    ],
)
def test_evaluate_refuses(call, tmp_path, monkeypatch, argv, found):
    monkeypatch.chdir(tmp_path)
    assert found in call(*argv, main=evaluate.main)
    assert not list(tmp_path.iterdir())


def test_a_process_says_it_in_one_line(tmp_path):
    command = [sys.executable, "-m", "mmbc_jax.train", "--config", SMOKE, "--config.bc.stepz=3"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: config.bc.stepz")
    assert done.stderr.count("\n") == 1
