"""Arguments and options that many commands have, with the same words everywhere."""

import click

id_argument = click.argument("workflow_id", metavar="ID")
run_option = click.option(
    "--run", type=click.IntRange(1), help="Which run of the id; else the latest."
)
json_flag = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
