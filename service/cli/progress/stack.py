"""Progress of starting and stopping the stack."""

from types import TracebackType
from typing import Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from service.cli import console
from service.stack.components import ComponentName
from service.stack.lifecycle import ComponentProgress

_SIGNS = {
    "ready": "[green]✔[/]",
    "already up": "[green]✔[/]",
    "elsewhere": "[green]✔[/]",
    "ended": "[green]✔[/]",
    "not running": "[dim]·[/]",
    "failed": "[red]✘[/]",
}


class StackProgress:
    """A live line per component on a terminal; otherwise a printed line per change."""

    def __init__(self) -> None:
        self._out = console.output()
        self._latest: dict[ComponentName, ComponentProgress] = {}
        self._spinner = Spinner("dots")
        self._live = Live(console=self._out, get_renderable=self._render, refresh_per_second=8)

    def __enter__(self) -> Self:
        if self._out.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._out.is_terminal:
            self._live.stop()

    def __call__(self, progress: ComponentProgress) -> None:
        """Show the newest progress of a component."""
        previous = self._latest.get(progress.component)
        self._latest[progress.component] = progress
        if not self._out.is_terminal and (previous is None or previous.phase != progress.phase):
            self._out.print(f"{progress.title:8} {_format(progress)}")

    def _render(self) -> RenderableType:
        grid = Table.grid(padding=(0, 1))
        for progress in self._latest.values():
            grid.add_row(
                _SIGNS.get(progress.phase, self._spinner), progress.title, _format(progress)
            )
        return Group(grid)


def _format(progress: ComponentProgress) -> str:
    duration = f" {progress.seconds:.1f} s" if progress.seconds >= 0.05 else ""
    detail = f"  {progress.detail}" if progress.detail else ""
    return f"{progress.phase}{duration}{detail}"
