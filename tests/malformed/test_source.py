"""What the package never does with a file or a text of the user: unpickle it, or run it."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

import mmbc_jax

FILES = sorted(Path(mmbc_jax.__file__).parent.rglob("*.py"))
FORBIDDEN = {"eval", "exec", "compile", "__import__"}
MODULES = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "yaml"}
# Where code of the user's choice is run, as is documented: config files, and plug-ins named package.module:attribute.
RUNS_CODE = {"core/user_file.py": {"exec_module"}, "core/registry.py": {"import_module"}}
# The one reader of pickles, which looks up no name of a file; and what imports optional packages, by names of ours.
PLAIN_DATA = "data/loaders/_pickles.py"
OPTIONAL = "core/extras.py"


@functools.cache
def every_node():
    return [
        (path.relative_to(FILES[0].parent).as_posix(), node)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
    ]


@pytest.fixture(autouse=True, scope="module")
def _trees_are_let_go():
    """They take 130 MiB, which a worker would keep for the rest of its tests."""
    yield
    every_node.cache_clear()


def nodes(kind):
    return ((path, node) for path, node in every_node() if isinstance(node, kind))


def test_nothing_is_unpickled():
    for path, node in nodes(ast.keyword):
        if node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant), path
            assert node.value.value is False, path
    for path, node in nodes((ast.Import, ast.ImportFrom)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
        found = {name.split(".")[0] for name in names} & MODULES
        assert not found or (path == PLAIN_DATA and found == {"pickle"}), path


def test_the_reader_of_pickles_looks_up_nothing():
    """Of `pickle` only the class whose look-up it replaces is used, and that never asks the original."""
    used = [ast.unparse(node) for path, node in nodes(ast.Attribute) if path == PLAIN_DATA]
    assert [name for name in used if name.startswith("pickle.")] == ["pickle.Unpickler"]
    calls = [ast.unparse(node.func) for path, node in nodes(ast.Call) if path == PLAIN_DATA]
    assert not {"super", "getattr"} & set(calls)
    bodies = [node.name for path, node in nodes(ast.FunctionDef) if path == PLAIN_DATA]
    assert "find_class" in bodies


def test_optional_packages_are_imported_by_names_of_ours():
    found = [node.args[0] for _, node in nodes(ast.Call) if ast.unparse(node.func) == "imported"]
    assert len(found) > 5
    assert all(isinstance(name, ast.Constant) for name in found)


def test_arrays_are_read_without_pickles():
    """`np.load` and `read_array` say so themselves, whatever their default becomes."""
    found = 0
    for path, node in nodes(ast.Call):
        name = ast.unparse(node.func)
        if name in ("np.load", "numpy.load") or name.endswith("read_array"):
            found += 1
            assert "allow_pickle" in [keyword.arg for keyword in node.keywords], path
    assert found >= 2


def test_no_text_is_run():
    for path, node in nodes(ast.Call):
        if isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN, f"{path}:{node.lineno}"


def test_code_of_the_user_is_run_in_two_places():
    found: dict[str, set[str]] = {}
    for path, node in nodes(ast.Attribute):
        if node.attr in ("exec_module", "import_module") and path != OPTIONAL:
            found.setdefault(path, set()).add(node.attr)
    assert found == RUNS_CODE


def test_no_shell_is_started():
    for path, node in nodes(ast.Call):
        assert ast.unparse(node.func) not in ("os.system", "os.popen"), path
        assert "shell" not in [keyword.arg for keyword in node.keywords], path
