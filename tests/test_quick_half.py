"""What `spared` names is left to `make test-all`, and names that match nothing are an error."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.toys.products import leave, spared


class Item:
    """What `leave` looks at of a collected test."""

    def __init__(self, member: str, mark: pytest.MarkDecorator) -> None:
        self.nodeid, self.callspec, self.marks = f"test_x[{member}]", SimpleNamespace(id=member), [mark.mark]

    def iter_markers(self, name: str) -> list[pytest.Mark]:
        return [mark for mark in self.marks if mark.name == name]

    def add_marker(self, mark: pytest.MarkDecorator) -> None:
        self.marks.append(mark.mark)

    @property
    def slow(self) -> bool:
        return any(mark.name == "slow" for mark in self.marks)


def test_members_that_a_pattern_matches_are_slow():
    mark = spared("unet", "flow-*")
    items = [Item(member, mark) for member in ("mlp", "unet", "flow-mlp", "mean_flow-mlp")]
    leave(items, whole=True)
    assert [item.slow for item in items] == [False, True, True, False]


def test_a_name_that_no_member_has_is_an_error_where_all_members_were_collected():
    def items() -> list[Item]:
        mark = spared("unet", "gone")
        return [Item("unet", mark), Item("mlp", mark)]

    with pytest.raises(pytest.UsageError, match=r"test_x\[unet\]: spared names \['gone'\]"):
        leave(items(), whole=True)
    leave(items(), whole=False)
