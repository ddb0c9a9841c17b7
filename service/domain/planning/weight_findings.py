"""Whether the ImageNet weights that a student starts from are on the workers' machine."""

from collections.abc import Iterator

from configs.backbone_weights import PackagedWeights, get_pretrained_weights
from configs.spec.detector import backbone_title
from configs.spec.jobs import JobSpec
from configs.spec.run import RunSpec
from service.domain.planning.findings import Facts, Finding, error, warning

_FIELD = "student.backbone.pretrained"


def weight_findings(spec: JobSpec, facts: Facts) -> Iterator[Finding]:
    """Findings about a training run; other jobs, and students without weights, get none."""
    weights = get_pretrained_weights(spec.student.backbone) if isinstance(spec, RunSpec) else None
    if weights is None:
        return
    assert isinstance(spec, RunSpec)
    title = f"The ImageNet weights of {backbone_title(spec.student.backbone)}"
    is_packaged = isinstance(weights, PackagedWeights)
    if facts.weights is None:
        if not weights.is_installed_by_default:
            yield warning(
                _FIELD,
                "weights_unchecked",
                f"{title} were not looked for, since the service does not see the workers' files. "
                + (
                    f"Each worker needs the package {weights.package}; without it the run fails."
                    if isinstance(weights, PackagedWeights)
                    else f"A worker downloads {weights.url}, unless torch's cache has it."
                ),
            )
    elif not facts.weights.is_present and is_packaged:
        # Other machines of the cluster may have the package.
        has_other_nodes = facts.nodes is None or len(facts.nodes) > 1
        yield (warning if has_other_nodes else error)(
            _FIELD,
            "weights_missing",
            f"{title} are not installed. Get them with: {facts.weights.command}",
        )
    elif not facts.weights.is_present:
        yield warning(
            _FIELD,
            "weights_not_cached",
            f"{title} are not in torch's cache, so the run downloads them when it starts. Without "
            f"internet access, put them there: {facts.weights.command}",
        )
