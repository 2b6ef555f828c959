"""``orchestrator demo``: the guided tour, which lies in the repository beside the application.

The package alone does not have it: it is looked for in the current directory, then where Python
looks.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from orchestrator.cli.errors import EXIT_WRONG, Refusal

_TOUR = "sagas.demo"
_NOT_HERE = (
    "the guided tour is part of the repository, and no checkout of it is here: "
    "change into one and say make demo, or orchestrator demo again"
)


def run(*arguments: str) -> int:
    """Give the tour and return the exit code: 0 if every claim held.

    Args:
        arguments: For the tour, as ``python -m sagas.demo`` takes them.

    Raises:
        Refusal: It is not here, or lacks a package.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        if find_spec(_TOUR) is None:
            raise Refusal(_NOT_HERE, EXIT_WRONG)
        tour = import_module(f"{_TOUR}.guide")
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] == "sagas":
            raise Refusal(_NOT_HERE, EXIT_WRONG) from error
        raise Refusal(
            f"the guided tour needs the package {error.name}: "
            "pip install 'celery-orchestrator[embedded,plot,shop,sklearn]'",
            EXIT_WRONG,
        ) from error
    code: int = tour.main(arguments)
    return code
