"""`report.html` of a study: its report in one file that fetches nothing, the figures folded in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from markdown_it import MarkdownIt

from mmbc_jax.core.files import write_atomic
from mmbc_jax.report.web import markup
from mmbc_jax.report.web.run_page import NAME

ROOM = 9_000_000  # bytes of pictures
_IMAGE = re.compile(r'<p><img src="([^"]+)" alt="([^"]*)"\s*/?></p>')
_HEADING = re.compile(r"<h2>(.*?)</h2>")


def write(path: Path, report: Path, runs: Mapping[str, Path]) -> Path:
    """Writes the page.

    Args:
      path: of the page.
      report: the study's report in markdown, with its figures in a folder beside it.
      runs: {name: work directory} of its finished runs, whose own pages are linked to where they are below.
    """
    title, _, text = report.read_text("utf-8").removeprefix("# ").partition("\n")
    body = MarkdownIt("commonmark").enable("table").render(text)
    body = body.replace("<table>", '<div class="wide"><table class="study">').replace(
        "</table>", "</table></div>"
    )
    body = _folded(body, report.parent)
    names: list[str] = []

    def anchored(found: re.Match[str]) -> str:
        names.append(found.group(1))
        return f'<h2 id="part{len(names)}">{found.group(1)}</h2>'

    body = _HEADING.sub(anchored, body) + _runs(path.parent, runs)
    links = [(f"part{i + 1}", name) for i, name in enumerate(names)] + [("runs", "runs")]
    page = markup.document(title, body, links)
    write_atomic(path, lambda file: file.write(page.encode()))
    return path


def _folded(body: str, folder: Path) -> str:
    """The pictures as part of the page, each under its name; those beyond `ROOM` are named alone."""
    used = 0

    def folded(found: re.Match[str]) -> str:
        nonlocal used
        path, name = folder / found.group(1), found.group(2)
        if not path.is_file():
            return f'<p class="note">{name}: {found.group(1)} is not there.</p>'
        content = path.read_bytes()
        used += len(content)
        if used > ROOM:
            return f'<p class="note">{name}: in {found.group(1)}, for which this page has no room.</p>'
        image = f'<figure><img src="{markup.data_uri(content, "image/png")}" alt="{name}"></figure>'
        return f"<details><summary>{name}</summary>{image}</details>"

    return _IMAGE.sub(folded, body)


def _runs(folder: Path, runs: Mapping[str, Path]) -> str:
    there = {name: one / NAME for name, one in runs.items() if (one / NAME).is_file()}
    lines = []
    for name, page in there.items():
        place = page.relative_to(folder) if page.is_relative_to(folder) else page.resolve()
        lines.append(f'<li><a href="{markup.escaped(place.as_posix())}">{markup.escaped(name)}</a></li>')
    listed = f"<ul>{''.join(lines)}</ul>" if lines else ""
    return markup.section("Runs", markup.folded(f"{len(lines)} pages of single runs", listed), "runs")
