"""How a login begins: the first token, for which a person is needed, or a password.

Each is a callable `() -> Token`, for `TokenSource(..., relogin=...)` or for
`tokens.login(login())`.
"""

from __future__ import annotations

from .browser import BrowserLogin
from .device import DeviceLogin, DevicePrompt
from .password import PasswordLogin

__all__ = ["BrowserLogin", "DeviceLogin", "DevicePrompt", "PasswordLogin"]
