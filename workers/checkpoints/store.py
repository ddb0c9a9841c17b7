"""The checkpoints of a run: writes them, loads the newest, deletes what the policy drops.

Each checkpoint has a manifest with its hash beside it, and counts only if the two match. `last.pth`
and `best.pth` are hard links to the newest checkpoint and to the best student.

Two attempts may write at once: a process that was frozen, while its successor trains, continues in
the middle of what it did. So it is asked before every file and link whether a newer attempt has
started, and fresh files that this attempt did not write are not deleted.
"""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from configs.atomic_files import UNFINISHED_SUFFIX, write_atomically
from configs.protocol.names import RunFile
from configs.spec.base import Contract, Sha256
from configs.spec.compute import Checkpoints
from workers.checkpoints.files import compute_sha256, load_checkpoint, save_atomically
from workers.errors import Superseded

_BYTES_PER_GIB = 2**30
_STALE_AFTER_S = 600.0
"""A file of a killed writer is deleted when it is this much older than the newest checkpoint."""

log = logging.getLogger(__name__)

CheckpointKind = Literal["resume", "student"]


class CheckpointManifest(Contract):
    """The JSON document beside a checkpoint file."""

    file: str
    kind: CheckpointKind
    """`resume`: everything that resuming needs; `student`: weights only."""

    step: int
    epoch: int
    """Completed epochs."""

    ends_epoch: bool
    mean_ap: float | None = None
    num_bytes: int
    sha256: Sha256


class CheckpointStore:
    """The checkpoints in a run's folder, kept according to a policy."""

    def __init__(
        self,
        run_dir: Path,
        policy: Checkpoints,
        *,
        notify: Callable[[str], None] = log.info,
        check_superseded: Callable[[], bool] = lambda: False,
    ) -> None:
        """`notify` receives messages about damaged checkpoints.

        `check_superseded` returns whether a newer attempt of the run has started, at this moment.
        """
        self._run_dir = run_dir
        self._folder = run_dir / RunFile.CHECKPOINTS
        self._policy = policy
        self._notify = notify
        self._check_superseded = check_superseded

    def save_resume(
        self, checkpoint: dict[str, Any], *, step: int, epoch: int, ends_epoch: bool
    ) -> None:
        """Write a checkpoint to resume from, and delete those that are no longer kept.

        Raises `Superseded` if a newer attempt has started.
        """
        name = f"step-{step:09d}.pth"
        self._write(
            checkpoint, name=name, kind="resume", step=step, epoch=epoch, ends_epoch=ends_epoch
        )
        newest = max(self.list_manifests("resume"), key=lambda m: m.step)
        self._link(newest, RunFile.LAST)
        self._delete_unkept(self._folder / name)

    def save_student(
        self, checkpoint: dict[str, Any], *, step: int, epoch: int, mean_ap: float
    ) -> None:
        """Write a student's weights, and delete those that are no longer among the best.

        Raises `Superseded` as `save_resume` does.
        """
        name = f"student-{step:09d}.pth"
        self._write(
            checkpoint,
            name=name,
            kind="student",
            step=step,
            epoch=epoch,
            ends_epoch=True,
            mean_ap=mean_ap,
        )
        best = _best_first(self.list_manifests("student"))[0]
        self._link(best, RunFile.BEST)
        self._delete_unkept(self._folder / name)

    def load_newest(self) -> dict[str, Any] | None:
        """The newest intact checkpoint to resume from; None if there is none."""
        for manifest in sorted(self.list_manifests("resume"), key=lambda m: m.step, reverse=True):
            path = self._folder / manifest.file
            if compute_sha256(path) == manifest.sha256:
                return load_checkpoint(path)
            self._notify(f"{manifest.file} is damaged; the one before it is used instead.")
        return None

    def list_manifests(self, kind: CheckpointKind) -> list[CheckpointManifest]:
        """Manifests of a kind whose checkpoint file exists with the right size."""
        return [m for m in self._all_manifests() if m.kind == kind]

    def _all_manifests(self) -> Iterator[CheckpointManifest]:
        for path in sorted(self._folder.glob("*.json")):
            try:
                manifest = CheckpointManifest.model_validate_json(path.read_bytes())
                num_bytes = (self._folder / manifest.file).stat().st_size
            except ValidationError:
                self._notify(f"{path.name} is damaged, so its checkpoint is ignored.")
                continue
            except FileNotFoundError:
                continue
            if num_bytes == manifest.num_bytes:
                yield manifest

    def _write(self, checkpoint: dict[str, Any], *, name: str, **facts: Any) -> None:
        path = self._folder / name
        self._raise_if_superseded()
        written = save_atomically(checkpoint, path, before_replace=self._raise_if_superseded)
        manifest = CheckpointManifest(
            file=name, num_bytes=written.num_bytes, sha256=written.sha256, **facts
        )
        self._raise_if_superseded()
        write_atomically(path.with_suffix(".json"), manifest.model_dump_json(indent=2))

    def _link(self, manifest: CheckpointManifest, name: RunFile) -> None:
        self._raise_if_superseded()
        _replace_link(self._folder / manifest.file, self._run_dir / name)

    def _raise_if_superseded(self) -> None:
        if self._check_superseded():
            raise Superseded("A newer attempt of this run has taken over; its files stay.")

    def _delete_unkept(self, newest: Path) -> None:
        """Delete what the policy drops; `newest` is the file that was just written."""
        self._raise_if_superseded()
        resumable = sorted(self.list_manifests("resume"), key=lambda m: m.step, reverse=True)
        students = _best_first(self.list_manifests("student"))
        unkept = [m for m in resumable[self._policy.keep_last :] if not self._is_permanent(m)]
        unkept += students[self._policy.keep_best :]
        retained = [m for m in (*resumable, *students) if m not in unkept]
        unkept += self._select_over_budget(retained, protected=[*resumable[:1], *students[:1]])
        # By the clock of the file system, which other machines may share.
        limit_s = newest.stat().st_mtime - _STALE_AFTER_S
        stale = [path for path in self._folder.iterdir() if _is_stale(path, limit_s=limit_s)]
        deleted = [self._delete(self._folder / m.file) for m in unkept] + [
            self._delete(path) for path in stale
        ]
        if deleted:
            gib = sum(num_bytes for _, num_bytes in deleted) / _BYTES_PER_GIB
            names = ", ".join(name for name, _ in deleted)
            log.info("Deleted checkpoints of %.3f GiB: %s.", gib, names)

    def _is_permanent(self, manifest: CheckpointManifest) -> bool:
        every = self._policy.keep_every_epochs
        return every is not None and manifest.ends_epoch and manifest.epoch % every == 0

    def _select_over_budget(
        self, retained: list[CheckpointManifest], *, protected: list[CheckpointManifest]
    ) -> list[CheckpointManifest]:
        """The oldest checkpoints beyond `max_gib`, except for `protected` ones."""
        if self._policy.max_gib is None:
            return []
        excess_bytes = sum(m.num_bytes for m in retained) - self._policy.max_gib * _BYTES_PER_GIB
        selected = []
        for manifest in sorted(retained, key=lambda m: m.step):
            if excess_bytes > 0 and manifest not in protected:
                selected.append(manifest)
                excess_bytes -= manifest.num_bytes
        return selected

    def _delete(self, path: Path) -> tuple[str, int]:
        """Delete a checkpoint with its manifest; returns its name and size in bytes."""
        try:
            num_bytes = path.stat().st_size
            path.unlink()  # first, because a manifest without a checkpoint is ignored
        except FileNotFoundError:  # another attempt was faster
            num_bytes = 0
        path.with_suffix(".json").unlink(missing_ok=True)
        return path.name, num_bytes


def _is_stale(path: Path, *, limit_s: float) -> bool:
    """Whether a killed writer left this file: an old half of one, or one without its manifest.

    `limit_s` is a time of modification. Another attempt may still be writing a file after it.
    """
    is_of_checkpoint = path.name.startswith(("step-", "student-"))
    has_no_manifest = path.suffix == ".pth" and not path.with_suffix(".json").exists()
    if not is_of_checkpoint or not (has_no_manifest or path.name.endswith(UNFINISHED_SUFFIX)):
        return False
    try:
        return path.stat().st_mtime < limit_s
    except FileNotFoundError:
        return False


def _best_first(manifests: list[CheckpointManifest]) -> list[CheckpointManifest]:
    """By mAP, descending; of equal ones the earlier step first."""
    return sorted(manifests, key=lambda m: (-(m.mean_ap or 0.0), m.step))


def _replace_link(target: Path, name: Path) -> None:
    """Replace `name` by a hard link to `target` atomically."""
    unfinished = name.with_name(f"{name.name}.{os.getpid()}.unfinished")
    unfinished.unlink(missing_ok=True)
    os.link(target, unfinished)
    unfinished.replace(name)
    # A rename between two links of one file does nothing and leaves both.
    unfinished.unlink(missing_ok=True)
