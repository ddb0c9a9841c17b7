"""The file with the key that signs workers' tokens."""

import secrets
from contextlib import suppress
from pathlib import Path

_KEY_BYTES = 32


class InvalidKeyFile(Exception):
    """The file exists, but contains no valid key."""


def load_or_create_key(file: Path) -> bytes:
    """Read the key from a file; a missing file is created, readable only by its owner.

    Raises `InvalidKeyFile` if the file contains no key.
    """
    if not file.exists():
        _create_key(file)
    try:
        key = bytes.fromhex(file.read_text(encoding="ascii").strip())
    except ValueError:
        key = b""
    if len(key) < _KEY_BYTES:
        raise InvalidKeyFile(
            f"{file} contains no key of {_KEY_BYTES} bytes in hexadecimal digits. Remove it to "
            "have a new one created; records of running workers are then imported when they end."
        )
    return key


def _create_key(file: Path) -> None:
    """Create a key file atomically; if several processes do so at once, one key wins."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    temporary.touch(mode=0o600)
    temporary.write_text(secrets.token_hex(_KEY_BYTES), encoding="ascii")
    with suppress(FileExistsError):
        file.hardlink_to(temporary)
    temporary.unlink()
