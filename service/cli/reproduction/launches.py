"""Plans and launches of the rows of a published table."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from pydantic import JsonValue

from configs.catalog import spec_from_preset
from configs.spec.references import NamedDataset, NamedTeacher
from configs.spec.run import RunSpec
from configs.tables.published import PublishedRow, PublishedTable
from configs.tables.scaling import FULL_SCALE, scale_run
from service.api.schemas.runs import RunRequest
from service.cli import console
from service.cli.errors import CliError, ErrorMessage
from service.cli.launch_digests import digest_launch
from service.cli.views.plan import format_run_plan

if TYPE_CHECKING:
    from service.client import TandemClient

TAG = "reproduces"
"""The tag of a launched row, whose value `Reproduction.tag_row` makes."""


@dataclass(frozen=True)
class Reproduction:
    """Rows of a published table, at full scale or a smaller one."""

    name: str
    table: PublishedTable
    rows: Mapping[str, PublishedRow]
    scale: Fraction

    def tag_row(self, row: str) -> str:
        """As in `bckd/r50 at 1/10`."""
        return f"{self.name}/{row} at {self.scale}"


@dataclass(frozen=True)
class _RowLaunch:
    """A request, and the spec that it resolves to."""

    request: RunRequest
    spec: RunSpec

    @property
    def dataset(self) -> str | None:
        reference = self.spec.data.dataset
        return reference.name if isinstance(reference, NamedDataset) else None

    @property
    def teacher(self) -> str | None:
        reference = self.spec.teacher
        return reference.name if isinstance(reference, NamedTeacher) else None


def launch_rows(
    client: "TandemClient",
    reproduction: Reproduction,
    *,
    changes: Mapping[str, JsonValue],
    project: str | None,
) -> None:
    """Launch each row with its baseline; a row that was launched before keeps its run."""
    out = console.output()
    for name, launch in _iter_launches(client, reproduction, changes, project):
        digest = digest_launch(
            client, launch.request, dataset=launch.dataset, teacher=launch.teacher
        )
        run = client.launch(launch.request, idempotency_key=f"{TAG}-{digest}")
        advice = f"; `tandem retry {run.id}`" if run.state in ("failed", "cancelled") else ""
        out.print(f"{name}: {run.id} ({run.state}{advice}), baseline {run.baseline_run_id}.")
    options = "" if reproduction.scale == FULL_SCALE else f" --scale {reproduction.scale}"
    out.print(f"`tandem reproduce {reproduction.name}{options} --report` shows what they measured.")


def plan_rows(
    client: "TandemClient",
    reproduction: Reproduction,
    *,
    changes: Mapping[str, JsonValue],
    project: str | None,
) -> None:
    """Print the plan and the findings of each row; exit with code 1 if one cannot be launched."""
    findings = []
    for name, launch in _iter_launches(client, reproduction, changes, project):
        plan = client.plan(launch.request)
        row = reproduction.rows[name]
        out = console.output()
        out.print()
        out.print(f"[bold]{name}[/] {_describe_row(row)}")
        for line in format_run_plan(plan):
            out.print(line)
        console.print_findings(plan.findings)
        findings += plan.findings
    console.fail_on_errors(findings)


def _iter_launches(
    client: "TandemClient",
    reproduction: Reproduction,
    changes: Mapping[str, JsonValue],
    project: str | None,
) -> Iterator[tuple[str, _RowLaunch]]:
    for name in reproduction.rows:
        yield name, _build_launch(client, reproduction, name, changes=changes, project=project)


def _build_launch(
    client: "TandemClient",
    reproduction: Reproduction,
    name: str,
    *,
    changes: Mapping[str, JsonValue],
    project: str | None,
) -> _RowLaunch:
    row, tag = reproduction.rows[name], reproduction.tag_row(name)
    own = {**row.changes, **changes, f"tags.{TAG}": tag}
    spec = spec_from_preset(row.preset, own)
    if reproduction.scale != FULL_SCALE:
        num_images = _count_images(client, spec)
        own |= scale_run(spec, scale=reproduction.scale, num_images=num_images)
    request = RunRequest(preset=row.preset, changes=own, name=tag, project=project)
    return _RowLaunch(request, spec)


def _count_images(client: "TandemClient", spec: RunSpec) -> int:
    dataset = spec.data.dataset
    if not isinstance(dataset, NamedDataset):
        raise CliError(
            ErrorMessage(
                "The scale needs the number of training images of a registered dataset.",
                advice=("Give data.dataset.name.",),
            )
        )
    return client.dataset(dataset.name).manifest.train.num_images


def _describe_row(row: PublishedRow) -> str:
    scores = f"{console.format_score(row.baseline_map)} alone, "
    scores += f"{console.format_score(row.distilled_map)} distilled"
    differs = "" if row.differs is None else f" {row.differs}"
    return f"{row.teacher} teaches {row.student}, {row.schedule}: published {scores}.{differs}"
