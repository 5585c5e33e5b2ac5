"""A text file of names, one a line: what a character-level model learns from."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import DataError

# A line is read whole before it is looked at; this bounds what a file without line ends can cost.
_LONGEST_LINE = 65_536


def names(path: str | os.PathLike[str]) -> list[str]:
    """The names in a UTF-8 text file with one on each line.

    Spaces around a name are dropped, empty lines are skipped, order and repetitions are kept, a
    byte order mark is ignored and lines may end as on any system.

    Args:
        path: the file.

    Returns:
        The names in file order, at least one.

    Raises:
        DataError: the file is not UTF-8 text, has a line longer than 65,536 bytes, or holds no
            name. The message gives the line and the byte offset.
        OSError: the file cannot be opened.
    """
    path = Path(path)
    found: list[str] = []
    offset = 0
    with path.open("rb") as file:
        lines = iter(lambda: file.readline(_LONGEST_LINE + 1), b"")
        for number, line in enumerate(lines, start=1):
            name = _text(line, path, number, offset).strip()
            if name:
                found.append(name)
            offset += len(line)
    if not found:
        raise DataError(f"{path}, byte {offset}: the file ends without a name; one a line expected")
    return found


def _text(line: bytes, path: Path, number: int, offset: int) -> str:
    """One line decoded; `offset` is where in the file it starts."""

    def error(at: int, problem: str) -> DataError:
        return DataError(
            f"{path}, line {number}, byte {offset + at}: {problem}; "
            "expected UTF-8 text with one name a line"
        )

    if len(line) > _LONGEST_LINE:
        raise error(_LONGEST_LINE, f"the line is longer than {_LONGEST_LINE} bytes")
    # UTF-16 text without a byte order mark is valid UTF-8 strewn with zeros.
    if b"\0" in line:
        raise error(line.index(b"\0"), "a zero byte")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as undecodable:
        at = undecodable.start
        raise error(at, f"byte 0x{line[at]:02x} is not UTF-8") from undecodable
    return text.removeprefix("\ufeff") if number == 1 else text
