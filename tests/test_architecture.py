"""The layering of the package, its sizes and its docstrings, read from the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "mmbc_jax"
FILES = sorted(ROOT.rglob("*.py"))
# What each room may import besides itself. Training sees environments through their wrappers alone.
ALLOWED = {
    "core": (),
    "ops": ("core",),
    "nn": ("core", "ops"),
    "priors": ("core", "ops", "nn"),
    "samplers": ("core", "ops", "nn"),
    "policies": ("core", "ops", "nn", "priors", "samplers"),
    "envs": ("core", "ops"),
    "data": ("core", "ops", "envs.wrappers"),
    "diagnostics": ("core", "ops", "nn", "data.windows"),
    "actors": ("core", "ops", "nn"),
    "discriminators": ("core", "ops", "nn"),
    "rewards": ("core", "ops", "nn"),
    "learners": ("core", "ops", "nn", "data", "envs.wrappers"),
    "evaluation": ("core", "ops", "data", "diagnostics", "envs.wrappers"),
    "runs": (
        *("core", "ops", "nn", "data", "envs.wrappers", "diagnostics", "policies.wrappers"),
        *("learners", "evaluation"),
    ),
    "report": ("core", "ops", "nn.precision", "data", "diagnostics", "evaluation", "runs"),
    "deploy": ("core", "ops", "evaluation", "runs"),
    "study": ("core", "ops", "diagnostics", "evaluation", "runs", "report", "cli"),
    "cli": ("core",),
}
PLUGINS = (
    "policies",
    "priors",
    "samplers",
    "envs",
    "actors",
    "discriminators",
    "rewards",
    "learners",
    "data/loaders",
    "diagnostics/instruments",
)
MAX_LINES, MAX_FUNCTION, MAX_CLASS = 300, 60, 150


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> set[str]:
    """Every dotted name that a file imports, lazily or not; `from a import b` gives a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(path: Path) -> set[str]:
    return {name.removeprefix("mmbc_jax.") for name in imports(path) if name.startswith("mmbc_jax.")}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_run_one_way(path):
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if room not in ALLOWED or path.name == "__main__.py":
        return  # command lines sit on top
    for name in ours(path):
        fits = any(f"{name}.".startswith(f"{other}.") for other in (room, *ALLOWED[room]))
        assert fits, f"{room} must not import {name}"


@pytest.mark.parametrize("path", [p for p in FILES if not p.name.startswith("_")], ids=name_of)
def test_plugins_of_a_folder_do_not_know_each_other(path):
    folder = next((f for f in PLUGINS if name_of(path).startswith(f"{f}/")), None)
    if folder is None or name_of(path) == "envs/wrappers.py":
        return
    siblings = [p for p in (ROOT / folder).rglob("*.py") if p != path and not p.name.startswith("_")]
    known = {name_of(p).removesuffix(".py").replace("/", ".") for p in siblings} - {"envs.wrappers"}
    assert not {name for name in ours(path) for other in known if f"{name}.".startswith(f"{other}.")}


def test_pure_mathematics_knows_no_network_library():
    for path in (ROOT / "ops").glob("*.py"):
        assert not [name for name in imports(path) if name.split(".")[0] in ("flax", "optax", "distrax")], (
            path
        )


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_are_short(path):
    text = path.read_text()
    lines = len(text.splitlines())
    assert lines <= MAX_LINES, f"{lines} lines"
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
    lengths = {f.name: f.end_lineno - f.lineno + 1 for f in functions}
    assert not {name: length for name, length in lengths.items() if length > MAX_FUNCTION}
    classes = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ClassDef)]
    lengths = {c.name: c.end_lineno - c.lineno + 1 for c in classes}
    assert not {name: length for name, length in lengths.items() if length > MAX_CLASS}


def test_no_two_files_have_one_name():
    names = [p.name for p in FILES if p.name not in ("__init__.py", "__main__.py")]
    assert not {name for name in names if names.count(name) > 1}


def test_no_two_classes_have_one_name():
    names = [n.name for p in FILES for n in ast.walk(ast.parse(p.read_text())) if isinstance(n, ast.ClassDef)]
    assert not {name for name in names if names.count(name) > 1 and not name.startswith("_")}


def undocumented(node: ast.AST, prefix: str = "") -> list[str]:
    found = []
    for child in ast.iter_child_nodes(node):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        if isinstance(child, kinds) and not child.name.startswith("_"):
            own = f"{prefix}{child.name}"
            documented = ast.get_docstring(child) or overrides_a_library(child, node)
            found += [] if documented else [own]
            if isinstance(child, ast.ClassDef):
                found += undocumented(child, f"{own}.")
    return found


def overrides_a_library(child: ast.AST, parent: ast.AST) -> bool:
    """A method that rich calls on a private class needs no docstring of its own."""
    return isinstance(parent, ast.ClassDef) and parent.name.startswith("_")


@pytest.mark.parametrize("path", [p for p in FILES if p.name != "__init__.py"], ids=name_of)
def test_every_public_name_has_a_docstring(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    assert not undocumented(tree)
