"""docs/options.md is what the options say of themselves."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from mmbc_jax import train

ROOT = Path(__file__).parents[1]


def script():
    spec = importlib.util.spec_from_file_location("write_options", ROOT / "scripts" / "write_options.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current():
    assert (ROOT / "docs" / "options.md").read_text() == script().page(), "run scripts/write_options.py"


def test_help_lists_every_option(capsys):
    with pytest.raises(SystemExit, match="0"):
        train.parse(["--config", str(ROOT / "configs" / "smoke.py"), "--help"])
    text = capsys.readouterr().out
    for line in ("bc.learning_rate~ = 0.004", "learner.clip~ = 0.2", "env.reward", "chunk.predict = 4"):
        assert line in text
