"""What a plan has to ask the cluster and the file system about a spec."""

from dataclasses import dataclass

from configs.backbone_weights import get_pretrained_weights
from configs.protocol.image_hashes import SharedImage, find_shared_images
from configs.spec.jobs import JobSpec
from configs.spec.references import NamedDataset
from configs.spec.run import RunSpec
from service.domain.planning.references import references_of
from service.domain.ports import Node, WeightsStatus
from service.usecases.context import Context
from service.usecases.nodes import list_nodes_or_none
from service.usecases.registry import find_image_hashes


@dataclass(frozen=True)
class OutsideFacts:
    """What the database does not know about a spec: nodes and files."""

    nodes: tuple[Node, ...] | None
    """None if the cluster does not answer."""

    weights: WeightsStatus | None
    """The pretrained weights of the student. None if there are none to look for, or no way."""

    shared_images: tuple[SharedImage, ...] = ()
    """Images without labels that are validation images, as far as hashes are stored."""


def look_outside(spec: JobSpec, *, ctx: Context) -> OutsideFacts:
    """Ask the cluster and read files, which no transaction should wait for."""
    return OutsideFacts(
        list_nodes_or_none(ctx), _look_up_weights(spec, ctx=ctx), _look_up_shared(spec, ctx=ctx)
    )


def _look_up_weights(spec: JobSpec, *, ctx: Context) -> WeightsStatus | None:
    if ctx.worker_files is None or not isinstance(spec, RunSpec):
        return None
    weights = get_pretrained_weights(spec.student.backbone)
    return None if weights is None else ctx.worker_files.look_up(weights)


def _look_up_shared(spec: JobSpec, *, ctx: Context) -> tuple[SharedImage, ...]:
    references = references_of(spec)
    if not isinstance(references.unlabelled, NamedDataset):
        return ()
    names = (references.unlabelled, references.dataset)
    with ctx.store.snapshot() as uow:
        datasets = [
            uow.registry.dataset(reference.name) if isinstance(reference, NamedDataset) else None
            for reference in names
        ]
    unlabelled, labeled = (
        None if dataset is None else find_image_hashes(dataset, ctx=ctx) for dataset in datasets
    )
    if unlabelled is None or labeled is None:
        return ()
    return tuple(find_shared_images(unlabelled.train, labeled.val))
