import json
import os
import re
from pathlib import Path

import pytest

from mmbc_jax.core.files import plain
from mmbc_jax.core.types import Rollouts
from mmbc_jax.diagnostics.modes import mode_metrics
from mmbc_jax.report import summary


def test_build_summary_has_the_documented_shape(fake):
    points = fake.points(lams=(0.1, 0.3), seeds=2)
    result = summary.build_summary(points, {"command": "x", "timings": {}}, main=1)
    assert set(result) == {"format", "stages", "points", "run"}
    assert [point["values"] for point in result["points"]] == [{"finetune.lam": 0.1}, {"finetune.lam": 0.3}]
    assert result["stages"] == result["points"][1]["stages"]
    assert list(result["stages"]) == ["reference", "lambda=0", "bmd"]
    success = result["stages"]["bmd"]["success_rate"]
    seeds = points[1]["stages"]["bmd"]
    assert success["per_seed"] == [seed["success_rate"] for seed in seeds]
    assert success["n"] == 1024
    assert result["stages"]["bmd"]["stability"]["pairs"] == 1
    json.dumps(plain(result), allow_nan=False)


def test_stability_is_none_for_one_seed_and_without_modes(fake):
    assert summary.summarise_stage(fake.points(seeds=1)[0]["stages"]["bmd"])["stability"] is None
    bare = {"n": 3, "success_rate": 0.5, "wilson95": [0.1, 0.9], "dominant_mode": None}
    assert summary.summarise_stage([bare, bare])["stability"] is None


@pytest.mark.parametrize("main", [-1, 1])
def test_a_main_point_that_does_not_exist_is_refused(main):
    with pytest.raises(ValueError, match=f"point {main} of 1"):
        summary.build_summary([{"values": {}, "stages": {}}], {}, main=main)


def test_versions_and_device_name_no_machine():
    versions, device = summary.versions(), summary.device()
    assert versions["jax"] == __import__("jax").__version__
    assert re.fullmatch(r"3\.\d+\.\d+\S*", versions["python"])
    assert set(device) == {"platform", "kind", "count", "cpu_cores"}
    assert device["count"] >= 1
    text = json.dumps([versions, device])
    assert os.uname().nodename not in text
    assert str(Path.cwd()) not in text


def test_command_cuts_absolute_paths():
    line = summary.command(
        "mmbc_jax.train", ["--workdir=/home/me/runs/a", "--config", "configs/s m.py", "/x/y"]
    )
    assert line == "python -m mmbc_jax.train --workdir=a --config 'configs/s m.py' y"


def test_the_document_describes_every_key(fake):
    text = (Path(__file__).parents[2] / "docs" / "summary.md").read_text()
    documented = set(re.findall(r"`([A-Za-z0-9_]+)`", text))
    result = summary.build_summary(fake.points(), {})
    keys = set(result) | {"values", "timings", "device", "versions", "command"}
    for stage in result["stages"].values():
        keys |= set(stage) | set(stage["success_rate"]) | set(stage["stability"] or ())
    assert keys - documented == set()
    rollouts = fake.rollouts(8, 1)
    assert isinstance(rollouts, Rollouts)
    assert set(mode_metrics(rollouts, 24, 16)) - documented == {"bootstrap95"}
