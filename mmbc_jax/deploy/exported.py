"""A policy as StableHLO, which runs without this package: `jax.export`, any batch size, on a CPU or a CUDA GPU.

The artefact is the decision itself (`deploy.decision`): scales of the data, sampler, steering and the choice of a
command are inside, weights are constants. `jax.export.deserialize(bytes).call(key, obs, z)` gives the chunk.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export as jax_export

from mmbc_jax.core.errors import UserError, cut
from mmbc_jax.core.files import write_atomic, write_json
from mmbc_jax.deploy.decision import DRAWN
from mmbc_jax.deploy.deployed import Deployed

PLATFORMS = ("cpu", "cuda")
FORMAT = 1
_UNITS = "physical units, those of the demonstrations and the environment"


def exported(policy: Deployed, platforms: Sequence[str] = PLATFORMS, deterministic: bool = False) -> Any:
    """The `jax.export.Exported` of (key [2] uint32, obs [b, ...], z [b] int32) to a chunk [b, H, A], b >= 1.

    Raises:
      UserError: the policy's program cannot be written for a batch whose size is not known.
    """
    (batch,) = jax_export.symbolic_shape("b")
    spec = policy.spec.obs
    shapes: Any = {n: jax.ShapeDtypeStruct((batch, *e.shape), e.dtype) for n, e in spec.entries}
    obs = spec.joined(shapes)
    decide = policy.decision(deterministic, bounded=True).__call__
    program = jax.jit(functools.partial(decide, policy.subject))
    arguments = (jax.ShapeDtypeStruct((2,), jnp.uint32), obs, jax.ShapeDtypeStruct((batch,), jnp.int32))
    try:
        return jax_export.export(program, platforms=tuple(platforms))(*arguments)
    except (jax.errors.JAXTypeError, NotImplementedError, TypeError, ValueError) as error:
        said = cut(str(error).strip().splitlines()[0]) if str(error).strip() else type(error).__name__
        raise UserError(
            f"policy {policy.spec.policy} cannot be exported for any batch size: {said}"
        ) from error


def described(policy: Deployed, payload: bytes, deterministic: bool) -> dict[str, Any]:
    """What the JSON beside an artefact says: its inputs and outputs, their units, its commands, where it is from."""
    spec = policy.spec
    entries = {
        name: {
            "shape": ["b", *entry.shape],
            "dtype": str(jnp.dtype(entry.dtype)),
            "units": _obs_units(entry.kind),
        }
        for name, entry in spec.obs.entries
    }
    (only, *_) = entries.values()
    modes = [
        {
            "z": mode.z,
            "label": mode.label,
            "success": mode.success,
            "ci95": mode.ci95,
            "control": mode.control,
        }
        for mode in policy.modes()
    ]
    return {
        "format": FORMAT,
        "call": "chunk = jax.export.deserialize(bytes).call(key, obs, z)",
        "inputs": {
            "key": {"shape": [2], "dtype": "uint32", "meaning": "two words that chance is drawn from; new ones for "
                    "every decision"},
            "obs": only if spec.obs.plain else entries,
            "z": {"shape": ["b"], "dtype": "int32", "meaning": f"command of each row; {DRAWN} draws one"},
        },
        "output": {
            "shape": ["b", spec.predict, spec.action_dim],
            "dtype": "float32",
            "units": _UNITS,
            "low": list(spec.low),
            "high": list(spec.high),
        },
        "observe": spec.observe,
        "execute": spec.execute,
        "control_dt": spec.control_dt,
        "deterministic": deterministic,
        "commands": modes,
        "source": {name: getattr(spec, name) for name in ("env", "policy", "stage", "step", "seed", "values")},
        "jax": jax.__version__,
        "sha256": hashlib.sha256(payload).hexdigest(),
        "bytes": len(payload),
    }  # fmt: skip


def _obs_units(kind: str) -> str:
    return _UNITS if kind == "vector" else f"as the {kind} was recorded"


def write_exported(
    policy: Deployed, out: Path, platforms: Sequence[str] = PLATFORMS, deterministic: bool = False
) -> dict[str, Any]:
    """Writes the artefact, and beside it a JSON file of the same name; returns what that says."""
    program = exported(policy, platforms, deterministic)
    payload = bytes(program.serialize())
    facts = described(policy, payload, deterministic) | {
        "platforms": list(program.platforms),
        "calling_convention": program.calling_convention_version,
    }
    write_atomic(out, lambda file: file.write(payload))
    write_json(out.with_suffix(".json"), facts)
    return facts
