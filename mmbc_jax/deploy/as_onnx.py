"""A policy as ONNX, which runs without JAX: ONNX Runtime, from Python, C++ and whatever else it is bound to.

The artefact is the decision, as in `deploy.exported`, but for chance: ONNX has no generator of JAX's, so random
numbers go in (`deploy.chance`), and a command is given, not drawn. A file is held against the policy before it is
written.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from mmbc_jax.core.errors import UserError, cut
from mmbc_jax.core.extras import imported
from mmbc_jax.core.files import write_atomic, write_json
from mmbc_jax.deploy.chance import Chance
from mmbc_jax.deploy.deployed import Deployed
from mmbc_jax.deploy.exported import described

OPSET = 21
"""Of the operations: those of ONNX Runtime 1.20 and later."""
AGREES = 1e-5
"""How far the file's actions may be from the policy's: a share of the largest action, or of 1 where that is less."""
NOISE = "random numbers, each as likely in [0, 1): new ones for every decision"


def write_onnx(policy: Deployed, out: Path, deterministic: bool = False) -> dict[str, Any]:
    """Writes the policy, and beside it a JSON file of the same name; returns what that says.

    Raises:
      UserError: the extra `onnx` is missing, the policy cannot be written, or the file computes other actions.
    """
    decide = decision(policy, deterministic)
    names, (obs, z) = _obs_names(policy), _shapes(policy)
    try:
        chance, payload = converted(decide, names, obs, z)
        largest = max(
            difference(payload, decide, names, _examples(policy, batch), _commands(policy, batch))
            for batch in (1, 5)
        )
    except UserError as error:
        raise UserError(f"policy {policy.spec.policy} cannot be written as ONNX: {error}") from error
    facts = _facts(policy, chance, payload, deterministic, largest)
    write_atomic(out, lambda file: file.write(payload))
    write_json(out.with_suffix(".json"), facts)
    return facts


def converted(decide: Any, names: Sequence[str], obs: Any, z: Any) -> tuple[Chance, bytes]:
    """(the decision with its noise as arguments, the ONNX model of it).

    Args:
      decide: a function (words, obs, z) to actions.
      names: of the model's inputs for the leaves of `obs`.
      obs: shapes, with a symbolic batch.
      z: the same.

    Raises:
      UserError: the extra `onnx` is missing, or something in it has no counterpart in ONNX.
    """
    convert = imported("jax2onnx", "onnx", "--format onnx").to_onnx
    try:
        chance = Chance(decide, obs, z)
        noise = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in chance.shapes]
        given = jax.tree.leaves((obs, z))

        def answer(*arrays: Any) -> Any:
            return chance(arrays[len(given) :], *arrays[: len(given)])

        with _quietly():
            model = convert(
                answer,
                inputs=[*given, *noise],
                model_name="policy",
                opset=OPSET,
                input_names=[*names, "z", *(f"noise_{i}" for i in range(len(noise)))],
                output_names=["chunk"],
            )
    except UserError:
        raise
    except Exception as error:  # the converter lets through whatever it meets
        said = str(error).strip().splitlines()
        raise UserError(cut(said[0]) if said else type(error).__name__) from error
    return chance, model.SerializeToString()


def difference(payload: bytes, decide: Any, names: Sequence[str], obs: Any, z: np.ndarray) -> float:
    """The largest difference of actions between ONNX Runtime and the decision, under one key.

    Raises:
      UserError: it is more than `AGREES` allows, or ONNX Runtime cannot run the model.
    """
    runtime = imported("onnxruntime", "onnx", "--format onnx")
    words = np.array([3, len(z)], np.uint32)
    noise = Chance(decide, obs, z).drawn(words, obs, z)
    given = dict(zip(names, map(np.asarray, jax.tree.leaves(obs)), strict=True))
    given |= {"z": z} | {f"noise_{i}": u for i, u in enumerate(noise)}
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # of constants that nothing reads it warns one by one
    try:
        session = runtime.InferenceSession(payload, options, providers=["CPUExecutionProvider"])
        (found,) = session.run(["chunk"], {i.name: given[i.name] for i in session.get_inputs()})
    except Exception as error:  # its exceptions share no base but this
        raise UserError(f"ONNX Runtime says: {cut(str(error).splitlines()[0])}") from error
    expected = np.asarray(jax.jit(decide)(words, obs, z))
    largest = float(np.abs(found - expected).max())
    if not largest <= AGREES * max(1.0, float(np.abs(expected).max())):
        raise UserError(
            f"ONNX Runtime's actions are {largest:.2g} off those of the policy; nothing was written"
        )
    return largest


def decision(policy: Deployed, deterministic: bool) -> Any:
    """The decision (words, obs, z) of one whose commands are given."""
    decide = dataclasses.replace(policy.decision(deterministic, bounded=True), num_modes=1)
    return functools.partial(decide.__call__, policy.subject)


def _obs_names(policy: Deployed) -> list[str]:
    spec = policy.spec.obs
    return ["obs"] if spec.plain else [f"obs_{name}" for name, _ in spec.entries]


def _shapes(policy: Deployed) -> tuple[Any, Any]:
    (batch,) = jax_export.symbolic_shape("b")
    spec = policy.spec.obs
    entries: Any = {n: jax.ShapeDtypeStruct((batch, *e.shape), e.dtype) for n, e in spec.entries}
    return spec.joined(entries), jax.ShapeDtypeStruct((batch,), jnp.int32)


def _examples(policy: Deployed, batch: int) -> Any:
    """Observations [batch, ...] within the scales of the data; of images any pixels."""
    spec, rng = policy.spec.obs, np.random.default_rng(batch)
    rows: dict[str, Any] = {}
    for name, entry in spec.entries:
        if entry.kind == "vector":
            rows[name] = rng.uniform(-1, 1, (batch, *entry.shape)).astype(np.float32)
        else:
            rows[name] = rng.integers(0, 256, (batch, *entry.shape)).astype(entry.dtype)
    scales: Any = policy.subject.normalizer
    scaled = scales.denormalize_obs(spec.joined(rows))
    return jax.tree.map(np.asarray, scaled)


def _commands(policy: Deployed, batch: int) -> np.ndarray:
    return np.resize(np.asarray(policy.spec.commands, np.int32), batch)


def _facts(
    policy: Deployed, chance: Chance, payload: bytes, deterministic: bool, largest: float
) -> dict[str, Any]:
    """What the JSON file says: that of StableHLO, but for the inputs and how it is called."""
    said = described(policy, payload, deterministic)
    entries = said["inputs"]["obs"]
    named = [entries] if policy.spec.obs.plain else list(entries.values())
    noise = {
        f"noise_{i}": {"shape": [str(d) if not isinstance(d, int) else d for d in shape], "dtype": "float32",
                       "meaning": NOISE}
        for i, shape in enumerate(chance.shapes)
    }  # fmt: skip
    z = {"shape": ["b"], "dtype": "int32", "meaning": "command of each row, of those below"}
    return said | {
        "call": "chunk = onnxruntime.InferenceSession(file).run(['chunk'], inputs)[0]",
        "inputs": dict(zip(_obs_names(policy), named, strict=True)) | {"z": z} | noise,
        "opset": OPSET,
        "largest_difference": largest,
    }


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the converter's warnings of plug-ins for libraries that are not used here."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
