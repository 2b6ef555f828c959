"""The services of docker-compose.yml as processes of this machine: same commands, same settings.

What only a container has is replaced: names of hosts, ports, folders, the server's program.
"""

import os
import re
import shlex
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from tests.acceptance.child import ROOT

SERVICES = cast(
    "dict[str, dict[str, Any]]",
    yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"],
)
#: ``$$`` and ``${NAME:-default}``, ``${NAME:?message}``, ``${NAME}``: what Compose replaces.
_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>\w+)(?:(?P<how>:[-?])(?P<word>[^}]*))?\}")
#: The server's client, under whichever name this machine has it; None for not at all.
CLI = shutil.which("valkey-cli") or shutil.which("redis-cli")
_UNITS = {"s": 1, "m": 60}
#: Where this Python's own programs lie; in the image that is on the PATH as well.
_PROGRAMS = str(Path(sys.executable).parent)
#: What the image sets for all of them.
_IMAGE = dict(
    pair.split("=", 1)
    for line in (ROOT / "Dockerfile").read_text().splitlines()
    if line.startswith("ENV ")
    for pair in line.split()[1:]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where the services run.

    Args:
        data: Stands for ``/data`` of all containers.
        binary: Of the server.
        store_port: In place of 6379.
        flower_port: In place of 5555.
        variables: The environment in which ``docker compose`` would be called.
    """

    data: Path
    binary: Path
    store_port: int
    flower_port: int
    variables: Mapping[str, str] = field(default_factory=dict)

    def command(self, service: str) -> list[str]:
        """Return the service's command, as it runs here."""
        return self.words(SERVICES[service]["command"])

    def words(self, line: str) -> list[str]:
        """Return a command that a container would run, as it runs here."""
        program, *rest = shlex.split(self._here(line))
        if program == "valkey-server":
            # The port is one that is free; what the image's own defaults would say stays.
            return [str(self.binary), *rest, "--port", str(self.store_port)]
        return [self._program(program), *rest]

    def environment(self, service: str) -> dict[str, str]:
        """Return the service's whole environment."""
        given = {**_IMAGE, **SERVICES[service].get("environment", {})}
        machine = {
            "PATH": f"{_PROGRAMS}:{os.environ['PATH']}",
            "HOME": str(self.data),
            # Docker sets it to the container's own.
            "HOSTNAME": socket.gethostname(),
            "PYTHONPATH": str(ROOT),
        }
        return {**machine, **{name: self._here(value) for name, value in given.items()}}

    def health(self, service: str) -> list[str]:
        """Return the command that checks the service."""
        kind, *words = SERVICES[service]["healthcheck"]["test"]
        if kind == "CMD-SHELL":
            return ["/bin/sh", "-c", self._here(words[0])]
        assert kind == "CMD", f"health check of {service} begins with {kind!r}"
        program, *rest = map(self._here, words)
        return [self._program(program), *rest]

    def grace_seconds(self, service: str) -> float:
        """Return how long Docker would wait for the service to stop."""
        return seconds_of(SERVICES[service]["stop_grace_period"])

    def _program(self, name: str) -> str:
        found = shutil.which(name, path=_PROGRAMS)
        assert found, f"{name} is none of the programs in {_PROGRAMS}"
        return found

    def _here(self, text: str) -> str:
        text = interpolated(text, self.variables)
        for there, here in {
            "@valkey:6379": f"@127.0.0.1:{self.store_port}",
            "--bind 0.0.0.0": "--bind 127.0.0.1",
            "/etc/valkey/": f"{ROOT}/ops/",
            "/data": str(self.data),
            "valkey-cli": f"{CLI} -p {self.store_port}",
            "=5555": f"={self.flower_port}",
            "127.0.0.1:5555": f"127.0.0.1:{self.flower_port}",
        }.items():
            text = text.replace(there, here)
        return text


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """Return `text` with the variables in it replaced as Compose does.

    Raises:
        LookupError: One that has to be set is not; the text is the file's own message.
    """

    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        given, how, word = variables.get(found["name"], ""), found["how"], found["word"]
        if given or how is None:
            return given
        if how == ":?":
            raise LookupError(f"{found['name']}: {word}")
        return word

    return _VARIABLE.sub(value, text)


def seconds_of(duration: str) -> float:
    """Return a duration of a compose file in seconds."""
    parts = re.findall(r"(\d+)([a-z]+)", duration)
    assert parts, f"{duration!r} is no duration"
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
