"""Packages that not every installation has: who needs them, and how to get them."""

from importlib.util import find_spec

_EXTRAS = {
    "py4DSTEM": "sim",
    "emdfile": "sim",
    "threadpoolctl": "sim",
    "dask": "cluster",
    "distributed": "cluster",
    "rsciio": "raw",
    "hdf5plugin": "raw",
}


def install_hint(package: str) -> str:
    """The command that brings a package, from a clone of the repository, which is where microinfer comes from."""
    extra = _EXTRAS.get(package)
    if extra is None:
        return "in the clone: pip install -c constraints.txt ."
    version = ", with Python 3.11 or 3.12" if extra == "sim" else ""
    return f'in the clone: pip install -c constraints.txt ".[{extra}]"{version}'


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
