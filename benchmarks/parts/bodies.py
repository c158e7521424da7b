"""Bodies: a large upload that is refused once, and what of it arrives.

The provider and API run in one process, each upload in one of its own, so that
the memory that is told is that upload's. Every answer of the API tells length
and SHA-256 of what arrived.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from benchmarks.base import Count, Figure, Found, Size, Table, WentOn
from requests_refresh import RefreshAdapter, RefreshTokenGrant, TokenSource
from requests_refresh.testing import AuthServer

TITLE = "Bodies: a large upload refused once"
MIB = 1 << 20
SIZE = 100  # MiB
BLOCK = 65536  # bytes that the generator gives at a time
BARE = {"file": "bare, a file", "generator": "bare, a generator"}
OURS = {
    "file": "a file",
    "kept": "a generator, `replay_limit` as large",
    "lost": "a generator, `replay_limit=0`",
}
PEERS = {"peer-file": "a file", "peer-generator": "a generator"}
COLUMNS = ("body", "answer", "arrived in the end", "sent", "over one bare", "over two", "held, MiB")
TEXT = """\
A PUT of {size} MiB with a token that the server has just killed: it takes the whole body, then says
401. Each upload has a process of its own; beside it, in turns, the same body goes by a bare session
with a living token, twice, and nothing is refused. "Over one bare" is the time over the first of
those, "over two" over both together, {rounds} rounds, medians. "Held" is the peak of the process's
memory while it uploads, over what it took before. The SHA-256 is the server's, of what came with
the request that it answered last.

What bounds it: where a 401 comes after the body, sending it again costs a second upload, so the
floor is two bare ones; the token endpoint takes about a millisecond. A server that refuses at the
header saves the first. A file is read again and is never in memory; a generator cannot be, so all
of it is kept aside, up to `replay_limit`, and what it takes over two bare ones is the price of
memory that is new to the process. With `replay_limit=0` its caller gets the 401 after a single
upload, and a renewal begins at once for whoever comes next."""


@dataclass(frozen=True)
class Upload:
    """What came of one: seconds of each request that was made, and MiB held meanwhile."""

    status: int
    length: int
    sha256: str
    seconds: list[float]
    held: float
    sent: int = 0  # how often the API got a body
    refreshes: int = 0


def steps(size: Size) -> int:
    return size.rounds * (len(BARE) + len(OURS)) + len(PEERS)


def run(size: Size, went_on: WentOn) -> Found:
    ways = [*BARE, *(f"ours-{way}" for way in OURS)]
    found: dict[str, list[Upload]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as directory, _Server() as server:
        path = Path(directory, "upload")
        digest = _fill(path)
        for _ in range(size.rounds):
            for way in random.sample(ways, len(ways)):
                found[way].append(server.receive(way, path))
                went_on(f"upload: {way}")
        peers: dict[str, Upload | None] = {}
        for way in PEERS:
            peers[way] = None
            with contextlib.suppress(ImportError):
                import google.auth  # noqa: F401 - whether it is there

                peers[way] = server.receive(way, path)
            went_on(f"upload: {way}")
    return _tell(found, peers, digest, size.rounds)


def _fill(path: Path) -> str:
    """Write a file, no two blocks of which are alike; returns its SHA-256."""
    given, digest = random.Random(1), hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(SIZE):
            block = given.randbytes(MIB)
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


class _Server:
    """An AuthServer in a process of its own."""

    def __enter__(self) -> _Server:
        self._process = _program("serve")
        self._told: dict[str, Any] = self._ask("hello")
        return self

    def __exit__(self, *exc: object) -> None:
        with self._process:
            self._process.kill()

    def receive(self, way: str, path: Path) -> Upload:
        """Let one process upload. All but the bare ones find their token killed."""
        reply = self._ask("login")
        given = {**self._told, "path": str(path), "reply": reply}
        with _program("upload", way, json.dumps(given)) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.readline()  # it is ready
            before = self._ask("counts")
            if way not in BARE:
                self._ask("kill")
            process.stdin.write(b"go\n")
            process.stdin.close()
            upload = Upload(**json.loads(process.stdout.read()))
        after = self._ask("counts")
        sent, refreshes = (after[name] - before[name] for name in ("api_requests", "refreshes"))
        return Upload(**{**vars(upload), "sent": sent, "refreshes": refreshes})

    def _ask(self, word: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(word.encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def _program(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.parts.bodies", *arguments],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


# --------------------------------------------------- what those processes run


def _serve() -> None:
    with AuthServer() as server:
        for line in sys.stdin:
            answer: Any = {}
            if line == "hello\n":
                answer = {"api": server.api, "token_url": server.token_url}
            elif line == "login\n":
                answer = server.login()
            elif line == "kill\n":
                server.revoke_access()
            else:
                answer = vars(server.counts)
            print(json.dumps(answer), flush=True)


def _upload(way: str, given: dict[str, Any]) -> None:
    path, api, reply = Path(given["path"]), given["api"], given["reply"]
    with contextlib.ExitStack() as stack:
        if way in BARE:
            session = stack.enter_context(requests.Session())
            session.headers["Authorization"] = f"Bearer {reply['access_token']}"
        elif way in PEERS:
            session = stack.enter_context(_google(given))
        else:
            session = stack.enter_context(requests.Session())
            grant = RefreshTokenGrant(given["token_url"], client_id="test")
            tokens = TokenSource(grant, token=reply)
            stack.callback(tokens.close)
            limit = path.stat().st_size if way == "ours-kept" else 0
            session.mount(api, RefreshAdapter(tokens, origins=api, replay_limit=limit))
        session.trust_env = False
        assert session.get(f"{api}warm-up").ok
        print(flush=True)
        sys.stdin.readline()
        before, seconds = _memory("VmRSS"), []
        for _ in range(1 + (way in BARE)):
            with path.open("rb") as file:
                data = file if way.endswith("file") else iter(lambda: file.read(BLOCK), b"")
                begun = time.perf_counter()
                answer = session.put(f"{api}upload", data=data)
                seconds.append(time.perf_counter() - begun)
        held = _memory("VmHWM") - before
    body = answer.json()
    arrived = body.get("length", 0), body.get("sha256", "")
    print(json.dumps(vars(Upload(answer.status_code, *arrived, seconds, held))))


def _google(given: dict[str, Any]) -> Any:
    from google.auth.transport.requests import AuthorizedSession
    from google.oauth2.credentials import Credentials

    reply = given["reply"]
    return AuthorizedSession(
        Credentials(
            reply["access_token"],
            refresh_token=reply["refresh_token"],
            token_uri=given["token_url"],
            client_id="test",
            client_secret="test",
        )
    )


def _memory(name: str) -> float:
    """MiB, as Linux tells them; VmHWM is the peak of VmRSS. Elsewhere it is not known: 0."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines[name].split()[0]) / 1024


# ------------------------------------------------------------------ the report


def _tell(
    found: dict[str, list[Upload]],
    peers: dict[str, Upload | None],
    digest: str,
    rounds: int,
) -> Found:
    rows: list[tuple[object, ...]] = []
    for way, name in BARE.items():
        held = statistics.median(one.held for one in found[way])
        arrived = _arrived(found[way][-1], digest)
        rows.append((f"{name}, not refused", *arrived, 1, "1", "", f"{held:.1f}"))
    ratios: dict[str, float] = {}
    for way, name in OURS.items():
        bare = found["file" if way == "file" else "generator"]
        ours = found[f"ours-{way}"]
        one, two = (
            statistics.median(
                mine.seconds[0] / sum(theirs.seconds[:most])
                for mine, theirs in zip(ours, bare, strict=True)
            )
            for most in (1, 2)
        )
        ratios[way] = two
        held = statistics.median(upload.held for upload in ours)
        last = ours[-1]
        rows.append(
            (name, *_arrived(last, digest), last.sent, f"{one:.2f}", f"{two:.2f}", f"{held:.1f}")
        )
    for way, name in PEERS.items():
        peer = peers[way]
        what: tuple[object, ...] = ("not installed", "", "")
        if peer is not None:
            what = (*_arrived(peer, digest), peer.sent)
        rows.append((f"google-auth, {name}", *what, "", "", ""))
    return Found(
        TEXT.format(size=SIZE, rounds=rounds),
        tables=[Table(COLUMNS, rows)],
        counts=_counts(found, digest),
        figures=[
            Figure("Upload of a file refused once, over two bare uploads", ratios["file"]),
            Figure("Upload of a generator refused once, over two bare uploads", ratios["kept"]),
        ],
    )


def _arrived(upload: Upload, digest: str) -> tuple[str, str]:
    if upload.status != 200:
        return str(upload.status), "nothing"
    if upload.sha256 == digest:
        return "200", "whole"
    return "200", f"{upload.length:,} bytes: **lost**"


def _counts(found: dict[str, list[Upload]], digest: str) -> list[Count]:
    counts = []
    for way, name in OURS.items():
        ours = found[f"ours-{way}"]
        whole = [one for one in ours if (one.status, one.sha256) == (200, digest)]
        refused = [one for one in ours if one.status == 401]
        lost, sends = way == "lost", 1 if way == "lost" else 2
        counts += [
            Count(f"{name}: uploads that arrived whole", len(whole), 0 if lost else len(ours)),
            Count(f"{name}: uploads that got the 401", len(refused), len(ours) if lost else 0),
            Count(f"{name}: bodies sent", sum(one.sent for one in ours), sends * len(ours)),
            Count(f"{name}: refreshes", sum(one.refreshes for one in ours), len(ours)),
        ]
    return counts


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _serve()
    else:
        _upload(sys.argv[2], json.loads(sys.argv[3]))
