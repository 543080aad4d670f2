"""What there is to choose from: commands, plug-ins and configurations, each with a line of its own docstring.

Files are read and not imported, so that a list costs no second and nothing that is broken hides what is not.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

from mmbc_jax.core import registry
from mmbc_jax.core.errors import UserError, nearest

PACKAGE = "mmbc_jax"
_ROOT = Path(__file__).parents[1]
_PLURALS = {kind: f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s" for kind in registry.FOLDERS}
_FILES = "configs"
_INVOCATION = re.compile(r":?\s*`python -m [^`]*`\.?")


def commands() -> dict[str, str]:
    """{`mmbc_jax.X`: what it does} of every module and package of this one that is a command line.

    A command line has a `main` that it gives to `cli.run_main`, in a file of the package or in `X/__main__.py`.
    """
    found = {}
    for path in (*_ROOT.glob("*.py"), *_ROOT.glob("*/__main__.py")):
        name = path.stem if path.parent == _ROOT else path.parent.name
        if not name.startswith("_") and _is_command(path):
            found[f"{PACKAGE}.{name}"] = line_of(path)
    return dict(sorted(found.items()))


def kinds() -> tuple[str, ...]:
    """What can be listed: the plug-ins' kinds in the plural, and the configurations of the folder `configs`."""
    return (*_PLURALS.values(), _FILES)


def listed(kind: str) -> dict[str, str]:
    """{name: a line} of everything of a kind.

    Args:
      kind: one of `kinds`, or a kind of plug-in in the singular.

    Raises:
      UserError: there is no such kind.
    """
    if kind == _FILES:
        return configurations(Path(_FILES))
    plugin = next((one for one, many in _PLURALS.items() if kind in (one, many)), None)
    if plugin is None:
        raise UserError(f"--list {kind}: {nearest(kind, kinds())}")
    return {name: line_of(_file(module)) for name, module in registry.available(plugin).items()}


def configurations(folder: Path) -> dict[str, str]:
    """{path: a line} of the Python files below a folder; empty where there is none."""
    return {str(path): line_of(path) for path in sorted(folder.rglob("*.py"))}


def line_of(path: Path) -> str:
    """The first sentence of a file's docstring, without the command that it may quote."""
    try:
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    except (SyntaxError, ValueError) as error:
        return f"(cannot be read: {error})"
    paragraph = " ".join(text.partition("\n\n")[0].split())
    sentence = re.split(r"(?<=[.!?])\s+(?=[A-Z(`])", _INVOCATION.sub("", paragraph))[0]
    return sentence.rstrip(".:")


def _is_command(path: Path) -> bool:
    text = path.read_text(encoding="utf-8")
    if "run_main(main)" not in text:
        return False
    return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in ast.parse(text).body)


def _file(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)
