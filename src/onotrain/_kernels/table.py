"""The kernels of one dtype and precision from one build, as an object."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from onotrain._kernels import (
    reference,
    reference_batch,
    reference_codecs,
    reference_conv,
    reference_distributions,
    reference_embedding,
    reference_losses,
    reference_norm,
    reference_pool,
    reference_samples,
    reference_statistics,
    reference_update,
)
from onotrain._kernels.recording import Events, Label, Live, Program, PythonCall, PythonProgram
from onotrain.known_names import Precision

#: Takes the name of a kernel and its seconds.
Observe = Callable[[str, float], None]
#: Takes the name of a kernel, and when it was called and had ended [s].
_Called = Callable[[str, float, float], None]


class Kernels:
    """All kernels of one dtype and precision from one build.

    The class has their reference implementations, whose signatures and documentation type checkers and editors find
    here; an object of a compiled build has its own in their places.  Arrays are C-contiguous; outputs come last and
    belong to the caller.  A wrong shape, dtype or layout raises ValueError, an index outside its range IndexError;
    either leaves the outputs as they were.

    Parameters
    ----------
    dtype
        float32 or float64.
    path
        Name of the build.
    kernels
        Each of `NAMES`; None for the reference implementations.
    program
        Makes a program of calls that these kernels record; None: programs call the kernels from Python.
    precision
        What their products are computed in.
    """

    gemm = staticmethod(reference.gemm)
    shuffle_positions = staticmethod(reference_batch.shuffle_positions)
    batch_order = staticmethod(reference_batch.batch_order)
    gather = staticmethod(reference_batch.gather)
    take = staticmethod(reference_batch.take)
    dense_forward = staticmethod(reference.dense_forward)
    dense_backward = staticmethod(reference.dense_backward)
    packed_size = staticmethod(reference.packed_size)
    packing_pays = staticmethod(reference.packing_pays)
    pack_weight = staticmethod(reference.pack_weight)
    dense_predict = staticmethod(reference.dense_predict)
    conv_forward = staticmethod(reference_conv.conv_forward)
    conv_backward = staticmethod(reference_conv.conv_backward)
    conv_predict = staticmethod(reference_conv.conv_predict)
    elementwise_forward = staticmethod(reference.elementwise_forward)
    elementwise_backward = staticmethod(reference.elementwise_backward)
    elementwise_predict = staticmethod(reference.elementwise_predict)
    sum_rows = staticmethod(reference_norm.sum_rows)
    group_norm_forward = staticmethod(reference_norm.group_norm_forward)
    group_norm_backward = staticmethod(reference_norm.group_norm_backward)
    batch_norm_sums = staticmethod(reference_norm.batch_norm_sums)
    batch_norm_forward = staticmethod(reference_norm.batch_norm_forward)
    batch_norm_predict = staticmethod(reference_norm.batch_norm_predict)
    batch_norm_backward_sums = staticmethod(reference_norm.batch_norm_backward_sums)
    batch_norm_backward = staticmethod(reference_norm.batch_norm_backward)
    batch_norm_running = staticmethod(reference_norm.batch_norm_running)
    max_pool = staticmethod(reference_pool.max_pool)
    max_pool_backward = staticmethod(reference_pool.max_pool_backward)
    avg_pool = staticmethod(reference_pool.avg_pool)
    avg_pool_backward = staticmethod(reference_pool.avg_pool_backward)
    transpose_samples = staticmethod(reference_samples.transpose_samples)
    shift_and_flip = staticmethod(reference_samples.shift_and_flip)
    shift_and_flip_backward = staticmethod(reference_samples.shift_and_flip_backward)
    add = staticmethod(reference.add)
    sum_of_two = staticmethod(reference.sum_of_two)
    embedding_forward = staticmethod(reference_embedding.embedding_forward)
    embedding_backward = staticmethod(reference_embedding.embedding_backward)
    pick_columns = staticmethod(reference_embedding.pick_columns)
    softmax_cross_entropy = staticmethod(reference_losses.softmax_cross_entropy)
    binary_cross_entropy = staticmethod(reference_losses.binary_cross_entropy)
    squared_error = staticmethod(reference_losses.squared_error)
    absolute_error = staticmethod(reference_losses.absolute_error)
    huber = staticmethod(reference_losses.huber)
    log_cosh = staticmethod(reference_losses.log_cosh)
    poisson = staticmethod(reference_losses.poisson)
    pinball = staticmethod(reference_distributions.pinball)
    gaussian_nll = staticmethod(reference_distributions.gaussian_nll)
    softmax = staticmethod(reference_losses.softmax)
    sigmoid = staticmethod(reference_losses.sigmoid)
    exponential = staticmethod(reference_distributions.exponential)
    mean_and_deviation = staticmethod(reference_distributions.mean_and_deviation)
    update = staticmethod(reference_update.update)
    update_rows = staticmethod(reference_update.update_rows)
    sum_gradients = staticmethod(reference_update.sum_gradients)
    sum_of_squares = staticmethod(reference_update.sum_of_squares)
    add_scaled = staticmethod(reference_update.add_scaled)
    publish = staticmethod(reference_statistics.publish)
    publish_sum = staticmethod(reference_statistics.publish_sum)
    total = staticmethod(reference_statistics.total)
    clip = staticmethod(reference_statistics.clip)
    largest_magnitude = staticmethod(reference_codecs.largest_magnitude)
    encode_half = staticmethod(reference_codecs.encode_half)
    decode_half = staticmethod(reference_codecs.decode_half)
    encode_bfloat = staticmethod(reference_codecs.encode_bfloat)
    decode_bfloat = staticmethod(reference_codecs.decode_bfloat)
    encode_int8 = staticmethod(reference_codecs.encode_int8)
    decode_int8 = staticmethod(reference_codecs.decode_int8)
    keep_rest = staticmethod(reference_codecs.keep_rest)

    def __init__(
        self,
        dtype: np.dtype[Any],
        path: str,
        kernels: Mapping[str, Callable[..., Any]] | None = None,
        program: Callable[..., Program] | None = None,
        precision: Precision = "full",
    ) -> None:
        self.dtype, self.path, self._program, self.precision = dtype, path, program, precision
        self._events: Events | None = None
        if kernels is not None:
            vars(self).update({name: kernels[name] for name in NAMES})

    def record(self, name: str, *arguments: Any) -> Any:
        """Return a call of a kernel for a `program`: arguments are checked now, and kept.

        Parameters
        ----------
        name
            Of a kernel that takes ``record``, in a compiled build.
        arguments
            Of the kernel; `Live` ones are known only when the program runs.
        """
        kernel = getattr(self, name)
        if self._program is None:
            return PythonCall(kernel, *arguments)
        call = kernel(*(0 if isinstance(each, Live) else each for each in arguments), record=True)
        call.name = name
        return call

    def record_update(
        self, rule: Any, scalars: np.ndarray, grads: np.ndarray, inputs: np.ndarray | None, shared: bool,
        state: tuple[np.ndarray, ...], out: np.ndarray, row: int, squares: np.ndarray,
    ) -> Any:  # fmt: skip
        """Return a call of `update` for a `program`: with the scalars of then, to ``squares[0]``.

        Parameters are those of `update`, but `scalars`: float64 ``(steps, n)``, a row for each step of a run.
        """
        if self._program is not None:
            known, record = tuple(scalars[0].tolist()), (scalars, squares)
            call: Any = self.update(rule, known, grads, inputs, shared, state, None, out, row, record=record)  # type: ignore[call-arg]
            call.name = "update"
            return call

        def update(index: int) -> None:
            squares[0] = self.update(rule, tuple(scalars[index].tolist()), grads, inputs, shared, state, None, out, row)

        return PythonCall(update, Live.INDEX)

    def record_update_rows(
        self, rule: Any, scalars: np.ndarray, codes: np.ndarray, first: int, dz: np.ndarray,
        state: tuple[np.ndarray, ...], out: np.ndarray, squares: np.ndarray,
    ) -> Any:  # fmt: skip
        """Return a call of `update_rows` for a `program`; see `record_update`."""
        if self._program is not None:
            known, record = tuple(scalars[0].tolist()), (scalars, squares)
            call: Any = self.update_rows(rule, known, codes, first, dz, state, out, record=record)  # type: ignore[call-arg]
            call.name = "update_rows"
            return call

        def update_rows(index: int) -> None:
            squares[0] = self.update_rows(rule, tuple(scalars[index].tolist()), codes, first, dz, state, out)

        return PythonCall(update_rows, Live.INDEX)

    def record_sum(self, grads: np.ndarray, out: np.ndarray, squares: np.ndarray) -> Any:
        """Return a call of `sum_gradients` for a `program`: the sum of squares goes to ``squares[0]``."""
        if self._program is not None:
            call: Any = self.sum_gradients(grads, out, record=(None, squares))  # type: ignore[call-arg]
            call.name = "sum_gradients"
            return call

        def sum_gradients() -> None:
            squares[0] = self.sum_gradients(grads, out)

        return PythonCall(sum_gradients)

    def program(self, calls: Sequence[Any], label: Label | None = None) -> Program:
        """Return a program of recorded calls, and of Python functions of the moment (see `Live`).

        `label` is what a pass through all of them is among the events of `recording` kernels; None: it is none.
        """
        if self._program is None:
            return PythonProgram(calls, self._events, label)
        return self._program(calls, label=label)

    def timed(self, observer: Callable[[], Observe | None]) -> Kernels:
        """Return kernels that tell an observer their names and seconds.

        It is asked for when a kernel is called, or a program made; None: nothing is measured.
        """
        program = self._program
        timed = None if program is None else lambda calls, **options: program(calls, observer(), **options)

        def observed() -> _Called | None:
            observe = observer()
            return None if observe is None else lambda name, begin, end: observe(name, end - begin)

        return self._around(observed, perf_counter, timed)

    def recording(self, events: Events) -> Kernels:
        """Return kernels whose calls are put down as events, also in programs, while these are on.

        Reference implementations do not say where in a step they belong.
        """

        def called(name: str, begin: float, end: float) -> None:
            events.add(Label("kernel", name), begin, end)

        program = None if self._program is None else partial(self._program, events=events)
        kernels = self._around(lambda: called if events.on else None, events.now, program)
        kernels._events = events
        return kernels

    def _around(
        self, observer: Callable[[], _Called | None], now: Callable[[], float], program: Callable[..., Program] | None
    ) -> Kernels:
        """Return kernels that say when they were called and when they had ended, unless they are only recorded."""

        def around(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                called = observer()
                if called is None or options:  # is only recorded
                    return kernel(*arguments, **options)
                begin = now()
                result = kernel(*arguments)
                called(name, begin, now())
                return result

            return call

        kernels = {name: around(name, getattr(self, name)) for name in NAMES}
        return Kernels(self.dtype, self.path, kernels, program, self.precision)

    def wrapped(self, wrap: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> Kernels:
        """Return kernels with ``wrap(name, kernel)`` in the place of each, also in programs."""
        wrapped = {name: wrap(name, getattr(self, name)) for name in NAMES}
        return Kernels(self.dtype, self.path, wrapped, precision=self.precision)


#: Names of the kernels.
NAMES = tuple(name for name, value in vars(Kernels).items() if isinstance(value, staticmethod))
