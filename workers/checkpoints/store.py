"""Which checkpoints a run has, which of them are whole, and which are kept.

Each one lies beside a manifest with its hash; without a manifest that fits it does not count. The
names `last.pth` and `best.pth` are links to the newest and the best.
"""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from configs.protocol.names import RunFile
from configs.spec.base import Contract, Sha256
from configs.spec.compute import Checkpoints
from workers.checkpoints.files import (
    compute_sha256,
    load_checkpoint,
    save_atomically,
    write_atomically,
)

_BYTES_IN_GIB = 2**30

log = logging.getLogger(__name__)

CheckpointKind = Literal["resume", "student"]


class CheckpointManifest(Contract):
    """What lies in a checkpoint file."""

    file: str
    kind: CheckpointKind
    """`resume`: to go on from; `student`: weights alone."""

    step: int
    epoch: int
    """Whole epochs."""

    ends_epoch: bool
    mean_ap: float | None = None
    num_bytes: int
    sha256: Sha256


class CheckpointStore:
    """The checkpoints in a run's folder."""

    def __init__(
        self,
        run_dir: Path,
        policy: Checkpoints,
        *,
        notify: Callable[[str], None] = log.info,
    ) -> None:
        """`say` is told what is worth to be known: what was freed, and what is damaged."""
        self._run_dir = run_dir
        self._folder = run_dir / RunFile.CHECKPOINTS
        self._policy = policy
        self._say = notify

    def save_resume(
        self, checkpoint: dict[str, Any], *, step: int, epoch: int, ends_epoch: bool
    ) -> None:
        """Write a checkpoint to go on from, and let older ones go."""
        name = f"step-{step:09d}.pth"
        self._write(
            checkpoint, name=name, kind="resume", step=step, epoch=epoch, ends_epoch=ends_epoch
        )
        _link(self._folder / name, self._run_dir / RunFile.LAST)
        self._clean_up()

    def save_student(
        self, checkpoint: dict[str, Any], *, step: int, epoch: int, mean_ap: float
    ) -> None:
        """Write a student if it is among the best; `best.pth` is the best."""
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
        _link(self._folder / best.file, self._run_dir / RunFile.BEST)
        self._clean_up()

    def load_newest(self) -> dict[str, Any] | None:
        """The newest whole checkpoint to go on from; damaged ones are passed over, and said."""
        for manifest in sorted(self.list_manifests("resume"), key=lambda m: m.step, reverse=True):
            path = self._folder / manifest.file
            if compute_sha256(path) == manifest.sha256:
                return load_checkpoint(path)
            self._say(f"{manifest.file} is damaged; the checkpoint before it is tried.")
        return None

    def list_manifests(self, kind: CheckpointKind) -> list[CheckpointManifest]:
        """Of all checkpoints of a kind whose file is there with its size."""
        return [m for m in self._all_manifests() if m.kind == kind]

    def _all_manifests(self) -> Iterator[CheckpointManifest]:
        for path in sorted(self._folder.glob("*.json")):
            try:
                manifest = CheckpointManifest.model_validate_json(path.read_bytes())
            except ValidationError:
                self._say(f"{path.name} is damaged, so its checkpoint does not count.")
                continue
            file = self._folder / manifest.file
            if file.is_file() and file.stat().st_size == manifest.num_bytes:
                yield manifest

    def _write(self, checkpoint: dict[str, Any], *, name: str, **facts: Any) -> None:
        path = self._folder / name
        written = save_atomically(checkpoint, path)
        manifest = CheckpointManifest(
            file=name, num_bytes=written.num_bytes, sha256=written.sha256, **facts
        )
        write_atomically(path.with_suffix(".json"), manifest.model_dump_json(indent=2).encode())

    def _clean_up(self) -> None:
        resumable = sorted(self.list_manifests("resume"), key=lambda m: m.step, reverse=True)
        students = _best_first(self.list_manifests("student"))
        gone = [m for m in resumable[self._policy.keep_last :] if not self._is_for_good(m)]
        gone += students[self._policy.keep_best :]
        left = [m for m in (*resumable, *students) if m not in gone]
        gone += self._over_budget(left, never=[*resumable[:1], *students[:1]])
        stale = [path for path in self._folder.glob("*.pth") if self._is_stale(path)]
        freed = [self._remove(self._folder / m.file) for m in gone] + [
            self._remove(path) for path in stale
        ]
        if freed:
            gib = sum(num_bytes for _, num_bytes in freed) / _BYTES_IN_GIB
            names = ", ".join(name for name, _ in freed)
            log.info("Freed %.3f GiB: %s.", gib, names)

    def _is_for_good(self, manifest: CheckpointManifest) -> bool:
        every = self._policy.keep_every_epochs
        return every is not None and manifest.ends_epoch and manifest.epoch % every == 0

    def _over_budget(
        self, left: list[CheckpointManifest], *, never: list[CheckpointManifest]
    ) -> list[CheckpointManifest]:
        """The oldest that must go for the rest to fit; the newest and the best never do."""
        if self._policy.max_gib is None:
            return []
        over = sum(m.num_bytes for m in left) - self._policy.max_gib * _BYTES_IN_GIB
        gone = []
        for manifest in sorted(left, key=lambda m: m.step):
            if over > 0 and manifest not in never:
                gone.append(manifest)
                over -= manifest.num_bytes
        return gone

    def _is_stale(self, path: Path) -> bool:
        """A checkpoint whose manifest was never written: its writer was killed in between."""
        is_ours = path.name.startswith(("step-", "student-"))
        return is_ours and not path.with_suffix(".json").exists()

    def _remove(self, path: Path) -> tuple[str, int]:
        # The manifest goes last: what lies without one is found again and removed.
        num_bytes = path.stat().st_size
        path.unlink()
        path.with_suffix(".json").unlink(missing_ok=True)
        return path.name, num_bytes


def _best_first(manifests: list[CheckpointManifest]) -> list[CheckpointManifest]:
    """By mAP; of equals the earlier one."""
    return sorted(manifests, key=lambda m: (-(m.mean_ap or 0.0), m.step))


def _link(target: Path, name: Path) -> None:
    """Let `name` be `target`'s content, at every moment the old or the new one."""
    unfinished = name.with_name(f"{name.name}.{os.getpid()}.unfinished")
    unfinished.unlink(missing_ok=True)
    os.link(target, unfinished)
    unfinished.replace(name)
    # Between two links of one file a rename does nothing, and both stay.
    unfinished.unlink(missing_ok=True)
