"""A policy cloned from recorded images and states, without a simulator, with a history and a sweep."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax import export as jax_export

import mmbc_jax
from mmbc_jax.deploy.exported import exported
from mmbc_jax.deploy.inputs import RequestError

RNG = np.random.default_rng(0)
STEPS = 48


def seen(batch=()):
    camera = RNG.integers(0, 256, (*batch, 16, 16, 3), dtype=np.uint8)
    return {"camera": camera, "state": RNG.normal(size=(*batch, 3)).astype(np.float32)}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Of a finished run of two points of a sweep."""
    folder = tmp_path_factory.mktemp("data_only")
    recorded = {f"obs.{name}": value for name, value in seen((STEPS,)).items()}
    action = RNG.normal(size=(STEPS, 2)).astype(np.float32)
    np.savez(folder / "given.npz", action=action, episode_ends=np.arange(12, STEPS + 1, 12), **recorded)
    fields = {
        "stages": "bc",
        "seeds": 1,
        "env.name": "",
        "data.path": folder / "given.npz",
        "data.holdout": 0.25,
        "chunk.observe": 2,
        "chunk.execute": 2,
        "sweep.grid": "bc.learning_rate=0.001,0.1",
    }
    # a process of its own: here annotations are checked that know no image of NumPy's
    command = [sys.executable, "-m", "tests.runs._command", str(folder / "run"), "-"]
    command += [f"--config.{name}={value}" for name, value in fields.items()]
    subprocess.run(command, check=True, timeout=600, cwd=Path(__file__).parents[2])
    return folder / "run"


@pytest.mark.slow
def test_all_of_it(workdir):
    policies = [mmbc_jax.load(workdir, point=point) for point in (0, 1)]
    assert [policy.spec.values["bc.learning_rate"] for policy in policies] == pytest.approx([0.001, 0.1])
    policy = policies[0]
    assert (policy.spec.low, policy.spec.env, policy.spec.observe) == ((), "", 2)
    assert [(mode.z, mode.success) for mode in policy.modes()] == [(0, None)]
    assert dict(policy.spec.obs.entries)["camera"].shape == (16, 16, 6)
    first, second = seen(), seen()
    joined = {name: np.concatenate([first[name], second[name]], -1) for name in first}
    chunk = policy(joined, key=3)
    assert chunk.shape == (4, 2)
    assert (chunk != policies[1](joined, key=3)).any()
    with pytest.raises(RequestError, match=r"camera has shape \[16, 16, 3\], must be \[16, 16, 6\]"):
        policy(first)

    controller = policy.controller(key=5, execute=1)
    actions = [controller.act(obs) for obs in (first, second)]
    begun = {name: np.concatenate([value, value], -1) for name, value in first.items()}
    words = [jax.random.fold_in(jax.random.fold_in(jax.random.key(5), decision), 0) for decision in (0, 1)]
    np.testing.assert_allclose(actions[0], policy(begun, key=words[0])[0], atol=1e-6)
    np.testing.assert_allclose(actions[1], policy(joined, key=words[1])[0], atol=1e-6)

    program = jax_export.deserialize(bytearray(exported(policy, ("cpu",)).serialize()))
    rows = {name: np.stack([value, value]) for name, value in joined.items()}
    found = program.call(np.array([0, 3], np.uint32), rows, np.zeros(2, np.int32))
    np.testing.assert_allclose(found[0], chunk, atol=1e-6)

    card = json.loads((workdir / "model_card.json").read_text())
    assert card["limits"][0].startswith("No episode was played")
    assert len(card["results"]) == 2
    assert "offline/mean_error" in card["results"][0]["stages"]["bc"]
    assert "At bc.learning_rate = 0.1:" in (workdir / "model_card.md").read_text()
