"""What holds for every test: a bound in time, and no way out to the network.

Warnings are errors, markers and settings are strict: see pyproject.toml.
"""

import sys
from ipaddress import ip_address

import pytest

#: Seconds before a test that hangs is ended with the stacks of all threads; many times what the
#: longest one takes, as a machine that others use too may stand still for a while.
TEST_SECONDS_MAX = 180


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # Set here and not as an ini option, which strict settings refuse where the core's tests run
    # with pytest alone.
    if config.pluginmanager.hasplugin("timeout") and config.getoption("timeout") is None:
        config.option.timeout = TEST_SECONDS_MAX
    sys.addaudithook(_refuse_network)


def _refuse_network(event: str, args: tuple[object, ...]) -> None:
    """Raise where this process reaches for a host that is not this machine.

    Programs that a test starts are not covered; those are servers and workers on loopback.
    """
    if event not in ("socket.connect", "socket.sendto"):
        return
    address = args[1]
    # Unix sockets are paths, netlink and the like have no host.
    if not isinstance(address, tuple) or not address or not isinstance(address[0], str):
        return
    if not _is_this_machine(address[0]):
        raise RuntimeError(f"tests stay on this machine; this one reaches for {address[0]}")


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
