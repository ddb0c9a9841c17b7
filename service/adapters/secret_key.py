"""The key that workers' seals are made with: a file of the service's own."""

import secrets
from contextlib import suppress
from pathlib import Path

_BYTES = 32


class InvalidKeyFile(Exception):
    """The file is there, but holds no key."""


def load_or_create_key(file: Path) -> bytes:
    """The key in a file; made there if there is none, readable by its owner only."""
    if not file.exists():
        _make(file)
    try:
        key = bytes.fromhex(file.read_text(encoding="ascii").strip())
    except ValueError:
        key = b""
    if len(key) < _BYTES:
        raise InvalidKeyFile(
            f"{file} holds no key of {_BYTES} bytes in hexadecimal digits. Remove it, and a new "
            "one is made; workers that run then go on, and their records are taken at their end."
        )
    return key


def _make(file: Path) -> None:
    """Write a key that is whole as soon as it is there, whoever else makes one at the same time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    own = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    own.touch(mode=0o600)
    own.write_text(secrets.token_hex(_BYTES), encoding="ascii")
    with suppress(FileExistsError):
        file.hardlink_to(own)
    own.unlink()
