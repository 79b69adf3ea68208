"""Mapping on a Dask cluster: its workers read and answer blocks of rows, the caller writes them.

Every worker opens the scan itself: a file must be found under the same path on all of them. A lost worker's blocks
are given to others; a block that takes down four workers ends the mapping. What the models multiply is settled at the
start: a worker that joins later and has no instructions for it ends the mapping, too.

Scheduler, workers and caller exchange pickles, which can run any code, by default unencrypted: only on a network you
trust, or with the address ``tls://...`` and Dask's settings of certificates.
"""

import pickle
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from microinfer import __version__
from microinfer.extras import require_packages
from microinfer.mapping.job import AnsweredBlock, MapJob, RowBlock
from microinfer.models import Model
from microinfer.models.device import first_device, gains_by_bfloat16
from microinfer.peaks.scan import PeakSource

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 10
BLOCKS_PER_THREAD = 2  # given out at a time, so that finished blocks do not pile up

_model_lock = threading.Lock()  # one block is spread over a worker's cores: one at a time


def map_on_cluster(
    address: str,
    job: MapJob,
    options: dict[str, Any],
    blocks: list[RowBlock],
    advance: Callable[[int], None],
) -> Generator[AnsweredBlock, None, None]:
    """Have the blocks of a job answered by the workers of a Dask cluster.

    Parameters
    ----------
    address : str
        Of the scheduler, e.g. ``"tcp://host:8786"``.
    job : MapJob
        What is mapped; model and scan are sent to the workers.
    options : dict
        The other arguments that `job` was made with, but for ``remote``; ``device`` means the worker's,
        ``"auto"`` its first GPU where it has one.
    blocks : list of RowBlock
        Rows to answer.
    advance : callable
        Told how many positions are done.

    Yields
    ------
    AnsweredBlock
        In the order in which they are done.

    Raises
    ------
    ImportError, OSError, ValueError
        As `workers_dtype`; OSError also where blocks were lost with their workers again and again.
    Exception
        Whatever a worker raised.
    """
    with _connected(address) as client:
        from distributed import as_completed
        from distributed.scheduler import KilledWorker

        # A task and not scattered data: Dask makes the result of a task again where it was lost.
        payload = pickle.dumps((job.source, job.model, options))
        remote = client.submit(_RemoteJob, payload, pure=False)
        waiting = iter(blocks)

        def submit(count: int) -> list[Any]:
            return [client.submit(_answer, remote, rows, pure=False) for rows in islice(waiting, count)]

        threads = sum(client.nthreads().values())
        answers = as_completed(submit(BLOCKS_PER_THREAD * threads), with_results=True)
        try:
            for _, block in answers:
                answers.update(submit(1))
                advance(int(job.selected[slice(*block.rows)].sum()))
                yield block
        except KilledWorker as error:
            raise OSError(
                f"cluster {address!r}: workers die of the mapping, see their logs: {error}"
            ) from error


def workers_dtype(address: str, device: str, dtype: str) -> str:
    """Return what the models on all workers multiply.

    Parameters
    ----------
    address : str
        Of the scheduler.
    device, dtype : str
        As `microinfer.map_orientations` takes them; the device means the worker's.

    Returns
    -------
    str
        ``"float32"`` or ``"bfloat16"``; any other `dtype` than ``"auto"`` as it is.

    Raises
    ------
    ImportError
        Where Dask is not installed.
    OSError
        Where no scheduler answers, or it has no workers.
    ValueError
        Where the workers have another version of microinfer.
    """
    with _connected(address) as client:
        if dtype != "auto":
            return dtype
        fast = client.run(_gains_by_bfloat16, device)
        return "bfloat16" if all(fast.values()) else "float32"


@contextmanager
def _connected(address: str) -> "Iterator[Client]":
    require_packages("a Dask cluster", "distributed")
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise OSError(f"cluster {address!r}: no Dask scheduler answers there: {error}") from error
    with client, client.as_current():
        _check_workers(client, address)
        yield client


def _check_workers(client: "Client", address: str) -> None:
    versions = client.run(_version)
    if not versions:
        raise OSError(f"cluster {address!r}: the scheduler has no workers")
    for worker, version in versions.items():
        if version != __version__:
            raise ValueError(f"cluster worker {worker} has microinfer {version}, here it is {__version__}")


# --- on the workers ---------------------------------------------------------------------------------------


def _version() -> str:
    return __version__


def _gains_by_bfloat16(device: str) -> bool:
    return gains_by_bfloat16(first_device(device))


class _RemoteJob:
    """A job on a worker. It travels as the bytes it is made of, for one worker may hand it to another.

    It is opened where it is used: Dask tries without end to unpack what raises an error on arrival.
    """

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._job: MapJob | None = None
        self._lock = threading.Lock()

    def open(self) -> MapJob:
        """The job, with this worker's device."""
        with self._lock:
            if self._job is None:
                source: PeakSource
                model: Model
                source, model, options = pickle.loads(self._payload)
                device = first_device(options.get("device", "auto"))
                self._job = MapJob(source, model, **{**options, "device": device})
            return self._job

    def __reduce__(self) -> tuple[type["_RemoteJob"], tuple[bytes]]:
        return _RemoteJob, (self._payload,)


def _answer(remote: _RemoteJob, rows: RowBlock) -> AnsweredBlock:
    job = remote.open()
    block = job.read(rows)
    with _model_lock:
        return job.infer(block, lambda _: None)
