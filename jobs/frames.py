"""Read a traceback that is kept as text: which function of the application it came from, and what to fold away.

Pure text work. The frame that names a failure has no line number: an edit further up the file moves the line, and the
failure is still the same one.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

FRAME = re.compile(r'^ *\|? *File "(?P<path>[^"\n]+)", line (?P<line>\d+)(?:, in (?P<function>.+))?$')

OURS = tuple(f"{Path(__file__).resolve().parent.parent / name}/" for name in ("jobs", "outbox"))
STANDARD = tuple({sysconfig.get_path(name) + "/" for name in ("stdlib", "platstdlib")})


class Fold(NamedTuple):
    """Some lines of a traceback in a row."""

    folded: bool
    """They are a library's: shown on demand."""
    frames: int
    text: str


def top_frame(traceback: str) -> str:
    """`path in function` of the application's last frame before the error; empty where there is no frame."""
    last = ours = None
    for line in reversed(traceback.splitlines()):
        if (match := FRAME.match(line)) is None:
            continue
        last = last or match
        if is_application(match["path"]):
            ours = match
            break
    frame = ours or last
    return "" if frame is None else f"{short(frame['path'])} in {frame['function'] or '?'}"[:300]


@lru_cache(1024)
def is_application(path: str) -> bool:
    """Whether a file is neither Python's, nor installed, nor ours."""
    if path.startswith("<") or "/site-packages/" in path or "/dist-packages/" in path:
        return False
    return not path.startswith((*OURS, *STANDARD))


@lru_cache(1024)
def short(path: str) -> str:
    """A path as seen from where Python imports it."""
    inside = [folder for entry in sys.path if entry and path.startswith(folder := entry.rstrip("/") + "/")]
    return path[len(max(inside, key=len)) :] if inside else path


def folds(traceback: str) -> list[Fold]:
    """The whole text in order, the frames that are not the application's set apart."""
    pieces = groupby(_marked(traceback), key=lambda piece: piece[0])
    found = []
    for folded, group in pieces:
        lines = [line for _, line in group]
        found.append(Fold(folded, sum(FRAME.match(line) is not None for line in lines), "\n".join(lines)))
    # A traceback without a frame of the application is shown as it is.
    return found if any(fold.frames and not fold.folded for fold in found) else [Fold(False, 0, traceback)]


def _marked(traceback: str) -> Iterator[tuple[bool, str]]:
    """Each line, and whether it belongs to a frame to fold: the line of the frame and the indented ones below it."""
    folding = False
    for line in traceback.splitlines():
        if (match := FRAME.match(line)) is not None:
            folding = not is_application(match["path"])
        elif not line.startswith("    "):
            folding = False
        yield folding, line
