"""What fuzzed bytes stand for: a reply of an endpoint, written so that a person can read it.

    400
    Content-Type: application/json

    {"error": "invalid_grant"}

The first line is the status, 200 where it is none. The headers are read by
`http.client`, as in life. The body is whatever comes after the empty line.
"""

from __future__ import annotations

import http.client
import io

import requests
from urllib3 import HTTPHeaderDict

from requests_refresh.grants.http import Reply

SENT_AT = 1_000_000_000.0  # when every request went out, in seconds since the epoch


class NoMessage(Exception):
    """Raised for bytes of which `http.client` itself makes no reply."""


def split(data: bytes) -> tuple[int, HTTPHeaderDict, bytes]:
    """Status, headers and body. Raises NoMessage."""
    first, _, rest = data.partition(b"\n")
    file = io.BytesIO(rest)
    try:
        headers = HTTPHeaderDict(http.client.parse_headers(file).items())
    except http.client.HTTPException:
        raise NoMessage from None
    code = first.strip()[:3]
    status = int(code) if len(code) == 3 and code.isdigit() else 200
    return status, headers, file.read()


def response_of(data: bytes, status: int | None = None) -> requests.Response:
    """The same for those who take a `requests.Response`; its headers are joined as in life."""
    found, headers, body = split(data)
    response = requests.Response()
    response.status_code = found if status is None else status
    response.headers = requests.structures.CaseInsensitiveDict(headers)
    response.raw = io.BytesIO(body)
    return response


def reply_of(data: bytes, secrets: list[str]) -> Reply:
    """The reply as the sender takes it in. secrets: what was sent. Raises NoMessage."""
    status, headers, body = split(data)
    coding = headers.get("Content-Encoding", "").strip().lower()
    compressed = coding not in ("", "identity")
    return Reply(
        status=status,
        media=headers.get("Content-Type", "").partition(";")[0].strip().lower(),
        body=b"" if compressed else body,
        problem="it is compressed" if compressed else None,
        cookies=headers.getlist("Set-Cookie"),
        sent_at=SENT_AT,
        response=response_of(data),
        secrets=secrets,
    )
