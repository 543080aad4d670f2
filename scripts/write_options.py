"""Writes docs/options.md, the table of every option, from the options' own statements.

python scripts/write_options.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmbc_jax.core import registry
from mmbc_jax.core.options import Described, describe
from mmbc_jax.runs.sections import CLONING, SECTIONS, RunOptions, learner_options

PAGE = Path(__file__).parents[1] / "docs" / "options.md"
_INTRO = """# Options

Every field of a configuration, as `--config.SECTION.FIELD=VALUE` on the command line. Written by
`scripts/write_options.py` from the options' own statements. *Swept* marks traced scalars: a `sweep.grid` varies them
inside one compilation. Stages name parts of their own as `plain.actor.name=...`, `finetune.learner.name=...`. Beyond
what is said here, numbers are finite in float32, and whole numbers at most 2^31 - 1.
"""


def sections() -> Iterator[tuple[str, list[Described]]]:
    """(heading, rows) of every section and plug-in."""
    yield "Top", describe(RunOptions, "")
    for name, options in SECTIONS.items():
        yield f"`{name}`", describe(options, name)
    for name in CLONING:
        yield f"`{name}`", describe(learner_options(name), name)
    for kind in registry.FOLDERS:
        for name in registry.available(kind):
            options = registry.find(kind, name).options
            section = f"instruments.{name}" if kind == "diagnostic" else kind
            rows = describe(options, section) if options and name not in CLONING else []
            if rows:
                yield f"{kind} `{name}`", rows


def table(rows: list[Described]) -> str:
    """Rows as a markdown table."""
    lines = ["| option | default | allowed | swept | what |", "|---|---|---|---|---|"]
    for row in rows:
        default = repr(row.default).replace("|", "\\|")
        swept = "yes" if row.traced else ""
        lines.append(f"| `{row.path}` | `{default}` | {row.allowed} | {swept} | {row.help} |")
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    return (
        "\n\n".join([_INTRO.rstrip(), *(f"## {title}\n\n{table(rows)}" for title, rows in sections())]) + "\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
