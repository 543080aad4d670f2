"""A seed means the same bits whatever the shell says of JAX."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from mmbc_jax.core.errors import UserError
from mmbc_jax.core.keys import pin_randomness, seeded, wrapped
from mmbc_jax.ops.unrolled import unrolled

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mmbc_jax"
DRAWS = """
import json, sys
import jax
from mmbc_jax.core.errors import UserError
from mmbc_jax.core.keys import pin_randomness, seeded
from mmbc_jax.runs.grid import run_keys

first = jax.random.key_data(run_keys("bc", [3])).tolist()  # before anything is pinned
try:
    pin_randomness()
except UserError as error:
    sys.exit(str(error))
key = run_keys("bc", [3])[0]
print(json.dumps([first, jax.random.normal(seeded(7), (5,)).tolist(), jax.random.normal(key, (2000,)).tolist()[-3:]]))
print(json.dumps(jax.random.normal(jax.random.key(7), (5,)).tolist()))  # of a library
"""


def drawn(**environment):
    """What a process prints under further environment variables, and its error."""
    shell = {**os.environ, "JAX_PLATFORMS": "cpu", **environment}
    done = subprocess.run(
        [sys.executable, "-c", DRAWS], cwd=ROOT, env=shell, capture_output=True, text=True, check=False
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.mark.parametrize("environment", [{"JAX_DEFAULT_PRNG_IMPL": "rbg", "JAX_THREEFRY_PARTITIONABLE": "0"}])
def test_the_shell_does_not_change_what_a_seed_draws(environment):
    from mmbc_jax.runs.grid import run_keys

    (ours, of_a_library), _ = drawn(**environment)
    np.testing.assert_array_equal(ours[0], jax.random.key_data(run_keys("bc", [3])))
    expected = np.asarray(jax.random.normal(seeded(7), (5,)))
    np.testing.assert_array_equal(np.float32(ours[1]), expected)
    np.testing.assert_array_equal(np.float32(of_a_library), expected)
    last = np.asarray(jax.random.normal(run_keys("bc", [3])[0], (2000,)))[-3:]
    np.testing.assert_array_equal(np.float32(ours[2]), last)


def test_numbers_of_64_bits_are_refused():
    """Under this flag alone; the process that runs the tests keeps its own."""
    with jax.enable_x64(True), pytest.raises(UserError, match="JAX_ENABLE_X64 is set"):
        pin_randomness()


def test_keys_are_those_that_jax_makes_by_default():
    assert jax.random.key(3) == seeded(3)
    words = jax.random.key_data(seeded(4))
    assert wrapped(words) == seeded(4)
    assert jax.random.bits(unrolled(seeded(5))) == jax.random.bits(seeded(5))


def test_nothing_else_in_the_package_makes_keys_of_seeds():
    """A key of whatever generator the shell names would be another run."""
    made = ("random.key(", "random.PRNGKey(")
    found = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for line in path.read_text().splitlines()
        if any(call in line for call in made) or ("wrap_key_data(" in line and "impl=" not in line)
    }
    assert found == {"core/keys.py"}
