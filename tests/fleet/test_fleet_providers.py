"""The real providers, by four processes on every store at once: one refresh for each expiry.

Their tokens die by the clock, three seconds after each issue; so all stores wait
for that together, each with a login of its own.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest

from requests_refresh import Token
from tests.providers.conftest import Provider

from .conftest import PlaceOn
from .support import STORES, Fleet, Place

PROCESSES, THREADS = 4, 2
RENEWALS = 2  # at least, of each login


@pytest.mark.long
@pytest.mark.parametrize(("kind", "ahead"), [("oauth", False), ("jwt", False), ("oauth", True)])
def test_a_real_provider(
    kind: str,
    ahead: bool,
    place_on: PlaceOn,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """I1: on each store, 4 processes that share a login renew each of its tokens once."""
    provider: Provider = request.getfixturevalue(kind)
    places = logged_in_places(provider, place_on, ahead=ahead)
    given = {
        "api": provider.api,
        "refresh_url": provider.refresh_url,
        "client": [provider.client_id, provider.client_secret] if kind == "oauth" else None,
        "ahead": ahead,
        "threads": THREADS,
        "places": {name: asdict(place) for name, place in places.items()},
    }
    with Fleet("lives", PROCESSES, tmp_path, **given) as fleet:
        renewals: Counter[str] = Counter()
        while min(renewals[name] for name in places) < RENEWALS:
            renewals[fleet.expect("refreshed", 1)[0]["store"]] += 1
        fleet.tell("over")
        ends = fleet.expect("over", PROCESSES * len(places))
        fleet.ends()
    counted = provider.counters()
    outcomes = {name: Counter[str]() for name in places}
    for end in ends:
        outcomes[end["store"]].update(end["outcomes"])
    assert {name: {*seen} for name, seen in outcomes.items()} == {name: {"200"} for name in places}
    assert counted["refused_refreshes"] == counted["other_refreshes"] == counted["other"] == 0
    assert counted["refreshed"] == sum(end["refreshes"] for end in ends)
    if not ahead:
        assert counted["refreshed"] == counted["tokens_expired"]
    for name, place in places.items():
        used = {token for end in ends if end["store"] == name for token in end["used"]}
        refreshes = sum(end["refreshes"] for end in ends if end["store"] == name)
        # The first token, and one more for each refresh. Of those renewed ahead, the first
        # may have died before any request, and the last one come after all of them.
        assert refreshes + 1 - 2 * ahead <= len(used) <= refreshes + 1
        store = place.open()
        stored = store.load("default")
        store.close()
        assert stored is not None
        assert provider.refresh(stored.refresh_token or "").status_code == 200


def logged_in_places(provider: Provider, place_on: PlaceOn, *, ahead: bool) -> dict[str, Place]:
    """On each store that there is here, a place with a login of its own."""
    places = {}
    for name in STORES:
        with suppress(pytest.skip.Exception):
            places[name] = place_on(name)
            login = provider.login()
            if ahead:
                token = Token.from_reply(login)
            elif "access" in login:
                token = Token(login["access"], refresh_token=login["refresh"])
            else:
                token = Token(login["access_token"], refresh_token=login["refresh_token"])
            places[name].put(token)
    return places
