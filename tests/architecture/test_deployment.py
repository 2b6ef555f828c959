"""docker-compose.yml and ops/ fit the code: commands parse, files exist, nothing evicts."""

import shlex
from typing import Any, cast

import click
import pytest
import yaml
from celery.bin.celery import celery as celery_command

from tests.architecture.tree import ROOT

COMPOSE = cast("dict[str, Any]", yaml.safe_load((ROOT / "docker-compose.yml").read_text()))
SERVICES = cast("dict[str, dict[str, Any]]", COMPOSE["services"])
OURS = [name for name, service in SERVICES.items() if "build" in service]


def settings() -> dict[str, str]:
    """Return the directives of ops/valkey.conf."""
    lines = (ROOT / "ops/valkey.conf").read_text().splitlines()
    pairs = (line.partition(" ") for line in lines if line and not line.startswith("#"))
    return {name: value.strip() for name, _, value in pairs}


def test_compose_runs_a_valkey_a_worker_and_two_orchestrators() -> None:
    commands = [SERVICES[name]["command"] for name in OURS]
    assert sum("orchestrator" in shlex.split(command) for command in commands) == 2
    assert sum("worker" in shlex.split(command) for command in commands) == 1
    assert "valkey" in SERVICES


@pytest.mark.parametrize("name", OURS)
def test_command_of_a_service_parses(name: str) -> None:
    program, flag, app, subcommand, *options = shlex.split(SERVICES[name]["command"])
    assert (program, flag, app) == ("celery", "-A", "sagas")
    command = celery_command.commands[subcommand]
    # A plug-in that does not load is replaced by a command that takes every option.
    assert type(command).__name__ != "BrokenCommand", command.help
    # Raises for an option that the command does not have; runs nothing.
    command.make_parser(click.Context(command)).parse_args(options)


def test_a_service_with_an_unknown_option_would_be_noticed() -> None:
    command = celery_command.commands["worker"]
    with pytest.raises(click.NoSuchOption):
        command.make_parser(click.Context(command)).parse_args(["--no-such-option"])


@pytest.mark.parametrize("name", SERVICES)
def test_volumes_are_declared_or_lie_in_the_repository(name: str) -> None:
    for volume in SERVICES[name]["volumes"]:
        source, target, *_ = volume.split(":")
        assert target.startswith("/")
        assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


def test_server_keeps_every_write_and_evicts_nothing() -> None:
    words = shlex.split(SERVICES["valkey"]["command"])
    for option, value in [
        ("appendonly", "yes"),
        ("appendfsync", "everysec"),
        ("maxmemory-policy", "noeviction"),
    ]:
        assert settings()[option] == value
        assert words[words.index(f"--{option}") + 1] == value


def test_services_use_users_of_the_acl_file() -> None:
    users = {
        line.split()[1]: line
        for line in (ROOT / "ops/users.acl").read_text().splitlines()
        if line.startswith("user ")
    }
    for name in OURS:
        url = SERVICES[name]["environment"]["CELERY_BROKER_URL"]
        user, _, password = url.removeprefix("redis://").partition("@")[0].partition(":")
        assert f" >{password} " in users[user], f"{name} logs in as {user}"


def test_image_holds_what_the_commands_need() -> None:
    copied = (ROOT / "Dockerfile").read_text()
    for folder in ("orchestrator", "tasks", "sagas"):
        assert f"COPY {folder} " in copied
        assert f"!{folder}\n" in (ROOT / ".dockerignore").read_text() + "\n"
