"""Download a file whose size and SHA-256 are known, and carry on where an earlier attempt stopped."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError

if TYPE_CHECKING:
    from http.client import HTTPResponse

# Requests made to one address while it keeps breaking off in the middle of the file.
_ATTEMPTS = 3
_BLOCK = 1 << 16


def download(
    urls: Sequence[str],
    path: str | os.PathLike[str],
    *,
    size: int,
    sha256: str,
    timeout: float = 30.0,
) -> Path:
    """Fetch `path` from the first of `urls` that delivers the right file.

    What arrives is kept in `path` + ".part" until its SHA-256 is right; only then does it get its
    name, in one step. So a file called `path` is always whole. When a transfer breaks off, the
    next request, from whichever address, asks only for the bytes still missing (HTTP Range). At
    most `size` bytes are ever stored. A terminal shows a progress bar. One process at a time may
    download a given path.

    Args:
        urls: http or https addresses of the same file, in order of preference.
        path: where to put it; missing folders are made. If it exists, it is verified instead.
        size: length of the file in bytes.
        sha256: its SHA-256 in hexadecimal.
        timeout: seconds without an answer after which a request is given up.

    Returns:
        `path`.

    Raises:
        DataError: no address delivered the right file, or `path` exists and is another file. The
            message lists each address with what went wrong.
        ValueError: an address is not http or https, or there is none.
    """
    from http.client import HTTPException  # what speaks with the network takes long to import

    path, sha256 = Path(path), sha256.lower()
    _check_addresses(urls)
    if path.exists():
        _check_existing(path, sha256)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    failures: list[str] = []
    for url in urls:
        try:
            _complete(url, part, size, sha256, timeout)
        except (OSError, HTTPException, DataError) as error:
            failures.append(f"{url}: {str(error) or type(error).__name__}")
            continue
        os.replace(part, path)
        return path
    raise DataError(
        f"{path} could not be downloaded. "
        + "; ".join(failures)
        + f". Try again ({_length(part)} of {size} bytes are kept), "
        "or fetch the file by other means and put it there"
    )


def _check_addresses(urls: Sequence[str]) -> None:
    if isinstance(urls, str) or not urls:
        raise ValueError(f"urls is {urls!r}: expected a list of one address or more")
    for url in urls:
        # urlopen would also read local files.
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"urls holds {url!r}: expected an http or https address")


def _check_existing(path: Path, sha256: str) -> None:
    digest = _digest(path)
    if digest != sha256:
        raise DataError(
            f"{path} exists and is not the file to download: its SHA-256 is {digest}, "
            f"expected {sha256}; move it away and try again"
        )


def _complete(url: str, part: Path, size: int, sha256: str, timeout: float) -> None:
    """Bring `part` to its full length from `url` and verify it."""
    from http.client import HTTPException
    from urllib.error import HTTPError

    problem = ""
    for _ in range(_ATTEMPTS):
        before = _length(part)
        try:
            _append(url, part, size, timeout)
        except HTTPError as error:
            error.close()
            raise
        except (OSError, HTTPException) as error:
            # A transfer that had begun is worth taking up again; an address out of reach is not.
            if _length(part) == before:
                raise
            problem = (
                f"broke off after {_length(part)} bytes ({str(error) or type(error).__name__})"
            )
            continue
        if _length(part) < size:
            problem = f"broke off after {_length(part)} bytes"
            continue
        digest = _digest(part)
        if digest == sha256:
            return
        part.unlink()
        problem = f"delivered a file with SHA-256 {digest}, expected {sha256}"
        # What was kept from before may be at fault; of a whole file from here there is no doubt.
        if before == 0:
            break
    raise DataError(problem)


def _append(url: str, part: Path, size: int, timeout: float) -> None:
    """One request for the bytes of `part` that are still missing; it may deliver fewer."""
    from urllib.request import Request, urlopen

    from tqdm import tqdm

    have = _length(part)
    if have > size:
        part.unlink()
        have = 0
    if have == size:
        return
    headers = {"User-Agent": "scalargrad", **({"Range": f"bytes={have}-"} if have else {})}
    with urlopen(Request(url, headers=headers), timeout=timeout) as response:
        start = _start(response, have)
        with (
            part.open("ab") as file,
            tqdm(
                total=size,
                initial=start,
                unit="B",
                unit_scale=True,
                desc=part.stem,
                leave=False,
                disable=None,
            ) as bar,
        ):
            file.truncate(start)
            while start < size and (block := response.read(min(_BLOCK, size - start))):
                file.write(block)
                start += len(block)
                bar.update(len(block))
            file.flush()
            os.fsync(file.fileno())


def _start(response: HTTPResponse, asked: int) -> int:
    """Offset in the file of the answer's first byte: 0 when the server ignored the Range."""
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        return 0
    answer = response.headers.get("Content-Range", "")
    match = re.match(r"bytes (\d+)-", answer)
    if match is None or int(match[1]) != asked:
        raise OSError(f"answered with Content-Range {answer!r} when asked for bytes from {asked}")
    return asked


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
