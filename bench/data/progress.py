"""Lines on standard error, while reading a folder takes long."""

import sys
import time

SAID_EVERY = 10  # seconds


class Progress:
    """ "decoded 12,000 of 50,000 pictures, 900 a second, 1 minutes left"; without a total, as far as it is known."""

    def __init__(self, verb: str, things: str, total: int | None = None) -> None:
        self.verb, self.things, self.total, self.done = verb, things, total, 0
        self.begun = self.said = time.monotonic()

    def add(self, n: int) -> None:
        self.done += n
        now = time.monotonic()
        if now - self.said > SAID_EVERY:
            rate = self.done / (now - self.begun)
            of = "" if self.total is None else f" of {self.total:,}"
            left = "" if self.total is None else f", {(self.total - self.done) / rate / 60:.0f} minutes left"
            text = f"{self.verb} {self.done:,}{of} {self.things}, {rate:.0f} a second{left}"
            print(text, file=sys.stderr, flush=True)
            self.said = now
