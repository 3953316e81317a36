"""A rank that hangs if HANGS names it, and otherwise leaves as another does not answer: for test_launcher.py."""

import os
import signal
import sys

from bench.team import LOST

if __name__ == "__main__":
    if os.environ["RANK"] == os.environ["HANGS"]:
        os.kill(os.getpid(), signal.SIGSTOP)
    print("another process died or hangs", file=sys.stderr)
    sys.exit(LOST)
