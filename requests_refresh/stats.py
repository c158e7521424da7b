"""What a source has done so far, counted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stats:
    """What a source has done in this process so far. Counts, and one sum of seconds."""

    refreshes: int  #: new tokens from the provider
    adoptions: int  #: newer tokens of somebody else's that were taken instead
    waits: int  #: calls that waited for a round
    wait_seconds: float  #: how long they waited, added up
    failures: int  #: rounds that ended with an error
    replays: int  #: requests that were sent again with a newer token; not those for a DPoP nonce
    unreplayable: int  #: refused requests whose body could not be sent again
    strikes: int  #: tokens that were refused right after their issue
