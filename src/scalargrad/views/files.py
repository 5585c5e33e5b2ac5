"""Writing a picture or a page to disk: whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def write(target: Path, content: bytes, what: str = "picture") -> Path:
    """Make `content` the file `target`, whose folder is made when missing, and return `target`.

    The file appears at once and complete: it is written under a temporary name in the same folder,
    flushed to disk, then renamed. Raises `OSError`, naming the path, if it cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, content)
    except OSError as error:
        raise OSError(
            error.errno, f"the {what} could not be written: {error.strerror}", str(target)
        ) from error
    return target


def _replace(target: Path, content: bytes) -> None:
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
