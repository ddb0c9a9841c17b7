"""What can go wrong with the stack: what, where, and what to do."""

from pathlib import Path


class StackError(Exception):
    """The stack could not do what was asked.

    StackError
    ├── PortTaken          somebody else listens where a part should
    ├── PartFailed         a part ended or stayed silent while starting
    ├── NotOurs            a part is configured on another machine and does not answer
    └── BadAddress         a setting is no address that we can listen on
    """

    code = "stack_error"

    def __init__(self, message: str, *, advice: str) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice


class PortInUse(StackError):
    """Somebody else listens where a part should."""

    code = "port_taken"

    def __init__(self, port: int, *, component: str, holder: str, setting: str) -> None:
        super().__init__(
            f"Port {port}, which {component} needs, is taken by {holder}.",
            advice=f"End that process, or choose another port with {setting}.",
        )
        self.port = port


class ComponentFailed(StackError):
    """A part ended or stayed silent while starting."""

    code = "part_failed"

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
    """A part is configured on another machine and does not answer."""

    code = "not_ours"

    def __init__(self, part: str, *, url: str, setting: str) -> None:
        super().__init__(
            f"{part} at {url} does not answer, and it is not on this machine to be started.",
            advice=f"Start it there, or set {setting} to an address on this machine.",
        )


class InvalidAddress(StackError):
    """A setting is no address that we can listen on."""

    code = "bad_address"

    def __init__(self, url: str, *, setting: str) -> None:
        super().__init__(
            f"{setting}={url} is not an address of the form http://127.0.0.1:8265.",
            advice=f"Set {setting} to a plain http address with a port.",
        )
