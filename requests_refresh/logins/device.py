"""`DeviceLogin`: a person confirms the login on another device (RFC 8628).

The program shows a code; the person opens a page anywhere, logs in there and
enters it; the program asks again and again until that is done.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..errors import ConfigurationError, InvalidReply, LoginRequired, RefreshUnavailable
from ..grants.client import OAuthGrant
from ..grants.replies import FINAL, decoded, oauth_token
from ..grants.settings import first, resolved, text_problem, url_problem
from ..tokens import Token
from .base import OAuthLogin, Patience, not_completed, tell

_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_PENDING, _SLOW_DOWN = "authorization_pending", "slow_down"
_DENIED = {"access_denied", "expired_token", "authorization_declined"}  # the last is Entra's
_DEFAULT_INTERVAL = 5.0  # seconds (RFC 8628 section 3.2), and what slow_down adds
_SHORTEST_INTERVAL = 1.0
_LONGEST_PAUSE = 60.0  # seconds between two polls that fail, if the provider names no other
_LONGEST_LIFE = 86400.0  # seconds of a code
_LONGEST_SHOWN, _LONGEST_CODE = 2048, 64  # characters; a code is no place for instructions


@dataclass(frozen=True, slots=True)
class DevicePrompt:
    """What a person needs to confirm a login. It holds no secret.

    user_code: what to enter at `verification_uri`.
    verification_uri: the page that the person opens, on any device.
    verification_uri_complete: the same page with the code in it, for a link or
        a QR code; None where the provider has none.
    expires_at: seconds since the epoch.

    The texts are printable, and the URIs https or of this host.
    """

    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    expires_at: float


@dataclass(frozen=True, slots=True)
class _Device:
    """What the provider answered to the first request."""

    code: str = field(repr=False)
    prompt: DevicePrompt
    life: float
    interval: float


class DeviceLogin(OAuthLogin):
    """Logs in by a code that a person enters on any device (RFC 8628).

    token_url: the token endpoint; https, or plain http to this host.
    device_url: the device authorization endpoint, the same.
    client_id: as the provider registered the client.
    show: called as `show(prompt)` with a DevicePrompt; None prints two lines
        on standard error.
    settings: as for RefreshTokenGrant; `extra` goes along with every request.

    Called, it shows one code and blocks until a person has confirmed it, the
    code expires or the time of the round is over: give the TokenSource a
    `timeout` of some minutes. The provider is asked at the interval that it
    names, and less often while it cannot be reached. Any thread may call it;
    each call is a login of its own.

    Raises LoginRequired if the person refused or the code expired,
    RefreshTimeout if only the round's time is over, RefreshUnavailable if no
    code could be had; and RefreshRefused, InvalidReply and ConfigurationError
    as a grant does.
    """

    _FINAL: ClassVar[frozenset[str]] = FINAL | _DENIED | {_PENDING, _SLOW_DOWN}
    _ENDPOINTS: ClassVar[Mapping[str, str]] = {
        **OAuthGrant._ENDPOINTS,
        "device_url": "device_authorization_endpoint",
    }

    def __init__(
        self,
        token_url: str,
        *,
        device_url: str,
        client_id: str,
        show: Callable[[DevicePrompt], object] | None = None,
        **settings: Any,
    ) -> None:
        problem = first(
            url_problem(device_url, "device_url"),
            None if show is None or callable(show) else "show is not callable.",
        )
        try:
            if problem:
                raise ConfigurationError(problem)
            super().__init__(token_url, client_id=client_id, **settings)
        except BaseException:
            # A traceback with locals shows neither secrets nor half a login.
            del self, token_url, device_url, settings
            raise
        self._device = self._at(device_url)
        self._show = _print if show is None else show

    def _renewed(self, token: Token | None) -> Token:
        device = self._begun()
        patience = Patience(
            device.life,
            LoginRequired("The code ended before anybody confirmed the login. Log in again."),
            self._clock,
        )
        self._show(device.prompt)
        return self._confirmed(device, patience)

    def _begun(self) -> _Device:
        """Ask for a code (RFC 8628 section 3.1)."""
        fields, _ = self._asked(None)
        more, secrets = resolved(self._extra, "extra")
        reply = self._ask(self._device, {**fields, **more}, secrets)
        found = decoded(reply, forms=True)
        if not reply.ok or (isinstance(found, Mapping) and found.get("error")):
            final = self._final - {_PENDING, _SLOW_DOWN}
            try:
                oauth_token(reply, None, self._device.shown, secrets, final=final)
            except LoginRequired as exc:
                raise not_completed(self._device.shown, exc.error, exc.error_description) from None
        device = _device_in(found, reply.sent_at)
        if isinstance(device, str):
            raise InvalidReply(
                f"{self._device.shown} answered with no code that could be shown: {device}. Nothing"
                " was shown or stored. Check that the URL is the device authorization endpoint's."
            )
        return device

    def _confirmed(self, device: _Device, patience: Patience) -> Token:
        """Ask until the person has decided (RFC 8628 sections 3.4 and 3.5)."""
        fields = {"grant_type": _GRANT, "device_code": device.code}
        jwk = self._new_key()
        interval = pause = device.interval
        while True:
            patience.sleep(pause, self._sleep)
            try:
                return self._exchanged(fields, [device.code], None, jwk)
            except RefreshUnavailable as exc:
                pause = max(interval, min(2 * pause, _LONGEST_PAUSE), exc.retry_after or 0.0)
                continue
            except LoginRequired as exc:
                said = (exc.error or "").lower()
                if said not in (_PENDING, _SLOW_DOWN):
                    raise not_completed(
                        self._endpoint.shown, exc.error, exc.error_description
                    ) from None
            interval += _DEFAULT_INTERVAL * (said == _SLOW_DOWN)
            pause = interval


def _device_in(fields: Any, sent_at: float) -> _Device | str:
    """What a reply holds (RFC 8628 section 3.2), or what is wrong with it."""
    if not isinstance(fields, Mapping):
        return "it is no JSON object"
    texts = {name: value for name, value in fields.items() if isinstance(value, str) and value}
    code, user_code = texts.get("device_code", ""), texts.get("user_code", "")
    uri = texts.get("verification_uri") or texts.get("verification_url", "")  # Google's name
    complete = texts.get("verification_uri_complete")
    life, interval = _number(fields.get("expires_in")), _DEFAULT_INTERVAL
    if fields.get("interval") is not None:
        interval = max(_number(fields["interval"]), _SHORTEST_INTERVAL)
    problem = first(
        text_problem(code, "device_code"),
        None
        if _is_shown(user_code) and len(user_code) <= _LONGEST_CODE
        else "user_code is no short text of printable characters",
        _uri_problem(uri, "verification_uri"),
        None if complete is None else _uri_problem(complete, "verification_uri_complete"),
        None if 0 < life <= _LONGEST_LIFE else "expires_in is no sensible number of seconds",
        # NaN is neither.
        None if interval < life else "interval is no sensible number of seconds",
    )
    if problem:
        return problem.rstrip(".")
    prompt = DevicePrompt(user_code.strip(), uri, complete, sent_at + life)
    return _Device(code, prompt, life, interval)


def _number(value: object) -> float:
    """A number, or a text that holds one; NaN for all else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.nan
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return math.nan
    return number if number >= 0 else math.nan


def _is_shown(text: str) -> bool:
    """Whether it can go to a terminal: no escape sequence, no line of its own."""
    return bool(text.strip()) and text.isprintable() and len(text) <= _LONGEST_SHOWN


def _uri_problem(uri: str, what: str) -> str | None:
    """Why no person may be sent to `uri`. It may have a fragment, which an endpoint may not."""
    if not _is_shown(uri) or not uri.isascii():
        return f"{what} is no URI of printable characters"
    if url_problem(uri.partition("#")[0], what):
        return f"{what} is neither https nor of this host, or has a user name in it"
    return None


def _print(prompt: DevicePrompt) -> None:
    minutes = max(1, round((prompt.expires_at - time.time()) / 60))
    link = prompt.verification_uri_complete
    tell(
        f"To log in, open {prompt.verification_uri} and enter {prompt.user_code}",
        f"(within {minutes} min{f', or open {link}' if link else ''})",
    )
