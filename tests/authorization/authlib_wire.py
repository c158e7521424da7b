"""WSGI and Authlib, brought together without a web framework: a request, and a reply."""
# Authlib has no types: whatever derives from it derives from Any.
# mypy: disable-error-code="import-untyped, misc"

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs
from wsgiref.headers import Headers

from authlib.oauth2.rfc6749 import OAuth2Payload, OAuth2Request

JSON = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]


class Payload(OAuth2Payload):
    def __init__(self, values: dict[str, list[str]]) -> None:
        self._values = values

    @property
    def data(self) -> dict[str, str]:
        return {name: values[0] for name, values in self._values.items()}

    @property
    def datalist(self) -> dict[str, list[str]]:
        return self._values


class Request(OAuth2Request):
    """A request in the shape that Authlib reads. An empty value counts as none at all."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self.path: str = environ["PATH_INFO"]
        url = f"{environ['wsgi.url_scheme']}://{environ['HTTP_HOST']}{self.path}"
        sent = [
            (name[5:].replace("_", "-"), value)
            for name, value in environ.items()
            if name.startswith("HTTP_")
        ]
        super().__init__(environ["REQUEST_METHOD"], url, headers=Headers(sent))
        self.content_type: str = environ.get("CONTENT_TYPE", "")
        self.raw: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        self.query = parse_qs(environ["QUERY_STRING"])
        is_form = self.content_type.startswith("application/x-www-form-urlencoded")
        self.fields = parse_qs(self.raw.decode()) if is_form else {}
        self.payload = Payload({**self.query, **self.fields})

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in self.fields.items()}

    @property
    def args(self) -> dict[str, str]:
        return {name: values[0] for name, values in self.query.items()}


@dataclass
class Reply:
    """Status, body and headers. A body that is no string is sent as JSON."""

    status: int
    body: Any
    headers: list[tuple[str, str]] = field(default_factory=lambda: list(JSON))

    @property
    def location(self) -> str | None:
        """Where a redirect points; Authlib adds the issuer there."""
        return dict(self.headers).get("Location")

    @location.setter
    def location(self, value: str) -> None:
        self.headers = [(name, v) for name, v in self.headers if name != "Location"]
        self.headers.append(("Location", value))

    def send(self, start_response: Any) -> list[bytes]:
        """Answers as WSGI wants it."""
        text = self.body if isinstance(self.body, str) else json.dumps(self.body)
        body = text.encode()
        start_response(
            f"{self.status} {HTTPStatus(self.status).phrase}",
            [*self.headers, ("Content-Length", str(len(body)))],
        )
        return [body]
