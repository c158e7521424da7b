"""A real provider on loopback, that others wrote.

`python -m tests.providers.server oauth|jwt DIRECTORY`. `oauth` is
django-oauth-toolkit: rotation, and reuse of a refresh token revokes its whole
family; beside it client credentials, the device flow, revocation and
discovery, each with the toolkit's own views. `jwt` is Django SimpleJWT:
rotation with a blacklist. Each serves an API of its own, answers through
Django REST framework, keeps its rows in a SQLite file in DIRECTORY, and runs
under waitress, which has threads.

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
from django.views.decorators.csrf import csrf_exempt

LIFETIME = 3  # seconds that an access token lives; less is over before a busy host has used it
REFRESH_PATHS = {"oauth": "/o/token/", "jwt": "/jwt/refresh/"}
USER, PASSWORD = "alice", "a password of alice's"
CLIENT_ID, CLIENT_SECRET = "sync", "the secret: of sync/100%"
# An application has one grant, so each of these has one of its own.
SERVICE_ID, SERVICE_SECRET = "service", "the secret: of service/100%"
DEVICE_ID = "television"


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
            self._other_grants = 0
            self._revocations = 0
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

    def other(self, path: str, status: int) -> None:
        """A token request that is no refresh, or a revocation, if it was granted."""
        with self._lock:
            if status == 200 and path == "/o/revoke_token/":
                self._revocations += 1
            elif status == 200:
                self._other_grants += 1

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
                "other_grants": self._other_grants,
                "revocations": self._revocations,
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
        refresh = kind == "jwt" or b"grant_type=refresh_token" in request.body
        response = get_response(request)
        if request.path == REFRESH_PATHS[kind] and refresh:
            counters.refresh(response.status_code)
        elif request.path in (REFRESH_PATHS[kind], "/o/revoke_token/"):
            counters.other(request.path, response.status_code)
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
            "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        },
        OAUTH2_PROVIDER={
            "ACCESS_TOKEN_EXPIRE_SECONDS": LIFETIME,
            "ROTATE_REFRESH_TOKEN": True,
            "REFRESH_TOKEN_REUSE_PROTECTION": True,
            "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": 0,
            # For OpenID discovery; nobody asks for an ID token.
            "OIDC_ENABLED": True,
            "OAUTH2_VALIDATOR_CLASS": "tests.providers.devices.Validator",
            "OAUTH_DEVICE_VERIFICATION_URI": "",  # known once the server listens
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
    """Tables, one user, and for OAuth one client per grant."""
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
        Application.objects.create(
            client_id=SERVICE_ID,
            client_secret=SERVICE_SECRET,
            client_type=Application.CLIENT_CONFIDENTIAL,
            authorization_grant_type=Application.GRANT_CLIENT_CREDENTIALS,
        )
        Application.objects.create(
            client_id=DEVICE_ID,
            client_type=Application.CLIENT_PUBLIC,
            authorization_grant_type=Application.GRANT_DEVICE_CODE,
        )


def routes() -> list[Any]:
    """The provider's own views, and an API under its own protection."""
    from django.urls import include, path
    from rest_framework.decorators import api_view, permission_classes
    from rest_framework.permissions import BasePermission
    from rest_framework.response import Response

    class HasToken(BasePermission):  # type: ignore[misc]  # Django REST framework has no types
        def has_permission(self, request: Any, view: Any) -> bool:
            return request.auth is not None

    def items(request: Any) -> Any:
        # A body comes back, so that a test sees that it arrived whole. There is
        # no user where a client acts for itself.
        user = request.user and request.user.username
        return Response({"user": user, "sent": request.data})

    protected = permission_classes([HasToken])(items)
    found = [path("api/items", api_view(["GET", "POST"])(protected))]
    if kind == "oauth":
        from oauth2_provider.decorators import protected_resource
        from oauth2_provider.urls import metadata_urlpatterns

        from .devices import DeviceView, decide

        def bare(request: Any) -> HttpResponse:
            return JsonResponse({"user": request.resource_owner.username})

        found.append(path("o/device-authorization/", DeviceView.as_view()))
        found.append(path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")))
        # The issuer has a path, so this document lies outside it (RFC 8414 section 3.1).
        found.append(path("", include(metadata_urlpatterns)))
        found.append(path("decide", csrf_exempt(decide)))
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
    url = f"http://127.0.0.1:{server.effective_port}"
    settings.OAUTH2_PROVIDER["OAUTH_DEVICE_VERIFICATION_URI"] = f"{url}/o/device/"
    where = {
        "url": url,
        "refresh_path": REFRESH_PATHS[kind],
        "client": [CLIENT_ID, CLIENT_SECRET],
        "service": [SERVICE_ID, SERVICE_SECRET],
        "device_client": DEVICE_ID,
        "user": [USER, PASSWORD],
    }
    print(json.dumps(where), flush=True)
    threading.Thread(target=end_with_parent, daemon=True).start()
    server.run()


urlpatterns: list[Any] = []

if __name__ == "__main__":
    main()
