"""Options that several commands of `tandem-worker` share."""

from pathlib import Path
from typing import Annotated

import typer

SpecFileOption = Annotated[Path, typer.Option(help="The job's spec, as YAML or JSON.", exists=True)]
RunDirOption = Annotated[
    Path, typer.Option(help="Folder for results, records and logs of the run.")
]
RunIdOption = Annotated[str, typer.Option(help="The run's id; by default the folder's name.")]
AttemptOption = Annotated[int, typer.Option(help="The attempt's number.", min=1)]
ServiceUrlOption = Annotated[
    str | None, typer.Option(help="The service's URL; without it, records stay in the folder.")
]
MlflowUrlOption = Annotated[str | None, typer.Option(help="The MLflow server's URL.")]
NameOption = Annotated[str | None, typer.Option(help="The run's name in MLflow.")]
ProjectOption = Annotated[
    str, typer.Option(help="The project, which selects the MLflow experiment.")
]
StallTimeoutOption = Annotated[
    float,
    typer.Option(
        "--stall-timeout", help="End the process after so many seconds without progress.", min=1
    ),
]
