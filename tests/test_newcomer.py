"""The table of docs/architecture.md: to add a thing is to add one file, and nothing else changes."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from mmbc_jax.core import registry

ROOT = Path(__file__).parents[1]
# Of each kind a small member, which is copied under a new name into a folder of its own.
COPIED = {
    "policy": "mse",
    "prior": "normal",
    "sampler": "euler",
    "env": "landscape",
    "actor": "gaussian",
    "discriminator": "categorical",
    "reward": "none",
    "learner": "bc",
    "observation": "vector",
    "loader": "npz",
    "diagnostic": "separation",
    "figure": "mode_shares",
    "logger": "csv",
}


@pytest.fixture
def newcomer(tmp_path, monkeypatch):
    """A function that puts a copy of a plug-in, named `newcomer`, where the plug-ins of its kind are."""

    def add(kind: str) -> str:
        source = importlib.import_module(registry.available(kind)[COPIED[kind]])
        folder = importlib.import_module(registry.FOLDERS[kind][0])
        text = Path(source.__file__).read_text()
        (tmp_path / "newcomer.py").write_text(text)
        monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path)])
        monkeypatch.delitem(sys.modules, f"{folder.__name__}.newcomer", raising=False)
        importlib.invalidate_caches()
        return f"{folder.__name__}.newcomer"

    return add


@pytest.mark.parametrize("kind", COPIED)
def test_one_file_is_enough(kind, newcomer):
    module = newcomer(kind)
    assert registry.available(kind)["newcomer"] == module
    found = registry.find(kind, "newcomer")
    assert found.kind == kind
    assert set(found.default_config()) == set(registry.find(kind, COPIED[kind]).default_config())
    sys.modules.pop(module, None)


def test_the_table_names_every_kind_and_its_folder():
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text[text.index("### To add a thing") : text.index("## A run")]
    rows = {row[0].strip(): row[1] for row in re.findall(r"^\| (.+?) \| (.+?) \|", table, re.MULTILINE)}
    named = {"env": "environment", "observation": "observation kind"}
    for kind, folders in registry.FOLDERS.items():
        paths = rows[named.get(kind, kind)]
        for folder in folders:
            assert folder.removeprefix("mmbc_jax.").replace(".", "/") + "/" in paths


def test_every_kind_has_a_member_here():
    assert set(COPIED) == set(registry.FOLDERS)
