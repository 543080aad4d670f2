"""Which members of a product of plug-ins and settings every `make test` walks."""

from __future__ import annotations

import fnmatch
from collections.abc import Container, Iterable

import pytest


def sparing(values: Iterable, slow: Container, name=str) -> list:
    """Parameters of a test; those whose name is in `slow` are left to `make test-all`.

    Named is what another member stands for. What nobody has named, a new plug-in above all, runs always.
    """
    return [
        pytest.param(value, id=name(value), marks=pytest.mark.slow if name(value) in slow else ())
        for value in values
    ]


def spared(*members: str) -> pytest.MarkDecorator:
    """On a test with parameters: the members whose ids match a pattern are left to `make test-all`.

    Named is what the members that stay stand for, most of it for the time it takes to compile; `leave` marks them.
    """
    return pytest.mark.spared(*members)


def leave(items: list[pytest.Item], whole: bool) -> None:
    """Marks as slow what `spared` names.

    Raises:
      pytest.UsageError: a pattern matches no member, and the files were collected `whole`.
    """
    unmatched: dict[int, tuple[str, set[str]]] = {}
    for item in items:
        for mark in item.iter_markers("spared"):
            _, left = unmatched.setdefault(id(mark), (item.nodeid, set(mark.args)))
            matching = {one for one in mark.args if fnmatch.fnmatchcase(item.callspec.id, one)}
            left -= matching
            if matching:
                item.add_marker(pytest.mark.slow)
    for test, patterns in unmatched.values():
        if patterns and whole:
            raise pytest.UsageError(f"{test}: spared names {sorted(patterns)}, which are no members of it")
