"""Upload four kinds of body, each over a token that may be refused: whatever arrives is whole.

A request that was refused is sent again with a new token, and its body has to be there a second
time. Bytes are. A file is read again from where it stood. What can be read only once (a generator,
a pipe, requests-toolbelt's MultipartEncoder) is kept aside up to `replay_limit=` bytes; beyond
that its caller gets the 401, and nothing is ever sent short.

Reads from the environment: API_URL, TOKEN_URL, REFRESH_TOKEN. The API answers with the SHA-256 of
what it received.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator

import requests

from requests_refresh import RefreshAdapter, RefreshTokenGrant, Token, TokenSource

API = os.environ["API_URL"]
CHUNK = os.urandom(64 * 1024)
CHUNKS = 48  # 3 MiB in all
SENT = hashlib.sha256(CHUNK * CHUNKS).hexdigest()

tokens = TokenSource(
    RefreshTokenGrant(os.environ["TOKEN_URL"], client_id="uploads"),
    token=Token(refresh_token=os.environ["REFRESH_TOKEN"]),
)
session = requests.Session()
session.mount(API, RefreshAdapter(tokens, origins=API, replay_limit=4 * 1024 * 1024))


def chunks() -> Iterator[bytes]:
    for _ in range(CHUNKS):
        yield CHUNK


def show(name: str, response: requests.Response, sent: str = SENT) -> bool:
    response.raise_for_status()
    received = response.json()
    whole = bool(received["sha256"] == sent)
    print(name, received["length"], "bytes,", "to the byte" if whole else "NOT WHAT WAS SENT")
    return whole


def main() -> int:
    tokens.token()  # a login that is over is told of here, before anything is uploaded
    url = API + "uploads/"
    whole = [show("bytes", session.put(url + "bytes", data=CHUNK * CHUNKS))]
    with tempfile.TemporaryFile() as file:
        for chunk in chunks():
            file.write(chunk)
        file.seek(0)
        whole.append(show("file", session.put(url + "file", data=file)))
        whole.append(show("generator", session.put(url + "generator", data=chunks())))
        file.seek(0)
        files = {"report": ("report.bin", file, "application/octet-stream")}
        response = session.post(url + "multipart", data={"year": "2025"}, files=files)
        # requests has read the file into one body, with the borders between its parts.
        body = response.request.body
        assert isinstance(body, bytes)
        whole.append(show("multipart", response, hashlib.sha256(body).hexdigest()))
    return 0 if all(whole) else 1


if __name__ == "__main__":
    sys.exit(main())
