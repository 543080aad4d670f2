"""Arguments that cannot work, of every command line."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from mmbc_jax import evaluate, export_data, replay, train
from mmbc_jax.study import __main__ as study
from tests.malformed import archives
from tests.malformed.calls import CONFIG, contents, failures, refusal
from tests.malformed.test_config_files import PRELUDE
from tests.toys.landscape import finished_run

STUDY = f"""{PRELUDE}
from mmbc_jax.study.plan import Study, Variant
def get_studies(scale):
    config = base_config()
    config.env = plugin("env", "landscape")
    return [Study("toy", "A question.", [Variant("one", {{}}, config)], [("success_rate", "SR", 2)])]
"""
MAINS = {
    "train": train.main,
    "evaluate": evaluate.main,
    "export_data": export_data.main,
    "replay": replay.main,
    "study": study.main,
}
NEEDED = {
    "train": ["--config", CONFIG],
    "evaluate": ["--checkpoint", "/no/such/run"],
    "replay": ["--data", "/no/such.npz"],
    "export_data": ["--data", "/no/such.npz", "--out", "set", "--format", "lerobot"],
    "study": ["--config", "{study}", "--workdir", "{folder}/runs"],
}
PATHS = {
    "train": ("--workdir",),
    "evaluate": ("--checkpoint", "--out"),
    "replay": ("--out",),
    "export_data": ("--out",),
    "study": ("--workdir",),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.py").write_text(STUDY)
    return tmp_path


def needed(name: str, folder: Path) -> list[str]:
    return [str(a).format(study=folder / "study.py", folder=folder) for a in NEEDED[name]]


@pytest.mark.parametrize("name", MAINS)
def test_flags(folder, name):
    good = needed(name, folder)
    flag = good[0]
    cases = {
        "unknown": ([*good, "--confg=3"], "confg"),
        "short": ([*good, "-q"], "-q"),
        "abbreviated": ([*good, "--work=x", "--dat=x"], "--"),
        "stray": ([*good, "extra"], "extra"),
        "two dashes": ([*good, "--", "extra"], "--"),
        "empty": ([*good, ""], ""),
        "no value": ([flag], flag),
        "no value of an override": ([*good, "--config.bc.steps"], "needs a value"),
        "a flag as the value of an override": ([*good, "--config.bc.steps", flag, good[1]], "needs a value"),
        "twice": ([*good, flag, "other.py"], "given twice"),
        "no key": ([*good, "--config.=3"], "config"),
        "dots": ([*good, "--config..=3"], "config"),
        "no leaf": ([*good, "--config.bc.=3"], "config"),
        "two dots": ([*good, "--config.bc..steps=3"], "config"),
        "a long key": ([*good, f"--config.{'a.' * 2000}b=3"], "config"),
        "a key of another script": ([*good, "--config.bc.stëps=3"], "config"),
        "lone surrogates": ([*good, "--config.bc.\udcff=3"], "config"),
        "an unknown field": ([*good, "--config.bc.stepz=3"], "config"),
    }
    assert not failures(MAINS[name], cases, folder)


@pytest.mark.parametrize(("name", "flag"), [(name, flag) for name, flags in PATHS.items() for flag in flags])
def test_paths(folder, name, flag):
    (folder / "file").write_text("mine")
    (folder / "loop").symlink_to(folder / "loop")
    good = needed(name, folder)
    if flag in good:
        at = good.index(flag)
        good = good[:at] + good[at + 2 :]
    if name == "replay":
        good = ["--data", str(archives.npz(folder / "a.npz", archives.GOOD)), "--env", "landscape"]
    bad = {
        "empty": "",
        "a file": folder / "file",
        "below a file": folder / "file" / "below",
        "a loop": folder / "loop",
        "below a loop": folder / "loop" / "below",
        "a long name": folder / ("a" * 300),
        "a long path": folder / ("a/" * 3000),
        "NUL": f"{folder}/a\0b",
        "gs": "gs://bucket/run",
        "s3": "s3://bucket/run",
        "https": "https://example.org/run",
        "no scheme": "://run",
    }
    if flag == "--out" and name == "replay":
        bad.pop("a file")  # which it writes
        bad["a folder"] = folder
    cases = {kind: ([*good, f"{flag}={path}"], "") for kind, path in bad.items()}
    assert not failures(MAINS[name], cases, folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(folder):
    (folder / "locked").mkdir(mode=0o500)
    assert "locked" in refusal(
        train.main, ["--config", CONFIG, "--workdir", folder / "locked" / "run"], folder
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is damaged"),
        ("", "is damaged"),
        ("null", "must be a JSON object"),
        ("[]", "must be a JSON object"),
        ("3", "must be a JSON object"),
        ("[" * 100_000, "is damaged"),
        ("\udcff", "is damaged"),
        ('{"seeds": 2}', "another configuration"),
        ('{"bc": 3}', "another configuration"),
        ('{"bc": {"steps": null}}', "another configuration"),
    ],
)
def test_what_a_work_directory_says_of_itself(folder, content, said):
    run = folder / "run"
    run.mkdir()
    (run / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    (run / "summary.json").write_text("{}")
    assert said in refusal(train.main, ["--config", CONFIG, "--workdir", run], folder)


@pytest.mark.parametrize("name", ["data.json", "metrics.jsonl", "demonstrations.npz"])
@pytest.mark.parametrize(
    "content", [b"{\n", b"null\n", b"[]\n", b"\xff\xfe\n", b"3\n", b"[" * 10_000 + b"\n"], ids=range(6)
)
def test_damaged_files_of_a_run(tmp_path, name, content):
    """Found when the run goes on; nothing but what was half-written is changed."""
    run = tmp_path / "run"
    shutil.copytree(finished_run(), run)
    shutil.rmtree(run / "stages" / "bc")
    (run / name).write_bytes(content)
    before = contents(run / "checkpoints") | {name: content}
    argv = ["--config", CONFIG, "--config.mesh.cores=shared", "--workdir", run]
    assert name in refusal(train.main, argv)
    assert contents(run / "checkpoints") | {name: (run / name).read_bytes()} == before


EVALUATED = ("--episodes", "--seed", "--attempts", "--trials")
NUMBERS = ("x", "1.5", "-1", "", "nan", "1e3", "9" * 5000, "0x10", "None")


def test_numbers(folder):
    cases = {
        f"{flag} {text[:9]}": ([*needed(name, folder), f"{flag}={text}"], flag)
        for name, flags in {"evaluate": EVALUATED, "study": ("--jobs",)}.items()
        for flag in flags
        for text in NUMBERS
    }
    for name in ("evaluate", "study"):
        flags = ("--jobs",) if name == "study" else EVALUATED
        own = {kind: case for kind, case in cases.items() if kind.startswith(flags)}
        assert not failures(MAINS[name], own, folder)


def test_replays(folder):
    data = archives.npz(folder / "a.npz", archives.GOOD)
    pictures = {"obs.image": np.zeros((12, 4, 4, 3), np.uint8), "action": archives.GOOD["action"]}
    images = archives.npz(folder / "b.npz", {**pictures, "episode_ends": np.array([12])})
    cases = {
        "unknown environment": (["--data", data, "--env", "avoidance"], "avoiding"),
        "no environment": (["--data", data, "--env", ""], "env"),
        "an import that fails": (["--data", data, "--env", "no.module:env"], "cannot be imported"),
        "a relative import": (["--data", data, "--env", "..up:env"], "cannot be imported"),
        "cannot start there": (["--data", data, "--env", "landscape"], "recorded observation"),
        "other sizes": (["--data", data], "observations have size 3"),
        "images": (["--data", images], "observations have"),
        "an option": (["--data", data, "--config.env.rules=none"], "config.env.rules"),
        "another section": (["--data", data, "--config.bc.steps=3"], "config.bc"),
        "no data": ([], "--data"),
    }
    assert not failures(replay.main, cases, folder)


def test_studies(folder):
    good = needed("study", folder)
    cases = {
        "scale": ([*good, "--config.scale=tiny"], "config.scale = 'tiny'"),
        "only": ([*good, "--only=nonesuch"], "--only nonesuch"),
        "only a variant": ([*good, "--only=toy/nonesuch"], "--only toy/nonesuch"),
        "no workdir": (good[:2], "--workdir"),
        "a bad value": ([*good, "--config.bc.learning_rate=-1"], "config.bc.learning_rate"),
        "a bad choice": ([*good, "--config.policy.name=flwo"], "config.policy.name = 'flwo'"),
        "a training config": (["--config", CONFIG, *good[2:]], "get_studies"),
        "report in a file": ([*good, f"--report={folder}/study.py/report.md"], "report"),
    }
    assert not failures(study.main, cases, folder)
