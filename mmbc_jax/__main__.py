"""Lists what there is: `python -m mmbc_jax [--list KIND]`.

Without an argument the commands, with `--list policies` and so on the plug-ins of a kind that a configuration can
name, with `--list configs` the configurations below this folder.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence

from mmbc_jax import cli
from mmbc_jax.core import listing
from mmbc_jax.core.errors import UserError

_WIDEST_NAME = 34
_WIDTH = 118


def _shown(entries: Mapping[str, str], width: int) -> str:
    """Names with what is said of them, in lines of at most `width` columns."""
    indent = min(max((len(name) for name in entries), default=0), _WIDEST_NAME, width // 2) + 2
    lines = []
    for name, text in entries.items():
        first = f"{name:<{indent}}" if len(name) < indent else f"{name}\n{'':<{indent}}"
        lines.append(
            first
            + textwrap.fill(text, width, initial_indent=" " * indent, subsequent_indent=" " * indent)[indent:]
        )
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit code."""
    parser = cli.Parser("python -m mmbc_jax", __doc__)
    parser.add_argument("--list", metavar="KIND", help=f"one of {', '.join(listing.kinds())}")
    parser.add_argument("command", nargs="?", help="none: a command is run by its own name, as listed")
    flags = parser.parse_args(list(argv))
    width = min(shutil.get_terminal_size((_WIDTH, 24)).columns, _WIDTH)
    if flags.command is not None:
        known = listing.commands()
        asked = (
            flags.command
            if flags.command.startswith(f"{listing.PACKAGE}.")
            else f"{listing.PACKAGE}.{flags.command}"
        )
        hint = f"type python -m {asked}" if asked in known else f"known are {', '.join(known)}"
        raise UserError(f"{flags.command!r} is no argument; {hint}")
    if flags.list is not None:
        found = listing.listed(flags.list)
        if not found:
            raise UserError(f"--list {flags.list}: there are none here; run it in the repository's folder")
        print(_shown(found, width))
        return 0
    print("python -m COMMAND --help says what each of these takes:\n")
    print(_shown(listing.commands(), width))
    print(
        f"\npython -m mmbc_jax --list KIND names what a configuration can choose: {', '.join(listing.kinds())}."
    )
    return 0


if __name__ == "__main__":
    cli.run_main(main)
