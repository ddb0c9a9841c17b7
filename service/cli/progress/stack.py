"""How starting and ending the stack looks while it happens."""

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
    """A line for each part: alive on a terminal, a line per change elsewhere."""

    def __init__(self) -> None:
        self._out = console.output()
        self._steps: dict[ComponentName, ComponentProgress] = {}
        self._spinner = Spinner("dots")
        self._live = Live(console=self._out, get_renderable=self._rendered, refresh_per_second=8)

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

    def __call__(self, step: ComponentProgress) -> None:
        """Takes note of what happens to a part."""
        before = self._steps.get(step.component)
        self._steps[step.component] = step
        if not self._out.is_terminal and (before is None or before.phase != step.phase):
            self._out.print(f"{step.title:8} {_words(step)}")

    def _rendered(self) -> RenderableType:
        grid = Table.grid(padding=(0, 1))
        for step in self._steps.values():
            grid.add_row(_SIGNS.get(step.phase, self._spinner), step.title, _words(step))
        return Group(grid)


def _words(step: ComponentProgress) -> str:
    took = f" {step.seconds:.1f} s" if step.seconds >= 0.05 else ""
    detail = f"  {step.detail}" if step.detail else ""
    return f"{step.phase}{took}{detail}"
