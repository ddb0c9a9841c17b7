"""Options that several commands of `tandem-worker` share."""

from pathlib import Path
from typing import Annotated

import typer

SpecFileOption = Annotated[Path, typer.Option(help="The job's spec, as YAML or JSON.", exists=True)]
RunDirOption = Annotated[Path, typer.Option(help="Where results, records and logs of the run lie.")]
RunIdOption = Annotated[str, typer.Option(help="The run's id.")]
AttemptOption = Annotated[int, typer.Option(help="Which try of the run this is.", min=1)]
ServiceUrlOption = Annotated[str | None, typer.Option(help="The service's address.")]
MlflowUrlOption = Annotated[str | None, typer.Option(help="The MLflow server's address.")]
NameOption = Annotated[str | None, typer.Option(help="What the run is called in MLflow.")]
ProjectOption = Annotated[str, typer.Option(help="The project, which has an MLflow experiment.")]
StallTimeoutOption = Annotated[
    float,
    typer.Option(
        "--stall-timeout", help="Seconds without progress after which it ends itself.", min=1
    ),
]
