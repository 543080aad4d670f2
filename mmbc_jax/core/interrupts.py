"""Ctrl-C in a command line: one line and exit code 130, whatever it meets.

Python turns SIGINT into a KeyboardInterrupt wherever the interpreter happens to be. While libraries are imported that
is a screenful of their lines, or the end of the process inside their C++; inside the garbage collector's callbacks it
is printed and forgotten. So a process that was started as one of the package's commands ends at once while it
imports, when there is nothing to save, and is asked again where the exception would be lost.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

CTRL_C = 130
"""Exit code of a command line that Ctrl-C ended: 128 + SIGINT."""
_IMPORTING = "<frozen importlib"
_LOSE_EXCEPTIONS = ("_xla_gc_callback", "__del__")
_AGAIN_SECONDS = 0.02

_received = False


def received() -> bool:
    """Whether this process has had a SIGINT, which tells it from a KeyboardInterrupt that some code raises."""
    return _received


def install() -> None:
    """Handles SIGINT from now on; left alone where the process was started to ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)


def interrupt() -> NoReturn:
    """Raises KeyboardInterrupt for a SIGINT that another handler has got."""
    global _received
    _received = True
    raise KeyboardInterrupt


def leave() -> NoReturn:
    """Ends the process at once, with what was printed; nothing that libraries do at an exit can fail then."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(CTRL_C)


def _interrupted(number: int, frame: FrameType | None) -> None:
    frames = []
    while frame is not None:
        frames.append(frame.f_code)
        frame = frame.f_back
    if any(code.co_name in _LOSE_EXCEPTIONS for code in frames):
        again = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()
        return
    if any(code.co_filename.startswith(_IMPORTING) for code in frames):
        os.write(2, b"error: interrupted\n")
        leave()
    interrupt()
