"""The guides for Celery with Redis and Django with PostgreSQL, with the real ones."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from requests_refresh import LoginRequired
from requests_refresh.testing import AuthServer, Fault
from tests.servers.fixtures import OwnPostgres, OwnRedis

from .pages import at, blocks, run

TASKS, LOG_IN = blocks("howto/celery.md")
API, MIGRATION, VIEW, SHELL = blocks("howto/django.md")
(POSTGRES_TABLE,) = [text for text in blocks("servers.md", "sql") if "-- postgresql" in text]


def test_celery(server: AuthServer, own_redis: OwnRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    """I8: tasks share a login; an outage is retried, a dead login is not."""
    pytest.importorskip("celery", reason="Celery is not installed")
    retry = importlib.import_module("celery.exceptions").Retry
    signals = importlib.import_module("celery.signals")
    monkeypatch.setenv("BROKER_URL", "memory://")
    monkeypatch.setenv("TOKEN_STORE", own_redis().url)
    names = run(TASKS, server, {"SECRET": "hush", "__name__": "tasks"})
    fetch = names["fetch"]
    with pytest.raises(LoginRequired):
        fetch("7")
    run(LOG_IN, server, names | {"REFRESH_TOKEN": server.login()["refresh_token"]})
    assert fetch.apply(args=("7",)).get()["path"] == "/api/items/7"
    server.faults("token", Fault(status=503, headers={"Retry-After": "60"}), times=None)
    server.revoke_access()
    with pytest.raises(retry) as again:
        fetch.apply(args=("7",), throw=True).get()
    assert again.value.when is not None
    server.clear_faults()
    assert server.logged_in()
    signals.worker_process_shutdown.send(sender=None)
    names["tokens"]._store.close()


SCRIPT = """
import sys
import django
from django.conf import settings

settings.configure(
    DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres", "USER": "tester", "PASSWORD": "", "HOST": "127.0.0.1",
        "PORT": sys.argv[1],
    }},
    INSTALLED_APPS=["shop"], SYNC_CLIENT_ID="sync", SYNC_CLIENT_SECRET="hush",
)
django.setup()
from django.core.management import call_command
from django.test import RequestFactory
call_command("migrate", verbosity=0)
from shop import api
request = RequestFactory().get("/orders")
print(api.orders(request).status_code)
REFRESH_TOKEN = sys.argv[2]
exec(sys.argv[3], vars(api) | {"REFRESH_TOKEN": REFRESH_TOKEN})
reply = api.orders(request)
print(reply.status_code, "/api/orders" in reply.content.decode())
api.tokens()._store.close()
"""


def test_django(server: AuthServer, own_postgres: OwnPostgres, tmp_path: Path) -> None:
    """The table comes by a migration, and the view has a login that survives an expiry."""
    shop = tmp_path / "shop"
    (shop / "migrations").mkdir(parents=True)
    (shop / "__init__.py").touch()
    (shop / "migrations" / "__init__.py").touch()
    (shop / "migrations" / "0001_tokens.py").write_text(MIGRATION)
    (shop / "api.py").write_text(at(server, f"{API}\n\n{VIEW}"))
    port = own_postgres().port
    login = server.login()
    command = [sys.executable, "-c", SCRIPT, str(port), login["refresh_token"], SHELL]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert done.stdout.splitlines() == ["503", "200 True"], done.stderr
    assert server.counts.refreshes == 1


def test_the_table_is_that_of_the_store() -> None:
    """The migration's statement is the one that the store's page has."""
    statement = MIGRATION.partition('"""')[2].partition('"""')[0]
    assert statement.split() == POSTGRES_TABLE.partition("\n")[2].split()
