"""What a run waits for beside room: the run that trains its teacher, or the model of a job."""

from configs.spec import RunFile, RunTeacher
from service.domain.errors import CheckpointMissing, DependencyFailed
from service.domain.references import references_of
from service.domain.runs import Run
from service.domain.states import RunState
from service.usecases.runs import show_run
from service.usecases.world import World


def what_it_waits_for(run: Run, *, world: World) -> str | None:
    """The run whose checkpoint is needed, in words; none if nothing is missing.

    Raises `DependencyFailed` or `CheckpointMissing` if that checkpoint will never be there.
    """
    references = references_of(run.spec)
    if not isinstance(references.model, RunTeacher) or run.attempt > 0:
        return None
    what = references.model_field
    needed = show_run(references.model.run, world=world)
    if needed.is_over and needed.state is not RunState.SUCCEEDED:
        raise DependencyFailed(what, needed.id, needed.state)
    if not needed.is_over:
        return f"its {what}, run {needed.id}"
    file = RunFile.BEST if references.model.checkpoint == "best" else RunFile.LAST
    if not world.files.has(world.files.run_dir(needed.id) / file):
        raise CheckpointMissing(what, needed.id, file)
    return None
