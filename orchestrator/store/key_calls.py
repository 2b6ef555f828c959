"""Calls about data keys: see `ports.KeyStore`."""

from orchestrator.store.calls import Flow, ask, command, run_script, text
from orchestrator.store.keys import Keys


def find_key(keys: Keys, scope: str) -> Flow[str | None]:
    """See `KeyStore.find_key`."""
    found = yield from ask(command("find_key", "HGET", _place(keys, scope), scope))
    return None if found is None else text(found)


def create_key(keys: Keys, scope: str, wrapped: str) -> Flow[str]:
    """See `KeyStore.create_key`."""
    place = _place(keys, scope)
    yield from ask(command("create_key", "HSETNX", place, scope, wrapped))
    return text((yield from ask(command("create_key", "HGET", place, scope))))


def replace_key(keys: Keys, scope: str, expected: str, wrapped: str) -> Flow[bool]:
    """See `KeyStore.replace_key`."""
    arguments = [scope, expected, wrapped]
    call = run_script("replace_key", "replace_key", [_place(keys, scope)], arguments)
    return bool((yield from ask(call)))


def list_keys(keys: Keys, partition: int) -> Flow[list[str]]:
    """See `KeyStore.list_keys`."""
    found = yield from ask(command("list_keys", "HKEYS", keys.data_keys(partition)))
    return sorted(map(text, found))


def _place(keys: Keys, scope: str) -> str:
    return keys.data_keys(keys.of_workflow(scope))
