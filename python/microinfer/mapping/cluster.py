"""Mapping on a Dask cluster: its workers read, tokenize and answer blocks of rows, the caller writes them.

Every worker opens the scan itself: a file must be found under the same path on all of them. A lost worker's blocks
are given to others; a block that takes down four workers ends the mapping.
"""

import pickle
import threading
from collections.abc import Callable, Generator
from itertools import islice
from typing import TYPE_CHECKING, Any

from microinfer import __version__
from microinfer.device import torch_device
from microinfer.mapping.job import AnsweredBlock, MapJob, PeakSource, RowBlock
from microinfer.models import OrientationModel

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 10
BLOCKS_PER_THREAD = 2  # given out at a time, so that finished blocks do not pile up

_model_lock = threading.Lock()  # torch spreads one block over a worker's cores: one at a time


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
        The other arguments that `job` was made with; ``device`` means the worker's, ``"auto"`` its first GPU
        where it has one.
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
    ImportError
        Where Dask is not installed.
    OSError
        Where no scheduler answers, it has no workers, or blocks were lost with their workers again and again.
    ValueError
        Where the workers have another version of microinfer.
    Exception
        Whatever a worker raised.
    """
    try:
        from distributed import Client, as_completed
        from distributed.scheduler import KilledWorker
    except ImportError as error:
        raise ImportError(
            "a cluster needs Dask: pip install -c constraints.txt '.[cluster]' (dask, distributed)"
        ) from error
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise OSError(f"cluster {address!r}: no Dask scheduler answers there: {error}") from error
    with client, client.as_current():
        _check_workers(client, address)
        # A task and not scattered data: Dask makes the result of a task again where it was lost.
        payload = pickle.dumps((job.source, job.model, options))
        remote = client.submit(_open_job, payload, pure=False)
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


class _RemoteJob:
    """A job on a worker. It travels as the bytes it was made of, for one worker may hand it to another."""

    def __init__(self, payload: bytes) -> None:
        source: PeakSource
        model: OrientationModel
        source, model, options = pickle.loads(payload)
        self._payload = payload
        self.job = MapJob(source, model, **{**options, "device": torch_device(options.get("device", "auto"))})

    def __reduce__(self) -> tuple[type["_RemoteJob"], tuple[bytes]]:
        return _RemoteJob, (self._payload,)


def _open_job(payload: bytes) -> _RemoteJob:
    return _RemoteJob(payload)


def _answer(remote: _RemoteJob, rows: RowBlock) -> AnsweredBlock:
    tokens = remote.job.tokenize(remote.job.read(rows))
    with _model_lock:
        return remote.job.infer(tokens, lambda _: None)
