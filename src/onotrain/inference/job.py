"""From a trained network and a data file to a file of predictions."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from onotrain.data import DataSpec
from onotrain.data.reading import Progress, no_progress
from onotrain.files import AtomicFile
from onotrain.inference import distributed
from onotrain.inference.loading import connect, load_everywhere, together
from onotrain.inference.outputs import Ids
from onotrain.inference.predictor import Predictor
from onotrain.inference.sinks import SINKS, Sink, check_output
from onotrain.inference.source import Wanted, open_source
from onotrain.known_names import Precision
from onotrain.parallel.world import World


@dataclass(frozen=True)
class PredictionReport:
    """What was predicted, and how fast."""

    output: Path
    source: str
    samples: int
    #: Prediction and writing, without reading the data [s].
    seconds: float
    #: Samples that are handed to a rank at once.
    chunk: int
    #: How many chunks each rank predicted.
    chunks: tuple[int, ...]
    #: What matrix products were computed in.
    precision: Precision
    #: To be shown to the user.
    warnings: tuple[str, ...]

    @property
    def samples_per_second(self) -> float:
        """Rate of prediction."""
        return self.samples / self.seconds


#: Gets the number of samples; returns what is called with each number of rows that are done.
Begin = Callable[[int], Callable[[int], None]]


def predict_file(
    run: str | os.PathLike[str],
    data: DataSpec,
    output: str | os.PathLike[str],
    *,
    stream: Wanted = "auto",
    begin: Begin = lambda samples: lambda rows: None,
    threshold: float | None = None,
    precision: Precision = "full",
    reading: Progress = no_progress,
) -> PredictionReport | None:
    """Predict all samples of a data file with the network of `run`, on all ranks of the job.

    *Collective* if a launcher started several ranks; without one no MPI is started.

    Parameters
    ----------
    run
        Run directory or checkpoint file.
    data
        The samples; targets are not read.
    output
        A name that ends in ``.h5``, ``.npy`` or ``.csv``; an existing file is replaced when the new one is complete.
    stream
        Leave an HDF5 file on the disk, and let each rank read what it predicts; ``auto``: if it is large.
    begin
        For a progress display; called on rank 0.
    threshold
        Probability above which the answer is yes, for networks that answer yes or no or tell two classes apart; None:
        the more probable answer.
    precision
        What matrix products are computed in, as for `onotrain.load`.
    reading
        Learns, on rank 0, how many files have been read.

    Returns
    -------
    PredictionReport or None
        On rank 0; None elsewhere.

    Raises
    ------
    UsageError
        There is no such run, `output` has another suffix, no directory or is what is read, or a threshold or the
        precision does not fit.
    CheckpointError, DataError, ResourceError
        The network, the data or the output cannot be read or written.
    PlatformError
        The CPU of a rank does not fit the precision.
    """
    world = connect()
    with together(world):
        path = check_output(output, inputs=(data.path, run))
    predictor, warnings = load_everywhere(world, os.fspath(run), precision)
    with together(world):
        predictor.output = predictor.output.with_threshold(threshold)
    writes = world is None or world.rank == 0
    with ExitStack() as stack:
        source = open_source(stack, world, predictor.metadata, data, stream, labelled=False, progress=reading)
        rows = len(source.samples)
        with together(world):
            file, sink = _open(stack, path, predictor, rows, source.ids) if writes else (None, None)
        progress = begin(rows) if writes else lambda rows: None
        started = perf_counter()
        chunks = distributed.predict(world, predictor, source, sink, progress)
        _finish(world, file, sink)
        seconds = perf_counter() - started
    if not writes:
        return None
    warnings = [*warnings, *source.notes]
    if source.incomplete:
        warnings = [*warnings, (
            f"{source.incomplete:,} of {rows:,} samples lack a value, the first at {source.first_incomplete}: "
            "nothing is predicted for them; `missing` of a column (data.columns) says what stands for it"
        )]  # fmt: skip
    return PredictionReport(path, source.name, rows, seconds, source.chunk, tuple(chunks), precision, tuple(warnings))


def _open(stack: ExitStack, path: Path, predictor: Predictor, rows: int, ids: Ids) -> tuple[AtomicFile, Sink]:
    file = stack.enter_context(AtomicFile(path))
    return file, SINKS[path.suffix](file, predictor.output, rows, ids)


def _finish(world: World | None, file: AtomicFile | None, sink: Sink | None) -> None:
    """Give the output its name.  *Collective*: it is there when any rank returns."""
    with together(world):
        if file is not None and sink is not None:
            sink.finish()
            file.commit()
