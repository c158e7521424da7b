"""Dates and seconds in headers: when to come back, and until when a cookie lives."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

from hypothesis import example, given
from hypothesis import strategies as st

from requests_refresh.grants.cookie import cookie_value
from requests_refresh.grants.failures import date_seconds, retry_after

from .support import steady, tokens68

FIRST = datetime(1971, 1, 1, tzinfo=timezone.utc)
seconds = st.integers(0, 4_000_000_000)
moments = seconds.map(lambda since: FIRST + timedelta(seconds=since))
zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def http_date(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


@steady
@given(moments, moments, zones)
def test_a_date_is_measured_from_the_servers_date(
    now: datetime, end: datetime, zone: timezone
) -> None:
    """RFC 9110 10.2.3: the wait is what lies between the two dates, in whatever zone; if any."""
    wait = (end - now).total_seconds()
    for date in (http_date(end), format_datetime(end.astimezone(zone))):
        found = retry_after({"Retry-After": date, "Date": http_date(now)})
        assert found == (wait if wait > 0 else None)


@steady
@given(moments, moments, moments)
def test_a_later_date_is_no_shorter_wait(now: datetime, one: datetime, other: datetime) -> None:
    """Waits are in the order of the dates that they come from."""
    waits = [
        retry_after({"Retry-After": http_date(end), "Date": http_date(now)}) or 0.0
        for end in sorted([one, other])
    ]
    assert waits == sorted(waits)


@steady
@given(st.integers(0, 999_999_999), st.text(" \t", max_size=3), moments)
def test_seconds_are_seconds(wait: int, blank: str, now: datetime) -> None:
    """A number of seconds is that, whatever the date of the reply."""
    headers = {"Retry-After": f"{blank}{wait}{blank}", "Date": http_date(now)}
    assert retry_after(headers) == wait


@steady
@given(moments)
def test_a_date_is_read_back(moment: datetime) -> None:
    """An HTTP date is the moment that was written."""
    assert date_seconds(http_date(moment)) == moment.timestamp()


@steady
@given(st.text(max_size=30), st.text(max_size=30))
@example("99999999999999999999 Jan 2020 00:00:00 GMT", "Mon, 1 Jan 2020 00:00:00 +9999999999")
def test_rubbish_is_no_wait(value: str, date: str) -> None:
    """What is neither a number nor a date in the future is passed over, and never an error."""
    found = retry_after({"Retry-After": value, "Date": date})
    assert found is None or found >= 0


@steady
@given(tokens68, moments, moments, st.none() | st.integers(-5, 5))
def test_a_cookie_lives_until_it_says(
    value: str, now: datetime, end: datetime, age: int | None
) -> None:
    """RFC 6265 5.3: Max-Age goes before Expires, and what is over deletes the cookie."""
    header = f"refresh={value}; Path=/; Expires={http_date(end)}"
    if age is not None:
        header += f"; Max-Age={age}"
    lives = end > now if age is None else age > 0
    assert cookie_value([header], "refresh", now.timestamp()) == (value if lives else None)


@steady
@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), tokens68, st.booleans()), max_size=6))
def test_the_last_living_cookie_counts(cookies: list[tuple[str, str, bool]]) -> None:
    """Of several cookies of one name the last that is not deleted is the refresh token."""
    headers = [f"{name}={value}; max-age={int(lives)}" for name, value, lives in cookies]
    meant = [value for name, value, lives in cookies if name == "a" and lives]
    assert cookie_value(headers, "a", 0.0) == (meant[-1] if meant else None)
