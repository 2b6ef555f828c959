"""Where in the author's code something happened: ``sagas/order.py:57``.

A place is a code object and an instruction's offset: cheap to take on every command of a replay,
and put into words only when somebody has to read it.
"""

import sys
from enum import Enum
from types import CodeType, FrameType, TracebackType
from typing import TypeAlias

Place: TypeAlias = tuple[CodeType, int, str]

#: Frames of this package are never the author's; the standard library's neither.
_OURS = "orchestrator"
#: Below such a frame is the engine, not the author.
_BOTTOM = frozenset(("orchestrator.core.execution", name) for name in ("apply", "query", "close"))
_INSTALLED = ("site-packages", "dist-packages")
_kinds: dict[CodeType, "_Kind"] = {}


class _Kind(Enum):
    AUTHORED = "the author's"
    LIBRARY = "somebody else's, installed"
    MACHINERY = "the standard library's, or ours"
    BOTTOM = "ours, and what is below it is the engine's"


def is_authored(frame: FrameType) -> bool:
    """Return whether `frame` runs code that is neither installed nor ours."""
    return _kind(frame) is _Kind.AUTHORED


def is_bottom(frame: FrameType) -> bool:
    """Return whether what is below `frame` on the stack is the engine's."""
    return _kind(frame) is _Kind.BOTTOM


def place_of_caller() -> Place | None:
    """Return the innermost place of the author's code on this thread's stack, or None."""
    found = None  # a workflow may well be installed itself
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        kind = _kinds.get(frame.f_code) or _kind(frame)
        if kind is _Kind.AUTHORED:
            return place_of_frame(frame)
        if kind is _Kind.BOTTOM:
            break
        if kind is _Kind.LIBRARY and found is None:
            found = place_of_frame(frame)
        frame = frame.f_back
    return found


def _kind(frame: FrameType) -> _Kind:
    kind = _kinds.get(frame.f_code)
    if kind is None:
        module = str(frame.f_globals.get("__name__", ""))
        package = module.partition(".")[0]
        kind = _Kind.AUTHORED
        if (module, frame.f_code.co_name) in _BOTTOM:
            kind = _Kind.BOTTOM
        elif package == _OURS or (package in sys.stdlib_module_names and package != "__main__"):
            kind = _Kind.MACHINERY
        elif any(folder in frame.f_code.co_filename for folder in _INSTALLED):
            kind = _Kind.LIBRARY
        _kinds[frame.f_code] = kind
    return kind


def place_of_traceback(traceback: TracebackType | None) -> Place | None:
    """Return the innermost place of the author's code that the exception passed through."""
    found, is_found_authored = None, False
    while traceback is not None:
        kind = _kind(traceback.tb_frame)
        if kind is _Kind.AUTHORED or (kind is _Kind.LIBRARY and not is_found_authored):
            found = _place(traceback.tb_frame, traceback.tb_lasti)
            is_found_authored = kind is _Kind.AUTHORED
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
