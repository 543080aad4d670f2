"""`python -m tests.runs._command WORKDIR STAGE --config.KEY=VALUE ...`: the training command on the toy landscape.

Where STAGE is not `-`, this process gets SIGTERM when that stage is about to train.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from mmbc_jax import train
from mmbc_jax.runs.programs import Programs
from tests.toys import landscape as toy

CONFIG = "from tests.toys.landscape import toy_config as get_config\n"


def main(workdir: str, stage: str, *arguments: str) -> int:
    compile_epoch = Programs.epoch

    def epoch(self, of, *args):
        if of.name == stage:
            os.kill(os.getpid(), signal.SIGTERM)
        return compile_epoch(self, of, *args)

    Programs.epoch = epoch
    config = Path(workdir).with_suffix(f".{os.getpid()}.py")
    config.write_text(CONFIG)
    with toy.unchecked():
        return train.main(["--config", str(config), "--workdir", workdir, *arguments])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
