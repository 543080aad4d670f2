"""report.html as a browser shows it, and what it says against the summary that it is made from."""

from __future__ import annotations

import json
import re
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from mmbc_jax.core.errors import UserError, WorkdirError
from mmbc_jax.diagnostics.modes import staircase
from mmbc_jax.report import __main__ as command
from mmbc_jax.report import clips, differences, films, style
from mmbc_jax.report.commands import given
from mmbc_jax.report.loaded import loaded
from mmbc_jax.report.web import charts, comparison, explorer, markup, run_page
from mmbc_jax.study import study_page
from tests.report._browser import MISSING, browser
from tests.report.test_differences import result
from tests.toys.landscape import finished_run

WIDTHS = (1280, 400)
OVERFLOW = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
LIT = "return Array.from(document.querySelectorAll('.paths path.lit')).map(p => p.getAttribute('class'))"


@pytest.fixture(scope="module")
def page():
    return finished_run() / "report.html"


@pytest.fixture(scope="module")
def pages(tmp_path_factory, page):
    """The page of a run, of a comparison of two, and of a study."""
    folder, run = tmp_path_factory.mktemp("pages"), loaded(finished_run())
    compared = comparison.write(folder / "cmp.html", ["a", "a"], [run, run])
    report = folder / "report.md"
    style.save(style.new_figure(2, 2), folder / "report-figures" / "one.png")
    table = "| K | SR |\n|---|---:|\n| 4 | 0.5 [0.4, 0.6] |\n"
    report.write_text(f"# a study\n\n## part\n\nWhy?\n\n{table}\n![a figure](report-figures/one.png)\n")
    return [page, compared, study_page.write(folder / "report.html", report, {"x/y": finished_run()})]


def test_a_page_is_whole_and_fetches_nothing(pages):
    for path in pages:
        text = path.read_text()
        assert path.stat().st_size < markup.MOST_BYTES
        assert text.endswith("</html>\n")
        links = set(re.findall(r'(?:src|href)="(?!data:|#)([^"]*)"', text))
        assert all(
            link.endswith("/run/report.html") for link in links
        )  # of a study, to the pages of its runs
        assert "@import" not in text
        assert "http" not in re.sub(r"data:[^\"]*", "", text).replace("http://www.w3.org", "")


def test_a_page_has_what_the_summary_has(page):
    text, found = page.read_text(), json.loads((page.parent / "summary.json").read_text())
    for name, stage in found["stages"].items():
        success = stage["success_rate"]
        assert f"{name} succeeds in {style.interval(success)} of episodes" in text
        assert re.search(
            rf"<td>{success['mean']:.3f} \[{success['ci95'][0]:.2f}, {success['ci95'][1]:.2f}\]</td>", text
        )
    run = loaded(page.parent)
    drawn = sum(len(rollouts.path) for *_, rollouts in run.evaluated())
    assert len(re.findall(r'<path class="(?:m\d|z\d|failed)', text)) == drawn
    assert found["run"]["command"] in text
    assert f"jax {found['run']['versions']['jax']}" in text
    assert "dashed: held out, " in text
    assert text.count("<video") == run.results["finetune"].num_modes
    assert re.search(r">data.episodes</th><td>\d+</td><td>24</td>", text)  # as the toy configuration sets it


def test_a_value_in_a_page_cannot_be_markup():
    made = markup.table(["a<b"], [["<script>", "&"]])
    assert "<script>" not in made
    assert "&lt;script&gt;" in made


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_pages_work_in_a_browser(pages):
    """No word in the console, nothing wider than the window, and the selector lights one mode or one z."""
    with browser() as one:
        for path in pages:
            for width in WIDTHS:
                one.open(path, width)
                wide, shown = one.run(OVERFLOW)
                assert (wide, shown) == (width, width), path
                assert one.said() == [], path
        one.open(pages[0], 1280)
        assert one.run(LIT) == []
        one.run("document.querySelector('button[data-lit=\"z1\"].chip').click()")
        lit = one.run(LIT)
        assert lit
        assert all("z1" in each.split() for each in lit)
        assert len(lit) == one.run("return document.querySelectorAll('.paths path.z1').length")
        assert one.run("return document.querySelector('.said').textContent").startswith(
            "z 1: discover succeeds in"
        )
        head = "document.querySelector('table.map thead button')"
        one.run(f"{head}.click()")
        mode = one.run(f"return {head}.dataset.lit")
        assert len(one.run(LIT)) == one.run(f"return document.querySelectorAll('.paths path.{mode}').length")
        assert one.run(f"return {head}.getAttribute('aria-pressed')") == "true"
        assert one.run("return document.querySelector('.said').textContent").startswith("mode ")
        one.run(f"{head}.click()")
        assert one.run(LIT) == []
        seconds = (
            "return Array.from(document.querySelectorAll('video')).map(v => v.error ? v.error.message : '')"
        )
        assert set(one.run(seconds)) == {""}
        assert one.said() == []


def test_without_the_package_for_videos_the_page_says_which_extra_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    made = films.films(loaded(finished_run()))
    assert "There are none" in made
    assert "mmbc-jax[video]" in made
    assert "<video" not in made


def test_films_are_of_the_policy_that_is_taken_home():
    def stages(**modes):
        return [(name, SimpleNamespace(name=name, num_modes=count)) for name, count in modes.items()]

    for modes, label in (
        ({"bc": 1, "baseline": 1}, "bc"),
        ({"bc": 1, "baseline": 1, "discover": 4, "finetune": 4, "plain": 1}, "finetune"),
        ({"bc": 1, "plain": 1}, "bc"),
        ({"baseline": 1}, "baseline"),
    ):
        assert films._chosen(stages(**modes))[0] == label


@pytest.mark.parametrize(
    ("success", "mode", "first"),
    [
        ((0, 1, 1, 1), (0, 3, 0, 0), 2),  # not the first success, whose mode is rare
        ((1, 0, 0, 0), (1, 0, 0, 0), 0),  # failures do not count
        ((0, 1, 1, 0), (-1, -1, -1, -1), 1),  # modes without labels
        ((0, 0, 0, 0), (0, 1, 1, 1), 0),
    ],
)
def test_a_film_is_of_what_its_command_mostly_does(success, mode, first):
    assert films._typical(np.array(success, bool), np.array(mode)) == first


def test_films_are_of_the_paths_that_were_recorded():
    """The last frame holds more of the path than the first, and every frame is of even sides."""
    run = loaded(finished_run())
    rollouts = next(r for label, _, _, r in run.evaluated() if label == "finetune")
    (first, *_) = films._drawn(run, rollouts, [0], 2)
    assert first.z == 0
    assert all(side % 2 == 0 for side in first.frames[0].shape[:2])
    scene = np.abs(first.frames[0].astype(int) - first.frames[-1]).sum()
    assert scene > 0
    content = clips.encoded(first.frames, first.fps)
    assert content[4:8] == b"ftyp"


def test_the_command_writes_pages(tmp_path, capsys):
    out = tmp_path / "new" / "x.html"
    out.parent.mkdir()
    assert command.main([str(finished_run()), "--out", str(out), "--videos", "none"]) == 0
    assert "has 1 run" in capsys.readouterr().out
    assert "<video" not in out.read_text()
    with pytest.raises(UserError, match="several runs need --out"):
        command.main([str(finished_run())] * 2)
    with pytest.raises(UserError, match="must end in .html"):
        command.main([str(finished_run()), "--out", str(tmp_path / "x.pdf")])
    with pytest.raises(WorkdirError, match="holds no config.json"):
        command.main([str(tmp_path), "--out", str(out)])
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(finished_run() / "config.json", begun)
    with pytest.raises(WorkdirError, match="no summary.json yet"):
        command.main([str(begun)])


def test_runs_are_paired_over_the_seeds_that_both_have():
    """Differences of seeds .25 and .5 by hand; one seed of equal starts has an interval over its episodes."""
    a = result("bc", [[1, 0, 0, 1], [0, 0, 1, 1]])
    b = result("bc", [[0, 0, 1, 1], [1, 0, 1, 1], [1, 1, 1, 1]])
    success, *_ = differences.between_runs(a, b, [(0, 1), (1, 2)], same_starts=False)
    assert (success["figure"], success["mean"], success["seeds"]) == ("success_rate", 0.375, 2)
    low, high = success["ci95"]
    assert -1.0 <= low < 0.25 < 0.5 < high <= 1.0
    one, *_ = differences.between_runs(a, b, [(0, 2)], same_starts=True)
    assert (one["mean"], one["episodes"]) == (0.5, 4)
    assert one["ci95"][0] < 0.5 < one["ci95"][1]
    none, *_ = differences.between_runs(a, b, [(0, 2)], same_starts=False)
    assert none["ci95"] is None


def test_a_chart_has_ticks_where_its_values_are():
    line = charts.Line(np.array([0.0, 10.0]), np.array([1.0, 1000.0]))
    made = charts.chart("a", "m", [line], "steps")
    assert "m; logarithmic" in made
    assert {">1<", ">10<", ">100<", ">1k<"} <= set(re.findall(r">[\d.k]+<", made))
    places = [
        tuple(map(float, p.split(","))) for p in re.search(r'points="([^"]+)" fill="none"', made)[1].split()
    ]
    tick = {text: float(y) for y, text in re.findall(r'y="([\d.]+)" text-anchor="end">([\dk]+)<', made)}
    np.testing.assert_allclose([places[0][1], places[1][1]], [tick["1"] - 3, tick["1k"] - 3], atol=0.11)
    assert "logarithmic" not in charts.chart("a", "m", [line], "steps", (0.0, 1.0))
    assert charts.short(1.7501, 0.0005) == "1.7501"


def test_pictures_without_room_are_named(tmp_path, monkeypatch):
    for name in ("a", "b", "curves_bc"):
        style.save(style.new_figure(2, 2), tmp_path / f"{name}.png")
    assert run_page.pictures(tmp_path).count("<img") == 2
    monkeypatch.setattr(run_page, "_ROOM", (tmp_path / "a.png").stat().st_size)
    made = run_page.pictures(tmp_path)
    assert made.count("<img") == 1
    assert "b.png" in made


MERGED = {
    # columns: two modes and failures; z 1 and 3 were merged away, z 4 never succeeds
    "z_mode_table": {"per_seed": [[[0, 7, 1], [0, 0, 0], [8, 0, 0], [0, 0, 0], [0, 0, 8], [5, 3, 0]]]},
    "success_per_z": {"per_seed": [None, [0.875, None, 1.0, None, 0.0, 1.0]]},
}


def test_commands_that_were_merged_away_have_no_row():
    table = np.asarray(MERGED["z_mode_table"]["per_seed"][0])
    np.testing.assert_array_equal(staircase(table), [2, 5, 0, 4])
    page = explorer.zmap(MERGED, ("left", "right"))
    assert re.findall(r'<tr data-z="z(.)"', page) == ["2", "5", "0", "4"]
    assert "2 of 6 z were merged away or not given" in page
    assert "merged away" not in explorer.zmap({"z_mode_table": {"per_seed": [table[[0, 2]].tolist()]}}, "ab")


def test_commands_that_were_given_are_those_with_episodes():
    assert given(MERGED, 6) == [0, 2, 4, 5]
    assert given({}, 3) == [0, 1, 2]


def test_commands_that_the_last_stage_lacks_are_offered_apart():
    stage = SimpleNamespace(num_modes=6)
    page = explorer._commands([("discovery", stage, {}, None), ("fine-tuned", stage, MERGED, None)])
    buttons, merged = page.split("<select")
    assert re.findall(r'data-lit="z(.)"', buttons) == ["0", "2", "4", "5"]
    assert re.findall(r'value="z(.)"', merged) == ["1", "3"]
    assert "<select" not in explorer._commands([("fine-tuned", stage, MERGED, None)])
    many = explorer._commands([("discovery", SimpleNamespace(num_modes=99), {}, None)])
    assert many.count("<option") == 100
    assert "<button" not in many
