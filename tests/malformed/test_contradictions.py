"""Values that are allowed each and not together: refused before anything compiles, and nothing is written."""

from __future__ import annotations

import pytest

from mmbc_jax import train
from mmbc_jax.core.errors import DataError
from tests.malformed.calls import CONFIG, failures, refusal

ALL = "stages=bc,discover,finetune"
PAIRS: dict[str, tuple[str, ...]] = {
    "chunk.execute": ("chunk.predict=4", "chunk.execute=5"),
    "chunk.predict": ("chunk.predict=17", "chunk.execute=1"),
    "bc.steps": ("bc.steps=6", "bc.steps_per_epoch=4"),
    "bc.steps_per_epoch": ("bc.steps=9", "bc.steps_per_epoch=9", "bc.steps_per_row=2"),
    "bc.warmup_steps": ("bc.steps=4", "bc.warmup_steps=5"),
    "learner.minibatches": ("learner.minibatches=5",),
    "discover.iterations": ("learner.iterations_per_epoch=2", "discover.iterations=3"),
    "finetune.iterations": (
        "learner.iterations_per_epoch=2",
        "discover.iterations=2",
        "finetune.iterations=3",
    ),
    "discover.start_horizon": ("discover.start_horizon=17",),
    "evaluation.episodes": ("evaluation.episodes=3", "finetune.num_modes=4"),
    "first_seed": ("seeds=2", "first_seed=4294967295"),
    "warm_start": ("warm_start=bc",),
    "prior.name": ("policy.name=mse", "prior.name=spline", "stages=bc"),
    "sampler.name": ("policy.name=mse", "sampler.name=heun", "stages=bc"),
    "policy.min_alpha": (
        "policy.name=diffusion",
        "policy.prediction=noise",
        "policy.min_alpha=0",
        "stages=bc",
    ),
    "policy.logit_normal": ("policy.logit_normal=0,0",),
    "policy.spectral_norm": ("policy.spectral_norm=1", "policy.layer_norm=True"),
    "policy.width": ("policy.backbone=transformer", "policy.width=30", "policy.heads=8"),
    "policy.time_dim": ("policy.time_dim=5",),
    "policy.image_channels": ("policy.image_channels=3",),
    "policy.negatives": ("policy.name=ibc", "policy.negatives=3", "stages=bc"),
    "policy.max_perturbation": ("policy.name=ibc", "policy.max_perturbation=0.01", "stages=bc"),
    "policy.first_step": ("policy.name=ibc", "policy.first_step=1e-5", "stages=bc"),
    "learner.capacity": ("learner.name=sac", "learner.capacity=1", "learner.warmup=1"),
    "learner.warmup": ("learner.name=sac", "learner.capacity=10000", "learner.warmup=10001"),
    "prior.num_bins": ("policy.name=cvae", "prior.name=spline", "prior.num_bins=100000", "stages=bc"),
    "env.second_shift": ("env.name=sequential", "env.first_shift=0.4", "env.second_shift=0.4", "stages=bc"),
    "env.num_modes": ("env.name=corridor", "env.num_modes=3", "stages=bc"),
    "env.xml_path": ("env.name=avoiding", "env.xml_path=/no/such.xml", "stages=bc"),
    "env.name": ("env.name=brax:nonesuch", "stages=bc"),
    "data.path": ("env.name=", "stages=bc"),
    "sweep.grid": ("sweep.grid=dagger.beta=0,1",),
    "start_from": ("start_from=/no/such/run", "stages=bc"),
    "mesh.batch": ("mesh.batch=1000",),
    "mesh.runs": ("mesh.runs=1000",),
    "discriminator.name": ("discriminator.name=",),
    "actor.name": ("policy.name=mse", "sampler.name=euler", ALL),
    "evaluation.shifts": ("evaluation.shifts=calm: gravity=0",),
    "data.jitter": ("env.name=radial", "data.jitter=0.1", "stages=bc"),
    "data.stream": ("data.stream=1e-9", "stages=bc"),
}


@pytest.mark.parametrize("field", PAIRS)
def test_pairs(tmp_path, field):
    argv = ["--config", CONFIG, "--workdir", tmp_path / "deep" / "run", "--config.mesh.cores=shared"]
    overrides = [f"--config.{text}" for text in PAIRS[field]]
    said = refusal(train.main, [*argv, *overrides], tmp_path)
    assert field.split(".")[0] in said


def test_what_goes_wrong_after_the_directory_is_open(tmp_path, monkeypatch):
    """An expert that keeps failing: known when demonstrations are recorded, in a directory that is open by then."""

    def failing(*_):
        raise DataError("the expert of 'landscape' kept failing mode 0")

    argv = ["--config", CONFIG, f"--config.{ALL}", "--config.mesh.cores=shared", "--workdir"]
    (tmp_path / "empty").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr("tests.malformed.calls.never", failing)
        for workdir in (tmp_path / "deep" / "run", tmp_path / "empty"):
            assert "kept failing" in refusal(train.main, [*argv, workdir], tmp_path)


def test_parts_of_stages(tmp_path):
    """An actor that fine-tuning cannot take over from discovery is refused before discovery is trained."""
    argv = ["--config", CONFIG, "--workdir", tmp_path / "run", f"--config.{ALL}"]
    steer = [*argv, "--config.finetune.actor.name=steer"]
    cases = {
        "other sizes": ([*steer, "--config.finetune.actor.hidden=4,"], "actor.name"),
        "another actor": ([*argv, "--config.finetune.actor.name=gaussian"], "actor.name"),
        "an unknown one": ([*argv, "--config.finetune.actor.name=nonesuch"], "config.finetune.actor.name"),
        "an unknown learner": ([*argv, "--config.plain.learner.name=nonesuch"], "config.plain.learner.name"),
        "a bad option": ([*argv, "--config.finetune.learner.name=ppo", "--config.finetune.learner.clip=0"],
                         "config.finetune.learner.clip"),
    }  # fmt: skip
    assert not failures(train.main, cases, tmp_path)
