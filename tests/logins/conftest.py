"""Servers for the tests of logins."""

from __future__ import annotations

from tests.authorization.conftest import authlib, authlib_server
from tests.grants.conftest import bare_environment, nobody, server

__all__ = ["authlib", "authlib_server", "bare_environment", "nobody", "server"]
