"""What a newcomer types first: the list of commands, the lists of what there is, `--help` and `--version` of each."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

from mmbc_jax import __main__ as package
from mmbc_jax import cli
from mmbc_jax.core import listing, registry
from mmbc_jax.core.errors import UserError

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
COMMANDS = listing.commands()


def main_of(name):
    module = importlib.import_module(name)
    return (module if hasattr(module, "main") else importlib.import_module(f"{name}.__main__")).main


def test_every_module_with_a_main_is_listed(capsys):
    """But for those that only a run or a benchmark starts, which are no command lines: no `cli.run_main`."""
    with_main = set()
    for path in (*ROOT.glob("mmbc_jax/*.py"), *ROOT.glob("mmbc_jax/*/__main__.py")):
        body = ast.parse(path.read_text()).body
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in body):
            name = path.stem if path.parent.name == "mmbc_jax" else path.parent.name
            with_main.add(f"mmbc_jax.{name}")
    assert with_main - set(COMMANDS) == {"mmbc_jax.__main__", "mmbc_jax.lane"}
    assert package.main([]) == 0
    out = capsys.readouterr().out
    for name, text in COMMANDS.items():
        assert re.search(rf"^{re.escape(name)} +{re.escape(text[:40])}", out, re.MULTILINE), name
        assert len(text) > 20


@pytest.mark.parametrize("name", ["mmbc_jax", *COMMANDS])
def test_the_page_has_every_command_with_an_example(name):
    section = PAGE.split(f"\n## {name}\n")[1].split("\n## ")[0]
    (example,) = re.findall(r"```bash\n(.*?)\n```", section, re.DOTALL)
    assert example.startswith(f"python -m {name} ")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_and_version_of_each(name, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    main = main_of(name)
    with pytest.raises(SystemExit) as done:
        main(["--help"])
    out = capsys.readouterr().out
    assert done.value.code == 0
    assert f"python -m {name}" in out
    with pytest.raises(SystemExit) as done:
        main(["--version"])
    assert done.value.code == 0
    assert re.match(r"mmbc_jax \S+.*, Python 3\.\d+\.\d+, jax \d", capsys.readouterr().out)


def test_help_of_training_explains_how_fields_are_set(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit):
        main_of("mmbc_jax.train")(["--config", "configs/smoke.py", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert "--config.KEY=VALUE" in out
    assert "--config.bc.steps=2000 --config.policy.hidden=64,64" in out
    assert "bc.steps = 1000" in out


@pytest.mark.parametrize("kind", listing.kinds())
def test_everything_of_a_kind_has_a_line(kind, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = listing.listed(kind)
    assert all(len(text) > 15 and not text.startswith("(") for text in found.values()), found
    assert package.main(["--list", kind]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in found)
    if kind != "configs":
        singular = next(one for one in registry.FOLDERS if listing.listed(one) == found)
        assert set(found) == set(registry.available(singular))


def test_lines_fit_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    package.main(["--list", "policies"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 60


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["train"], "type python -m mmbc_jax.train"),
        (["trian"], "known are "),
        (["--list", "polices"], "did you mean 'policies'"),
    ],
)
def test_what_is_mistyped(argv, said):
    with pytest.raises(UserError, match=said):
        package.main(argv)


def test_a_closed_pipe_is_no_error(tmp_path, monkeypatch):
    """`... | head` has seen enough."""

    def closed(argv):
        raise BrokenPipeError

    with (tmp_path / "out").open("w") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        with pytest.raises(SystemExit) as done:
            cli.run_main(closed)
    assert done.value.code == 141
