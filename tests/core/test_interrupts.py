"""Ctrl-C at the places where Python would print a screenful, die or forget it; in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BEGIN = "import os, signal, sys, time; from mmbc_jax.core import interrupts as i; i.install();"
INT = "os.kill(os.getpid(), signal.SIGINT)"
CASES = {
    "importing": f"{BEGIN} sys.path.insert(0, '.'); import asked; print('went on')",
    "forgotten": f"""{BEGIN}
class Lost:
    def __del__(self):
        {INT}
try:
    lost = Lost(); del lost; time.sleep(5); print('went on')
except KeyboardInterrupt:
    print('error: interrupted', file=sys.stderr); i.leave()
""",
}


def run(folder, *argv):
    return subprocess.run(
        [sys.executable, *argv],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("name", CASES)
def test_it_ends_with_one_line(name, tmp_path):
    (tmp_path / "asked.py").write_text(f"import os, signal\n{INT}\n")
    done = run(tmp_path, "-c", CASES[name])
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")


def test_ignored_signals_stay_ignored(tmp_path):
    """As `nohup` and shells that start something in the background ask for."""
    code = BEGIN.replace("i.install()", f"signal.signal(signal.SIGINT, signal.SIG_IGN); i.install(); {INT}")
    assert run(tmp_path, "-c", code + " print(i.received())").stdout == "False\n"


def test_a_command_line_of_the_package(tmp_path):
    """In the code of the configuration, where it is not that file's own error."""
    (tmp_path / "config.py").write_text(f"import os, signal\ndef get_config():\n    {INT}\n    return 3\n")
    done = run(tmp_path, "-m", "mmbc_jax.train", "--config", "config.py")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")
