"""The `requests-refresh` command, of the extra `cli`: click, rich, platformdirs and tomlkit."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status; blocks until it is done.

    argv: the arguments without the command's name; None: those of the process.
    Says so on standard error, and returns 1, where the extra is missing.
    """
    try:
        from .app import run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(__package__):
            raise
        sys.stderr.write(
            f"The command needs {error.name}, which is not installed. Nothing was done."
            ' Install it: pip install "requests_refresh[cli]"\n'
        )
        return 1
    return run(argv)
