"""Which members of a product of plug-ins and settings every `make test` walks."""

from __future__ import annotations

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
