"""The page of whole jobs, and the neighbours beside them."""

from __future__ import annotations

import subprocess

from benchmarks import job
from benchmarks.timing import spread


def test_the_page_states_ratios_within_pairs_and_the_crowded_job():
    pairs = [
        {"other": {"job": other}, "ours": {"job": ours}} for other, ours in ((300.0, 100.0), (200.0, 100.0))
    ]
    result = {
        "pairs": pairs,
        "crowded": {"job": 150.0},
        "neighbours": 2,
        "ratio": {"job": spread([3.0, 2.0])},
        "cores": 2,
        "load": [0.25, 1.5],
    }
    page = job.page(result)
    assert "| job | 250.0 | 100.0 | 2.50 | 150.0 |" in page
    assert "load average 0.2 before, 1.5 after" in page


def test_neighbours_end_with_what_they_disturb(monkeypatch):
    started = []
    popen = subprocess.Popen

    def noted(*args, **kwargs):
        started.append(popen(*args, **kwargs))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", noted)
    with job.neighbours(2):
        assert [process.poll() for process in started] == [None, None]
    assert all(process.returncode for process in started)
