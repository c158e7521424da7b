"""`RedisStore`: tokens in Redis, shared by whatever reaches the server.

What it guarantees:

- **Nothing expires that holds a refresh token**: an expired key would log the
  whole fleet out. A token without one, which can be asked for again, goes some
  time after its end. A server that may evict is warned of.
- **One after the other.** Compare-and-swap and the lease are scripts, so that
  each is one step. The two keys of an identity are in one slot, as Redis
  Cluster asks.
- **Nobody polls.** A change is published; who waits listens, and looks twice a
  second in case a notice was lost.

What it cannot: a Redis that loses its last writes in a failover, or is not
told to keep them (`appendonly yes`), loses logins with them. That is the
server's to promise; see the docs for operators.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from ..errors import ConfigurationError, StoreError
from .notices import Deaf, Listener
from .shared import Cell, SharedStore
from .urls import StoreURL
from .values import Encryption, unless_wrong

log = logging.getLogger("requests_refresh")

_ANSWER: Final = 2.0  # seconds to wait for the server's answer, and for a connection
_CONNECTIONS: Final = 32  # of one store in one process; who finds none free waits
_FULL: Final = "Too many connections"  # says a pool of your own that does not wait itself
_AGAIN: Final = 0.002  # seconds after which that one is asked again
_MOMENT: Final = 0.05  # seconds after which a lost connection is made anew
_FEW: Final = 4  # connections of a client; with fewer, none is kept for listening
_AFTERLIFE: Final = 3600.0  # seconds that a token which may go outlives its end
_REMEMBERED: Final = str(30 * 86_400_000)  # ms for which a lease that ended by itself is known
_FOREVER: Final = 1e10  # seconds; what lives longer has no TTL, and Redis counts in 64 bits
_CODE: Final = re.compile(
    r"\b(CLUSTERDOWN|CROSSSLOT|LOADING|MASTERDOWN|MISCONF|MOVED|NOAUTH|NOPERM|NOREPLICAS|NOSCRIPT"
    r"|OOM|READONLY|TRYAGAIN|WRONGPASS|WRONGTYPE)\b"
)  # https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors
_PAGE: Final = 1000  # keys that the server looks at for one answer, when all are listed

# '' stands for nothing there. pcall: who may not publish can still save.
_SWAP: Final = """
local there = redis.call('GET', KEYS[1]) or ''
if there == ARGV[2] and there ~= '' then return 1 end
if there ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1])
elseif ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[2])
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
redis.pcall('PUBLISH', ARGV[4], ARGV[5])
return 1
"""
# KEYS[2] outlives the lease, so that who comes next sees that it was not given back.
_ACQUIRE: Final = """
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
local last = redis.call('GET', KEYS[2]) or ARGV[1]
redis.call('SET', KEYS[2], last, 'PX', ARGV[3])
if last ~= ARGV[1] then return 2 end
return 1
"""
_EXTEND: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_RELEASE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
redis.pcall('PUBLISH', ARGV[2], ARGV[3])
return 1
"""


class RedisStore(SharedStore):
    """Tokens in Redis, for all threads, processes and hosts that reach it.

    server: a URL that redis-py takes (`redis://`, `rediss://`, `unix://`),
        `redis+cluster://` or `rediss+cluster://` for a cluster,
        `redis+sentinel://host:port,host:port/service` for a service that
        sentinels watch; or a callable that returns such a URL, or a client of
        redis-py's, which then stays open and is not pickled.
    prefix: what the names of its keys and its channel begin with. Stores with
        another prefix share nothing.
    lease: seconds for which `exclusive` outlives a holder who was killed or cut
        off. Give it more than the provider takes to answer.
    encryption: an Encryption, or None to store tokens as JSON that can be read.

    Needs `pip install "requests_refresh[redis]"`. Raises ConfigurationError for
    settings that cannot be right; connects at the first use. Every method may
    block for the server, 2 s for one answer (a client of your own: as you have
    set it), and raises StoreError when it cannot be used. Safe for any thread,
    and after a fork. A pickle holds no password: a URL with one is left behind,
    a callable is not.
    """

    _url: StoreURL | None = None
    _prefix = ""

    def __init__(
        self,
        server: str | Callable[[], str] | Any,
        *,
        prefix: str = "requests_refresh",
        lease: float = 15.0,
        encryption: Encryption | None = None,
    ) -> None:
        encryption = unless_wrong(encryption)
        unseen, server = iter([server]), None  # tracebacks with locals show no password
        clients = _redis().Redis, _redis().RedisCluster
        unread = list(unseen)
        self._given = unread[0] if isinstance(unread[0], clients) else None
        if self._given is None:
            self._url = StoreURL(unread.pop(), "RedisStore", _SCHEMES)
            if self._url.fixed is not None and self._url.scheme.endswith("+sentinel"):
                _service_of(self._url)
        fits = isinstance(prefix, str) and prefix.isprintable() and not set("{}") & set(prefix)
        if not prefix or not fits:
            raise ConfigurationError(
                "prefix must be a printable text without braces, and not empty."
            )
        super().__init__(lease=lease, encryption=encryption, listen=self._listen)
        self._prefix = prefix
        self._channel = f"{prefix}:changed"
        self._made: Any = None
        self._looked_at_policy = False

    def identities(self) -> list[str]:
        """The identities that are stored, in no order. Blocks for the server."""
        found = self._try("", self._listed)
        if isinstance(found, StoreError):
            raise found
        return found

    def _listed(self) -> list[str]:
        start, end = self._prefix + ":{=", "}:token"
        pattern = re.sub(r"([]*?[^\\-])", r"\\\1", start) + "*" + end
        names = {*self._client().scan_iter(pattern, count=_PAGE)}  # it may name one twice
        quoted = [_text(name)[len(start) : -len(end)] for name in names]
        try:
            return [unquote(name, errors="surrogatepass") for name in quoted]
        except UnicodeDecodeError:
            raise StoreError(
                f"One of the keys {self._prefix}:{{=…}}:token in Redis is of no identity. All is as"
                " it was. Remove that key, or name the identities."
            ) from None

    def close(self) -> None:
        super().close()
        made, self._made = self._made, None
        if made is not None:
            made.close()

    def _read(self, identity: str) -> Cell | None:
        text = self._ask("get", self._key(identity) + ":token")
        return None if text is None else Cell(_text(text), _text(text))

    def _swap(self, identity: str, old: Cell | None, new: str | None, life: float | None) -> bool:
        key = self._key(identity)
        ends = "" if life is None or life > _FOREVER else str(int((life + _AFTERLIFE) * 1000))
        arguments = (old.text if old else "", new or "", ends, self._channel, key)
        return bool(self._ask("eval", _SWAP, 1, key + ":token", *arguments))

    def _acquire(self, identity: str, owner: str) -> int:
        if not self._looked_at_policy:
            self._look_at_policy()
        return int(self._on_lease(_ACQUIRE, identity, owner, self._milliseconds, _REMEMBERED))

    def _extend(self, identity: str, owner: str) -> bool:
        return bool(self._on_lease(_EXTEND, identity, owner, self._milliseconds))

    def _release(self, identity: str, owner: str) -> bool:
        key = self._key(identity)
        return bool(self._on_lease(_RELEASE, identity, owner, self._channel, key))

    def _on_lease(self, script: str, identity: str, *arguments: str) -> Any:
        key = self._key(identity)
        return self._ask("eval", script, 2, key + ":lease", key + ":holder", *arguments)

    def _ask(self, command: str, *arguments: Any) -> Any:
        """Have the client do it; wait where all connections of its pool are in use just now.

        Tried once more where a connection was lost: all that is sent may be sent twice.
        """
        deadline, again = time.monotonic() + _ANSWER, True
        while True:
            try:
                return getattr(self._client(), command)(*arguments)
            except _redis().ConnectionError as error:
                full = str(error).startswith(_FULL)
                if not (full or again) or time.monotonic() >= deadline:
                    raise
            again = again and full
            time.sleep(_AGAIN if full else _MOMENT)

    @property
    def _milliseconds(self) -> str:
        return str(int(self._lease * 1000))

    def _key(self, identity: str) -> str:
        # Quoted, so that no brace of an identity's moves the slot; "=", so that none is empty.
        return f"{self._prefix}:{{={quote(identity, safe='@:', errors='surrogatepass')}}}"

    def _where(self, identity: str) -> str:
        return f"the key {_short(self._key(identity) + ':token')!r} in Redis"

    def _reason(self, error: Exception) -> str:
        redis, name = _redis(), type(error).__name__
        if isinstance(error, redis.ConnectionError) and not isinstance(error, redis.ResponseError):
            # Tells where and why. After the colon redis-py shows a sentinel's client, which has
            # its password in it before redis-py 8.
            return f"{name}: {str(error).partition(' : ')[0]}"
        if not isinstance(error, redis.RedisError):
            return name  # a callable of yours raised it: not a word of what it says
        code = _CODE.search(str(error))  # the rest may quote what the server was sent
        return f"{name}: {code[0]}" if code else name

    def _is_away(self, error: Exception) -> bool:
        redis = _redis()
        away = redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError
        return isinstance(error, away) and not isinstance(error, redis.AuthenticationError)

    def _client(self) -> Any:
        if self._given is not None:
            return self._given
        with self._making:
            if self._made is None:
                assert self._url is not None
                self._made = _client_of(self._url)
            return self._made

    def _look_at_policy(self) -> None:
        """Warn, once, of a server that drops keys when its memory is full."""
        self._looked_at_policy = True
        info = self._try("", lambda: self._client().info("memory"))
        if not isinstance(info, dict):
            return  # not allowed to ask, or not reachable: what comes next tells
        of_nodes = [info] if "maxmemory_policy" in info else info.values()
        for memory in of_nodes:
            if not isinstance(memory, dict):
                continue  # some that speak Redis's protocol have no policy to tell of
            policy = str(memory.get("maxmemory_policy", "noeviction"))
            if memory.get("maxmemory") and policy != "noeviction":
                what = "tokens and leases" if policy.startswith("allkeys") else "leases"
                log.warning(
                    "The Redis server's maxmemory-policy is %s: when its memory is full it drops"
                    " %s, and a dropped refresh token is a lost login. Set it to noeviction.",
                    policy,
                    what,
                )
                return

    def _listen(self, listener: Listener) -> None:
        client = self._client()
        pool = getattr(client, "connection_pool", None)
        if getattr(pool, "max_connections", _FEW) < _FEW:
            raise Deaf  # it has none to spare
        with client.pubsub(ignore_subscribe_messages=False) as pubsub:
            pubsub.subscribe(self._channel)
            while listener.wanted():
                message = pubsub.get_message(timeout=1.0)
                if message is not None and message["type"] == "subscribe":
                    listener.ready()
                elif message is not None and message["type"] == "message":
                    listener.heard(_text(message["data"]))

    def _after_fork_in_child(self) -> None:
        super()._after_fork_in_child()
        # Its client's locks may be held for ever here; kept, as what ends it takes them.
        self._inherited, self._made = self._made, None

    def __repr__(self) -> str:
        server = "a client" if self._url is None else repr(self._url)
        return f"<RedisStore at {server}, prefix {self._prefix!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._url is None:
            raise TypeError("A RedisStore on a client of yours does not pickle; give it a URL.")
        settings = {"prefix": self._prefix, "lease": self._lease}
        return self._rebuild(self._url, **settings, encryption=self._values.encryption)


_SCHEMES: Final = (
    "redis",
    "rediss",
    "unix",
    "redis+cluster",
    "rediss+cluster",
    "redis+sentinel",
)


def _redis() -> Any:
    try:
        import redis
    except ImportError:
        raise ConfigurationError(
            'RedisStore needs redis-py: pip install "requests_refresh[redis]".'
        ) from None
    return redis


def _client_of(url: StoreURL) -> Any:
    """A client with timeouts of our own: a token that waits must not wait for minutes."""
    redis = _redis()
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    scheme, _, kind = url.scheme.partition("+")
    settings: dict[str, Any] = {
        "socket_timeout": _ANSWER,
        "socket_connect_timeout": _ANSWER,
        # Once more where a connection turns out to be dead; all that is sent may be sent twice.
        "retry": Retry(NoBackoff(), 1, (redis.ConnectionError,)),
        "retry_on_error": [redis.ConnectionError],  # which redis-py 5 wants told, too
        "health_check_interval": 30,
    }
    if kind == "cluster":
        return redis.RedisCluster.from_url(url.text(scheme), **settings)
    if kind == "sentinel":
        return _of_sentinels(url, settings)
    settings = {"max_connections": _CONNECTIONS, "timeout": _ANSWER, **settings}
    pool = redis.BlockingConnectionPool.from_url(url.text(scheme), **settings)
    return redis.Redis.from_pool(pool)


def _of_sentinels(url: StoreURL, settings: dict[str, Any]) -> Any:
    """The master of a service: the one that the sentinels in the URL name at the time."""
    from redis import sentinel as sentinels

    parts = urlsplit(url.text("redis"))
    user, _, hosts = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    service, database = _service_of(url)
    nodes = [urlsplit(f"//{host}") for host in hosts.split(",")]
    options = dict(parse_qsl(parts.query))
    own = {key: options[f"sentinel_{key}"] for key in ("username", "password")
           if f"sentinel_{key}" in options}  # fmt: skip
    make: Any = sentinels.Sentinel
    sentinel = make(
        [(node.hostname or "localhost", node.port or 26379) for node in nodes],
        sentinel_kwargs={**settings, **own},
        username=unquote(name) or None,
        password=unquote(password) or None,
        db=database,
        **settings,
    )
    return sentinel.master_for(service)


def _service_of(url: StoreURL) -> tuple[str, int]:
    """The service that sentinels watch, and the number of its database."""
    service, _, number = unquote(urlsplit(url()).path.strip("/")).partition("/")
    if not service or not (number or "0").isdecimal():
        del service, number  # tracebacks with locals: they may be what is left of a password
        raise ConfigurationError(
            "The URL of a Redis that sentinels watch is"
            " redis+sentinel://host:port,host:port/service, and /number after that for a database."
        )
    return service, int(number or 0)


def _text(value: bytes | str) -> str:
    # What is no UTF-8 is not ours: a text that says so, where it is looked at.
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _short(name: str) -> str:
    return name if len(name) <= 200 else f"{name[:200]}…"
