"""Packages that not every environment has."""

from importlib.util import find_spec
from typing import Any

import pytest

NEEDS_PY4DSTEM = "needs py4DSTEM (numpy < 2, Python < 3.13)"
needs_py4dstem = pytest.mark.skipif(find_spec("py4DSTEM") is None, reason=NEEDS_PY4DSTEM)


def import_py4dstem() -> Any:
    """Import py4DSTEM, or skip what is running: a test, or the collection of a module."""
    return pytest.importorskip("py4DSTEM", reason=NEEDS_PY4DSTEM)
