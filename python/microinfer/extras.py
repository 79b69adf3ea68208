"""Packages that not every installation has: who needs them, and how to get them."""

import re
from importlib.metadata import requires
from importlib.util import find_spec

_EXTRAS = {
    "py4DSTEM": "sim",
    "emdfile": "sim",
    "threadpoolctl": "sim",
    "dask": "cluster",
    "distributed": "cluster",
}


def install_hint(package: str) -> str:
    """The command that brings a package, from a clone of the repository, which is where microinfer comes from."""
    extra = _EXTRAS.get(package)
    if extra is None:
        return "in the clone: pip install -c constraints.txt ."
    version = ", with Python 3.11 or 3.12" if extra == "sim" else ""
    packages = " ".join(f'"{wanted}"' for wanted in _requirements(extra))
    return f"in the clone: pip install -c constraints.txt {packages}{version}"


def _requirements(extra: str) -> list[str]:
    """What an extra brings: installed by name it does not build the core again, as ``pip install ".[extra]"`` does."""
    lines = [line.partition(";") for line in requires("microinfer") or ()]
    return [
        re.sub(r"\s", "", wanted)
        for wanted, _, marker in lines
        if re.search(rf"""extra\s*==\s*['"]{extra}['"]""", marker)
    ]


def require_packages(work: str, *packages: str) -> None:
    """Find out before the work whether the packages that it needs are there, without importing them.

    Parameters
    ----------
    work : str
        For the message: ``"simulation"``.
    *packages : str
        Their names in import statements.

    Raises
    ------
    ImportError
        Naming the first that is missing, and the command that installs it.
    """
    for package in packages:
        if find_spec(package) is None:
            raise ImportError(f"{work} needs {package}: {install_hint(package)}", name=package)
