"""Where in the author's code something happened: ``sagas/order.py:57``.

A place is a code object and an instruction's offset: cheap to take on every command of a replay,
and put into words only when somebody has to read it.
"""

import sys
from types import CodeType, FrameType, TracebackType
from typing import TypeAlias

Place: TypeAlias = tuple[CodeType, int, str]

#: Frames of this package are never the author's; the standard library's neither.
_OURS = "orchestrator"
#: Below such a frame is the engine, not the author.
_BOTTOM = "orchestrator.core.execution", frozenset({"apply", "query", "close"})
_authored: dict[CodeType, bool] = {}


def is_authored(frame: FrameType) -> bool:
    """Return whether `frame` runs code that is neither the standard library's nor ours."""
    known = _authored.get(frame.f_code)
    if known is None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        known = package == "__main__" or not (
            package == _OURS or package in sys.stdlib_module_names
        )
        _authored[frame.f_code] = known
    return known


def place_of_caller() -> Place | None:
    """Return the innermost place of the author's code on this thread's stack, or None."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if is_authored(frame):
            return place_of_frame(frame)
        if is_bottom(frame):
            return None
        frame = frame.f_back
    return None


def is_bottom(frame: FrameType) -> bool:
    """Return whether what is below `frame` on the stack is the engine's."""
    module, names = _BOTTOM
    return frame.f_code.co_name in names and frame.f_globals.get("__name__") == module


def place_of_traceback(traceback: TracebackType | None) -> Place | None:
    """Return the innermost place of the author's code that the exception passed through."""
    found = None
    while traceback is not None:
        if is_authored(traceback.tb_frame):
            found = _place(traceback.tb_frame, traceback.tb_lasti)
        traceback = traceback.tb_next
    return found


def place_of_frame(frame: FrameType) -> Place:
    """Return where `frame` stands."""
    return _place(frame, frame.f_lasti)


def _place(frame: FrameType, offset: int) -> Place:
    return frame.f_code, offset, str(frame.f_globals.get("__name__", ""))


def in_words(place: Place | None) -> str:
    """Return "<path from the package's root>:<line>", or "" for no place."""
    if place is None:
        return ""
    code, offset, module = place
    path = code.co_filename.replace("\\", "/").split("/")
    depth = module.count(".") + (2 if path[-1] == "__init__.py" else 1)
    return f"{'/'.join(path[-depth:])}:{_line(code, offset)}"


def _line(code: CodeType, offset: int) -> int:
    for start, end, line in code.co_lines():
        if start <= offset < end and line is not None:
            return line
    return code.co_firstlineno
