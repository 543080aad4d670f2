"""A policy as ONNX gives the policy's numbers in a process that never hears of JAX."""

from __future__ import annotations

import functools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export

from mmbc_jax import export
from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import UserError
from mmbc_jax.core.learning import Subject
from mmbc_jax.deploy import as_onnx
from mmbc_jax.deploy.chance import Chance
from mmbc_jax.deploy.decision import Decision
from mmbc_jax.evaluation.evaluator import act_with_actor, act_with_policy
from mmbc_jax.ops.normalisation import Normalizer
from tests.actors import test_conformance as actors
from tests.deploy._loaded import loaded
from tests.policies import _toys as toys
from tests.toys.landscape import finished_run, unchecked

OBS = np.random.default_rng(1).normal(size=(5, 2)).astype(np.float32)
ALONE = """
import sys
import numpy as np
import onnxruntime

options = onnxruntime.SessionOptions()
options.log_severity_level = 3
session = onnxruntime.InferenceSession(sys.argv[1], options)
given = dict(np.load(sys.argv[2]))
(chunk,) = session.run(["chunk"], given)
batch = {name: [d if isinstance(d, str) else None for d in i.shape].index("b") for i in session.get_inputs()
         for name in [i.name]}
one = {name: np.take(x, [0], batch[name]) for name, x in given.items()}
np.savez(sys.argv[3], all=chunk, one=session.run(["chunk"], one)[0])
assert not [name for name in sys.modules if name.startswith(("mmbc_jax", "jax"))]
"""


def test_without_the_extra_one_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(UserError, match=r"--format onnx needs the package jax2onnx.*mmbc-jax\[onnx\]"):
        export.main(
            ["--checkpoint", str(finished_run()), "--format", "onnx", "--out", str(tmp_path / "policy.onnx")]
        )
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(the artefact, what its JSON file says)."""
    pytest.importorskip("jax2onnx", reason="the extra onnx is not installed")
    out = tmp_path_factory.mktemp("exported") / "policy.onnx"
    with unchecked():
        assert export.main(["--checkpoint", str(finished_run()), "--format", "onnx", "--out", str(out)]) == 0
    return out, json.loads(out.with_suffix(".json").read_text())


def test_the_same_numbers_without_jax(written, tmp_path):
    out, _ = written
    policy, z, words = loaded("finetune"), np.array([0, 1, 0, 1, 1], np.int32), np.array([3, 9], np.uint32)
    noise = Chance(as_onnx.decision(policy, False), OBS, z).drawn(words, OBS, z)
    given, found = tmp_path / "given.npz", tmp_path / "found.npz"
    np.savez(given, obs=OBS, z=z, **{f"noise_{i}": u for i, u in enumerate(noise)})
    command = [sys.executable, "-I", "-c", ALONE, str(out), str(given), str(found)]
    subprocess.run(command, check=True, timeout=300)
    expected = policy(OBS, z, words)
    np.testing.assert_allclose(np.load(found)["all"], expected, atol=1e-5)
    np.testing.assert_allclose(np.load(found)["one"], expected[:1], atol=1e-5)


def test_the_file_beside_it(written):
    _, said = written
    assert said["inputs"]["obs"]["shape"] == ["b", 2]
    noise = [entry for name, entry in said["inputs"].items() if name.startswith("noise_")]
    assert noise
    assert all("b" in entry["shape"] and entry["dtype"] == "float32" for entry in noise)
    assert said["largest_difference"] < 1e-5
    assert "platforms" not in said
    assert [mode["z"] for mode in said["commands"]] == [0, 1]


def test_a_model_that_computes_something_else_is_refused(written):
    out, _ = written
    decide = as_onnx.decision(loaded("finetune"), False)
    with pytest.raises(UserError, match="off those of the policy"):
        as_onnx.difference(
            out.read_bytes(), lambda *given: 1.001 * decide(*given), ["obs"], OBS, np.zeros(5, np.int32)
        )


REFUSED = {
    "latent_flow": "ONNX Runtime says: .*Reshape",
    "vq without chance": "ONNX Runtime says: .*Reshape",
    "unet": "Symbolic dimension 'b'",
    "denoise by ddim, z in the field": "ONNX Runtime says: .*Reshape",
    "flow_sde with the flow's marginals, z in both": "ONNX Runtime says: .*Reshape",
}
"""What the converter does not do, and what is said in place of a file."""


def check_or_refused(name, *case):
    if name in REFUSED:
        with pytest.raises(UserError, match=REFUSED[name]):
            check(*case)
    else:
        check(*case)


def check(act, reference, params, modes, action_dim):
    """The converted decision, at batches of one and five."""
    pytest.importorskip("jax2onnx", reason="the extra onnx is not installed")
    ends = [jnp.full(size, side) for size in (3, action_dim) for side in (-1.0, 1.0)]
    subject = Subject((), reference, Normalizer(*ends), params, {})
    decide = functools.partial(Decision(act, 1).__call__, subject)
    (batch,) = jax_export.symbolic_shape("b")
    obs, z = jax.ShapeDtypeStruct((batch, 3), jnp.float32), jax.ShapeDtypeStruct((batch,), jnp.int32)
    with unchecked():
        _, payload = as_onnx.converted(decide, ["obs"], obs, z)
        for size in (1, 5):
            rows = np.random.default_rng(size).normal(size=(size, 3)).astype(np.float32)
            as_onnx.difference(payload, decide, ["obs"], rows, np.arange(size, dtype=np.int32) % modes)


def check_policy(policy, name=""):
    moved = toys.moved(policy, toys.batch(16))
    drawn, likeliest = act_with_policy(policy, False), act_with_policy(policy, True)
    check_or_refused(name, drawn, moved, {}, 1, 2)
    if f"{name} without chance" in REFUSED or name not in REFUSED:
        check_or_refused(f"{name} without chance", likeliest, moved, {}, 1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(registry.available("policy")))
def test_a_family(name):
    fields = {"hidden": (16, 16)} if "hidden" in plugin("policy", name) else {}
    check_policy(toys.build(name, **fields), name)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["transformer", "unet"])
def test_a_backbone(backbone):
    check_policy(toys.on_backbone(backbone), backbone)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(registry.available("sampler")))
def test_a_sampler(name):
    check_policy(toys.sampled_by(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", actors.ACTORS)
def test_an_actor(name):
    actor, reference = actors.actor(name), actors.reference(name)
    params = jax.jit(actor.init)(jax.random.key(1), reference)
    for own in (False, True)[: 1 if name in REFUSED else 2]:
        check_or_refused(name, act_with_actor(actor, own), reference, params, actors.MODES, 1)
