"""Running a little Python in a process of its own, on either engine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def environment(pure: bool | None = None, **variables: str) -> dict[str, str]:
    """This process's environment with some variables changed; `pure` chooses the engine."""
    changed = {**os.environ, **variables}
    if pure is not None:
        changed["SCALARGRAD_PURE"] = "1" if pure else "0"
    return changed


def run_python(*arguments: str, pure: bool | None = None, **variables: str) -> str:
    """What `python ARGUMENTS` prints. An exit status other than 0 fails with its stderr."""
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=TESTS,
        env=environment(pure, **variables),
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stderr}"
    assert done.stderr == ""
    return done.stdout
