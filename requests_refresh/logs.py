"""The package's logger, whose records say in attributes what their lines say in words.

`record.identity` is whose login a line is about, or None; `record.refresh_event` a
name for what happened, for filters and alerts that should not read prose.
"""

from __future__ import annotations

import logging

# What a line about a login begins with, after the identity -> what it is called.
EVENTS = {
    "token refreshed": "refreshed",
    "token adopted": "adopted",
    "no new token": "not_refreshed",
    "the login is over": "login_lost",
    "the provider refused to refresh": "login_ending",
    "a new token could not be stored": "not_stored",
    "another token was stored meanwhile": "superseded",
    "the dead login could not be cleared": "not_cleared",
    "that could not be stored": "not_stored",
    "the lease on its renewal was lost": "lease_lost",
    "a callback failed": "callback_failed",
}
_ABOUT = "%s: "  # each line about a login begins with its identity


class _Told(logging.Filter):
    """Puts `identity` and `refresh_event` on each record; lets all of them pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        about = isinstance(record.msg, str) and record.msg.startswith(_ABOUT)
        arguments = record.args if isinstance(record.args, tuple) else ()
        record.identity = arguments[0] if about and arguments else None
        said = record.msg[len(_ABOUT) :] if about else ""
        record.refresh_event = next(
            (EVENTS[text] for text in EVENTS if said.startswith(text)), None
        )
        return True


log = logging.getLogger("requests_refresh")
log.addFilter(_Told())
