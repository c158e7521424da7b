"""I9: `origin_of` says where requests would connect to, for any URL that requests would send."""

from __future__ import annotations

from typing import Any

import requests
from hypothesis import example, given, settings
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter

from requests_refresh.origins import origin_of

ADAPTER = HTTPAdapter()
HOSTS = ["api.test", "API.test", "127.0.0.1", "[::1]", "localhost", "bücher.test", "x@y", "a b", ""]
PARTS = st.sampled_from(
    [*"/\\?#@:%.[]\t\r\n \x00", "//", "%2f", "%40", "%5c", ":80", ":443", ":0", ":8080", ":99999"]
)
URLS = st.builds(
    lambda scheme, parts: scheme + "".join(parts),
    st.sampled_from(
        ["http://", "https://", "HTTP://", "HttpS://", "http:/", "http:\\\\", "//", ""]
    ),
    st.lists(st.one_of(st.sampled_from(HOSTS), PARTS), max_size=7),
)


def connects_to(request: requests.PreparedRequest) -> Any:
    """Scheme, host and port of the pool that HTTPAdapter would take a connection from."""
    try:
        pool = ADAPTER.get_connection_with_tls_context(request, verify=True)
    except Exception:  # it would raise this to its caller, and send nothing
        return None
    host = pool.host.lower()
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return pool.scheme, host, pool.port


def lowered(origin: Any) -> Any:
    """Behind a percent sign, the case of a host is kept by the one and not by the other."""
    return origin and (origin[0], origin[1].lower(), origin[2])


@settings(max_examples=300, deadline=None)
@given(URLS)
@example("http://api.test\\@127.0.0.1/")
@example("http://api.test#@127.0.0.1/")
@example("http://api.test:0/")
@example("http://api.test:/")
@example("http://a@b@api.test/")
def test_it_agrees_for_urls_that_requests_prepares(url: str) -> None:
    """I9: what requests would connect to is what was compared."""
    try:
        request = requests.Request("GET", url).prepare()
    except ValueError:  # requests' own are such, too
        return
    there = connects_to(request)
    if str(request.url).startswith("http"):  # requests lets everything else pass as it is
        assert there is None or lowered(origin_of(request.url)) == there


@settings(max_examples=300, deadline=None)
@given(URLS)
@example("http://api.test\\@127.0.0.1/")
@example("http://127.0.0.1\t/")
@example("http://api.test%00.test/")
@example("http://api.test:0/")
@example("http://[::1%25lo]/")
def test_it_agrees_for_urls_set_by_hand(url: str) -> None:
    """I9: also for a URL put on a request unprepared, as a redirect's is: never a wrong origin.

    Without a scheme urllib3 connects by http, it makes a name beyond ASCII into an ASCII one, and
    an older one takes port 0 for none. No such origin can be declared.
    """
    request = requests.Request("GET", "http://other.test/").prepare()
    request.url = url
    found, there = origin_of(url), connects_to(request)
    if found is None or found[0] not in ("http", "https"):
        return
    if found[1].isascii() and found[2] != 0:
        assert there is None or lowered(found) == there


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.none(), st.text(max_size=40)))
def test_it_never_fails(url: str | None) -> None:
    """Whatever stands on a request, origin_of says an origin or None."""
    found = origin_of(url)
    assert found is None or len(found) == 3
