"""Machine code kept on disk, so that a program is compiled once and not once per process.

An entry is a file named by the SHA-256 of everything its code depends on: the trace, the options,
the CPU with its features, the mathematics library, LLVM and this package (see `image`). It starts
with the digest of its own content; one that is damaged, cut short or foreign is ignored, and
written anew: so nobody waits until the disk has it. Files are written under another name and then
renamed, so processes and threads never see half an entry. What has not been used for longest is
deleted when the folder grows past its limit.

`SCALARGRAD_CACHE=0` turns the cache off.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

Stamp: TypeAlias = tuple[str, int, int]

MAGIC = b"scalargrad code 2\n"
SUFFIX = ".code"
LIMIT = 256 * 1024 * 1024  # bytes
_DIGEST = 32
TROUBLE = (OSError, RuntimeError)  # the latter is pathlib's, for a user without a home


def enabled() -> bool:
    """Whether the cache is on: `SCALARGRAD_CACHE` is not 0."""
    return os.environ.get("SCALARGRAD_CACHE", "") != "0"


def directory() -> Path:
    """The folder of this user's cache, by the custom of the operating system."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        return base / "scalargrad" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "scalargrad"
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    return base / "scalargrad"


def key(parts: Iterable[bytes]) -> str:
    """The name of the entry for code that depends on these, in this order."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def stamps(folder: Path, endings: tuple[str, ...]) -> list[Stamp]:
    """What tells whether the files of a folder are the same as before: names, sizes, times."""
    found = []
    for entry in os.scandir(folder):
        if entry.name.endswith(endings):
            status = entry.stat()
            found.append((entry.name, status.st_size, status.st_mtime_ns))
    return sorted(found)


class Cache:
    """A folder of entries. Trouble with the disk is never an error: code is then compiled."""

    def __init__(self, folder: Path | None = None, limit: int = LIMIT) -> None:
        self._folder = folder
        self.limit = limit

    @property
    def folder(self) -> Path:
        """Where the entries are."""
        return directory() if self._folder is None else self._folder

    def get(self, name: str) -> bytes | None:
        """The code of an entry; None if it is not there, or not whole."""
        try:
            path = self.folder / (name + SUFFIX)
            content = path.read_bytes()
        except TROUBLE:
            return None
        code = content[len(MAGIC) + _DIGEST :]
        if content[: len(MAGIC)] != MAGIC or not code:
            return None
        if hashlib.sha256(name.encode() + code).digest() != content[len(MAGIC) :][:_DIGEST]:
            return None
        with suppress(OSError):
            os.utime(path)  # used now: the last to be deleted
        return code

    def put(self, name: str, code: bytes) -> None:
        """Keep code under a name, and the folder within its limit."""
        head = MAGIC + hashlib.sha256(name.encode() + code).digest()
        if len(head) + len(code) > self.limit:
            return
        with suppress(*TROUBLE):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._write(self.folder / (name + SUFFIX), head + code)
            self._trim()

    @staticmethod
    def _write(path: Path, content: bytes) -> None:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise

    def _trim(self) -> None:
        """Delete the entries not used for longest; another process may be doing the same."""
        entries = []
        for path in self.folder.glob("*" + SUFFIX):
            with suppress(OSError):
                status = path.stat()
                entries.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self.limit:
                break
            with suppress(OSError):
                path.unlink()
            total -= size
