"""Runs a module of this program in a new process, whatever files lie in the working directory.

    python .../bench/training/start.py [-u] [-m] MODULE ARGUMENTS...

With `python -m`, files of the working directory come before those of Python: a user's `random.py` or `bench.py` would
be taken for Python's or ours. A script is given its own folder instead, which this one takes away again, and so

- Python's own modules come first,
- bench, methods and slurm are those that this file belongs to; no entry of PYTHONPATH replaces them,
- all else is found as usual, PYTHONPATH included, but for entries that mean the working directory ("" and ".").

Processes that the module starts (torch.compile does) inherit this. `-u -m` is taken as `python` takes it, so that this
script with its interpreter can stand where a program asks for a Python.
"""

# Until the path is clean, nothing may be imported that Python has not imported itself, pathlib for one.
# ruff: noqa: PTH100, PTH109, PTH118, PTH120
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PYTHON = os.path.dirname(os.__file__)
PACKAGES = ("bench", "methods", "slurm")
BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")


def clean_path() -> None:
    """Order sys.path, and the PYTHONPATH that children inherit, as the module's docstring says."""
    variable = os.environ.get("PYTHONPATH", "")
    entries = variable.split(os.pathsep) if variable else []
    named = [entry for entry in entries if os.path.normpath(entry) != "."]
    unwanted = {HERE, os.path.dirname(os.path.realpath(__file__)), ""}  # the latter where files are links
    if len(named) < len(entries):
        unwanted |= {os.getcwd()} - set(named)
        os.environ["PYTHONPATH"] = os.pathsep.join(named)
    own = (PYTHON, os.path.join(PYTHON, "lib-dynload"))
    sys.path[:] = sorted((entry for entry in sys.path if entry not in unwanted), key=lambda entry: entry not in own)


def guard_children() -> None:
    """Keep the working directory off the import path of the Python processes that this one starts."""
    os.environ["PYTHONSAFEPATH"] = "1"
    if sys.version_info < (3, 11):  # which does not know it
        os.chdir(os.sep)


def free_threads() -> None:
    """Before torch is imported: let its threads run on every core, and sleep where they wait for each other.

    Where the environment tells OpenMP to bind threads (clusters do), importing torch binds the process to its first
    core: ours would all share that one. And where other programs use the cores too, two threads that spin while they
    wait made a step of `quick` 24 times as long as one thread, two that sleep 1.2 to 1.7 times.
    """
    for name in BINDING:
        os.environ.pop(name, None)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def main() -> None:
    """Run the module that the command line names as `__main__`, with the arguments after it."""
    clean_path()
    guard_children()
    free_threads()
    import runpy
    from importlib.abc import MetaPathFinder
    from importlib.util import spec_from_file_location

    class Ours(MetaPathFinder):
        """Finds the packages of this program where this file lies."""

        def find_spec(self, name, path=None, target=None):  # type: ignore[no-untyped-def]
            if name not in PACKAGES:
                return None
            folder = os.path.join(ROOT, name)
            return spec_from_file_location(
                name, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
            )

    sys.meta_path.insert(0, Ours())
    while sys.argv[1] in ("-u", "-m"):
        del sys.argv[1]
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
