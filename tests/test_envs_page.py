"""`python -m mmbc_jax.envs`."""

from __future__ import annotations

import json

import pytest

from mmbc_jax.core.errors import UserError
from mmbc_jax.envs import __main__ as page


def test_a_task_is_listed(capsys):
    assert page.main(["landscape", "--json", "--episodes", "2"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["name"], found["observes"], found["actions"]) == ("landscape", "2", 2)
    assert (found["horizon"], found["modes"], found["success"]) == (16, 4, [1.0] * 4)
    assert found["cost"]["steps_per_second"] > 0


def test_a_row_without_an_expert_or_without_a_build():
    assert page.row(page.Task("far", missing="field: why")) == ["far", *["–"] * 7]
    cost = page.experts.Cost(1.26, 12345.6)
    assert page.row(page.Task("near", "3", 2, 10, 0, (), cost))[4:] == ["–", "–", "1.3 s", "12,346"]
    assert page.row(page.Task("near", "3", 2, 10, 2, (0.5, 1.0), cost))[5] == "0.50–1.00"


def test_a_picture_of_the_expert(tmp_path, capsys):
    assert page.main(["landscape", "--render", str(tmp_path / "a.png")]) == 0
    assert "shows 4 episodes" in capsys.readouterr().out
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["landscape", "--render", "a.gif"], "must end in .mp4 or .png"),
        (["--render", "a.mp4"], "--render needs the name of one task"),
        (["landscape", "--episodes", "0"], "--episodes 0 must be at least 1"),
        (["landscape", "--seed", "-1"], "--seed -1 must be at least 0"),
        (["nowhere"], "nowhere"),
        (["landscape", "--colour"], "unknown argument '--colour'"),
    ],
)
def test_what_cannot_be(argv, said):
    with pytest.raises(UserError, match=said.replace(".", r"\.")):
        page.main(argv)
