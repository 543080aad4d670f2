"""docs/deploy.md, its blocks executed in their order on the toy run."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from mmbc_jax import export, serve
from tests.deploy._loaded import served
from tests.toys.landscape import finished_run, unchecked

PAGE = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def port():
    """Of a server that is up, as the page's command starts it."""
    with served() as port:
        yield port


def test_every_block_runs(tmp_path, monkeypatch, port, capsys):
    pytest.importorskip("websockets")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "smoke").symlink_to(finished_run())
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    commands = []
    with_onnx = importlib.util.find_spec("jax2onnx") is not None
    for language, text in BLOCKS:
        if "onnx" in text and not with_onnx:
            continue
        if language == "bash":
            _, flag, module, *argv = shlex.split(text)
            commands.append(module)
            assert flag == "-m"
            with unchecked():
                if module == "mmbc_jax.export":
                    assert export.main(argv) == 0
                else:
                    assert serve.parse(argv).port == 8000
        else:
            exec(compile(text.replace("8000", str(port)), "deploy.md", "exec"), names)
            if "chunk =" in text:
                assert np.asarray(names["chunk"]).shape[-2:] == (4, 2)
    assert commands == ["mmbc_jax.export"] * (1 + with_onnx) + ["mmbc_jax.serve"]
    assert names["action"].shape == (2,)
    assert (names["controller"].z, names["controller"].realtime) == (1, True)
    assert "0 " in capsys.readouterr().out


def test_what_the_page_links_to_is_there():
    for link in re.findall(r"\]\(((?!http)[^)#]+)", PAGE):
        assert (Path(__file__).parents[2] / "docs" / link).exists(), link
