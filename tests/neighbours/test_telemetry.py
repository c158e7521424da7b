"""OpenTelemetry beside us: with its real SDK, without it, and where it fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from requests_refresh import LoginRequired, telemetry
from requests_refresh.testing import AuthServer


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryMetricReader]:
    """What is measured, in memory; instruments are made anew."""
    found = InMemoryMetricReader()
    provider = MeterProvider([found])
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    monkeypatch.setattr(telemetry, "_made", None)
    yield found
    provider.shutdown()


def points(reader: InMemoryMetricReader) -> dict[str, Any]:
    """The points of each metric, by its name."""
    data: Any = reader.get_metrics_data()
    return {
        metric.name: list(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def test_an_expiry(
    server: AuthServer, session: requests.Session, reader: InMemoryMetricReader
) -> None:
    """I9: a round and a hold are counted, and the span has an event; nothing names a login."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    assert session.get(server.api + "items").status_code == 200
    server.revoke_access()
    with provider.get_tracer("test").start_as_current_span("work"):
        assert session.get(server.api + "items").status_code == 200
    (span,) = exporter.get_finished_spans()
    (event,) = span.events
    assert event.name == "requests_refresh.held"
    assert dict(event.attributes or {}).keys() == {"requests_refresh.hold.seconds"}
    server.revoke_login()
    with pytest.raises(LoginRequired):
        session.get(server.api + "items")
    adapter: Any = session.get_adapter(server.api)
    adapter.tokens.close()  # the outcome is told of after the waiters are awake
    seen = points(reader)
    outcomes = {
        point.attributes["outcome"]: point.value for point in seen["requests_refresh.rounds"]
    }
    assert outcomes == {"adopted": 1, "refreshed": 1, "login_lost": 1}
    (hold,) = seen["requests_refresh.hold.duration"]
    assert hold.count == 3  # the first one waited for the store
    assert not hold.attributes


def test_a_fresh_token_tells_nothing(
    server: AuthServer, session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I15: while the token is fresh nothing of it is called."""
    session.get(server.api + "items")
    adapter: Any = session.get_adapter(server.api)
    adapter.tokens.close()
    calls: list[object] = []
    monkeypatch.setattr(telemetry, "_quietly", calls.append)
    assert session.get(server.api + "items").status_code == 200
    assert calls == []


@pytest.mark.parametrize("trouble", ["absent", "raises"])
def test_it_fails_no_request(
    server: AuthServer, session: requests.Session, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """I3: where it is not used, or raises, every request gets its answer."""

    def raises(*_: object) -> None:
        raise RuntimeError("telemetry is broken")

    if trouble == "absent":
        monkeypatch.delitem(sys.modules, "opentelemetry.metrics")
    else:
        monkeypatch.setattr(trace, "get_current_span", raises)
    monkeypatch.setattr(telemetry, "_made", None)
    assert session.get(server.api + "items").status_code == 200
    server.revoke_access()
    assert session.get(server.api + "items").status_code == 200
    assert (telemetry._instruments() is None) == (trouble == "absent")
    assert server.counts.refreshes == 1


def test_nothing_is_imported() -> None:
    """I14: what does not use OpenTelemetry does not get it imported, least of all at its end."""
    program = (
        "import sys\nfrom requests_refresh import Token, TokenSource, telemetry\n"
        "source = TokenSource(lambda token: 'new', token=Token(refresh_token='r'))\n"
        "source.token(); source.close(); telemetry.held(1.0)\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"[]\n"
