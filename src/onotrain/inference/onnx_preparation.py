"""The columns of a table to the features of a network, as nodes of an ONNX graph, in double precision.

Each encoder gives columns and what is subtracted from and divides them; that happens once, for all columns together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from onotrain.data.tables.categorical import BooleanEncoder, CategoricalEncoder, spellings
from onotrain.data.tables.date import CYCLES, DateEncoder
from onotrain.data.tables.encoders import Encoder
from onotrain.data.tables.numeric import LEAST_QUANTILE, NumericEncoder
from onotrain.data.tables.preparation import Preparation
from onotrain.inference.onnx_builder import TABLE_DOMAIN, GraphBuilder

#: Coefficients of Wichura's rational approximations (AS 241, 1988) of the normal quantile: near the middle, and in the
#: tails, each numerator and denominator, from the constant up.
_MIDDLE = (
    (3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
     4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
     2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3),
)  # fmt: skip
_TAILS = (
    (1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
     1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
     1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
)  # fmt: skip


class _Part(NamedTuple):
    """Columns ``[batch, k]``, and a shift and a scale for each."""

    value: str
    shift: Sequence[float]
    scale: Sequence[float]


def add_preparation(graph: GraphBuilder, preparation: Preparation, inputs: Sequence[str]) -> str:
    """Add all that `Preparation.transform` does, and return the features, float64 ``[batch, features]``.

    Parameters
    ----------
    graph
        To add to.
    preparation
        Of the network.
    inputs
        Names of the columns in the graph, in the order of the encoders.
    """
    encoders = (encoder for _, encoder in preparation.encoders)
    found = [_encoded(graph, encoder, name) for name, encoder in zip(inputs, encoders, strict=True)]
    parts = [part for part in found if len(part.shift)]
    features = graph.node("Concat", [part.value for part in parts], axis=1)
    shift = graph.constant([number for part in parts for number in part.shift], name="preparation.shift")
    scale = graph.constant([number for part in parts for number in part.scale], name="preparation.scale")
    return graph.call("Div", graph.call("Sub", features, shift), scale)


def _encoded(graph: GraphBuilder, encoder: Encoder, name: str) -> _Part:
    if isinstance(encoder, NumericEncoder):
        return _numeric(graph, encoder, name)
    if isinstance(encoder, CategoricalEncoder):
        return _categorical(graph, encoder, name)
    if isinstance(encoder, BooleanEncoder):
        return _boolean(graph, encoder, name)
    return _date(graph, encoder, name)


def _numeric(graph: GraphBuilder, encoder: NumericEncoder, name: str) -> _Part:
    lost = graph.call("IsNaN", name)
    value = name if encoder.fill is None else graph.call("Where", lost, encoder.fill, name)
    if encoder.clip is not None:
        value = graph.call("Clip", value, *encoder.clip)
    if encoder.curve == "log":
        value = _log1p(graph, graph.call("Max", value, 0.0))
    elif encoder.curve == "quantile":
        value = _normal_quantile(graph, _place(graph, np.asarray(encoder.quantiles), value))
    if encoder.fill is None:  # not every operator passes NaN on
        value = graph.call("Where", lost, np.nan, value)
    if not encoder.indicator:
        return _Part(value, [encoder.shift], [encoder.scale])
    both = graph.node("Concat", [value, graph.cast(lost, np.float64)], axis=1)
    return _Part(both, [encoder.shift, 0.0], [encoder.scale, 1.0])


def _log1p(graph: GraphBuilder, value: str) -> str:
    """Add log(1 + x), exact for small x too: what 1 + x loses to rounding is put right (Kahan)."""
    sum_ = graph.call("Add", value, 1.0)
    kept = graph.call("Sub", sum_, 1.0)
    ratio = graph.call("Div", graph.call("Mul", graph.call("Log", sum_), value), kept)
    return graph.call("Where", graph.call("Equal", kept, graph.constant(0.0)), value, ratio)


def _place(graph: GraphBuilder, points: np.ndarray, value: str) -> str:
    """Add the place of values in the distribution whose quantiles are `points`, as `NumericEncoder.bend` defines it."""
    places = np.linspace(0, 1, len(points))
    widths = np.diff(points)
    slopes = np.divide(np.diff(places), widths, out=np.zeros(len(widths)), where=widths > 0)
    known = graph.constant(points)
    # Behind the last point that is not above, and before the first that is not below; these differ where points repeat.
    sides = (("GreaterOrEqual", -1, [*slopes, 0.0], "Max"), ("Greater", 0, [0.0, *slopes], "Min"))
    found = []
    for compare, offset, rates, limit in sides:
        passed = graph.cast(graph.call(compare, value, known), np.int64)
        count = graph.node("ReduceSum", [passed, graph.constant([1], np.int64)], keepdims=1)
        index = graph.node("Add", [count, graph.constant(offset, np.int64)])
        # Outside of all points their ends count.
        index = graph.node("Clip", [index, graph.constant(0, np.int64), graph.constant(len(points) - 1, np.int64)])
        beyond = graph.call(limit, graph.call("Sub", value, graph.node("Gather", [known, index])), 0.0)
        rise = graph.call("Mul", beyond, graph.node("Gather", [graph.constant(rates), index]))
        found.append(graph.call("Add", graph.node("Gather", [graph.constant(places), index]), rise))
    return graph.call("Mul", graph.call("Add", *found), 0.5)


def _normal_quantile(graph: GraphBuilder, place: str) -> str:
    """Add the inverse of the normal distribution, to 1e-15, for places that are neither near 0 nor near 1."""
    place = graph.call("Clip", place, LEAST_QUANTILE, 1 - LEAST_QUANTILE)
    centred = graph.call("Sub", place, 0.5)
    square = graph.call("Sub", 0.425**2, graph.call("Mul", centred, centred))
    middle = graph.call("Mul", centred, _rational(graph, square, _MIDDLE))
    end = graph.call("Min", place, graph.call("Sub", 1.0, place))
    root = graph.call("Sqrt", graph.call("Neg", graph.call("Log", end)))
    tail = graph.call("Mul", graph.call("Sign", centred), _rational(graph, graph.call("Sub", root, 1.6), _TAILS))
    return graph.call("Where", graph.call("Less", graph.call("Abs", centred), 0.425), middle, tail)


def _rational(graph: GraphBuilder, x: str, coefficients: tuple[tuple[float, ...], tuple[float, ...]]) -> str:
    """Add a quotient of two polynomials of x ``[batch, 1]``."""
    powers = graph.call("Pow", x, graph.constant(np.arange(len(coefficients[0]))))
    above, below = (graph.call("MatMul", powers, graph.constant(np.array(each)[:, None])) for each in coefficients)
    return graph.call("Div", above, below)


def _categorical(graph: GraphBuilder, encoder: CategoricalEncoder, name: str) -> _Part:
    width = encoder.count
    number = {value: index for index, value in enumerate(encoder.values)}
    codes = {text: number[value] for text, value in spellings(encoder.values).items()}
    codes[""] = encoder.missing_code
    code = graph.node(
        "LabelEncoder", [name], domain=TABLE_DOMAIN, keys_strings=list(codes), values_int64s=list(codes.values()),
        default_int64=encoder.other_code,
    )  # fmt: skip
    if encoder.code:
        return _Part(graph.cast(code, np.float64), [0.0], [1.0])
    chosen = graph.node("Equal", [code, graph.constant(np.arange(width), np.int64)])
    return _Part(graph.cast(chosen, np.float64), [0.0] * width, [1.0] * width)


def _boolean(graph: GraphBuilder, encoder: BooleanEncoder, name: str) -> _Part:
    number = {encoder.values[0]: 0.0, encoder.values[1]: 1.0}
    codes = {text: number[value] for text, value in spellings(encoder.values).items()} | {"": 0.5}
    code = graph.node(
        "LabelEncoder", [name], domain=TABLE_DOMAIN, keys_strings=list(codes), values_floats=list(codes.values()),
        default_float=np.nan,
    )  # fmt: skip
    return _Part(graph.cast(code, np.float64), [0.0], [1.0])


def _date(graph: GraphBuilder, encoder: DateEncoder, name: str) -> _Part:
    lost = graph.call("IsNaN", name)
    parts = _date_parts(graph, graph.call("Where", lost, 0.0, name))
    found: list[tuple[str, float, float]] = []
    for part in encoder.parts:
        if part in CYCLES:
            angle = graph.call("Mul", parts[part], 2 * np.pi / CYCLES[part])
            found += [(graph.call("Where", lost, 0.0, graph.call(form, angle)), 0.0, 1.0) for form in ("Sin", "Cos")]
        else:
            mean, std = encoder.trend if part == "trend" else encoder.year
            found.append((graph.call("Where", lost, mean, parts[part]), mean, std))
    if not found:
        return _Part(name, [], [])
    values, shifts, scales = zip(*found, strict=True)
    return _Part(graph.node("Concat", values, axis=1), shifts, scales)


def _date_parts(graph: GraphBuilder, time: str) -> Mapping[str, str]:
    """Add the parts of points in time [days since 1970], whole numbers in double precision.

    Year, month and day in the Gregorian calendar by Hinnant's ``civil_from_days``: eras of 400 years that begin on
    1 March, so that the leap day is a year's last.
    """

    def floor(value: str, by: float = 1.0) -> str:
        return graph.call("Floor", value if by == 1 else graph.call("Div", value, by))

    def rest(value: str, by: float) -> str:
        return graph.call("Sub", value, graph.call("Mul", floor(value, by), by))

    days = floor(time)
    within = graph.call("Sub", time, days)
    since = graph.call("Add", days, 719468.0)
    era = floor(since, 146097.0)
    of_era = rest(since, 146097.0)
    leaps = graph.call("Sub", floor(of_era, 36524.0), graph.call("Add", floor(of_era, 1460.0), floor(of_era, 146096.0)))
    year = floor(graph.call("Add", of_era, leaps), 365.0)
    before = graph.call("Sub", graph.call("Add", graph.call("Mul", year, 365.0), floor(year, 4.0)), floor(year, 100.0))
    of_year = graph.call("Sub", of_era, before)
    month = floor(graph.call("Add", graph.call("Mul", of_year, 5.0), 2.0), 153.0)
    first = floor(graph.call("Add", graph.call("Mul", month, 153.0), 2.0), 5.0)
    from_january = graph.call("Add", month, 2.0)
    years = graph.call("Add", graph.call("Mul", era, 400.0), graph.call("Add", year, floor(from_january, 12.0)))
    return {
        "trend": time,
        "year": years,
        "month": rest(from_january, 12.0),
        "day": graph.call("Sub", of_year, first),
        "weekday": rest(graph.call("Add", days, 3.0), 7.0),
        "hour": graph.call("Mul", within, 24.0),
        "minute": rest(graph.call("Mul", within, 1440.0), 60.0),
    }
