"""What a forked child needs, such as a worker of ``multiprocessing.Pool`` on Linux until Python 3.13.

torch's OpenMP threads stay behind in the parent, and a child that asks for them waits for ever: it gets by with its own
thread. The core makes its threads anew (``cpp/src/thread_pool.cpp``).
"""

import os
import sys


def _one_thread_for_torch() -> None:
    set_num_threads = getattr(sys.modules.get("torch"), "set_num_threads", None)
    if set_num_threads is not None:
        set_num_threads(1)


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_one_thread_for_torch)
