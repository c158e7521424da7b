"""The refresh queue of browser code, carried over to threads. Not to be copied.

An `is_refreshing` flag, a queue of those who wait, a retry: in a browser,
where one thread runs everything, it nearly works. The demo shows what becomes
of it where there are threads. Its five faults are marked where they stand.
"""

from __future__ import annotations

import logging
import queue
from typing import Any

import requests
from requests.auth import AuthBase

log = logging.getLogger(__name__)


class Interceptor(AuthBase):
    """An auth for a session: attaches the token, and on a 401 refreshes and sends again.

    patience: seconds after which one who waits in the queue gives up. The
    original has no such limit; here it lets the demo end.
    """

    def __init__(self, token_url: str, reply: dict[str, Any], patience: float) -> None:
        self.token_url = token_url
        self.access_token: str | None = reply["access_token"]
        self.refresh_token: str | None = reply["refresh_token"]
        self.patience = patience
        self.is_refreshing = False
        self.waiting: list[queue.Queue[str]] = []
        self.held: list[int] = []  # one entry for each request that was held; append is atomic

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # Fault 1: nobody looks whether a refresh runs. Until it is done, every
        # new request goes out with the dead token, for a 401 of its own.
        request.headers["Authorization"] = f"Bearer {self.access_token}"
        request.hooks["response"].append(self.on_response)
        return request

    def on_response(self, response: requests.Response, **kwargs: Any) -> requests.Response:
        """The interceptor itself: requests calls it with each response."""
        if response.status_code != 401:
            return response
        response.content  # noqa: B018  # reading it gives the connection back
        self.held.append(1)
        # Fault 2: check, then act. In a browser nothing can come in between.
        # Here the log line's lock and I/O are enough to let other threads past
        # the check, and each of them spends the same refresh token.
        # Fault 3: nobody asks whether the token of this request is still the
        # current one. A 401 that arrives after the refresh refreshes again.
        if self.is_refreshing:
            token = self.wait_in_queue()
        else:
            log.warning("401 from %s: refreshing", response.url)
            self.is_refreshing = True
            token = self.refresh()
        again = response.request.copy()
        again.hooks = {"response": []}  # a second 401 is the answer
        again.headers["Authorization"] = f"Bearer {token}"
        sent = response.connection.send(again, **kwargs)
        return sent

    def wait_in_queue(self) -> str:
        """Wait for whoever refreshes to hand over the new token."""
        mine: queue.Queue[str] = queue.Queue(1)
        self.waiting.append(mine)
        # Fault 4: only success empties the queue. After a failure, or for one
        # who came a moment late, this would wait for ever.
        return mine.get(timeout=self.patience)

    def refresh(self) -> str:
        """Refresh, and hand the new token to all in the queue."""
        form = {"grant_type": "refresh_token", "refresh_token": self.refresh_token}
        try:
            with requests.Session() as session:
                session.trust_env = False
                answer = session.post(self.token_url, data=form, timeout=(5, 15))
            answer.raise_for_status()
            reply = answer.json()
        except requests.RequestException:
            # Fault 5: whatever it was, even a lost network, logs the user out.
            self.access_token = self.refresh_token = None
            raise
        finally:
            self.is_refreshing = False
        self.access_token, self.refresh_token = reply["access_token"], reply["refresh_token"]
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            one.put(reply["access_token"])
        return str(reply["access_token"])
