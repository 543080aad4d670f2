"""Texts of sweeps and of shifted environments: generated from their grammar, then broken."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.evaluation.shifts import parse_shifts, shifted_params
from mmbc_jax.runs import setup as setup_lib
from mmbc_jax.runs.grid import MOST_RUNS, check_grid, config_grid, parse_grid
from mmbc_jax.runs.stages import all_traced, make_stages
from tests.malformed.calls import CONFIG, checked, failures
from tests.toys.landscape import toy_config, toy_pipeline

PATHS = ("finetune.mi_coef", "bc.learning_rate", "learner.clip", "ppo.gamma", "dagger.beta")
NUMBERS = ("0.1", "1e-3", "1", ".5", "0x2", "1_0.0", "+1")
PIECES = (
    *("", " ", "=", ";", ",", ",,", "==", ";;", ".", "..", "=,", "=;", "\n", "\0", "'", '"', "(", ")", "[", "{"),
    *("finetune", "bc", "mi_coef", "nan", "inf", "-inf", "1e400", "1j", "True", "None", "'1'", "b'1'", "a"),
    *("1+1", "1 2", "0777", "1__0", "٣", "½", "lambda: 1", "__import__('os')", "9" * 5000, "0x" + "f" * 5000),
    *("-" * 500 + "1", "(" * 300, "[1]", "(1)", "(1,2)", "1if 1else 2", "\udcff", "seeds", "bc.batch_size"),
    *("policy.name", "x.y.z"),
)  # fmt: skip


def sound(rng: np.random.Generator) -> str:
    """A text of the grammar, with paths that are there."""
    chosen = rng.choice(PATHS[:3], rng.integers(1, 3), replace=False)
    numbers = [rng.choice(NUMBERS[:4], rng.integers(1, 4), replace=False) for _ in chosen]
    return ";".join(f"{path}={','.join(own)}" for path, own in zip(chosen, numbers, strict=True))


def broken(rng: np.random.Generator) -> str:
    """A text with pieces put in, taken out, or in place of others."""
    text = sound(rng)
    for _ in range(rng.integers(1, 4)):
        at, piece = int(rng.integers(len(text) + 1)), str(rng.choice(np.array(PIECES, object)))
        until = at if rng.random() < 0.5 else min(len(text), at + int(rng.integers(1, 8)))
        text = text[:at] + piece + text[until:]
    return text


@pytest.fixture(scope="module")
def whole():
    setup = setup_lib.build(toy_config())
    return setup, all_traced(make_stages(setup, setup.config.stages).values())


def read(text: str, setup, traced) -> bool:
    """Whether a text is a sweep; fails where it is refused otherwise than by a ConfigError."""
    setup.config.sweep.grid = text
    try:
        grid = config_grid(setup.config)
        check_grid(grid, traced)
        setup_lib.check_points(setup, grid)
    except ConfigError:
        return False
    assert all(np.isfinite(value) for point in grid.points for value in point)
    assert set(grid.paths) <= set(traced)
    return True


def test_sound_texts_are_read(whole):
    rng = np.random.default_rng(0)
    assert all(read(sound(rng), *whole) for _ in range(20))


def test_broken_texts_are_refused_or_read(whole):
    rng = np.random.default_rng(1)
    texts = {broken(rng) for _ in range(1500)}
    start = time.perf_counter()
    accepted = [text for text in texts if read(text, *whole)]
    assert len(texts) > 1400
    assert len(accepted) < len(texts) / 3
    assert time.perf_counter() - start < 60


def test_texts_that_are_no_sweep(whole):
    """Those that the generator may not hit; each alone."""
    texts = [
        text
        for piece in PIECES
        for text in (f"finetune.mi_coef={piece}", f"{piece}=1", f"finetune.mi_coef=1{piece}", f"{piece};=1")
    ]
    accepted = [text for text in texts if read(text, *whole)]
    assert len(texts) > 150
    assert len(accepted) < 30
    plain = re.compile(r"[0-9a-fA-FxX_.+,;\s()-]*")
    assert not [text for text in accepted if not plain.fullmatch(text.rpartition("=")[2])]


@pytest.mark.parametrize(
    "text",
    [
        ";".join(f"a.b{i}=" + ",".join(map(str, range(100))) for i in range(10)),
        ";".join(f"{path}=" + ",".join(map(str, range(1, 1026))) for path in PATHS[:2]),
    ],
    ids=["10^20 points", "above 2^20"],
)
def test_products_that_nobody_could_run(text):
    with pytest.raises(
        ConfigError, match=r"config.sweep.grid = .* at most 1048576 runs; its points times seeds are"
    ):
        parse_grid(text, 1, 0)
    assert MOST_RUNS == 2**20


def test_a_long_sweep_is_checked_in_time(tmp_path):
    """2000 values, the last of which cannot work."""
    config = toy_config(seeds=1)
    config.sweep.grid = "bc.learning_rate=1e-3,1e-2;finetune.mi_coef=" + ",".join(
        [*map(str, range(1999)), "-1"]
    )
    start = time.perf_counter()
    with pytest.raises(ConfigError, match=r"config.finetune.mi_coef = -1.0"):
        toy_pipeline(tmp_path / "run", config)
    assert time.perf_counter() - start < 10
    assert not (tmp_path / "run").exists()


SHIFTS = ("calm: noise=0", "push: radius=0.3, noise=1")
BITS = (
    "",
    ":",
    "=",
    ",",
    ";",
    "::",
    "==",
    "nan",
    "inf",
    "1e39",
    "1e400",
    "é",
    "a b",
    "calm",
    "noise",
    "1",
    "\0",
)


def test_shifts():
    setup = setup_lib.build(toy_config(env__name="radial"))
    assert len(shifted_params(";".join(SHIFTS), setup.env)) == 2
    rng = np.random.default_rng(2)
    refused = 0
    for _ in range(500):
        text = ";".join(SHIFTS)
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(len(text) + 1))
            text = text[:at] + str(rng.choice(np.array(BITS, object))) + text[at + int(rng.integers(0, 3)) :]
        try:
            assert all(np.isfinite(v) for one in parse_shifts(text).values() for v in one.values())
            made = shifted_params(text, setup.env)
            assert all(np.isfinite(np.asarray(v)).all() for one in made.values() for v in one.values())
        except ConfigError as error:
            refused += error.field == "evaluation.shifts"
    assert refused > 250


def test_through_the_command_line(tmp_path):
    texts = ("x", "finetune.mi_coef", "=1", "finetune.mi_coef=a", "finetune.mi_coef=1;finetune.mi_coef=2")

    def piped(argv):
        checked(argv)
        from mmbc_jax import train

        config, workdir, _ = train.parse(argv)
        toy_pipeline(Path(workdir), config)
        return 0

    argv = ["--config", CONFIG, "--workdir", tmp_path / "run"]
    cases = {text: ([*argv, f"--config.sweep.grid={text}"], "config.sweep.grid = ") for text in texts}
    assert not failures(piped, cases, tmp_path)
