"""From the name of an app, as ``celery -A`` takes it, to its orchestrator."""

from celery import Celery
from celery.app.utils import find_app

from orchestrator.app import Orchestrator
from orchestrator.core.errors import ConfigurationError


def load_orchestrator(name: str) -> Orchestrator:
    """Return the orchestrator of the app `name`, its workflows registered.  Reaches no server.

    Raises:
        ConfigurationError: No such module, no Celery app in it, or one without an orchestrator.
    """
    try:
        app = find_app(name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ConfigurationError(
            f"Celery app {name!r}", str(error), "a module that can be imported from here is wanted"
        ) from error
    if not isinstance(app, Celery):
        raise ConfigurationError(f"Celery app {name!r}", type(app).__name__, "an app is wanted")
    # As a worker does: what ``imports``, ``include`` and autodiscovery name may hold workflows.
    app.loader.import_default_modules()
    app.finalize()
    return Orchestrator.of(app)
