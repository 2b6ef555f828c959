"""Health of an orchestrator: exit code 0 where this machine's one has reported to the store lately.

    python ops/healthy.py sagas

The same report tells other orchestrators that this one lives; one that hangs stops reporting, and
loses its leases, within seconds.  Reads only.
"""

import re
import socket
import sys

from celery.app.utils import find_app

from orchestrator import Orchestrator
from orchestrator.store.connect import connect
from orchestrator.store.keys import Keys


def reported(app_name: str) -> list[str]:
    """Return the names of this machine's orchestrators whose last report has not expired."""
    orc = Orchestrator.of(find_app(app_name))
    name = re.compile(rf"{re.escape(socket.gethostname())}-\d+-[0-9a-f]+")
    with connect(orc.store_url) as client:
        seconds, _ = client.time()
        live = client.zrangebyscore(Keys("orc", 1).orchestrators, int(seconds) * 1000, "+inf")
    return [owner for owner in (each.decode() for each in live) if name.fullmatch(owner)]


if __name__ == "__main__":
    found = reported(*sys.argv[1:2])
    print(*found or ["no live orchestrator of this machine"], file=sys.stderr)  # noqa: T201
    sys.exit(not found)
