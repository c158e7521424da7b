"""Copy a year of orders from an API into an SQLite file, day by day, over eight threads.

Reads from the environment: API_URL, TOKEN_URL, LOGIN_URL, API_USER, API_PASSWORD; and where
they are set ORDERS_DB (orders.db), SINCE (2025-01-01) and DAYS (365).
"""

from __future__ import annotations

import datetime
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import requests

API = os.environ["API_URL"]
SINCE = datetime.date.fromisoformat(os.environ.get("SINCE", "2025-01-01"))
DAYS = int(os.environ.get("DAYS", "365"))

login = {"username": os.environ["API_USER"], "password": os.environ["API_PASSWORD"]}
reply = requests.post(os.environ["LOGIN_URL"], json=login, timeout=30)
reply.raise_for_status()
token = reply.json()

session = requests.Session()
session.headers["Authorization"] = "Bearer " + token["access_token"]


def orders_of(day: datetime.date) -> tuple[str, str]:
    response = session.get(API + "orders", params={"day": day.isoformat()}, timeout=30)
    response.raise_for_status()
    return day.isoformat(), response.text


def main() -> None:
    days = [SINCE + datetime.timedelta(days=number) for number in range(DAYS)]
    with closing(sqlite3.connect(os.environ.get("ORDERS_DB", "orders.db"))) as database:
        database.execute("CREATE TABLE IF NOT EXISTS orders (day TEXT PRIMARY KEY, page TEXT)")
        with ThreadPoolExecutor(8) as pool:
            for row in pool.map(orders_of, days):
                with database:
                    database.execute("INSERT OR REPLACE INTO orders VALUES (?, ?)", row)
        (count,) = database.execute("SELECT count(*) FROM orders").fetchone()
    print(count, "days are there")


if __name__ == "__main__":
    main()
