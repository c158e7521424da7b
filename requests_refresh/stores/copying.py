"""`copy`: logins moved from one store to another."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import ConfigurationError, StoreConflict
from .base import TokenStore


def copy(
    source: TokenStore,
    target: TokenStore,
    identities: Iterable[str] | None = None,
    *,
    move: bool = False,
    timeout: float = 30.0,
) -> int:
    """Copy logins from one store to another; returns how many were there to copy.

    source, target: the two stores. What `target` holds is never overwritten:
        StoreConflict, unless it is the very same token.
    identities: which of them; None: all that `source` can list.
    move: remove each from `source` once it is in `target`. Without it two
        stores hold one refresh token, and whoever still uses the old store will
        end the login: stop the workers before, or move.
    timeout: seconds to wait for each login's place in the stores.

    Each login is held in both stores while it is copied, so that none is
    refreshed in between. Raises StoreError or RefreshTimeout at the first that
    cannot be copied; it is intact in `source`, and those before it are done, so
    it can be called again. Blocks. To write every login anew with another key,
    copy into a new place.
    """
    if isinstance(identities, str):
        raise ConfigurationError("identities are several: for a single one give [identity].")
    for place in (source, target):
        if not isinstance(place, TokenStore):
            del place, source, target  # tracebacks with locals show no password
            raise ConfigurationError("copy takes two stores; open_store makes one from a URL.")
    if source is target:
        raise ConfigurationError("copy takes two stores, and was given the same one twice.")
    done = 0
    for identity in source.identities() if identities is None else identities:
        with source.exclusive(identity, timeout), target.exclusive(identity, timeout):
            token = source.load(identity)
            if token is None:
                continue
            try:
                target.save(identity, token, replacing=None)
            except StoreConflict:
                there = target.load(identity)
                if there is None or not there.same_issue(token):
                    raise
            if move:
                source.delete(identity, replacing=token)
            done += 1
    return done
