"""An adapter that is shared by many, before and after a fork."""

from __future__ import annotations

import gc
import os
import warnings

import requests
from requests.adapters import HTTPAdapter

from requests_refresh import RefreshAdapter
from requests_refresh.testing import AuthServer


def test_a_shared_adapter_outlives_those_it_sends_for() -> None:
    """I13, I14: children share no socket of `inner`, though no RefreshAdapter lives at the fork."""
    with AuthServer() as server:
        tokens, inner = server.source(), HTTPAdapter()
        with requests.Session() as session:
            session.mount(server.api, RefreshAdapter(tokens, origins=server.api, inner=inner))
            assert session.get(server.api + "items").status_code == 200
        del session
        gc.collect()
        assert len(inner.poolmanager.pools) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of 3.12: forking with threads
            child = os.fork()
        if not child:
            os._exit(len(inner.poolmanager.pools))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        inner.close()
