"""Where the store is, given the broker; and whether both are one and the same.

A1  Same text, same place: two spellings of one server are taken for two, which costs a detour
    through the outbox and never a message.  Only what is certainly one place gets messages pushed
    in the commit itself.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from orchestrator.core.errors import ConfigurationError

#: Schemes that redis-py and kombu understand alike.
_REDIS_SCHEMES = ("redis", "rediss")
#: kombu's scheme for a Unix socket, which redis-py calls ``unix``.
_SOCKET_SCHEMES = ("redis+socket", "unix")
_LOOPBACK = {"localhost": "127.0.0.1", "": "127.0.0.1"}
_PORT_DEFAULT = 6379


def broker_url(conf: Any) -> str:
    """Return the address that messages are published to; several are parted by semicolons."""
    url = conf.broker_write_url or conf.broker_url or "amqp://"
    return url if isinstance(url, str) else ";".join(url)


def store_url_of_broker(url: str) -> str:
    """Return the address of the store that lies in the broker's own Redis.

    Raises:
        ConfigurationError: The broker is no Redis, or more than one: name the store yourself.
    """
    parts = urlsplit(url)
    if ";" in url or parts.scheme not in (*_REDIS_SCHEMES, *_SOCKET_SCHEMES):
        raise ConfigurationError(
            "store",
            "several brokers" if ";" in url else f"a broker of kind {parts.scheme or 'memory'!r}",
            "name the Redis or Valkey that keeps the histories: Orchestrator(app, store='redis://…')",
        )
    if parts.scheme == "redis+socket":
        return f"unix://{_credentials(url)}{quote(unquote(parts.path))}?db={_database(url)}"
    return url


def is_same_place(broker: str, store: str, transport_options: Mapping[str, Any]) -> bool:
    """Return whether a message pushed in the store is certainly one for the broker (A1)."""
    if transport_options.get("sep") not in (None, "\x06\x16"):
        return False
    place = _place(broker)
    return place is not None and place == _place(store)


def host_and_port(url: str) -> tuple[str, int] | None:
    """Return where a Redis listens, or None where it is no single Redis on TCP."""
    parts = urlsplit(url)
    if ";" in url or parts.scheme not in _REDIS_SCHEMES:
        return None
    host = parts.hostname or ""
    return _LOOPBACK.get(host, host), parts.port or _PORT_DEFAULT


def without_password(url: str) -> str:
    """Return `url` as it may stand in a log line."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return url.replace(f":{parts.password}@", ":***@", 1)


def _place(url: str) -> tuple[str, str, int, int] | None:
    parts = urlsplit(url)
    if parts.scheme in _SOCKET_SCHEMES:
        return ("unix", unquote(parts.path), 0, _database(url))
    address = host_and_port(url)
    return None if address is None else (parts.scheme, *address, _database(url))


def _database(url: str) -> int:
    parts = urlsplit(url)
    options = parse_qs(parts.query)
    text = (options.get("virtual_host") or options.get("db") or [""])[0]
    if not text and parts.scheme in _REDIS_SCHEMES:
        text = parts.path
    text = text.strip("/")
    try:
        return int(text or 0)
    except ValueError:
        raise ConfigurationError(
            "Redis address", f"database {text!r}", "a number is wanted, as in redis://host:6379/0"
        ) from None


def _credentials(url: str) -> str:
    parts = urlsplit(url)
    if parts.username is None and parts.password is None:
        return ""
    return f"{parts.username or ''}:{parts.password or ''}@"
