"""What tests of stores share besides `TokenStoreContract`: its tokens, and its ways to look."""

from requests_refresh.testing.contract_support import (
    CANARY,
    FULL,
    NEW,
    NEWER,
    OLD,
    in_threads,
    shown,
)

__all__ = ["CANARY", "FULL", "NEW", "NEWER", "OLD", "SAFETY", "in_threads", "shown"]

SAFETY = 60.0  # seconds; no test takes this long unless something hangs
