"""From a Celery app to its orchestrator, with every module that the app names imported."""

from celery import Celery

from orchestrator.app import Orchestrator


def orchestrator_of(app: Celery) -> Orchestrator:
    """Return the orchestrator of `app`, its workflows and tasks registered.

    Raises:
        ConfigurationError: The app has none.
    """
    # As a worker does: what ``imports``, ``include`` and autodiscovery name may hold workflows.
    app.loader.import_default_modules()
    app.finalize()
    return Orchestrator.of(app)
