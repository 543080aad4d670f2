from __future__ import annotations

from pathlib import Path

import pytest

from mmbc_jax.core.errors import ConfigError, UserError
from mmbc_jax.core.files import write_sealed
from mmbc_jax.runs import setup as setup_lib
from mmbc_jax.study import __main__ as sweep
from mmbc_jax.study import runner

ROOT = Path(__file__).parents[2]
FILE = """
from mmbc_jax.core.config import plugin
from mmbc_jax.study.claims import custom
from mmbc_jax.study.plan import Check, Study, Variant
from mmbc_jax.runs.sections import base_config

def get_studies(scale):
    found = []
    for width in (4, 8)[: 1 if scale == "small" else 2]:
        config = base_config()
        config.stages = ("bc",)
        config.env = plugin("env", "landscape")
        config.policy = plugin("policy", "mse", hidden=(width,))
        config.chunk.update({"predict": 4, "execute": 4})
        config.data.update({"episodes": 40, "noise": 0.1})
        config.bc.update({"steps": 20, "steps_per_epoch": 20, "steps_per_row": 10})
        config.bc.update({"batch_size": 16, "warmup_steps": 2})
        config.evaluation.update({"episodes": 32, "samples": 2})
        found.append(Variant(f"width{width}", {"width": width}, config))
    claim = custom("all fail", lambda found: Check(found.mean("success_rate") <= 1.0, ""))
    return [Study("toy", "A question.", found, [("success_rate", "SR", 2)], [claim])]
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "toy.py"
    file.write_text(FILE)
    return str(file)


def test_scale_and_overrides(path):
    args, scale, overrides = sweep.parse(
        ["--config", path, "--workdir", "d", "--config.scale=small", "--config.seeds=2"]
    )
    assert scale == "small"
    (study,) = sweep.load_studies(args.config, scale, overrides)
    assert [variant.name for variant in study.variants] == ["width4/seed0", "width4/seed1"]
    assert [variant.config.seeds for variant in study.variants] == [1, 1]
    assert study.source == path
    assert len(sweep.load_studies(path, "full", [])[0].variants) == 2


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--config.scale=tiny"], "small"),
        (["--jobs=-1"], "--jobs"),
        (["--what"], "--what"),
        (["--only=else"], "toy"),
        (["--only=toy/else"], "toy/width4"),
        (["--config.seedz=2"], "seeds"),
        (["--page_only", "--only=toy/width4"], "--page_only"),
    ],
)
def test_mistakes_are_named(path, tmp_path, extra, message):
    with pytest.raises((UserError, ConfigError), match=message):
        sweep.main(["--config", path, "--workdir", str(tmp_path / "w"), *extra])
    assert not (tmp_path / "w").exists()


def test_a_training_config_is_not_a_study(tmp_path):
    with pytest.raises(UserError, match="get_studies"):
        sweep.main(["--config", str(ROOT / "configs/smoke.py"), "--workdir", str(tmp_path / "w")])


@pytest.mark.slow
def test_a_study_runs_to_its_report_and_continues(path, tmp_path):
    arguments = ["--config", path, "--workdir", str(tmp_path / "w"), "--config.scale=small", "--jobs=1"]
    assert sweep.main(arguments) == 0
    text = (tmp_path / "w" / "report.md").read_text()
    assert "- holds: all fail" in text
    assert text.index("## What is known") < text.index("## toy")
    assert (
        "0 of 1 claims count: 0 hold, 0 do not. 1 do not count: not frozen (1), no null is stated (1)."
        in text
    )
    assert "not counted: not frozen" in text
    cell = tmp_path / "w" / "toy" / "width4" / "seed0" / "summary.json"
    stamp = cell.stat().st_mtime_ns
    assert sweep.main(["--config", path, "--freeze"]) == 0
    assert sweep.main(arguments) == 0
    assert cell.stat().st_mtime_ns == stamp
    assert "seen data: seeds 0 to 0 had been used" in (tmp_path / "w" / "report.md").read_text()


def test_a_page_of_what_there_is_runs_nothing(path, tmp_path):
    work = tmp_path / "w"
    assert sweep.main(["--config", path, "--workdir", str(work), "--config.scale=small", "--page_only"]) == 0
    text = (work / "report.md").read_text()
    assert "No result from: width4 (seed 0)" in text
    assert "--page_only" not in text
    assert not list(work.rglob("summary.json"))


STUDIES = sorted((ROOT / "configs" / "study").glob("*.py"))


@pytest.mark.parametrize("scale", ["small", pytest.param("full", marks=pytest.mark.slow)])
@pytest.mark.parametrize("file", [f for f in STUDIES if "get_studies" in f.read_text()], ids=lambda f: f.stem)
def test_every_variant_of_every_study_builds(file, scale, request):
    studies = sweep.load_studies(str(file), scale, [])
    names = [f"{study.name}/{variant.name}" for study in studies for variant in study.variants]
    assert len(names) == len(set(names)) > 0
    chosen = {}
    for study in studies:
        for variant in study.variants:
            chosen.setdefault((study.name, variant.config.policy.name, variant.config.prior.name), variant)
    for variant in chosen.values():
        if "$MMBC_DATA" in variant.config.data.path:
            continue  # needs the files; configs/bc/*.py are tested with them
        setup = setup_lib.build(variant.config)
        assert setup.policy.spec.chunk_len == variant.config.chunk.predict


def test_a_variant_in_cells_is_every_seed_of_it(path, tmp_path, monkeypatch):
    trained = []

    def trains(config, folder, argv):
        trained.append(folder.relative_to(tmp_path).as_posix())
        return 3 * (folder.name == "seed0")

    monkeypatch.setattr("mmbc_jax.train.train", trains)
    studies = sweep.load_studies(path, "full", [("seeds", "2")])
    assert sweep.run_variant(studies, "toy/width4", tmp_path) == 3
    assert sweep.run_variant(studies, "toy/width8/seed1", tmp_path) == 0
    assert trained == ["toy/width4/seed0", "toy/width4/seed1", "toy/width8/seed1"]


def test_figures_of_another_configuration_are_not_taken_for_these(path, tmp_path):
    """What has run is named with what differs, and nothing is run or written; other seeds are no difference."""
    arguments = ["--config", path, "--workdir", str(tmp_path / "w"), "--config.scale=small"]
    (study,) = sweep.load_studies(path, "small", [])
    folder = tmp_path / "w" / "toy" / study.variants[0].name
    folder.mkdir(parents=True)
    write_sealed(folder / "config.json", study.variants[0].config)
    (folder / "summary.json").write_text("{}")
    with pytest.raises(
        UserError, match=r"seed0 holds a run with another configuration \(bc.steps: 20 -> 30\)"
    ):
        sweep.main([*arguments, "--config.bc.steps=30", "--page_only"])
    assert not (tmp_path / "w" / "report.md").exists()
    runner.check_finished(tmp_path / "w", sweep.load_studies(path, "small", [("data.seed", "5")]))
