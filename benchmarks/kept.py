"""Measurements kept one by one in a file, so that a run that was stopped goes on where it ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmbc_jax.core.files import plain


class Kept:
    """Records by name in a file of JSON lines, the first of which says what they were measured with.

    A file that was measured with something else is thrown away.

    Args:
      path: need not exist; None keeps nothing.
      identity: versions, number of cores, whatever makes two measurements comparable.
    """

    def __init__(self, path: Path | None, identity: Mapping[str, Any]):
        self.path, self.records = path, {}
        if path is None:
            return
        head = json.dumps(plain(dict(identity)), sort_keys=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        if lines[:1] == [head]:
            for line in lines[1:]:
                try:
                    self.records |= json.loads(line)
                except json.JSONDecodeError:
                    break  # stopped while it wrote
        kept = [json.dumps({name: record}) for name, record in self.records.items()]
        path.write_text("\n".join([head, *kept]) + "\n", encoding="utf-8")

    def add(self, name: str, record: Mapping[str, Any]) -> None:
        """Keeps a record, on disk when this returns."""
        self.records[name] = plain(dict(record))
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({name: self.records[name]}) + "\n")
