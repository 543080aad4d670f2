import pytest

from mmbc_jax.diagnostics.modes import aggregate
from mmbc_jax.diagnostics.outcomes import without_success
from mmbc_jax.report import table
from mmbc_jax.report.summary import build_summary


def seed(rate, kept, **more):
    base = {
        "n": 100, "success_rate": rate, "wilson95": [rate - 0.05, rate], "modes_kept": kept,
        "exp_entropy": 2.5, "mode_entropy": 0.5, "mi_estimate": None, "mi_z_mode": 0.25, "commandable": 2,
        "sr_m": 0.125, "mc_08": 0.1, "dominant_mode": [0, 1],
    }  # fmt: skip
    return base | more


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def one_seed():
    run = {"timings": {"bmd": {"env_steps": 21_040_000, "wall_s": 640.4}, "reference": {"wall_s": 3.21}}}
    stages = {"reference": [seed(0.75, 24)], "bmd": [seed(0.95, 12)]}
    return build_summary([{"values": {}, "stages": stages}], run)


def test_rows_of_one_seed():
    first, second = table.rows(one_seed())
    assert first.cells == [
        "reference", "0.750 [0.66, 0.82]", "–", "24", "2.50", "0.50", "–", "0.25", "2", "0.12", "0.10", "–", "3.2",
    ]  # fmt: skip
    assert second.cells[:4] == ["bmd", "0.950 [0.89, 0.98]", "–", "12"]
    assert second.cells[-2:] == ["21M", "640"]
    assert not first.detail
    assert len(first.cells) == len(table.headings())


def test_rows_of_several_seeds_list_each():
    stages = {"bmd": [seed(0.9, 9), seed(1.0, 12)]}
    rows = table.rows(build_summary([{"values": {}, "stages": stages}], {"seeds": [3, 4]}))
    assert [row.cells[0] for row in rows] == ["bmd", "  seed 3", "  seed 4"]
    assert [row.cells[3] for row in rows] == ["10.5", "9", "12"]
    assert [row.cells[1] for row in rows[1:]] == ["0.900", "1.000"]
    assert [row.detail for row in rows] == [False, True, True]


def test_many_seeds_are_shown_by_their_extremes():
    stages = {"bmd": [seed(0.5 + 0.05 * i, i, mi_z_mode=None if i else 0.5) for i in range(8)]}
    rows = table.rows(build_summary([{"values": {}, "stages": stages}], {}))
    assert [row.cells[0] for row in rows] == ["bmd", "  lowest of 8", "  highest of 8"]
    assert [row.cells[3] for row in rows[1:]] == ["0", "7"]
    assert [row.cells[7] for row in rows[1:]] == ["0.50", "0.50"]
    assert [row.cells[6] for row in rows[1:]] == ["–", "–"]


def test_sweep_points_are_rows_and_shared_stages_appear_once(fake):
    summary = build_summary(fake.points(lams=(0.1, 0.3), seeds=1), {})
    names = [row.cells[0] for row in table.rows(summary)]
    assert names == ["reference", "lambda=0", "bmd, lam=0.1", "bmd, lam=0.3"]


def test_text_fits_and_holds_every_cell(fake):
    summary = build_summary(
        fake.points(seeds=3), {"timings": {"bmd": {"env_steps": 2.1e7, "wall_s": 12345.0}}}
    )
    lines = table.text(summary).splitlines()
    assert max(map(len, lines)) <= table.WIDTH
    assert "…" not in table.text(summary)
    body = "\n".join(lines)
    for row in table.rows(summary):
        line = next(line for line in lines if line.startswith(" " + row.cells[0]) or row.cells[0] in line)
        assert all(cell in body for cell in row.cells)
        assert row.cells[0].strip() in line


@pytest.mark.parametrize("width", [60, 80, 118])
def test_it_fits_the_terminal_in_blocks_without_losing_a_cell(fake, width):
    timing = {"bmd": {"env_steps": 2.1e7, "wall_s": 12345.0}}
    summary = build_summary(fake.points(lams=(0.1, 0.3), seeds=3), {"timings": timing})
    lines = table.text(summary, width).splitlines()
    assert max(map(len, lines)) <= width
    told = {cell for row in table.rows(summary) for cell in row.cells[1:]} - {"", "–"}
    assert not [cell for cell in told if not any(cell in line for line in lines)]
    assert (
        sum("bmd, lam=0.3" in line for line in lines) == len(table.blocks(summary, width)) - 1
    )  # the caption


def test_no_column_stands_alone_for_want_of_a_few_characters(fake):
    """A table that is a little too wide is set closer, and its caption takes the whole width."""
    summary = build_summary(fake.points(lams=(0.1, 0.3), seeds=3), {})
    wide, _ = table.blocks(summary, 200)
    width = table._wide(wide) - 3
    assert len(table.blocks(summary, width)) == 2
    lines = table.text(summary, width).splitlines()
    assert max(len(line) for line in lines if line.startswith("SR: ")) > width - 20


def test_success_that_a_task_does_not_define_is_a_dash():
    metrics = without_success({"n": 9, "success_rate": 0.0, "wilson95": [0.0, 0.3], "mean_reward": -1234.5})
    (row,) = table.rows({"stages": {"finetune": aggregate([metrics])}, "run": {}})
    assert row.cells[1:3] == ["–", "-1,234"]
    text = table.text({"stages": {"finetune": aggregate([metrics])}, "run": {}})
    assert "modes" not in text.split("SR: ")[0]  # columns that say nothing are left out
    assert "0.000" not in text


def test_a_name_in_square_brackets_is_not_taken_for_markup():
    stages = {"bmd [z]": [seed(0.9, 9)]}
    assert "bmd [z]" in table.text(build_summary([{"values": {}, "stages": stages}], {}))


def test_markdown_has_one_line_per_row():
    lines = table.markdown(one_seed()).splitlines()
    assert cells(lines[0]) == table.headings()
    assert set(lines[1]) <= set("|-:")
    assert [cells(line) for line in lines[2:4]] == [row.cells for row in table.rows(one_seed())]
    assert lines[1].count("|") == lines[2].count("|") == len(table.headings()) + 1
    assert lines[5] == table.CAPTION


def test_metrics_of_a_task_without_modes_are_dashes():
    entry = aggregate([{"n": 9, "success_rate": 1.0, "wilson95": [0.7, 1.0], "modes_kept": None}])
    row = table.rows({"stages": {"bc": entry}, "run": {}})[0]
    assert row.cells[1:5] == ["1.000 [0.70, 1.00]", "–", "–", "–"]


@pytest.mark.parametrize(
    ("values", "label"),
    [({"finetune.lam": 0.30000001, "env.k": 8}, "lam=0.3 k=8"), ({"lr": 3e-5}, "lr=3e-05")],
)
def test_point_label(values, label):
    assert table.point_label(values) == label


def test_what_failures_leave_open_is_shown_by_its_bounds():
    """SR_M of two seeds between (.2 + .4) / 2 and (1 + .8) / 2; one of them known would be no mean of both."""
    open_ones = [
        seed(0.9, 9, mc_08=None, mc_08_bounds=[0.2, 1.0]),
        seed(0.9, 9, mc_08=0.4, mc_08_bounds=[0.4, 0.8]),
    ]
    rows = table.rows(build_summary([{"values": {}, "stages": {"bmd": open_ones}}], {}))
    assert [row.cells[10] for row in rows] == [".30–.90", ".20–1", "0.40"]
    assert [row.cells[9] for row in rows] == ["0.12"] * 3
    unknown = [seed(0.9, 9, mc_08=None, mc_08_bounds=None)]
    assert table.rows(build_summary([{"values": {}, "stages": {"bc": unknown}}], {}))[0].cells[10] == "–"
