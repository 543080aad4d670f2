"""`report.html` of a run: what it found, in one file that fetches nothing."""

from __future__ import annotations

from pathlib import Path

from mmbc_jax.core.files import write_atomic
from mmbc_jax.report.finished import Finished
from mmbc_jax.report.web import markup, run_sections
from mmbc_jax.report.web.curves_view import curves
from mmbc_jax.report.web.explorer import explorer

NAME = "report.html"
# Figures that the page draws itself, so that they can be read and lit.
_DRAWN_HERE = ("curves_", "trajectories_", "z_modes_")
_ROOM = 9_000_000  # bytes of pictures in a page
LINKS = (
    ("results", "results"),
    ("episodes", "episodes"),
    ("verdicts", "verdicts"),
    ("curves", "learning curves"),
    ("figures", "figures"),
    ("data", "data"),
    ("configuration", "configuration"),
    ("costs", "costs"),
)


def write(path: Path, run: Finished, figures: Path, films: str = "") -> Path:
    """Writes the page of a run.

    Args:
      path: of the file.
      run: what it shows.
      figures: folder with its PNG files.
      films: HTML of videos.
    """
    env = run.found["run"]["env"] or "demonstrations alone"
    title = f"{env}: {', '.join(run.found['stages'])}"
    text = markup.document(title, body(run, figures, films), LINKS)
    write_atomic(path, lambda file: file.write(text.encode()))
    return path


def body(run: Finished, figures: Path, films: str = "") -> str:
    """The sections of a run."""
    found = run.found
    learned = "".join(markup.folded(f"{stage}", content, opened=True) for stage, content in curves(run))
    parts = (
        run_sections.glance(found),
        markup.section("Results", run_sections.results(found), "results"),
        markup.section("What the episodes did", explorer(run, films), "episodes"),
        markup.section("Verdicts", run_sections.verdicts(found), "verdicts"),
        markup.section("Learning curves", learned, "curves"),
        markup.section("Figures", pictures(figures), "figures"),
        markup.section("Data", run_sections.data(found), "data"),
        markup.section("Configuration", _configuration(run), "configuration"),
        markup.section("Costs, device and versions", run_sections.costs(found), "costs"),
    )
    return "".join(parts)


def _configuration(run: Finished) -> str:
    differs = run_sections.configuration(run.setup.config)
    note = "Fields that differ from the neutral configuration of the same plug-ins; all are in config.json."
    return f'{run_sections.command(run.found)}<p class="note">{note}</p>{differs}'


def pictures(folder: Path) -> str:
    """The PNG figures of a folder that the page does not draw itself, as far as there is room for them."""
    shown, left_out, used = [], [], 0
    for path in sorted(folder.glob("*.png")):
        if path.name.startswith(_DRAWN_HERE):
            continue
        content = path.read_bytes()
        used += len(content)
        if used > _ROOM:
            left_out.append(path.name)
            used -= len(content)
            continue
        image = f'<img src="{markup.data_uri(content, "image/png")}" alt="{markup.escaped(path.stem)}">'
        shown.append(f"<figure>{image}<figcaption>{markup.escaped(path.stem)}</figcaption></figure>")
    if left_out:
        shown.append(
            markup.paragraphs([f"Too large for this page, and in {folder.name}/: {', '.join(left_out)}."])
        )
    return "".join(shown)
