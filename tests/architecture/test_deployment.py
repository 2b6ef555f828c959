"""docker-compose.yml and ops/ fit the code: commands parse, files exist, nothing evicts.

That the commands work, tests/acceptance/test_flower.py sees.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import click
import pytest
import yaml
from celery.bin.celery import celery as celery_command
from flower.options import default_options

from tasks.app import app as shop
from tests.acceptance.compose import interpolated, seconds_of
from tests.architecture.tree import ROOT

COMPOSE = cast("dict[str, Any]", yaml.safe_load((ROOT / "docker-compose.yml").read_text()))
SERVICES = cast("dict[str, dict[str, Any]]", COMPOSE["services"])
OURS = [name for name, service in SERVICES.items() if "build" in service]


def settings() -> dict[str, str]:
    """Return the directives of ops/valkey.conf."""
    lines = (ROOT / "ops/valkey.conf").read_text().splitlines()
    pairs = (line.partition(" ") for line in lines if line and not line.startswith("#"))
    return {name: value.strip() for name, _, value in pairs}


def check_schema(path: Path) -> subprocess.CompletedProcess[str]:
    """Check a file against the Compose specification's schema."""
    program = str(Path(sys.executable).with_name("check-jsonschema"))
    command = [program, "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_compose_file_is_one_by_the_specification(tmp_path: Path) -> None:
    checked = check_schema(ROOT / "docker-compose.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    wrong = tmp_path / "docker-compose.yml"
    text = (ROOT / "docker-compose.yml").read_text()
    wrong.write_text(text.replace("stop_grace_period:", "stop_grace_time:"))
    assert "stop_grace_time" in check_schema(wrong).stdout


def test_compose_runs_a_valkey_a_worker_two_orchestrators_and_flower() -> None:
    subcommands = sorted(shlex.split(SERVICES[name]["command"])[3] for name in OURS)
    assert subcommands == ["flower", "orchestrator", "orchestrator", "worker"]
    assert SERVICES.keys() == {"valkey", *OURS}


@pytest.mark.parametrize("name", OURS)
def test_command_of_a_service_parses(name: str) -> None:
    program, flag, app, subcommand, *options = shlex.split(SERVICES[name]["command"])
    assert (program, flag, app) == ("celery", "-A", "sagas")
    command = celery_command.commands[subcommand]
    # A plug-in that does not load is replaced by a command that takes every option.
    assert type(command).__name__ != "BrokenCommand", command.help
    # Raises for an option that the command does not have; runs nothing.
    command.make_parser(click.Context(command, **command.context_settings)).parse_args(options)


def test_options_of_flower_are_flower_s() -> None:
    # Flower ignores what it does not know.
    options = shlex.split(SERVICES["flower"]["command"])[4:]
    names = [option.removeprefix("--").partition("=")[0] for option in options]
    names += [
        name.removeprefix("FLOWER_").lower()
        for name in SERVICES["flower"]["environment"]
        if name.startswith("FLOWER_") and name != "FLOWER_HIDE_PAYLOADS"
    ]
    assert names
    for name in names:
        assert name in default_options, name
    assert '"FLOWER_HIDE_PAYLOADS"' in (ROOT / "ops/flowerconfig.py").read_text()


def test_flower_needs_a_password_and_is_reached_from_this_machine_alone() -> None:
    flower = SERVICES["flower"]
    password = flower["environment"]["FLOWER_BASIC_AUTH"]
    with pytest.raises(LookupError, match="user:password"):
        interpolated(password, {})
    assert interpolated(password, {"FLOWER_BASIC_AUTH": "ana:x"}) == "ana:x"
    assert flower["environment"]["FLOWER_READ_ONLY"] == "true"
    assert "FLOWER_UNAUTHENTICATED_API" not in flower["environment"]
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_worker_sends_the_events_that_flower_shows() -> None:
    assert "-E" in shlex.split(SERVICES["worker"]["command"])


def test_worker_is_given_longer_to_stop_than_a_step_may_take() -> None:
    assert seconds_of(SERVICES["worker"]["stop_grace_period"]) > shop.conf.task_time_limit


@pytest.mark.parametrize("name", SERVICES)
def test_service_has_a_health_check_and_a_time_to_stop(name: str) -> None:
    health = SERVICES[name]["healthcheck"]
    assert health["test"][0] in ("CMD", "CMD-SHELL")
    assert seconds_of(health["timeout"]) > 0
    assert seconds_of(SERVICES[name]["stop_grace_period"]) > 0


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


def test_image_holds_the_files_that_commands_name_and_no_password() -> None:
    words = [str(SERVICES[name]["command"]) + str(SERVICES[name]["healthcheck"]) for name in OURS]
    named = set(re.findall(r"ops/\w+\.\w+", " ".join(words)))
    (copied,) = re.findall(r"^COPY (ops/.*) \./ops/$", (ROOT / "Dockerfile").read_text(), re.M)
    assert named == set(copied.split())
    assert all((ROOT / name).exists() for name in named)
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    assert [line for line in allowed if line.startswith("!ops")] == ["!ops/*.py"]


def test_image_installs_what_the_commands_need() -> None:
    (extras,) = re.findall(r'pip install "\.\[(.*)\]"', (ROOT / "Dockerfile").read_text())
    assert {"shop", "flower"} <= set(extras.split(","))


def test_image_holds_what_the_commands_need() -> None:
    copied = (ROOT / "Dockerfile").read_text()
    for folder in ("orchestrator", "tasks", "sagas"):
        assert f"COPY {folder} " in copied
        assert f"!{folder}\n" in (ROOT / ".dockerignore").read_text() + "\n"
