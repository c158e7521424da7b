"""Threads that send until they are told to stop, and how long each request took."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Sample(NamedTuple):
    began: float  # on time.perf_counter
    took: float  # seconds
    fine: bool
    answered: bool = True  # False: it still waited at the end


class Load:
    """`threads` threads that call `send` with their number, until `stop`.

    send: gives the status of a request; a status of 400 or more has failed, as
        has what raises.
    pause: seconds between two requests of a thread.
    """

    def __init__(self, send: Callable[[int], int], threads: int, pause: float = 0.0) -> None:
        self._send, self._pause = send, pause
        self._all_here, self._over = threading.Event(), threading.Event()
        self._cut = False  # what ends from now on is no longer looked at
        self._lock = threading.Lock()  # over the cut, so that no request is counted twice
        self._began = [0.0] * threads  # of what each has under way; 0: nothing
        self.samples: list[list[Sample]] = [[] for _ in range(threads)]
        self._threads = [
            # A daemon: a peer may wait for an answer for longer than anybody has patience.
            threading.Thread(target=self._send_on, args=(number,), daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()
        self._all_here.set()  # else the first would hold up the start of the others

    def stop(self, patience: float) -> list[Sample]:
        """Let all end what they do, for `patience` seconds; what does not end is unanswered."""
        self._over.set()
        until = time.perf_counter() + patience
        for thread in self._threads:
            thread.join(max(0.0, until - time.perf_counter()))
        with self._lock:
            self._cut, now = True, time.perf_counter()
            for began, samples in zip(self._began, self.samples, strict=True):
                if began:
                    samples.append(Sample(began, now - began, False, False))
        return [sample for samples in self.samples for sample in samples]

    def join(self, patience: float) -> int:
        """After a `stop`, when what the threads wait for has ended; how many go on for all that."""
        until = time.perf_counter() + patience
        for thread in self._threads:
            thread.join(max(0.0, until - time.perf_counter()))
        return sum(thread.is_alive() for thread in self._threads)

    def _send_on(self, number: int) -> None:
        samples = self.samples[number]
        self._all_here.wait()
        while not self._over.is_set():
            began = self._began[number] = time.perf_counter()
            try:
                fine = self._send(number) < 400
            except Exception:  # of whatever library: the request has failed
                fine = False
            took = time.perf_counter() - began
            if self._over.is_set():
                with self._lock:
                    if self._cut:
                        return
                    self._began[number] = 0.0
                    samples.append(Sample(began, took, fine))
                return
            self._began[number] = 0.0
            samples.append(Sample(began, took, fine))
            if self._pause:
                self._over.wait(self._pause)


def percentile(ordered: Sequence[float], share: float) -> float:
    """Of what is sorted and not empty: the value that `share` of all are at or below."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
