"""Forms of ``datetime`` and ``date`` that refuse to read the clock inside an activation.

They are C types and cannot be patched.  So names that are bound to them are swapped for these
subclasses, which make real instances and answer `isinstance` and `issubclass` like the real ones.
"""

import datetime as real
from collections.abc import Callable
from types import ModuleType
from typing import Any

_INSTEAD = "use workflow.now()"

Check = Callable[..., None]


class _Alias(type):
    """Makes a class equal to `_real` in whatever one may ask of a class."""

    _real: type

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls._real)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls._real)

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is cls._real

    def __hash__(cls) -> int:
        return hash(cls._real)


def swaps(check: Check) -> list[tuple[object, object]]:
    """Return pairs of what a module may have bound and what it is to be swapped for.

    `check(call, instead)` refuses when its caller's caller is workflow code.
    """
    date = _date(check)
    datetime = _datetime(check)
    module = ModuleType(real.__name__, real.__doc__)
    module.__dict__.update(real.__dict__)
    module.__dict__.update(date=date, datetime=datetime)
    return [(real.date, date), (real.datetime, datetime), (real, module)]


def _date(check: Check) -> type:
    class date(real.date, metaclass=_Alias):
        _real = real.date

        def __new__(cls, *args: Any, **kwargs: Any) -> real.date:  # type: ignore[misc]
            return real.date(*args, **kwargs)

        @classmethod
        def today(cls) -> real.date:  # type: ignore[override]
            check("date.today()", "use workflow.now().date()")
            return real.date.today()  # noqa: DTZ011 - outside of workflows nothing changes

        @classmethod
        def __get_pydantic_core_schema__(cls, _source: Any, handler: Callable[[Any], Any]) -> Any:
            return handler(real.date)

    return date


def _datetime(check: Check) -> type:
    class datetime(real.datetime, metaclass=_Alias):
        _real = real.datetime

        def __new__(cls, *args: Any, **kwargs: Any) -> real.datetime:  # type: ignore[misc]
            return real.datetime(*args, **kwargs)  # noqa: DTZ001 - as asked for

        @classmethod
        def now(cls, tz: real.tzinfo | None = None) -> real.datetime:  # type: ignore[override]
            check("datetime.now()", _INSTEAD)
            return real.datetime.now(tz)  # noqa: TID251 - outside of workflows

        @classmethod
        def utcnow(cls) -> real.datetime:  # type: ignore[override]
            check("datetime.utcnow()", _INSTEAD)
            return real.datetime.utcnow()  # noqa: DTZ003 - outside of workflows

        @classmethod
        def today(cls) -> real.datetime:  # type: ignore[override]
            check("datetime.today()", _INSTEAD)
            return real.datetime.today()  # noqa: DTZ002 - outside of workflows

        @classmethod
        def __get_pydantic_core_schema__(cls, _source: Any, handler: Callable[[Any], Any]) -> Any:
            return handler(real.datetime)

    return datetime
