"""The layout a namespace was made with: recorded once, compared at every start."""

from orchestrator.core.errors import ConfigurationError
from orchestrator.core.limits import LAYOUT_VERSION, PARTITIONS_DEFAULT
from orchestrator.store.calls import Flow, ask_all, command
from orchestrator.store.keys import Keys


def open_namespace(prefix: str, partitions: int | None) -> Flow[Keys]:
    """Return the namespace's keys; record layout and partition count if it is new.

    Args:
        prefix: Of every key.
        partitions: What is wanted; None for what is recorded, or else the default.

    Raises:
        ConfigurationError: It was made with another layout or partition count.
    """
    meta = Keys(prefix=prefix, partitions=1).meta
    found = yield from _read(meta)
    if None in found[:2]:
        # Whoever is first decides; read again what was decided.
        yield from ask_all(
            [
                command("open", "HSETNX", meta, "layout", LAYOUT_VERSION),
                command("open", "HSETNX", meta, "partitions", partitions or PARTITIONS_DEFAULT),
                # One that was made before there were indexes has to be indexed first.
                command("open", "HSETNX", meta, "indexed", 1),
            ]
        )
        found = yield from _read(meta)
    layout, count = (int(value or 0) for value in found[:2])
    if layout != LAYOUT_VERSION:
        wanted = f"this version reads layout {LAYOUT_VERSION}: use the version that wrote it"
        raise ConfigurationError(f"layout of namespace {prefix!r}", str(layout), wanted)
    if partitions is not None and partitions != count:
        wanted = f"{partitions} were asked for: the count is fixed at a namespace's first start"
        raise ConfigurationError(f"partitions of namespace {prefix!r}", str(count), wanted)
    return Keys(prefix=prefix, partitions=count, is_indexed=found[2] is not None)


def _read(meta: str) -> Flow[list[bytes | None]]:
    (found,) = yield from ask_all(
        [command("open", "HMGET", meta, "layout", "partitions", "indexed")]
    )
    return list(found)
