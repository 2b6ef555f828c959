"""Which worker this process belongs to.

The main process of a worker names it, before its children exist, in an environment variable: so
forked and spawned children of its pool know the name alike.

I1  The name ends in "/": as the prefix of a claim's token it is the worker's own and no other's.
"""

import os
import secrets
import socket

_VARIABLE = "ORCHESTRATOR_WORKER"


def name_worker() -> str:
    """Give this process' worker a fresh name, and return it; in the main process only."""
    host = socket.gethostname().replace("/", "-")
    name = f"{host}:{os.getpid()}:{secrets.token_hex(4)}/"
    os.environ[_VARIABLE] = name
    return name


def worker_name() -> str:
    """Return the name of the worker that this process belongs to; without one, it is its own."""
    return os.environ.get(_VARIABLE) or name_worker()


def is_pool_child() -> bool:
    """Return whether this process is a child of a worker's pool."""
    parts = os.environ.get(_VARIABLE, "").split(":")
    return len(parts) == 3 and parts[1] != str(os.getpid())


def new_token() -> str:
    """Return a fresh claim token of this worker."""
    return f"{worker_name()}{secrets.token_hex(8)}"
