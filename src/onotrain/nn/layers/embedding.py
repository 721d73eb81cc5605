"""Embeddings: a trained vector for each category (Guo and Berkhahn, arXiv 1604.06737)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from onotrain.config import layers as config
from onotrain.config.columns import Categories
from onotrain.config.initializers import NormalInitializer
from onotrain.config.options import LayerOptions
from onotrain.nn.layers.base import Builder, Description, Layer, OperatorGraph, Parameter, Saved, Scatter, ShapeError
from onotrain.nn.layers.recorder import Recorder
from onotrain.nn.shapes import Shape, as_written, in_words

#: First values: those of fastai, but for the tails that it cuts off.
_SMALL = NormalInitializer(name="normal", mean=0.0, std=0.01)
#: Largest width that is chosen for a feature.
_MOST_WIDTH = 600


def default_width(categories: int) -> int:
    """Return the width of a feature's vectors by the rule of fastai (Howard and Gugger, arXiv 2002.04688)."""
    return min(_MOST_WIDTH, round(1.6 * categories**0.56))


class Column(NamedTuple):
    """A feature that is a code."""

    #: Of its vectors, and of what is saved of it.
    name: str
    #: Number of the feature.
    feature: int
    categories: int
    width: int
    #: Where its vector begins in the output.
    begin: int


def _name(column: str, feature: int) -> str:
    """Return a name for the vectors of a column that is unique, and fit for names of tensors."""
    is_word = re.fullmatch(r"[^\W\d_][\w-]*", column) is not None
    return column if is_word and not column.startswith("feature_") else f"feature_{feature}"


class Embedding(Layer):
    """``y = (E_1[x_1], ..., E_k[x_k], x_others)``.

    Codes x_j are whole numbers from 0 to n_j - 1, the tables E_j are ``(n_j, width_j)``, and the features that are no
    codes come behind the vectors, in their order.
    """

    Options: ClassVar[type[LayerOptions]] = config.Embedding
    reads_again = frozenset()

    def __init__(self, options: Any, shape: Shape, defaults: Any, categories: Mapping[int, Categories]) -> None:
        super().__init__(options, shape, defaults)
        if len(shape) != 1:
            raise ShapeError(
                None, f"reads samples that are features of one axis (got {in_words(as_written(shape))})",
                hint="data.shape arranges the features of a sample",
            )  # fmt: skip
        self.columns, end = list[Column](), 0
        for feature, (column, count) in sorted(self._codes(categories).items()):
            width = options.widths.get(column) or options.width or default_width(count)
            self.columns.append(Column(_name(column, feature), feature, count, width, end))
            end += width
        coded = {each.feature for each in self.columns}
        #: Numbers of the features that are no codes.
        self.others = np.array([feature for feature in range(shape[0]) if feature not in coded], np.int64)
        #: Where they begin in the output.
        self.end = end
        self.out = (end + len(self.others),)
        initializer = options.initializer or _SMALL
        for each in self.columns:
            table = each.categories, each.width
            self.parameters[each.name] = Parameter(table, table, initializer, rows=True)
            self.saved[each.name] = Saved((), np.int32)

    def _codes(self, categories: Mapping[int, Categories]) -> Mapping[int, Categories]:
        """Return the features that are codes: those of a table, or those that the options name."""
        features = self.shape[0]
        for feature in self.options.codes:
            if feature >= features:
                raise ShapeError("columns", f"feature {feature} is none of the {features}, which count from 0")
        codes = categories or {n: Categories(str(n), count) for n, count in self.options.codes.items()}
        if not codes:
            raise ShapeError(
                None, "no feature is a code of categories",
                hint="name columns of a table in data.columns: {city: categorical}; of an array give their numbers, "
                "and how many categories each has: embedding: {columns: {3: 12}}",
            )  # fmt: skip
        names = [each.column for each in codes.values()]
        for wanted in self.options.widths:
            if wanted not in names:
                raise ShapeError(
                    "widths", f"{wanted!r} is no column of categories; expected some of {', '.join(names)}"
                )
        return codes

    @classmethod
    def build(cls, network: Builder, options: Any, x: int) -> int:
        """Add it behind the samples themselves: behind other layers there are no codes any more."""
        made = cls(options, network.shapes[x], network.defaults, network.categories)
        if x != 0:
            raise ShapeError(None, "must be the first layer: others leave no codes of the features")
        return network.add(made, x)

    def _look_up(self, r: Recorder) -> None:
        """``y``, and the codes where they are saved."""
        for each in self.columns:
            table, codes = r.parameters[each.name], r.saved.get(each.name)
            r.call("embedding_forward", r.x, each.feature, table, each.begin, codes, r.y)
        if len(self.others):
            r.call("pick_columns", r.x, self.others, self.end, r.y)

    def forward(self, r: Recorder) -> None:
        """``y = (E_1[x_1], ..., E_k[x_k], x_others)``."""
        self._look_up(r)

    def backward(self, r: Recorder) -> None:
        """``dE_j[c]`` is the sum of the part j of ``dy`` over the samples with ``x_j = c``."""
        for each in self.columns:
            dtable = r.gradients[each.name]
            if dtable is not None:
                r.call("embedding_backward", r.saved[each.name], each.begin, r.accumulate, r.dy, dtable)

    def outer_products(self) -> Mapping[str, Scatter]:
        """Return where the gradients of the vectors are."""
        return {each.name: Scatter(each.name, slice(each.begin, each.begin + each.width)) for each in self.columns}

    def predict(self, r: Recorder) -> None:
        """``y`` alone."""
        self._look_up(r)

    def describe(self) -> Description:
        """Return the tables."""
        columns = [{"name": c.name, "feature": c.feature, "categories": c.categories, "width": c.width}
                   for c in self.columns]  # fmt: skip
        facts = {"inputs": list(self.shape), "outputs": list(self.out), "columns": columns}
        return Description(self.name, ({"kind": self.kind, "name": self.name, **facts},))

    def export(self, graph: OperatorGraph, *inputs: str) -> str:
        """Add a Gather for each table, and one for the other features."""
        parts = []
        for each in self.columns:
            code = graph.node("Gather", [inputs[0], graph.constant(each.feature, np.int64)], axis=1)
            code = graph.cast(code, np.int64)
            parts.append(graph.node("Gather", [graph.parameter(each.name), code], axis=0))
        if len(self.others):
            parts.append(graph.node("Gather", [inputs[0], graph.constant(self.others, np.int64)], axis=1))
        return graph.node("Concat", parts, axis=1)
