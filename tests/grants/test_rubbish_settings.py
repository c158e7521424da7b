"""Rubbish for each setting: a ConfigurationError in words, with no secret in its frames."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import pytest

from requests_refresh import (
    Bearer,
    BrowserLogin,
    ClientCredentialsGrant,
    ConfigurationError,
    CookieGrant,
    DeviceLogin,
    HeaderScheme,
    JSONGrant,
    JWTBearerGrant,
    LoginRequired,
    PasswordLogin,
    PrivateKeyJWT,
    RefreshError,
    RefreshTokenGrant,
    Token,
    TokenExchangeGrant,
    TokenSource,
)
from requests_refresh.signing import new_jwk
from tests.grants.endpoint import Answer, EndpointServer, running
from tests.grants.support import ec_key, pem_of

URL = "https://auth.example.com/token"
PEM = pem_of(ec_key())
Make = Callable[..., Any]


class Raising(Mapping[str, str]):
    """A mapping of a user's that cannot be read."""

    def __getitem__(self, name: str) -> str:
        raise LookupError(name)

    def __iter__(self) -> Iterator[str]:
        raise LookupError("iter")

    def __len__(self) -> int:
        return 1


class Undecided:
    """What is neither true nor false, as an array of numpy."""

    def __bool__(self) -> bool:
        raise ValueError("ambiguous")


def fails() -> Iterator[str]:
    yield "read"
    raise LookupError("generator")


bearer: Make = Bearer
refresh = partial(RefreshTokenGrant, URL, client_id="sync", client_secret="CANARY")
robot = partial(JWTBearerGrant, URL, key=PEM, issuer="robot")
private = partial(PrivateKeyJWT, PEM)
device = partial(DeviceLogin, URL, device_url=URL, client_id="tv", client_secret="CANARY")
browser = partial(BrowserLogin, URL, authorize_url=URL, client_id="c", client_secret="CANARY")
password = partial(PasswordLogin, URL, username="u", password="CANARY")
plain = partial(JSONGrant, URL, headers={"X-Api-Key": "CANARY"})
cookie = partial(CookieGrant, URL, headers={"X-Api-Key": "CANARY"})

WRONG: dict[str, tuple[Make, dict[str, Any]]] = {
    "no iterable": (refresh, {"scope": fails()}),
    "undecided": (refresh, {"audience": Undecided()}),
    "extra": (refresh, {"extra": Raising()}),
    "proxies": (refresh, {"proxies": Raising()}),
    "timeout": (refresh, {"timeout": 10**400}),
    "of a device": (device, {"scope": fails()}),
    "claims": (robot, {"claims": Raising()}),
    "lifetime": (robot, {"lifetime": 10**400}),
    "header": (private, {"header": Raising()}),
    "lifetime of a proof": (private, {"lifetime": 10**400}),
    "parameters": (browser, {"parameters": Raising()}),
    "wait": (browser, {"wait": 10**400}),
    "send": (password, {"send": Raising()}),
    "headers": (password, {"headers": Raising()}),
    "timeout of a password": (password, {"timeout": 10**400}),
    "read": (plain, {"read": Raising()}),
    "timeout of JSON": (plain, {"timeout": (5, 10**400)}),
    "read of a cookie": (cookie, {"read": Raising()}),
    "endless": (refresh, {"timeout": 1e300}),
    "half a character": (refresh, {"extra": {"a": "\ud800"}}),
    "half a name": (refresh, {"extra": {"\ud800": "a"}}),
    "half a claim": (robot, {"claims": {"a": "\ud800"}}),
    "half a parameter": (browser, {"parameters": {"a": "\ud800"}}),
    "a class": (partial(ClientCredentialsGrant, URL), {"client_id": "c", "client_auth": object}),
    **{
        f"{name} {value!r}": (make, {name: value})
        for make in (refresh,)
        for name, values in {
            "cert": (5, b"x", ["a", "b"], ("a",), ("a", 5), ""),
            "proxies": ({"https": 5}, {5: "http://proxy"}),
            "verify": ("", 0, [], b"", 5),
        }.items()
        for value in values
    },
    "verify of JSON": (plain, {"verify": ""}),
    "verify of a cookie": (cookie, {"verify": ""}),
    "verify of a password": (password, {"verify": ""}),
    "cert of JSON": (plain, {"cert": 5}),
    "verify of discovery": (partial(RefreshTokenGrant.discover, URL), {"verify": ""}),
    "proxies of discovery": (
        partial(RefreshTokenGrant.discover, URL),
        {"proxies": {"https": ["CANARY"]}},
    ),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_a_setting_that_cannot_be_right(case: tuple[Make, dict[str, Any]]) -> None:
    """I9: it is a ConfigurationError, all locals of whose frames can be shown, with no secret."""
    make, settings = case
    with pytest.raises(ConfigurationError) as caught:
        make(**settings)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert shown(caught.value)


@pytest.mark.parametrize(
    "make", [partial(bearer, refused=5), partial(HeaderScheme, "X: 1")], ids=["Bearer", "Header"]
)
def test_a_scheme_that_cannot_be_right(make: Make) -> None:
    """A scheme that was refused can be shown, in each frame of the error."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert shown(caught.value)


def shown(error: BaseException) -> list[str]:
    """The reprs of all locals below the test, none of which may hold a secret."""
    assert error.__traceback__ is not None
    below = error.__traceback__.tb_next
    texts = [str(error), repr(error)]
    for frame, _ in traceback.walk_tb(below):
        texts += map(repr, frame.f_locals.values())
    assert not [text for text in texts if "CANARY" in text or "PRIVATE KEY" in text]
    return texts


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
@pytest.mark.parametrize("verify", ["", 0, []], ids=repr)
def test_no_secret_goes_to_an_unproven_server(verify: Any) -> None:
    """Certificates are checked unless verify is False: an empty variable is not that."""
    with running(tls=True) as server:
        server.will(Answer())
        with pytest.raises(RefreshError):
            ClientCredentialsGrant(
                server.url, client_id="sync", client_secret="hush", verify=verify
            )()
        assert server.seen == []


def test_errors_from_a_generator(server: EndpointServer) -> None:
    """login_over_errors is any iterable: what a generator yields counts."""
    server.will(Answer(400, {"error": "session_gone"}))
    grant = RefreshTokenGrant(
        server.url, client_id="sync", login_over_errors=(name for name in ["session_gone"])
    )
    with pytest.raises(LoginRequired):
        grant(Token(refresh_token="r"))


def test_a_key_that_is_a_mapping_but_no_dict() -> None:
    """A JWK may be any mapping."""
    assert PrivateKeyJWT(MappingProxyType(new_jwk())).assertion("c", URL).count(".") == 2


def test_a_source_in_place_of_its_method() -> None:
    """Who gives a TokenSource as subject_token is told of its method."""
    source: Any = TokenSource(lambda token: "x")
    with pytest.raises(ConfigurationError, match="TokenSource's `token`"):
        TokenExchangeGrant(URL, subject_token=source)
