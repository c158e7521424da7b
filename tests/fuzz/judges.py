"""What must hold of all that comes out of reading untrusted bytes."""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from requests.utils import check_header_validity

from requests_refresh import InvalidReply, LoginRequired, RefreshRefused, RefreshUnavailable, Token
from requests_refresh.errors import RefreshError
from requests_refresh.grants.base import Grant
from requests_refresh.stores.values import Values

# What the client holds or has sent. A hostile endpoint echoes it.
ACCESS, REFRESH, SECRET = (f"CANARY+{what}/%==" for what in ("access", "refresh", "client"))
OLD = Token(ACCESS, refresh_token=REFRESH, scope="old scope", extra={"kept": 1})
ALLOWED = (LoginRequired, RefreshRefused, RefreshUnavailable, InvalidReply)


class Asked(Grant):
    """A grant whose endpoint has just answered, so that errors take the way they always take."""

    def __init__(self, read: Callable[[Token | None], Token]) -> None:
        self._read = read

    def _renewed(self, token: Token | None) -> Token:
        return self._read(token)


def judged(read: Callable[[Token | None], Token]) -> Token | RefreshError:
    """The token or the error that `read` makes of a reply, found to be sound."""
    try:
        token = Asked(read)(OLD)
    except ALLOWED as error:
        check_silent(error)
        return error
    check_token(token)
    return token


def check_silent(error: BaseException) -> None:
    """I9: no canary is in an error, in its chain or in the frames of the package below it."""
    for text in texts_of(error):
        for canary in (ACCESS, REFRESH, SECRET):
            assert canary.lower() not in text.lower(), "a secret is shown"


def texts_of(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield from (str(error), repr(error), repr(error.args), repr(vars(error)))
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_globals.get("__name__", "").startswith("requests_refresh"):
                yield from map(repr, frame.f_locals.values())
        error = error.__cause__ or error.__context__


def check_token(token: Token) -> None:
    """A token fits in a header, survives the stored form, and shows nothing of itself."""
    assert token.access_token
    check_header_validity(("Authorization", f"Bearer {token.access_token}".encode()))
    for moment in (token.expires_at, token.issued_at):
        assert moment is None or math.isfinite(moment)
    carried = json.loads(json.dumps(token.to_mapping(), allow_nan=False))
    assert Token.from_mapping(carried) == token
    values = Values(None)
    stored = values.pack("somebody", token)
    assert stored is not None, "no store could keep it"
    assert values.unpack("somebody", stored) == token
    assert hash(token) == hash(Token.from_mapping(carried))
    assert len(token.access_token) < 8 or token.access_token not in repr(token)


def same_json(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same, NaN being the same as NaN."""
    return repr(one) == repr(other)


def raw_headers(values: list[str]) -> Any:
    """What stands for `response.raw` where several headers of one name came."""
    return SimpleNamespace(headers=SimpleNamespace(getlist=lambda name: values))
