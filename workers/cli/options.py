"""Options that several commands of `tandem-worker` share."""

from pathlib import Path
from typing import Annotated

import typer

SpecFile = Annotated[Path, typer.Option(help="The job's spec, as YAML or JSON.", exists=True)]
RunDir = Annotated[Path, typer.Option(help="Where results, records and logs of the run lie.")]
RunIdOption = Annotated[str, typer.Option(help="The run's id.")]
Attempt = Annotated[int, typer.Option(help="Which try of the run this is.", min=1)]
ReportTo = Annotated[str | None, typer.Option(help="The service's address.")]
MlflowUrl = Annotated[str | None, typer.Option(help="The MLflow server's address.")]
NameOption = Annotated[str | None, typer.Option(help="What the run is called in MLflow.")]
Project = Annotated[str, typer.Option(help="The project, which has an MLflow experiment.")]
StallAfter = Annotated[
    float,
    typer.Option(
        "--stall-after", help="Seconds without progress after which it ends itself.", min=1
    ),
]
