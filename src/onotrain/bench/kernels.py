"""Every kernel of a step by itself, beside the bare matrix products of its shapes.

``r`` rows, ``i`` inputs, ``o`` outputs of a layer.  Counted are 2 r i o operations of each matrix product (one forward,
one for the weight's gradient, one for the input's, which the first layer does not need; of a convolution 2 for each
weight and position), and the bytes that a kernel has to read and write once; parameters, activations and gradients of
the kernel are in cache as far as they fit, samples are not.

Prediction may keep weights packed, and does where `packing_pays`: both ways are measured, to show whether it should.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np

from onotrain._kernels import empty
from onotrain.bench.measure import Call, Say, Timing, measure
from onotrain.bench.subject import Subject, check_positive
from onotrain.data import Normalization
from onotrain.errors import UsageError
from onotrain.nn import Model
from onotrain.nn.layers import Dense
from onotrain.nn.layers.recorder import BatchSums, Recorder
from onotrain.nn.operations import of_product
from onotrain.optim import Optimizer
from onotrain.parallel.agreement import agreed
from onotrain.parallel.shared_memory import allocate
from onotrain.parallel.world import World

#: Most bytes of samples to gather from.
_SAMPLE_BYTES = 32 << 20
_SEED, _STEP, _FIRST_ROW = 1, 0, 0


def run(
    world: World, subject: Subject, rows: Sequence[int], optimizers: Sequence[str], budget_s: float, say: Say
) -> dict[str, Any]:
    """Measure all kernels; *collective*: all ranks do the same at the same time, and the slowest counts.

    Parameters
    ----------
    rows
        Rows of a rank's batches.
    optimizers
        Names of update rules; none for the configuration's.
    budget_s
        Time for each kernel [s].
    """
    check_positive("rows", rows)
    with agreed(world.comm):
        bench = _Bench(world, subject, budget_s, say)
        if min(rows) < (fewest := bench.fewest_rows):
            raise UsageError(f"rows: got {min(rows)}, but layers of the network normalise over {fewest} or more")
    results = [
        *(bench.update(name) for name in optimizers or [subject.config.optimizer.name]),
        *(result for count in rows for result in bench.with_rows(count)),
    ]
    packing = [each for count in rows for each in bench.packing(count)]
    return {
        **subject.describe(), "build": subject.kernels.path, "ranks": world.size, "kernels": results, "packing": packing
    }  # fmt: skip


class _Bench:
    """The arrays of one network, and the measurements on them."""

    def __init__(self, world: World, subject: Subject, budget_s: float, say: Say) -> None:
        self._world, self._subject, self._budget_s, self._say = world, subject, budget_s, say
        self._kernels = subject.kernels
        self._model = subject.model()
        layout, node = self._model.layout, world.node
        # Where training has them: memory that a node shares is laid out otherwise than a process's own, and may be
        # twice as fast to walk through.
        vector = ((layout.size,), layout.dtype)
        self._states = ("state-0", "state-1")
        self._arena = allocate(
            node,
            {"parameters": vector, "gradients": ((node.size, layout.size), layout.dtype)}
            | dict.fromkeys(self._states, vector),
        )
        self._parameters, self._gradient = self._arena["parameters"], self._arena["gradients"][node.rank]
        if node.rank == 0:
            self._model.initialize(self._parameters, 0)
        self._arena["gradients"][node.rank] = 1e-3
        node.Barrier()
        self._shared = node.size > 1
        self._model.bind(self._parameters, self._gradient, shared=self._shared)
        self._itemsize = self._model.dtype.itemsize
        self._trained = [index for index, layer in enumerate(self._model.layers) if layer.parameters]
        self._dense_layers = [index for index in self._trained if isinstance(self._model.layers[index], Dense)]

    @property
    def fewest_rows(self) -> int:
        """Rows that a batch must have to train on."""
        return self._model.fewest_samples

    def with_rows(self, rows: int) -> list[dict[str, Any]]:
        """Measure what depends on the number of rows."""
        results, gemms = [self._gather(rows), self._loss(rows)], []
        for index in self._trained:
            measured = self._dense if index in self._dense_layers else self._other
            forward, backward, products = measured(index, rows, first=index == self._trained[0])
            results += [forward, backward]
            gemms += products
        if self._trained != self._dense_layers:
            gemms = []  # nothing to compare the whole network with
        return [*results, self._network(rows, gemms, sum(r["operations"] for r in results))]

    def packing(self, rows: int) -> list[dict[str, Any]]:
        """Measure prediction with weights packed in each call, and packed once, and packing by itself."""
        return [self._packing(self._model.layers[index], rows) for index in self._dense_layers]

    def update(self, name: str) -> dict[str, Any]:
        """Measure an update rule on this rank's part of the parameters, with the gradients of all ranks of the node."""
        options = self._subject.with_sections(optimizer={"name": name}).optimizer
        if name == self._subject.config.optimizer.name:
            options = self._subject.config.optimizer
        optimizer, layout = Optimizer(options, None, self._kernels), self._model.layout
        part = layout.shard(self._world.node.rank % self._world.shards, self._world.shards)
        state = {key: self._arena[place] for key, place in zip(optimizer.state_names, self._states, strict=False)}
        for vector in state.values():
            vector[part] = 0.0
        own = [vector[part] for vector in state.values()]
        shard = optimizer.shard(layout.tensors, part, self._parameters[part], own, shared=self._shared)
        gradients = self._arena["gradients"][:, part]
        # A rate of 0: the numbers stay what they are, however often they are updated.
        call = partial(optimizer.update, shard, gradients, 0.0, 1, lambda values: None)
        count = optimizer.values_moved(len(gradients)) * gradients.shape[1] * self._itemsize
        return self._result("update", f"{name}, {gradients.shape[1]:,} of {layout.size:,}", 0, [call], 0, count)

    def _gather(self, rows: int) -> dict[str, Any]:
        subject = self._subject
        sample_bytes = subject.inputs * subject.storage.itemsize
        source = subject.features(max(rows, _SAMPLE_BYTES // max(8, sample_bytes)))
        shift, scale = Normalization.given(0.1, 0.3).for_storage(source.dtype, subject.inputs, self._model.dtype)
        x = empty((rows, subject.inputs), self._model.dtype)
        order = np.random.default_rng(0).permutation(len(source))
        batches = cycle([order[begin : begin + rows] for begin in range(0, len(order) - rows + 1, rows)])
        count = rows * (sample_bytes + subject.inputs * self._itemsize)
        call = lambda: self._kernels.gather(source, next(batches), shift, scale, x)  # noqa: E731
        return self._result("gather", f"{subject.inputs} {source.dtype}", rows, [call], 0, count)

    def _loss(self, rows: int) -> dict[str, Any]:
        logits = _normal((rows, self._model.outputs), self._model.dtype)
        dlogits, targets, loss_sums = np.empty_like(logits), self._subject.targets(rows), np.zeros(2)
        call = partial(self._model.loss, logits, targets, 1.0 / rows, dlogits, loss_sums)
        return self._result(
            "loss", self._model.loss.name, rows, [call], 0, logits.nbytes + targets.nbytes + dlogits.nbytes
        )

    def _dense(self, index: int, rows: int, *, first: bool) -> tuple[dict[str, Any], dict[str, Any], list[Call]]:
        """Measure one layer forward and backward; also return its bare matrix products."""
        kernels, dtype = self._kernels, self._model.dtype
        layer: Any = self._model.layers[index]
        tensors, made = (self._model.layout.views(flat) for flat in (self._parameters, self._gradient))
        weight, bias = tensors[f"{layer.name}/weight"], tensors.get(f"{layer.name}/bias")
        dw, db = made[f"{layer.name}/weight"], made.get(f"{layer.name}/bias")
        x, slope, y = _normal((rows, layer.inputs), dtype), *(empty((rows, layer.outputs), dtype) for _ in range(2))
        # Slopes of 1, because a kernel that is called again multiplies the same gradient by them again.
        dy, ones, dx = _normal(y.shape, dtype), np.ones_like(y), None if first else empty(x.shape, dtype)
        name, kind = f"{layer.name} {layer.inputs}-{layer.outputs}", layer.activation
        ahead = partial(
            kernels.dense_forward, x, weight, bias, kind.code, kind.negative_slope, layer.dropout,
            _SEED, _STEP, index, _FIRST_ROW, slope, y,
        )  # fmt: skip
        back = partial(kernels.dense_backward, x, weight, ones, False, self._shared, dy, dx, dw, db)
        # The same arrays as the kernels': what differs is the arithmetic, not the memory.
        product = partial(kernels.gemm, x, weight, False, True, 1.0, 0.0, y)
        products: list[Call] = [partial(kernels.gemm, dy, x, True, False, 1.0, 0.0, dw)]
        if dx is not None:
            products.append(partial(kernels.gemm, dy, weight, False, False, 1.0, 0.0, dx))
        operations = of_product(layer, rows)
        moved = sum(array.nbytes for array in (x, weight, bias, slope, y) if array is not None)
        moved_back = sum(array.nbytes for array in (x, weight, ones, dy, dy, dx, dw, db) if array is not None)
        forward = self._result("dense_forward", name, rows, [ahead, product], operations, moved)
        backward = self._result(
            "dense_backward", name, rows, [back, partial(_all, products)], operations * len(products), moved_back
        )
        return forward, backward, [product, *products]

    def _other(self, index: int, rows: int, *, first: bool) -> tuple[dict[str, Any], dict[str, Any], list[Call]]:
        """Measure a layer whose kernels are no products of matrices that BLAS could be given."""
        dtype, layer = self._model.dtype, self._model.layers[index]
        tensors, made = (
            {name: views[f"{layer.name}/{name}"] for name in layer.parameters}
            for views in map(self._model.layout.views, (self._parameters, self._gradient))
        )
        saved = {name: empty((rows, *each.shape), each.dtype or dtype) for name, each in layer.saved.items()}
        x, y = _normal((rows, *layer.shape), dtype), empty((rows, *layer.out), dtype)
        if layer.options.reads_codes:
            self._subject.with_codes(x)
        dy, dx = _normal(y.shape, dtype), None if first else empty(x.shape, dtype)
        values = {name: np.empty((rows, size)) for name, size in layer.batch_sums.items()}
        sums = {name: BatchSums(mine, mine, np.empty(mine.shape[1]), ()) for name, mine in values.items()}
        ahead = Recorder(
            self._kernels, [], index, (x,), y, tensors, saved, seed=_SEED, samples=rows, batch_sums=sums
        )  # fmt: skip
        back = replace(ahead, calls=[], gradients=made, dinputs=(dx,), dy=dy, shared=self._shared)
        layer.forward(ahead)
        layer.backward(back)
        programs: list[Call] = [partial(self._kernels.program(each.calls).run, _STEP) for each in (ahead, back)]
        shapes = "-".join("x".join(map(str, shape)) for shape in (layer.shape, layer.out))
        operations = of_product(layer, rows)
        read, written = [x, *tensors.values(), *saved.values()], [*made.values(), *(() if dx is None else (dx,))]
        forward = self._result(
            f"{layer.kind}_forward", f"{layer.name} {shapes}", rows, programs[:1], operations, _bytes([*read, y])
        )
        for array in saved.values():
            if array.dtype == dtype:  # no codes
                array[...] = 1  # see `_dense`
        backward = self._result(
            f"{layer.kind}_backward", f"{layer.name} {shapes}", rows, programs[1:],
            operations * (1 if first else 2), _bytes([*read, dy, dy, *written]),
        )  # fmt: skip
        return forward, backward, []

    def _packing(self, layer: Any, rows: int) -> dict[str, Any]:
        kernels, dtype = self._kernels, self._model.dtype
        tensors, kind = self._model.layout.views(self._parameters), layer.activation
        weight, bias = tensors[f"{layer.name}/weight"], tensors.get(f"{layer.name}/bias")
        x, y = _normal((rows, layer.inputs), dtype), empty((rows, layer.outputs), dtype)
        packed = empty((kernels.packed_size(weight),), dtype)
        pack = partial(kernels.pack_weight, weight, packed)
        pack()
        predict = [
            partial(kernels.dense_predict, x, weight, given, bias, kind.code, kind.negative_slope, y)
            for given in (None, packed)
        ]
        name = f"{layer.name} {layer.inputs}-{layer.outputs}"
        self._say(f"dense_predict {name}, packed in each call and once, {rows} rows")
        each, once, alone = measure([*predict, pack], self._budget_s, self._world.comm)
        return {
            "of": name, "rows": rows, "each_seconds": each.to_dict(), "once_seconds": once.to_dict(),
            "pack_seconds": alone.to_dict(), "each_of_once": each.of(once),
            "taken": "once" if kernels.packing_pays(rows, weight) else "each",
        }  # fmt: skip

    def _network(self, rows: int, gemms: list[Call], operations: int) -> dict[str, Any]:
        """Measure the gradient of the whole network, loss included, as training computes it."""
        model: Model = self._model
        model.reserve(rows)
        x = self._subject.with_codes(_normal((rows, model.inputs), model.dtype))
        targets, loss_sums = self._subject.targets(rows), np.zeros(2)
        program = self._kernels.program(model.record(x, targets, rows, loss_sums, seed=_SEED, begin=0))
        call = partial(program.run, _STEP)
        name = f"{self._subject.describe()['network']}, forward + backward"
        bare = [partial(_all, gemms)] if gemms else []
        return self._result("network", name, rows, [call, *bare], operations, 0)

    def _result(
        self, kernel: str, of: str, rows: int, calls: list[Call], operations: int, moved: int
    ) -> dict[str, Any]:
        """Measure a kernel, and the bare matrix products in turn with it if they are given."""
        self._say(f"{kernel} {of}" + (f", {rows} rows" if rows else ""))
        own, *bare = measure(calls, self._budget_s, self._world.comm)
        return {
            "kernel": kernel, "of": of, "rows": rows, "seconds": own.to_dict(), "operations": operations,
            "bytes": moved,
            "gflops": operations / own.median / 1e9 if operations else None,
            "gbytes_per_s": moved / own.median / 1e9 if moved else None, **_beside(own, bare, operations),
        }  # fmt: skip


def _beside(own: Timing, bare: list[Timing], operations: int) -> dict[str, Any]:
    if not bare:
        return {"gemm_seconds": None, "gemm_gflops": None, "of_gemm": None}
    gemm = bare[0]
    return {
        "gemm_seconds": gemm.to_dict(), "gemm_gflops": operations / gemm.median / 1e9, "of_gemm": gemm.of(own)
    }  # fmt: skip


def _all(calls: Sequence[Call]) -> None:
    for call in calls:
        call()


def _bytes(arrays: Sequence[np.ndarray]) -> int:
    return sum(array.nbytes for array in arrays)


def _normal(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    values = empty(shape, dtype)
    values[:] = np.random.default_rng(3).standard_normal(shape)
    return values
