"""Other people's programs, run from their own code: one file a peer (see `benchmarks.comparison`)."""

from pathlib import Path

NAMES = tuple(sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py")))
"""The peers, found by their files; nothing of them is imported here."""
