"""examples/uploads.py: bodies that were refused arrive whole."""

from __future__ import annotations

from requests_refresh.testing import AuthServer

from .support import EXAMPLES, Halt, done, settings, started

KINDS = ("bytes", "file", "generator", "multipart")


def test_uploads(server: AuthServer) -> None:
    """I11: each kind of body is refused once, and is sent again to the byte."""
    env = settings(server)
    # Each kind takes two requests: the one that is refused, and the one that is not.
    halts = [Halt(server, 2 * number + 1, 1) for number in range(len(KINDS))]
    with started(EXAMPLES / "uploads.py", env=env) as process:
        for halt in halts:
            halt.kill_tokens()
        status, out, errors = done(process)
    assert (status, errors) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == list(KINDS)
    assert all(line.endswith(" bytes, to the byte") for line in lines)
    sizes = [int(line.split()[1]) for line in lines]
    assert sizes[:3] == [3 * 1024 * 1024] * 3
    assert sizes[3] > sizes[0]
    counts = server.counts
    # One more than tokens died: the login began with a refresh token alone.
    assert (counts.refreshes, counts.expiries, counts.reuses) == (5, 4, 0)
    assert (counts.api_401, counts.api_200) == (4, 4)
