"""A run imports nothing before its first update that only its report needs."""

from __future__ import annotations

import subprocess
import sys

LATER = ("matplotlib", "scipy.stats", "sklearn")


def test_a_run_starts_without_what_its_report_needs() -> None:
    code = (
        f"import sys, mmbc_jax.train, mmbc_jax.runs.pipeline; print([m for m in {LATER} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout.strip() == "[]"
