"""Recorded histories as tests: a plugin of pytest, loaded with the package.

    [tool.pytest.ini_options]
    orchestrator_app = "shop.app"
    orchestrator_histories = ["tests/histories"]

makes each history file below ``tests/histories`` one test; the fixture `replay_histories` does the
same in a test of your own.

PP1  A project that uses neither is left alone: nothing is imported here but pytest, no file is
     collected, and no name but these three is taken.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from orchestrator.app import Orchestrator
    from orchestrator.replaying.results import ReplayReport, ReplayResult

APP, HISTORIES = "orchestrator_app", "orchestrator_histories"
_SUFFIX = ".jsonl"

ReplayHistories = Callable[..., "ReplayReport"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two settings."""
    parser.addini(APP, "the Celery app whose workflows are replayed, as for celery -A", default="")
    parser.addini(
        HISTORIES,
        "files and folders with exported histories; each file is a test",
        type="paths",
        default=[],
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "HistoryFile | None":
    """Collect a history below what the settings name."""
    if file_path.suffix != _SUFFIX:
        return None
    kept = [Path(path).resolve() for path in parent.config.getini(HISTORIES)]
    found = file_path.resolve()
    if not any(found == path or found.is_relative_to(path) for path in kept):
        return None
    collected: HistoryFile = HistoryFile.from_parent(parent, path=file_path)
    return collected


@pytest.fixture(scope="session")
def replay_histories(pytestconfig: pytest.Config) -> ReplayHistories:
    """Return a function that replays histories and fails the test with what does not fit.

    ``replay_histories("tests/histories", app="shop.app", jobs=2)``: paths are relative to pytest's
    root; without any, and without an app, the settings say which.  `app` may also be the
    orchestrator itself, or the workflows by name.  It returns the report.
    """

    def replay(*paths: str | Path, app: Any = None, jobs: int = 1) -> "ReplayReport":
        from orchestrator.core.errors import UsageError
        from orchestrator.replaying.replayer import Replayer
        from orchestrator.replaying.words import in_words

        named = [pytestconfig.rootpath / path for path in paths or pytestconfig.getini(HISTORIES)]
        if not named:
            pytest.fail(f"no histories: name some, or set {HISTORIES}", pytrace=False)
        try:
            workflows = _orchestrator(pytestconfig) if app is None else _given(app)
            report = Replayer(workflows, jobs=jobs).replay(named)
        except UsageError as error:
            pytest.fail(str(error), pytrace=False)
        if report.unfit:
            texts = [in_words(result) for result in report.unfit]
            count = f"{len(texts)} of {len(report.results)} histories do not fit the code"
            pytest.fail("\n\n".join([count, *texts]), pytrace=False)
        return report

    return replay


class HistoryFile(pytest.File):
    """A file with one history."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield the one test."""
        yield HistoryItem.from_parent(self, name="replay")


class HistoryItem(pytest.Item):
    """The code orders what a history says."""

    def runtest(self) -> None:
        """Replay it."""
        from orchestrator.replaying.replayer import Replayer

        report = Replayer(_orchestrator(self.config)).replay(self.path)
        if not report:
            raise _Unfit(report.results[0])

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return both sides of a mismatch in place of a traceback through the engine."""
        from orchestrator.core.errors import UsageError
        from orchestrator.replaying.words import in_words

        if isinstance(excinfo.value, _Unfit):
            return in_words(excinfo.value.result)
        if isinstance(excinfo.value, UsageError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return how the test is called where pytest names no function."""
        return self.path, None, f"replay of {self.path.name}"


class _Unfit(Exception):
    """Carries what was found from the test to its words."""

    def __init__(self, result: "ReplayResult") -> None:
        super().__init__(result)
        self.result = result


_LOADED: pytest.StashKey["Orchestrator"] = pytest.StashKey()


def _orchestrator(config: pytest.Config) -> "Orchestrator":
    from orchestrator.core.errors import ConfigurationError
    from orchestrator.replaying.apps import load_orchestrator

    if _LOADED not in config.stash:
        name = config.getini(APP)
        if not name:
            raise ConfigurationError(
                f"pytest setting {APP}", "nothing", "the Celery app is wanted, as for celery -A"
            )
        config.stash[_LOADED] = load_orchestrator(name)
    return config.stash[_LOADED]


def _given(app: Any) -> Any:
    from orchestrator.replaying.apps import load_orchestrator

    return load_orchestrator(app) if isinstance(app, str) else app
