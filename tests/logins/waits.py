"""A program that waits for a person: `python -m tests.logins.waits how url`.

It says on standard output where it is, so that a test can press Ctrl-C.
"""

from __future__ import annotations

import atexit
import sys

from requests_refresh import RefreshTokenGrant, TokenSource
from requests_refresh.logins import BrowserLogin, DeviceLogin


def say(what: object) -> bool:
    print(what, flush=True)
    return True


def main(how: str, url: str) -> None:
    logins = {
        "device": DeviceLogin(url, device_url=url, client_id="c", show=say),
        "browser": BrowserLogin(url, authorize_url=url, client_id="c", open=say),
    }
    login = logins[how.removeprefix("relogin-")]
    atexit.register(say, "exiting")
    if how == how.removeprefix("relogin-"):
        login()
    else:
        grant = RefreshTokenGrant(url, client_id="c")
        TokenSource(grant, relogin=login, timeout=3600.0).token()


if __name__ == "__main__":
    main(*sys.argv[1:])
