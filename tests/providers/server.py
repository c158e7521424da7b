"""A real provider that others wrote, on loopback: `python server.py oauth|jwt DIRECTORY`.

`oauth` is django-oauth-toolkit: rotation, and reuse of a refresh token revokes
its whole family. `jwt` is Django SimpleJWT: rotation with a blacklist. Each
serves an API of its own, answers through Django REST framework, keeps its rows
in a SQLite file in DIRECTORY, and runs under waitress, which has threads.

The first line on standard output is JSON: where it listens, and who may log
in. `GET /counters` tells what went over the wire, `POST /counters` begins
anew. The process ends when its standard input does, so that it never outlives
who started it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import django
import waitress
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse

LIFETIME = 2  # seconds that an access token lives
REFRESH_PATHS = {"oauth": "/o/token/", "jwt": "/jwt/refresh/"}
USER, PASSWORD = "alice", "a password of alice's"
CLIENT_ID, CLIENT_SECRET = "sync", "the secret: of sync/100%"


class Counters:
    """What went over the wire, by the server's own eyes. Holds no token, only hashes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self._refreshed = 0  # guarded by _lock, as are all below
            self._refused_refreshes = 0
            self._other_refreshes = 0
            self._served = 0
            self._refused = 0
            self._other = 0
            self._seen: set[str] = set()
            self._expired: set[str] = set()

    def refresh(self, status: int) -> None:
        with self._lock:
            if status == 200:
                self._refreshed += 1
            elif 400 <= status < 500:
                self._refused_refreshes += 1
            else:
                self._other_refreshes += 1

    def api(self, authorization: str, status: int) -> None:
        token = hashlib.sha256(authorization.encode()).hexdigest()
        with self._lock:
            self._seen.add(token)
            if status == 200:
                self._served += 1
            elif status in (401, 403):
                self._refused += 1
                self._expired.add(token)
            else:
                self._other += 1

    def to_mapping(self) -> dict[str, int]:
        with self._lock:
            return {
                "refreshed": self._refreshed,
                "refused_refreshes": self._refused_refreshes,
                "other_refreshes": self._other_refreshes,
                "served": self._served,
                "refused": self._refused,
                "other": self._other,
                "tokens_seen": len(self._seen),
                "tokens_expired": len(self._expired),
            }


counters = Counters()
kind = ""


def counting(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    """A middleware that counts and answers /counters; nothing else passes it uncounted."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.path == "/counters":
            if request.method == "POST":
                counters.reset()
            return JsonResponse(counters.to_mapping())
        # Read before the view does: afterwards Django lets nobody.
        login = b"grant_type=password" in request.body
        response = get_response(request)
        if request.path == REFRESH_PATHS[kind] and not login:
            counters.refresh(response.status_code)
        elif request.path.startswith("/api/"):
            counters.api(request.headers.get("Authorization", ""), response.status_code)
        return response

    return middleware


def configure(directory: Path) -> None:
    """Django's settings. No migration may have run, no model may be imported yet."""
    application = {
        "oauth": ["oauth2_provider"],
        "jwt": ["rest_framework_simplejwt", "rest_framework_simplejwt.token_blacklist"],
    }[kind]
    authentication = {
        "oauth": "oauth2_provider.contrib.rest_framework.OAuth2Authentication",
        "jwt": "rest_framework_simplejwt.authentication.JWTAuthentication",
    }[kind]
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        SECRET_KEY=secrets.token_urlsafe(64),
        ROOT_URLCONF="__main__",
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        # The first one adds Content-Length, without which no connection is kept.
        MIDDLEWARE=["django.middleware.common.CommonMiddleware", "__main__.counting"],
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "rest_framework",
            *application,
        ],
        # The default hash of a client secret costs half a second of processor
        # each time; what is under test here is the rotation.
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(directory / "provider.sqlite3"),
                "CONN_MAX_AGE": None,
                # A transaction that first reads and then writes would meet
                # "database is locked" at once, without waiting.
                "OPTIONS": {
                    "timeout": 30,
                    "transaction_mode": "IMMEDIATE",
                    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
                },
            }
        },
        REST_FRAMEWORK={
            "DEFAULT_AUTHENTICATION_CLASSES": [authentication],
            "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
            "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        },
        OAUTH2_PROVIDER={
            "ACCESS_TOKEN_EXPIRE_SECONDS": LIFETIME,
            "ROTATE_REFRESH_TOKEN": True,
            "REFRESH_TOKEN_REUSE_PROTECTION": True,
            "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": 0,
            # The password grant is how a test logs in without a browser.
            "COMPLIANT_BCP_RFC9700_PASSWORD_GRANT": False,
        },
        SIMPLE_JWT={
            "ACCESS_TOKEN_LIFETIME": timedelta(seconds=LIFETIME),
            "ROTATE_REFRESH_TOKENS": True,
            "BLACKLIST_AFTER_ROTATION": True,
        },
    )
    django.setup()


def prepare() -> None:
    """Tables, one user, and for OAuth one confidential client."""
    from django.contrib.auth.models import User
    from django.core.management import call_command

    call_command("migrate", verbosity=0, interactive=False)
    user = User.objects.create_user(USER, password=PASSWORD)
    if kind == "oauth":
        from oauth2_provider.models import Application

        Application.objects.create(
            user=user,
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            client_type=Application.CLIENT_CONFIDENTIAL,
            authorization_grant_type=Application.GRANT_PASSWORD,
        )


def routes() -> list[Any]:
    """The provider's own views, and an API under its own protection."""
    from django.urls import path
    from rest_framework.decorators import api_view
    from rest_framework.response import Response

    def items(request: Any) -> Any:
        # A body comes back, so that a test sees that it arrived whole.
        return Response({"user": request.user.username, "sent": request.data})

    found = [path("api/items", api_view(["GET", "POST"])(items))]
    if kind == "oauth":
        from oauth2_provider.decorators import protected_resource
        from oauth2_provider.views import TokenView

        def bare(request: Any) -> HttpResponse:
            return JsonResponse({"user": request.resource_owner.username})

        found.append(path("o/token/", TokenView.as_view()))
        found.append(path("api/bare", protected_resource()(bare)))
    else:
        from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView

        found.append(path("jwt/login/", TokenObtainPairView.as_view()))
        found.append(path("jwt/refresh/", TokenRefreshView.as_view()))
    return found


def end_with_parent() -> None:
    """Ends this process when whoever started it closes our input, or is gone."""
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    global kind, urlpatterns
    kind = sys.argv[1]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a queue is no fault here
    configure(Path(sys.argv[2]))
    prepare()
    urlpatterns = routes()
    from django.core.wsgi import get_wsgi_application

    server = waitress.create_server(get_wsgi_application(), host="127.0.0.1", port=0, threads=16)
    where = {
        "url": f"http://127.0.0.1:{server.effective_port}",
        "refresh_path": REFRESH_PATHS[kind],
        "client": [CLIENT_ID, CLIENT_SECRET],
        "user": [USER, PASSWORD],
    }
    print(json.dumps(where), flush=True)
    threading.Thread(target=end_with_parent, daemon=True).start()
    server.run()


urlpatterns: list[Any] = []

if __name__ == "__main__":
    main()
