"""python -m bench: the command `bench`."""

from bench.cli import main

main()
