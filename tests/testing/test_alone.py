"""Promise: the test kit needs no server and no network: it runs where every socket is refused."""

import subprocess
import sys

PROGRAM = """
import sys
def refuse(event, args):
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo"):
        raise SystemExit(f"reached for the network: {event} {args}")
sys.addaudithook(refuse)
from orchestrator.testing import WorkflowEnvironment
from tests.testing import shop
with WorkflowEnvironment(shop.app) as env:
    handle = env.start(shop.approved, shop.Order(id="o"), id="a")
    env.skip(days=6)
    handle.signal("approve", {"by": "ana"})
    print(handle.result())
import threading
assert threading.active_count() == 1, threading.enumerate()
"""


def test_a_week_passes_in_a_process_that_may_open_no_socket() -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert (run.stdout, run.returncode) == ("p-o by ana\n", 0), run.stderr
