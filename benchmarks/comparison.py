"""What a peer's file provides, how it is measured, and how a peer's own code is brought in.

A file of `benchmarks/peers` (its name without underscore is the peer's) has

  NEEDS: str                                  what to install or point to, one line
  def comparisons(checkout, cores, quick):    yields `Comparison`s; `checkout` is a folder or None

and imports the peer inside that function, so that a file can be listed where its peer is missing.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.abc
import importlib.machinery
import sys
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import host, peak
from benchmarks.timing import Contender, interleave, repeated

OURS = "mmbc_jax"
_BLOCK_SECONDS, _ROUNDS_SECONDS = 0.15, 20.0


class Missing(Exception):
    """A peer that cannot be loaded; the text is the one line that says what to install or to point to."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The same kind of work on several sides.

    Attributes:
      name: as shown.
      unit: what one unit of work is.
      makers: {contender: makes a block that does `units` units}, ours first, in the order of the page.
      not_the_same: in which way the sides differ, one sentence or more.
      units: of a block.
      counted: (what else is counted, how many of it in a unit), such as control steps.
      parameters: trained parameters by contender.
      gflop: products in a unit, for those contenders whose share of peak is wanted.
    """

    name: str
    unit: str
    makers: dict[str, Callable[[], Callable[[], Any]]]
    not_the_same: str
    units: float = 1.0
    counted: tuple[str, float] | None = None
    parameters: dict[str, int] = dataclasses.field(default_factory=dict)
    gflop: dict[str, float] = dataclasses.field(default_factory=dict)


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds empty modules in the place of some packages; their attributes are empty classes."""

    def __init__(self, packages: set[str]):
        self.packages = packages

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """A package without a file, where the name belongs to one of them."""
        if name.split(".")[0] not in self.packages:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> types.ModuleType:
        """An empty module."""
        return types.ModuleType(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Lets every attribute be an empty class."""

        def attribute(name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

        module.__getattr__ = attribute  # type: ignore[method-assign]


def bring_in(
    needs: str, checkout: Path | None, folder: str, modules: Sequence[str], *unused: str
) -> list[Any]:
    """Modules of a peer, imported from its checkout.

    Args:
      needs: the line for `Missing`.
      checkout: its root, or None.
      folder: inside the checkout, that goes on the path; "" for an installed package, which needs none.
      modules: dotted names.
      *unused: packages that these modules import and that nothing timed calls. Where one cannot be imported, an
        empty stand-in takes its place.

    Raises:
      Missing: no such checkout, or an import fails.
    """
    if folder and checkout is None:
        raise Missing(needs)
    if checkout is not None:
        if not (checkout / folder).is_dir():
            raise Missing(f"no such folder in the checkout: {folder}; {needs}")
        sys.path.insert(0, str(checkout / folder))
    absent = {name for name in unused if not _imports(name)}
    if absent:
        sys.meta_path.insert(0, _StandIns(absent))
        for name in [name for name in sys.modules if name.split(".")[0] in absent]:
            del sys.modules[name]  # what is left of the failed import
    try:
        return [importlib.import_module(name) for name in modules]
    except Exception as error:  # a broken package raises anything
        raise Missing(f"{type(error).__name__}: {error}; {needs}") from error


def _imports(package: str) -> bool:
    try:
        importlib.import_module(package)
    except Exception:  # one built for another torch raises RuntimeError
        return False
    return True


def measure_comparison(comparison: Comparison, cores: int, quick: bool) -> dict[str, Any]:
    """Times a comparison's contenders in turn on the pinned cores, in blocks of at least 0.15 s."""
    contenders, first, round_seconds = [], {}, 0.0
    for name, make in comparison.makers.items():
        start = time.perf_counter()
        block = make()
        block()
        middle = time.perf_counter()
        first[name] = middle - start
        block()
        seconds = time.perf_counter() - middle
        repeats = max(1, round(_BLOCK_SECONDS / seconds))
        round_seconds += repeats * seconds
        contenders.append(Contender(name, repeated(block, repeats), repeats * comparison.units))
    rounds = 2 if quick else max(5, min(15, int(_ROUNDS_SECONDS / round_seconds)))
    samples = interleave([*contenders, *peak.contenders()], rounds, warmup=0)
    return {
        "name": comparison.name,
        "unit": comparison.unit,
        "not_the_same": comparison.not_the_same,
        "counted": comparison.counted,
        "parameters": comparison.parameters,
        **peak.summarise(samples, OURS, comparison.gflop, cores),
        "first_block_seconds": first,
    }


def measure(peer: str, cores: int, quick: bool, checkout: Path | None) -> dict[str, Any]:
    """The record of one peer on the pinned cores.

    Raises:
      Missing: it cannot be loaded.
    """
    module = importlib.import_module(f"benchmarks.peers.{peer}")
    found = [measure_comparison(each, cores, quick) for each in module.comparisons(checkout, cores, quick)]
    return {"cases": found, "memory": host.memory()}
