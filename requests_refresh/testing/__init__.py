"""For tests of code that uses this package, and for its own: a server to try it on.

    from requests_refresh import RefreshAdapter
    from requests_refresh.testing import AuthServer, Fault

    with AuthServer() as server:
        tokens = server.source()  # logged in
        session = requests.Session()
        session.mount(server.api, RefreshAdapter(tokens, origins=server.api))

        server.revoke_access()  # the token dies; the login lives
        assert session.get(server.api + "items").status_code == 200
        assert server.counts.refreshes == 1

What goes wrong is said as a `Fault`, for the calls to come:

    server.faults("token", Fault(status=503, headers={"Retry-After": "1"}), times=2)

    go = threading.Event()
    server.faults("token", Fault(hold=go), at=1)  # the next refresh waits for the event
    server.wait_for("refresh_calls", 1)  # it has come: no sleeping

    server.faults("token", Fault(after_work=True, reply="reset"))  # rotated, the reply lost

And for stores of your own, their contract as a class of pytest tests:

    from requests_refresh.testing import TokenStoreContract

    class TestMyStore(TokenStoreContract):
        def make_store(self):
            return MyStore(...)
"""

import importlib
import sys
from typing import TYPE_CHECKING

from .faults import Fault
from .provider import Counts, Seen
from .server import REFUSAL, AuthServer

if TYPE_CHECKING:
    from .contract import TokenStoreContract

__all__ = ["REFUSAL", "AuthServer", "Counts", "Fault", "Seen", "TokenStoreContract"]


def __getattr__(name: str) -> object:
    # Late, because it needs pytest, and the server is used without.
    if name != "TokenStoreContract":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    modules = [f"{__name__}.{part}" for part in ("contract", "contract_processes")]
    if sys.modules.keys().isdisjoint(modules):
        # Its assertions then show the values that they compare, as those of a test module do.
        importlib.import_module("pytest").register_assert_rewrite(*modules)
    return importlib.import_module(modules[0]).TokenStoreContract
