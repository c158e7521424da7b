"""Many identities in one process: does the cost of a request grow with them?

Fills a real Redis and a real PostgreSQL with identities (a million, unless told
otherwise), holds ten thousand live sources of a TokenPool in this process, and
tells what the token for a request costs: from a live source, from a source that
is made anew with a kept access token, and from the store; each as a ratio to
the same with a thousandth of the identities stored, or a hundredth live. And
how many bytes a live identity takes.

    python benchmarks/pool.py [identities] [live]

Run it from the top of the repository, with the [test] extra installed.
"""

from __future__ import annotations

import gc
import random
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from requests_refresh import RedisStore, SQLStore, Token, TokenPool, TokenSource, TokenStore
from tests.servers import PostgresServer, RedisServer, temporary_directory

ROUNDS = 7
SAMPLE = 1000


def name_of(number: int) -> str:
    return f"user-{number:07}@example.com"


def token_of(number: int) -> Token:
    now = time.time()
    return Token(
        f"{number:07}" + "a" * 800,  # about what a JWT takes
        refresh_token=f"{number:07}" + "r" * 40,
        expires_at=now + 86400,
        issued_at=now,
    )


def fill_redis(store: RedisStore, first: int, last: int) -> None:
    pipe = store._client().pipeline(transaction=False)
    for number in range(first, last):
        name = name_of(number)
        pipe.set(store._key(name) + ":token", store._values.pack(name, token_of(number)))
        if number % 5000 == 4999:
            pipe.execute()
    pipe.execute()


def fill_postgres(store: SQLStore, first: int, last: int) -> None:
    store.load("")  # which makes the table
    raw: Any = store._connected().raw_connection()
    try:
        with raw.cursor() as cursor:
            into = "COPY requests_refresh_tokens (id, identity, value, mark, held_until) FROM STDIN"
            with cursor.copy(into) as copy:
                for number in range(first, last):
                    name = name_of(number)
                    value = store._values.pack(name, token_of(number)) or ""
                    row = (store._key(name), f'"{name}"', value, f"{number:032}", "0")
                    copy.write_row(row)
        raw.commit()
    finally:
        raw.close()


def pool_on(store: TokenStore, live: int) -> TokenPool:
    def grant(token: Token | None) -> Token:
        raise AssertionError("Nothing is to be refreshed here.")

    return TokenPool(lambda name: TokenSource(grant, store, identity=name), maxsize=live)


def microseconds(work: Callable[[str], object], names: list[str]) -> float:
    times = []
    for name in names:
        begun = time.perf_counter()
        work(name)
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e6


def cold(store: TokenStore, stored: int) -> float:
    """From the store: a source that is made anew, with nothing kept."""
    names = [name_of(number) for number in random.sample(range(stored), SAMPLE)]
    pool = pool_on(store, SAMPLE)
    return microseconds(lambda name: pool[name].token(), names)


def hot(store: TokenStore, live: int) -> tuple[float, float, float]:
    """Live, and kept: microseconds each; and bytes for each live identity."""
    pool = pool_on(store, live)
    gc.collect()
    before = psutil.Process().memory_info().rss
    sources = [pool[name_of(number)] for number in range(live)]
    for source in sources:
        source.token()
    gc.collect()
    size = (psutil.Process().memory_info().rss - before) / live
    names = [name_of(number) for number in random.choices(range(live), k=SAMPLE)]
    live_cost = statistics.median(
        microseconds(lambda name: pool[name].token(), names) for _ in range(ROUNDS)
    )
    del sources, source
    gc.collect()
    assert len(pool) == 0
    kept_cost = microseconds(lambda name: pool[name].token(), list(dict.fromkeys(names)))
    return live_cost, kept_cost, size


def measure(
    store: TokenStore, fill: Callable[[int, int], None], identities: int, live: int
) -> None:
    few, name = max(SAMPLE, identities // 1000), type(store).__name__
    fill(0, few)
    small = statistics.median(cold(store, few) for _ in range(ROUNDS))
    fill(few, identities)
    large = statistics.median(cold(store, identities) for _ in range(ROUNDS))
    print(
        f"{name}: from the store {small:.0f} us with {few:,} stored,"
        f" {large:.0f} us with {identities:,}: x {large / small:.2f}"
    )
    hot(store, live // 100)  # to warm up
    a, b, _ = hot(store, live // 100)
    c, d, size = hot(store, live)
    print(
        f"{name}: a live source {a:.2f} us with {live // 100:,} live, {c:.2f} us with {live:,}:"
        f" x {c / a:.2f}; made anew with a kept token {b:.0f} us, {d:.0f} us: x {d / b:.2f};"
        f" {size / 1024:.1f} KiB an identity"
    )
    store.close()


def main() -> None:
    identities = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    live = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    with ExitStack() as stack:
        one, two = (stack.enter_context(temporary_directory()) for _ in range(2))
        redis = RedisStore(stack.enter_context(RedisServer(one)).url)
        postgres = SQLStore(stack.enter_context(PostgresServer(two)).url)
        measure(redis, partial(fill_redis, redis), identities, live)
        measure(postgres, partial(fill_postgres, postgres), identities, live)


if __name__ == "__main__":
    main()
