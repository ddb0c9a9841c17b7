"""Errors of the stack: what failed, in which component, and what to do."""

from pathlib import Path


class StackError(Exception):
    """The stack could not be started or stopped.

    StackError
    ├── PortInUse          another process listens on the port of a component
    ├── ComponentFailed    a component exited, or did not answer in time, while starting
    ├── RemoteUnreachable  a component on another machine does not answer
    ├── InvalidAddress     a setting is not an http address
    └── ForeignFolder      a folder in /tmp is a link, or belongs to another user
    """

    code = "stack_error"

    def __init__(self, message: str, *, advice: str) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice


class PortInUse(StackError):
    """Another process listens on the port of a component."""

    code = "port_in_use"

    def __init__(self, port: int, *, component: str, holder: str, setting: str) -> None:
        super().__init__(
            f"Port {port}, which {component} needs, is in use by {holder}.",
            advice=f"End that process, or choose another port with {setting}.",
        )
        self.port = port


class ComponentFailed(StackError):
    """A component exited, or did not answer in time, while starting."""

    code = "component_failed"

    def __init__(
        self, component: str, *, problem: str, log: Path, last_lines: tuple[str, ...]
    ) -> None:
        super().__init__(
            f"{component} {problem}.", advice=f"Read {log}; `tandem doctor` checks the environment."
        )
        self.component = component
        self.log = log
        self.last_lines = last_lines


class RemoteUnreachable(StackError):
    """A component is configured on another machine and does not answer."""

    code = "remote_unreachable"

    def __init__(self, component: str, *, url: str, setting: str) -> None:
        super().__init__(
            f"{component} at {url} does not answer, and it cannot be started from this machine.",
            advice=f"Start it there, or set {setting} to an address on this machine.",
        )


class InvalidAddress(StackError):
    """A setting is not an http address."""

    code = "invalid_address"

    def __init__(self, url: str, *, setting: str) -> None:
        super().__init__(
            f"{setting}={url} is not an address of the form http://127.0.0.1:8265.",
            advice=f"Set {setting} to an address that begins with http:// or https://.",
        )


class ForeignFolder(StackError):
    """A folder with a name that others can guess is a link, or belongs to another user."""

    code = "foreign_folder"

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder} is not a folder of this user: somebody else may have made it.",
            advice="Remove it, or set TANDEM_HOME to another folder, which changes its name.",
        )
