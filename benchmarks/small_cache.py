"""An orchestrator of the take-over app whose run cache has another size than the default.

python -m benchmarks.small_cache 100
"""

import click

from benchmarks.takeover_app import orc
from orchestrator.cli.process import stop_on_signals
from orchestrator.engine.settings import EngineSettings


@click.command()
@click.argument("run_cache_max", type=int)
def main(run_cache_max: int) -> None:
    """Run it until SIGTERM."""
    with stop_on_signals() as stop:
        orc.engine(EngineSettings(run_cache_max=run_cache_max)).run(stop)


if __name__ == "__main__":
    main()
