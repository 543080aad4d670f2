"""HTML made of strings: one file that fetches nothing."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from importlib import resources

MOST_BYTES = 15_000_000
"""Of a page."""


def escaped(text: object) -> str:
    """A text as HTML, in attributes, too."""
    return html.escape(str(text), quote=True)


def data_uri(content: bytes, kind: str) -> str:
    """A file inside of the page; `kind` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], classes: Iterable[str] = (), kind: str = "figures"
) -> str:
    """A table that scrolls by itself where it is wider than the page.

    Args:
      headings: texts.
      rows: texts, the first of each its name.
      classes: of each row, where they have any.
      kind: class of the table: `figures` has numbers, set to the right; `facts` has texts.
    """
    given = iter(classes)
    head = "".join(f'<th scope="col">{escaped(text)}</th>' for text in headings)
    lines = []
    for first, *rest in rows:
        cells = "".join(f"<td>{escaped(text)}</td>" for text in rest)
        lines.append(
            f'<tr class="{escaped(next(given, ""))}"><th scope="row">{escaped(first)}</th>{cells}</tr>'
        )
    top = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f'<div class="wide"><table class="{kind}">{top}<tbody>{"".join(lines)}</tbody></table></div>'


def label(x: float, y: float, text: object, anchor: str = "middle", kind: str = "small") -> str:
    """A text of an SVG at (x, y), in pixels."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escaped(text)}</text>'


def drawing(width: float, height: float, name: str, content: str) -> str:
    """An SVG of a size in pixels, of which a page shows what it has room for."""
    box = f"0 0 {width:.0f} {height:.0f}"
    return f'<svg viewBox="{box}" role="img" aria-label="{escaped(name)}">{content}</svg>'


def section(heading: str, content: str, name: str = "") -> str:
    """A part of the page under a heading; nothing where there is no content. `name` is to link to."""
    if not content:
        return ""
    anchor = f' id="{escaped(name)}"' if name else ""
    return f"<section{anchor}><h2>{escaped(heading)}</h2>{content}</section>"


def folded(heading: str, content: str, opened: bool = False) -> str:
    """What is shown when its heading is clicked; nothing where there is no content."""
    if not content:
        return ""
    return f"<details{' open' if opened else ''}><summary>{escaped(heading)}</summary>{content}</details>"


def paragraphs(lines: Iterable[str]) -> str:
    """A paragraph a line."""
    return "".join(f"<p>{escaped(line)}</p>" for line in lines)


def document(title: str, body: str, links: Sequence[tuple[str, str]] = ()) -> str:
    """The whole page.

    Args:
      title: of it.
      body: HTML.
      links: (name, text) of its sections.
    """
    style, script = (
        resources.files(__package__).joinpath(name).read_text("utf-8") for name in ("page.css", "page.js")
    )
    there = [(name, text) for name, text in links if f'id="{name}"' in body]
    menu = "".join(f'<a href="#{name}">{escaped(text)}</a>' for name, text in there)
    menu = f"<nav>{menu}</nav>" if menu else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escaped(title)}</title><style>{style}</style></head>\n"
        f"<body><main><h1>{escaped(title)}</h1>{menu}{body}</main><script>{script}</script></body></html>\n"
    )
