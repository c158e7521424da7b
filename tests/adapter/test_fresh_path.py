"""A request with a fresh token: what is copied, what is noticed, and what it does without."""

from __future__ import annotations

import copy
import io
import logging
import pickle
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import example, given, settings
from hypothesis import strategies as st
from requests.adapters import BaseAdapter

from requests_refresh import (
    Bearer,
    DPoP,
    HeaderScheme,
    MemoryStore,
    RefreshAdapter,
    Token,
    TokenSource,
)
from requests_refresh import origins as origins_module
from requests_refresh.origins import origin_of
from requests_refresh.signing import JWK_FIELD, new_jwk

URL = "https://api.test/"
PORTS = {"http": 80, "https": 443}


class Kept(BaseAdapter):
    """Keeps what it is given to send, and answers with `status`; takes keywords only."""

    def __init__(self, *statuses: int) -> None:
        super().__init__()
        self.statuses = list(statuses)
        self.sent: list[Any] = []
        self.options: list[dict[str, Any]] = []

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]  # the order of others differs
        self.sent.append(request)
        self.options.append(options)
        response = requests.Response()
        response.status_code = self.statuses.pop(0) if self.statuses else 200
        response.url, response.request = str(request.url), request
        response.raw = io.BytesIO(b"")
        return response

    def close(self) -> None:
        pass


def issuing(old: Token | None) -> str:
    return "new"


def adapter_of(inner: BaseAdapter, **options: Any) -> RefreshAdapter:
    tokens = TokenSource(issuing, token="canary")
    tokens.token()
    return RefreshAdapter(tokens, origins=URL, inner=inner, **options)


def prepared(**options: Any) -> requests.PreparedRequest:
    return requests.Session().prepare_request(requests.Request("POST", URL, **options))


# ----------------------------------------------------------------------- the copy


class Marked(requests.PreparedRequest):
    """A user's own kind of request."""

    mark = "of the class"

    def __init__(self, mark: str) -> None:
        super().__init__()
        self.mark = mark


@pytest.mark.parametrize("kind", [None, Marked], ids=["plain", "subclass"])
def test_what_is_sent_is_the_request_with_a_token(kind: type[Marked] | None) -> None:
    """I10: nothing of a PreparedRequest is lost or changed but for its headers."""
    request = prepared(data=io.BytesIO(b"body"), cookies={"c": "1"}, hooks={"response": [print]})
    if kind is not None:
        other = kind("of its own")
        vars(other).update(vars(request))
        request = other
    headers, held = request.headers, dict(vars(request))
    inner = Kept()
    response = adapter_of(inner).send(request)
    (signed,) = inner.sent
    assert type(signed) is type(request)
    expected = {**held, "headers": {**headers, "Authorization": "Bearer canary"}}
    assert {**vars(signed), "headers": dict(signed.headers)} == expected
    assert response.request is request
    assert vars(request) == held
    assert request.headers is headers
    assert "Authorization" not in headers


def test_a_field_that_requests_may_add_is_copied_too() -> None:
    """What is copied one by one is all that a PreparedRequest of this requests has."""
    inner = Kept()
    adapter_of(inner).send(prepared())
    assert vars(inner.sent[0]).keys() == vars(requests.PreparedRequest()).keys()


def test_the_copy_knows_what_copy_knows() -> None:
    """An attribute that a user hangs on a request goes as far as `PreparedRequest.copy` lets it."""
    inner, request = Kept(), prepared()
    request.tag = "mine"  # type: ignore[attr-defined]  # as users do it
    adapter_of(inner).send(request)
    assert hasattr(inner.sent[0], "tag") == hasattr(request.copy(), "tag")
    assert request.tag == "mine"  # type: ignore[attr-defined]  # the same


def test_an_inner_is_given_keywords() -> None:
    """Adapters such as CacheControl's have other parameters in between: each goes by its name."""
    inner = Kept()
    adapter_of(inner).send(prepared(), True, 3.0, "bundle.pem", ("cert", "key"), {"https": "p"})
    assert inner.options == [
        {
            "stream": True,
            "timeout": 3.0,
            "verify": "bundle.pem",
            "cert": ("cert", "key"),
            "proxies": {"https": "p"},
        }
    ]


# ---------------------------------------------------------------- no lock, no store


class Counting:
    """A lock that counts who takes it."""

    def __init__(self, lock: Any) -> None:
        self.lock, self.taken = lock, 0

    def __enter__(self) -> Any:
        self.taken += 1
        return self.lock.__enter__()

    def __exit__(self, *exc: object) -> Any:
        return self.lock.__exit__(*exc)

    def acquire(self, *args: Any) -> Any:
        self.taken += 1
        return self.lock.acquire(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.lock, name)


class Watched(MemoryStore):
    """Counts its loads and saves."""

    used = 0

    def load(self, identity: str) -> Token | None:
        self.used += 1
        return super().load(identity)

    def save(self, identity: str, token: Token, **options: Any) -> None:
        self.used += 1
        super().save(identity, token, **options)


def test_a_fresh_request_takes_no_lock() -> None:
    """I15: through the whole adapter, with bodies and headers of the caller's, after a refresh."""
    inner, store = Kept(401), Watched()
    tokens = TokenSource(issuing, store, token="canary")
    adapter = RefreshAdapter(tokens, origins=URL, inner=inner)
    own = {"headers": {"authorization": "mine"}}
    adapter.send(prepared(**own))  # refreshes, proves the new token, and warns
    tokens.close()
    parts: list[Any] = [tokens, tokens._gate, tokens._jobs, tokens._strikes]
    locks = [Counting(part._lock) for part in parts]
    changed = Counting(tokens._changing)
    used = store.used
    for part, lock in zip(parts, locks, strict=True):
        part._lock = lock
    tokens._changing = changed  # type: ignore[assignment]  # it stands in for a lock
    bodies: list[Any] = [None, b"bytes", io.BytesIO(b"file"), iter([b"once"]), [("a", "b")]]
    for body in bodies:
        adapter.send(prepared(data=body, **own))
    assert [lock.taken for lock in (*locks, changed)] == [0] * 5
    assert store.used == used
    assert [one.headers["Authorization"] for one in inner.sent[1:]] == ["Bearer new"] * 6
    tokens._count("replays")
    assert locks[0].taken == 1, "these locks see nothing"


# ------------------------------------------------- headers of the caller's own: said once


class TwoHeaders(HeaderScheme):
    """A user's scheme that sets one header more than what it comes from."""

    def attach(self, request: requests.PreparedRequest, token: Token) -> None:
        super().attach(request, token)
        request.headers["X-Sent-By"] = "us"


class Nameless:
    """A user's scheme from nothing: no `name`, no `sets`."""

    header = "Authorization"

    def attach(self, request: requests.PreparedRequest, token: Token) -> None:
        request.headers[self.header] = f"Custom {token.access_token}"

    def refused(self, response: requests.Response) -> bool:
        return False


class NamelessElsewhere(Nameless):
    header = "X-Key"


class WithSets(Nameless):
    sets = ("one", "two")  # the user's own affair


SCHEMES: dict[str, tuple[Any, str]] = {  # and the header of each, written otherwise
    "Bearer": (Bearer(), "aUTHORIZATION"),
    "HeaderScheme": (HeaderScheme("X-Auth-Token"), "x-auth-TOKEN"),
    "DPoP, given a bearer token": (DPoP(), "authorization"),
    "TwoHeaders": (TwoHeaders("X-Auth-Token"), "x-auth-token"),
    "Nameless": (Nameless(), "authorization"),
}


@pytest.mark.parametrize(("scheme", "name"), SCHEMES.values(), ids=SCHEMES.keys())
@pytest.mark.parametrize("value", ["mine", b"mine"])
def test_what_is_overwritten_is_said_once(
    scheme: Any, name: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the scheme and the case of its header: not before there was one, and once then."""
    inner = Kept()
    adapter = adapter_of(inner, scheme=scheme)

    def said() -> list[str]:
        texts = [record.getMessage() for record in caplog.records if "its own" in record.msg]
        return [text for text in texts if "replaces" in text]

    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            adapter.send(prepared(headers={"X-Other": "1"}))
        assert said() == []
        for _ in range(3):
            adapter.send(prepared(headers={name: value}))
        (text,) = said()
    assert name.lower() in text.lower()
    assert "mine" not in text
    assert "canary" not in text
    assert "canary" in str(inner.sent[-1].headers[name])


def test_a_proof_beside_it_hides_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """DPoP sets two headers: where one is new and the other was the caller's, that is said."""
    token = Token("canary", token_type="DPoP", extra={JWK_FIELD: new_jwk()})
    adapter = RefreshAdapter(
        TokenSource(issuing, token=token), origins=URL, inner=Kept(), scheme=DPoP()
    )
    adapter.send(prepared())
    assert caplog.records == []
    for _ in range(2):
        adapter.send(prepared(headers={"authorization": "mine"}))
    assert len(caplog.records) == 1


def pickled(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))  # noqa: S301  # ours


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, pickled])
@pytest.mark.parametrize("scheme", [Bearer(), DPoP()], ids=repr)
def test_a_copy_notices_too(make: Any, scheme: Any, caplog: pytest.LogCaptureFixture) -> None:
    """I14: a copy or pickle of an adapter says it once as well, unless it was said before."""
    tokens = TokenSource(issuing)
    adapter = RefreshAdapter(tokens, origins=URL, scheme=scheme)
    assert make(make(adapter))._adds == adapter._adds == scheme.sets
    tokens.login("canary")
    for again in (make(adapter), make(make(adapter))):
        again._inner = Kept()
        caplog.clear()
        for _ in range(2):
            again.send(prepared(headers={"Authorization": "mine"}))
        assert caplog.text.count("replaces it") == 1
        after = make(again)
        after._inner = Kept()
        after.send(prepared(headers={"Authorization": "mine"}))
        assert caplog.text.count("replaces it") == 1


def test_a_pickle_from_before(caplog: pytest.LogCaptureFixture) -> None:
    """I14: an adapter that 0.1.0 has pickled sends."""
    adapter = adapter_of(Kept())
    state = adapter.__getstate__()
    del state["_adds"]
    again = RefreshAdapter.__new__(RefreshAdapter)
    again.__setstate__(state)
    for _ in range(2):
        assert again.send(prepared(headers={"Authorization": "mine"})).status_code == 200
    assert len(caplog.records) == 1


def test_an_attribute_of_a_users_scheme_is_his() -> None:
    """A scheme of the user's may have a `sets` that means something else."""
    assert adapter_of(Kept(), scheme=WithSets()).send(prepared()).status_code == 200


def test_what_is_not_overwritten_is_not_said(caplog: pytest.LogCaptureFixture) -> None:
    """A scheme without a name that leaves the caller's Authorization alone is not accused."""
    inner = Kept()
    adapter_of(inner, scheme=NamelessElsewhere()).send(prepared(auth=("u", "p")))
    assert inner.sent[0].headers["Authorization"].startswith("Basic")
    assert caplog.records == []


def test_a_header_that_no_name_tells_of(caplog: pytest.LogCaptureFixture) -> None:
    """What a scheme without a name overwrites is said, too."""
    adapter_of(Kept(), scheme=NamelessElsewhere()).send(prepared(headers={"x-key": "mine"}))
    assert "x-key" in caplog.text.lower()


# -------------------------------------------------------------------- origins

NAMES = st.sampled_from(
    ["api.test", "API.Test", "127.0.0.1", "[::1]", "[::1%25lo]", "[v1.x]", "bücher.test", "ﬀ.test"]
)
ODD = st.sampled_from([*"/\\?#@:%[]", "\t", " ", "\x00", "℀", "//", "%40", "u:p@", ":443", ":0"])
URLS = st.builds(
    lambda scheme, parts: scheme + "".join(parts),
    st.sampled_from(["http://", "HTTPS://", "https://u:p@", "http+unix://", "//", ""]),
    st.lists(st.one_of(NAMES, ODD, st.integers(-1, 70000).map(lambda n: f":{n}")), max_size=6),
)


def cut_anew(url: str | None) -> Any:
    """As it was before anything was cached."""
    try:
        parts = urlsplit(url or "")
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host:
        return None
    return parts.scheme, host, PORTS.get(parts.scheme) if port is None else port


@settings(max_examples=400, deadline=None)
@given(st.one_of(URLS, st.text(max_size=30), st.none()))
@example("https://api.test:/")
@example("https://u:p@api.test:443/")
@example("https://api.test:99999/")
@example("https://[::1/")
@example("https://api.test:\N{ARABIC-INDIC DIGIT ONE}/")
def test_an_origin_is_what_a_fresh_cut_says(url: str | None) -> None:
    """I9: the cache answers as a cut would, the first time and from then on."""
    assert origin_of(url) == origin_of(url) == cut_anew(url)


def test_the_cache_keeps_no_password_and_is_bounded() -> None:
    """I9: a URL with userinfo is cut each time; of others, so many are kept and no more."""
    cut = origins_module._cut
    cut.cache_clear()
    for url in ("https://u:p@api.test/", "https://u@api.test:1/", "https://:p@[::1]/", "http://@a"):
        assert origin_of(url) == cut_anew(url) is not None
    assert cut.cache_info().currsize == 0
    for number in range(1000):
        origin_of(f"https://h{number}.test/")
    info = cut.cache_info()
    assert 0 < info.currsize <= (info.maxsize or 0) < 1000
    cut.cache_clear()
