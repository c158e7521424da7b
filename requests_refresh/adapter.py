"""Where a request goes: attach, send, on a refusal renew, send again.

`RefreshAdapter` is an `HTTPAdapter`, mounted on a `requests.Session`. It signs
a copy of each request to a declared origin, and no other; the caller's own
request stays as it was (I10), and the caller gets one final response.
"""

from __future__ import annotations

import logging
import math
import sys
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.auth import AuthBase
from requests.exceptions import RequestException

from . import lifecycle, telemetry
from .errors import ConfigurationError, RefreshError, RefreshLoop, chain_of, scrub
from .gate import at_work
from .origins import origin_of, parse_origins
from .replay import Body, carry_cookies, hand_on_cookies, release
from .schemes import Attaching, Bearer, Scheme
from .settings import patience
from .source import TokenSource
from .tokens import Token

log = logging.getLogger("requests_refresh")

_MARK = "requests_refresh.anonymous"
_MOST_REFUSALS = 3
_KEPT_BY_PICKLES = [
    "tokens",
    "_origins",
    "_scheme",
    "_inner",
    "_replay_limit",
    "_adds",
    "_overwrote",
]


class _Anonymous(AuthBase):
    """The mark lives in the hooks: `PreparedRequest.copy`, and so a redirect, keeps them."""

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.hooks[_MARK] = []
        return request

    def __repr__(self) -> str:
        return "anonymous"

    def __reduce__(self) -> str:
        return "anonymous"


#: `session.get(url, auth=anonymous)`: this one request, its redirects too, goes without a token.
anonymous = _Anonymous()


class RefreshAdapter(HTTPAdapter):
    """Sends requests to the declared origins with a living token.

    tokens: the TokenSource that has the token.
    origins: one URL or several; the only servers that ever see the token, by
        scheme, host and port. https, or http to a loopback host, which is then
        never reached through a proxy.
    scheme: how the token is put on a request; Bearer if not given.
    inner: another adapter that does the sending. `close()` leaves it open.
    replay_limit: how many bytes of a one-shot body, such as a generator, are
        kept aside so that it can be sent again. 0: none; such a request is
        not sent again, and its caller gets the 401.
    http_adapter_options: as for HTTPAdapter; not together with `inner`.

    Raises ConfigurationError for settings that cannot be right. Thread-safe,
    as far as HTTPAdapter is: mount it before threads send.
    """

    __attrs__ = HTTPAdapter.__attrs__ + _KEPT_BY_PICKLES
    _adds = math.inf  # for pickles of 0.1.0, which know nothing of it

    def __init__(
        self,
        tokens: TokenSource,
        *,
        origins: str | Iterable[str],
        scheme: Scheme | None = None,
        inner: BaseAdapter | None = None,
        replay_limit: int = 0,
        **http_adapter_options: Any,
    ) -> None:
        if not isinstance(tokens, TokenSource):
            raise ConfigurationError("tokens is not a TokenSource.")
        if inner is not None and http_adapter_options:
            names = ", ".join(sorted(http_adapter_options))
            raise ConfigurationError(f"inner does the sending: give {names} to it instead.")
        if isinstance(replay_limit, bool) or not isinstance(replay_limit, int) or replay_limit < 0:
            raise ConfigurationError("replay_limit is not a number of bytes.")
        if isinstance(scheme, type) or not (scheme is None or hasattr(scheme, "attach")):
            raise ConfigurationError("scheme is not a scheme, such as Bearer().")
        if inner is not None and not hasattr(inner, "send"):
            raise ConfigurationError("inner is not an adapter.")
        self.tokens = tokens
        self._origins = parse_origins(origins, local_schemes=inner is not None)
        self._scheme: Scheme = Bearer() if scheme is None else scheme
        self._inner = inner
        self._replay_limit = replay_limit
        # How many headers it sets; where fewer came, it may have overwritten one of the caller's.
        # A class that does not say so itself may set more than the one that it comes from.
        sets = vars(type(self._scheme)).get("sets")
        self._adds = sets if isinstance(sets, int) else math.inf
        self._overwrote = False  # said once that a caller's own header was overwritten
        super().__init__(**http_adapter_options)
        retries = getattr(self if inner is None else inner, "max_retries", None)
        if 401 in (getattr(retries, "status_forcelist", None) or ()):
            raise ConfigurationError(
                "max_retries has 401 in its status_forcelist, which would send the dead token"
                " again and again. Take it out: this adapter sees to 401."
            )
        lifecycle.watch(self)
        _inners.add(inner)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        lifecycle.watch(self)
        _inners.add(self._inner)

    def _after_fork_in_child(self) -> None:
        # The sockets in the pools are the parent's. They are kept from being closed, since
        # closing takes locks that a thread of the parent may have held.
        _begin_pools_anew(self)

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> Response:
        """Send `request`, with the token if it goes to a declared origin.

        Blocks. The arguments and what it raises are those of
        `HTTPAdapter.send`; besides, what `TokenSource.token` raises, with the
        API's refusal in `error.response`. The waits for a token take
        `TokenSource`'s timeout at most, all together; each send has the
        caller's own.
        """
        options = {
            "stream": stream,
            "timeout": timeout,
            "verify": verify,
            "cert": cert,
            "proxies": proxies,
        }
        tokens = self.tokens
        origin = origin_of(request.url)
        if origin not in self._origins or _MARK in request.hooks or at_work(tokens._gate):
            return self._send_on(request, options)
        if origin is not None and origin[0] == "http":
            options["proxies"] = None
        body = _NO_BODY if request.body is None else Body(request, self._replay_limit)
        budget: _Budget | None = None
        token, refreshed = tokens._fresh(), False
        if token is None:
            try:
                with (budget := _Budget(tokens)):
                    outcome = tokens._for_request(budget.deadline, sure=body.one_shot)
            except RefreshError as error:
                error.request = request
                raise
            token, refreshed = outcome.token, outcome.refreshed
        earlier: list[Response] = []  # what was answered to the sends before
        refusals = 0
        scheme: Attaching = self._scheme
        while True:
            response = self._attempt(request, token, body, earlier, scheme, options)
            if isinstance(response, BaseException):
                try:
                    raise response
                finally:
                    del response  # else it would hold this frame, and this frame it
            again = _ask_again(scheme, response) if hasattr(scheme, "again") else None
            if again is not None and body.rewind():
                with (budget := budget or _Budget(tokens)):
                    release(response, budget.left)
                earlier.append(response)
                scheme = again  # the token is as good as it was
                continue
            if again is not None:
                _ask_again(again, response)  # what the response brought is for other requests
            scheme = self._scheme
            try:
                refused = scheme.refused(response)
            except BaseException:
                response.close()  # a predicate of the user's failed: its caller gets that
                raise
            if not refused:
                # A 401 may be a wish for a nonce, which says nothing of the token.
                if tokens._strikes.unproven is token and response.status_code != 401:
                    tokens._strikes.prove(token)
                break
            if refreshed:
                tokens._strikes.strike(token)
            if refusals + 1 == _MOST_REFUSALS or not tokens._could_help(token, refreshed):
                break
            if not body.rewind():
                tokens._renew_without_waiting(token)
                break
            try:
                with (budget := budget or _Budget(tokens)):
                    release(response, budget.left)
                    outcome = tokens._renew(token, budget.deadline, may_start=not refreshed)
            except RefreshLoop:
                break  # the strikes were used up just now
            except RefreshError as error:
                error.request, error.response = request, response
                raise
            earlier.append(response)
            refusals += 1
            token, refreshed = outcome.token, refreshed or outcome.refreshed
            tokens._count("replays")
        if earlier:
            for answer in reversed(earlier):
                hand_on_cookies(answer, response)
        return response

    def close(self) -> None:
        """Close this adapter's connections; an `inner` one and the source stay open."""
        super().close()

    def _send_on(self, request: PreparedRequest, options: dict[str, Any]) -> Response:
        inner = self._inner
        return super().send(request, **options) if inner is None else inner.send(request, **options)

    def _attempt(
        self,
        request: PreparedRequest,
        token: Token,
        body: Body,
        earlier: list[Response],
        scheme: Attaching,
        options: dict[str, Any],
    ) -> Response | BaseException:
        """One send of a signed copy. Returns what was raised, so that no frame shows the token.

        earlier: what was answered to the sends before; their cookies go along.
        """
        stop = sys.exc_info()[1]  # what the caller was handling when it came here
        try:
            signed = _shallow_copy(request)
            signed.headers = request.headers.copy()
            signed.body = body.to_send
            # In place of the request's own; "" for none, None for as it is.
            cookie = carry_cookies(earlier, request) if earlier else None
            if cookie is not None:
                signed.headers["Cookie"] = cookie
                if not cookie:
                    del signed.headers["Cookie"]
            before = len(signed.headers)
            scheme.attach(signed, token)
            if not self._overwrote and len(signed.headers) - before < self._adds:
                self._note_overwriting(request, signed)
            response = self._send_on(signed, options)
        except BaseException as exc:
            failure = exc
        else:
            response.request = request
            response.connection = self  # for who sends again by it, such as HTTPDigestAuth
            for past in getattr(getattr(response.raw, "retries", None), "history", ()):
                scrub(past.error, stop)  # sends that failed before, if max_retries has more
            return response
        assert failure.__traceback__ is not None
        failure.__traceback__ = failure.__traceback__.tb_next  # without this frame and its locals
        for link in chain_of(failure, stop):
            if isinstance(link, RequestException):
                if link.request is not None:
                    link.request = request
                if link.response is not None:
                    link.response.request = request
        return scrub(failure, stop)

    def _note_overwriting(self, request: PreparedRequest, signed: PreparedRequest) -> None:
        own, now = request.headers, signed.headers
        known = getattr(self._scheme, "name", None)
        names = own if known is None else [known] if known in own else ()
        name = next((n for n in names if now.get(n) != own[n] and n.lower() != "cookie"), None)
        if name is not None:
            with self.tokens._lock:
                said, self._overwrote = self._overwrote, True
            if said:
                return
            log.warning(
                "A request to %s came with a %s header of its own (set by hand, by auth= or from"
                " netrc); the token replaces it, here and from now on. To send one without the"
                " token, use auth=anonymous.",
                origin_of(request.url),
                name,
            )


def _shallow_copy(request: PreparedRequest) -> PreparedRequest:
    """As `PreparedRequest.copy`, but for the headers and cookies, which are the same objects."""
    kind = type(request)
    copy = kind.__new__(kind)
    if kind is not PreparedRequest:
        vars(copy).update(vars(request))
        return copy
    # One by one: asking for `vars` makes a dict of what had none, which takes four times as long.
    copy.method, copy.url, copy.hooks = request.method, request.url, request.hooks
    copy._cookies, copy._body_position = request._cookies, request._body_position
    return copy


def _ask_again(scheme: Attaching, response: Response) -> Attaching | None:
    """What to attach the same token with, if the API only wants it put otherwise."""
    again = getattr(scheme, "again", None)
    try:
        return None if again is None else again(response)
    except BaseException:
        response.close()
        raise


def _begin_pools_anew(adapter: HTTPAdapter) -> None:
    _inherited.append((adapter.poolmanager, adapter.proxy_manager))
    options = {name: getattr(adapter, name) for name in HTTPAdapter.__attrs__}
    HTTPAdapter.__setstate__(adapter, options)


class _Inners:
    """The adapters that were given as `inner`: they outlive those that they send for."""

    def __init__(self) -> None:
        self._all: weakref.WeakSet[HTTPAdapter] = weakref.WeakSet()
        lifecycle.watch(self)

    def add(self, inner: BaseAdapter | None) -> None:
        if isinstance(inner, HTTPAdapter):
            self._all.add(inner)

    def _after_fork_in_child(self) -> None:
        for adapter in list(self._all):
            _begin_pools_anew(adapter)


_NO_BODY = Body(PreparedRequest())
_inherited: list[object] = []
_inners = _Inners()


@dataclass(slots=True)
class _Budget:
    """How long one request may still wait, over all its waits. Used in one thread."""

    tokens: TokenSource
    left: float = math.inf
    deadline: float = 0.0

    def __enter__(self) -> None:
        self.left = min(self.left, patience(self.tokens._timeout))
        self.deadline = self.tokens._clock() + self.left

    def __exit__(self, *exc: object) -> None:
        left = self.deadline - self.tokens._clock()
        telemetry.held(max(0.0, self.left - left))
        self.left = max(0.0, left)
