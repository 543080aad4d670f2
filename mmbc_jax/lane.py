"""The process of one lane, started by a run (`runs.lanes`): `python -m mmbc_jax.lane WORKDIR LANE PARENT`.

It compiles, waits on its input until the state that it starts from is saved, and trains the stages of the lane.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from mmbc_jax import cli
from mmbc_jax.core.config import from_plain
from mmbc_jax.core.errors import UserError
from mmbc_jax.core.files import read_sealed

_PR_SET_PDEATHSIG = 1


def _end_with(parent: int) -> None:
    """Has the system kill this process with its parent: a run that continues must not meet the old one's lanes."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(cli.INTERRUPTED)


def main(argv: Sequence[str]) -> int:
    """Trains a lane; returns the exit code.

    Args:
      argv: work directory of the run, name of the lane, process number of the run.
    """
    _end_with(int(argv[2]))
    cli.quiet()
    cli.compilation_cache()
    from mmbc_jax.runs import setup
    from mmbc_jax.runs.lanes import GO, chains
    from mmbc_jax.runs.loop import Interrupted
    from mmbc_jax.runs.pipeline import Pipeline
    from mmbc_jax.runs.resources import ran_out
    from mmbc_jax.runs.screen import PipedScreen
    from mmbc_jax.runs.sections import completed

    screen = PipedScreen(sys.stdout)
    sys.stdout = sys.stderr  # whatever else is printed is no message
    workdir, name = Path(argv[0]), argv[1]
    try:
        config = completed(from_plain(read_sealed(workdir / "config.json")))
        pipeline = Pipeline(setup.build(config), workdir, screen)
        lane = next(one for one in chains(pipeline.trained) if one.name == name)
        with pipeline.stop.installed():
            pipeline.prepare(lane)
            if sys.stdin.readline().strip() != GO:
                return cli.INTERRUPTED
            pipeline.run_lane(lane)
    except Interrupted:
        return cli.INTERRUPTED
    except Exception as error:
        said = error if isinstance(error, UserError) else ran_out(error, workdir)
        if said is None:
            raise
        screen.say(error=" ".join(str(said).split()))
        return cli.USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
