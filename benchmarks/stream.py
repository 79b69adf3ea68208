"""How well the stages of a mapping overlap, and how much memory the stream takes.

    python benchmarks/stream.py --shape 256 256
    python benchmarks/stream.py --shape 2048 1024 --width 16   # a small untrained model: memory, not speed

Every stage runs alone over the whole scan, one block after the other, then all of them as a stream, on the same file.
The ratio is the stream's wall time over the larger of its slowest stage alone and its CPU seconds over the cores.
"""

import argparse
import multiprocessing
import os
import resource
import tempfile
from pathlib import Path

import numpy as np

from microinfer.evaluation import timing as bench
from microinfer.mapping import map_to_file
from microinfer.mapping.job import MapJob
from microinfer.maps.map_file import MapWriter
from microinfer.models import Model, load_model
from microinfer.models.network import build_network
from microinfer.models.settings import ModelConfig
from microinfer.peaks import open_peaks

SEED = 8_128


def stages_alone(scan: Path, model, refine: str | None, folder: Path) -> dict[str, float]:
    """Seconds of each stage with nothing beside it."""
    seconds = dict.fromkeys(("read", "infer", "write"), 0.0)
    with open_peaks(scan) as source:
        job = MapJob(source, model, device="cpu", refine=refine)
        with MapWriter(folder / "alone.h5", job.description, job.candidates) as writer:
            for rows in job.blocks(np.zeros(source.scan_shape[0], bool)):
                block = job.infer(job.read(rows), lambda _: None)
                with bench.timed() as writing:
                    writer.write_rows(rows.start, block.arrays)
                for stage, value in {**block.seconds, "write": writing.elapsed}.items():
                    seconds[stage] += value
    return seconds


def write_scan(path: Path, model: str, scan_shape: tuple[int, int]) -> None:
    loaded, rng = load_model(model), np.random.default_rng(SEED)
    patterns = bench.random_patterns(loaded.phases, loaded.voltage, loaded.k_max, 256, rng)
    bench.write_random_scan(path, patterns, scan_shape, rng)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--shape", type=int, nargs=2, default=(128, 128))
    parser.add_argument("--scan", type=Path, help="a file of Bragg peaks, in place of a synthetic native one")
    parser.add_argument("--model", default="cu")
    parser.add_argument("--width", type=int, help="an untrained model of this width and few cells instead")
    parser.add_argument("--no-refine", action="store_true")
    parser.add_argument("--memory-only", action="store_true", help="leave out the stages alone")
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    if arguments.width:
        config = ModelConfig(width=arguments.width, blocks=1, heads=2, zone_axis_spacing=20.0, channels=2)
        model = Model.of(build_network(config, model.phases, model.spec), model.card)
    refine = None if arguments.no_refine else "kinematic"
    with tempfile.TemporaryDirectory(prefix="microinfer-") as name:
        folder = Path(name)
        scan = arguments.scan or folder / "scan.h5"
        if arguments.scan is None:
            # in a process of its own: the memory that is told is that of mapping
            writer = multiprocessing.get_context("spawn").Process(
                target=write_scan, args=(scan, arguments.model, tuple(arguments.shape))
            )
            writer.start()
            writer.join()
        alone = {} if arguments.memory_only else stages_alone(scan, model, refine, folder)
        with bench.timed() as total:
            report = map_to_file(scan, model, folder / "map.h5", device="cpu", refine=refine)
    cores = len(os.sched_getaffinity(0))
    cpu = total.user + total.system
    print(f"{bench.machine()}; {report.positions:,} positions")
    for stage, busy in report.seconds.items():
        beside = f", alone {alone[stage]:.2f} s" if alone else ""
        print(f"  {stage:10s} busy {busy:8.2f} s in the stream{beside}")
    print(f"  stream {total.elapsed:.2f} s, CPU {cpu:.2f} s over {cores} cores")
    if alone:
        print(f"  ratio {total.elapsed / max(*alone.values(), cpu / cores):.3f}")
    print(f"  peak resident memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
