"""A peer: networks in JAX on CPUs, an epoch being one scan inside one jit.

Everything is set in JAX's favour: the data are in memory before the clock starts, parameters and state are donated, and
a step has no Python.  Images are channels-last.  Convolutions are products with matrices of patches, or those of XLA,
and the faster one counts.  Those of XLA are slow within a scan, so with them each step is a call from Python
(`--convolutions xla --steps python`).  Maxima are taken of slices, as the gradients of `reduce_window` and of a maximum
over an axis are slow, and before the activation, which then has fewer values.  JAX takes as many threads as it has
cores; `XLA_FLAGS` is for its compiler.  Prints the seconds of each epoch, the first of which compiles, then the score
on the test data.

    XLA_FLAGS=--xla_cpu_prefer_vector_width=512 taskset -c 0,1 python jax_train.py "$TRAINING" --precision bf16
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from training import Training, say

#: Decay of Adam's means, and what is added to the denominator.
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
#: Samples that are scored together: patches of all test images would fill the memory.
TESTED = 1000
ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh}
Tensors = list[tuple[jax.Array, jax.Array]]
Product = Callable[[jax.Array, jax.Array], jax.Array]


class Products(NamedTuple):
    """How weights are applied."""

    dense: Product
    convolution: Product


def bf16_dot(a: jax.Array, b: jax.Array, axes: tuple[int, int]) -> jax.Array:
    """Return the product of float32 matrices over an axis of each: rounded to bf16, with float32 sums."""
    dimensions = (((axes[0],), (axes[1],)), ((), ()))
    a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    return lax.dot_general(a, b, dimensions, preferred_element_type=jnp.float32)


@jax.custom_vjp
def bf16_product(x: jax.Array, weight: jax.Array) -> jax.Array:
    """Return ``x weight``, all three products in bf16, which runs faster than activations that are bf16, too."""
    return bf16_dot(x, weight, (1, 0))


bf16_product.defvjp(
    lambda x, weight: (bf16_dot(x, weight, (1, 0)), (x, weight)),
    lambda saved, dz: (bf16_dot(dz, saved[1], (1, 1)), bf16_dot(saved[0], dz, (0, 0))),
)


def initial(training: Training) -> Tensors:
    """Return weights (inputs, outputs), of convolutions (kernel, kernel, channels, filters), and biases."""
    shapes: list[tuple[int, ...]] = []
    channels = training.image[0]
    for filters, kernel, _ in training.convolutions:
        shapes.append((kernel, kernel, channels, filters))
        channels = filters
    shapes += training.dense
    # By NumPy: JAX compiles a program for each shape.
    draw, tensors = np.random.default_rng(training.seed), []
    for shape in shapes:
        limit = (6.0 / (math.prod(shape[:-2]) * (shape[-2] + shape[-1]))) ** 0.5
        weight = draw.uniform(-limit, limit, shape).astype(np.float32)
        tensors.append((jnp.array(weight), jnp.zeros(shape[-1])))
    return tensors


def by_xla(x: jax.Array, weight: jax.Array) -> jax.Array:
    """Return the convolution of padded images (r, height, width, channels)."""
    return lax.conv_general_dilated(x, weight, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def by_patches(x: jax.Array, weight: jax.Array) -> jax.Array:
    """Return the same as one product, whose gradients are products, too; patches are of lines that are made once."""
    kernel, _, channels, filters = weight.shape
    height, width = (n - kernel + 1 for n in x.shape[1:3])
    lines = jnp.concatenate([x[:, :, j : j + width] for j in range(kernel)], axis=3)
    patches = jnp.concatenate([lines[:, i : i + height] for i in range(kernel)], axis=3)
    rows = patches.reshape(-1, kernel * kernel * channels)
    return (rows @ weight.reshape(-1, filters)).reshape(len(x), height, width, filters)


def maxima(z: jax.Array) -> jax.Array:
    """Return the largest of each 2 x 2 positions; the last line is left out where there is an odd number."""
    height, width = (n // 2 * 2 for n in z.shape[1:3])
    z = jnp.maximum(z[:, 0:height:2], z[:, 1:height:2])
    return jnp.maximum(z[:, :, 0:width:2], z[:, :, 1:width:2])


CONVOLUTIONS = {"xla": by_xla, "patches": by_patches}


def convolved(training: Training, convolution: Product, tensors: Tensors, x: jax.Array) -> jax.Array:
    """Return what the dense layers read: `x` itself, or what the convolutions make of it."""
    if training.convolutions:
        channels, height, width = training.image
        x = x.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
    for (_, _, padding), (weight, bias) in zip(training.convolutions, tensors, strict=False):
        z = convolution(jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0))), weight)
        x = ACTIVATIONS[training.activation](maxima(z) + bias)
    return x.reshape(len(x), -1)


def forward(training: Training, products: Products, tensors: Tensors, x: jax.Array, key: Any = None) -> jax.Array:
    """Return the logits or values; with dropout if there is a key."""
    x = convolved(training, products.convolution, tensors, x)
    dense = tensors[len(training.convolutions) :]
    for index, (weight, bias) in enumerate(dense):
        x = products.dense(x, weight) + bias
        if index == len(dense) - 1:
            break
        x = ACTIVATIONS[training.activation](x)
        if key is not None and training.dropout:
            keep = 1.0 - training.dropout
            x = jnp.where(jax.random.bernoulli(jax.random.fold_in(key, index), keep, x.shape), x / keep, 0.0)
    return x


def step_of(training: Training, products: Products) -> Callable[..., Any]:
    """Return the function that trains for a step: of the state, all samples, the rows of the batch, and the rate."""

    def loss(tensors: Tensors, x: jax.Array, y: jax.Array, key: Any) -> jax.Array:
        out = forward(training, products, tensors, x, key)
        if training.loss == "cross_entropy":
            return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(out), y[:, None], 1))
        return jnp.mean(jnp.sum((out - y) ** 2, 1))

    def update(state: Any, gradient: Tensors, rate: Any) -> Any:
        tensors, m, v, step, key = state
        if training.weight_decay:
            gradient = jax.tree.map(lambda g, w: g + training.weight_decay * w, gradient, tensors)
        step += 1
        if training.optimizer == "sgd":
            return jax.tree.map(lambda w, g: w - rate * g, tensors, gradient), m, v, step, key
        m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, gradient)
        v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, gradient)
        rate, root = rate / (1 - BETA1**step), (1 - BETA2**step) ** -0.5
        tensors = jax.tree.map(lambda w, m, v: w - rate * m / (root * jnp.sqrt(v) + EPS), tensors, m, v)
        return tensors, m, v, step, key

    def step(state: Any, x: jax.Array, y: jax.Array, rows: jax.Array, rate: Any) -> Any:
        key = jax.random.fold_in(state[4], state[3])
        return update(state, jax.grad(loss)(state[0], x[rows], y[rows], key), rate)

    return step


def by_scan(step: Callable[..., Any], batch_size: int) -> Callable[..., Any]:
    """Return the function that trains for epochs: of the state, samples, their orders, and learning rates."""

    def epoch(state: Any, x: jax.Array, y: jax.Array, order: jax.Array, rate: Any) -> Any:
        whole = len(order) // batch_size * batch_size
        batches = order[:whole].reshape(-1, batch_size)
        state, _ = lax.scan(lambda state, rows: (step(state, x, y, rows, rate), None), state, batches)
        return step(state, x, y, order[whole:], rate) if whole < len(order) else state

    def epochs(state: Any, x: jax.Array, y: jax.Array, orders: jax.Array, rates: jax.Array) -> Any:
        return lax.scan(lambda state, each: (epoch(state, x, y, *each), None), state, (orders, rates))[0]

    return jax.jit(epochs, donate_argnums=0)


def by_python(step: Callable[..., Any], batch_size: int) -> Callable[..., Any]:
    """Return the same function, each step of which is one call."""
    compiled = jax.jit(step, donate_argnums=0)

    def epochs(state: Any, x: jax.Array, y: jax.Array, orders: jax.Array, rates: jax.Array) -> Any:
        # Slices of arrays of NumPy, here without a copy, cost less than those of JAX.
        for order, rate in zip(np.asarray(orders), np.asarray(rates), strict=True):
            for begin in range(0, len(order), batch_size):
                state = compiled(state, x, y, order[begin : begin + batch_size], rate)
        return state

    return epochs


STEPS = {"scan": by_scan, "python": by_python}


def run(training: Training, products: Products, epochs: Callable[..., Any]) -> None:
    """Train with what `by_scan` or `by_python` has made, and say how long it takes."""
    x, y, x_test, y_test = training.arrays()
    tensors = initial(training)
    zeros = [jax.tree.map(jnp.zeros_like, tensors) for _ in range(2)]
    state: Any = (tensors, *zeros, jnp.int32(0), jax.random.key(training.seed + 1))
    features, targets = jnp.array(x), jnp.array(y)
    for first in range(0, training.epochs, training.together):
        numbers: Sequence[int] = range(first, first + training.together)
        orders = jnp.array(np.stack([training.order(number, len(x)) for number in numbers]).astype(np.int32))
        rates = jnp.array([training.rate(number) for number in numbers], jnp.float32)
        jax.block_until_ready((features, targets, orders, rates))
        start = time.perf_counter()
        state = jax.block_until_ready(epochs(state, features, targets, orders, rates))
        say(seconds=(time.perf_counter() - start) / training.together)
    predict = jax.jit(lambda tensors, x: forward(training, products, tensors, x))
    parts = [predict(state[0], x_test[begin : begin + TESTED]) for begin in range(0, len(x_test), TESTED)]
    score = training.score(np.concatenate(parts), y_test)
    say(score=score, parameters=sum(each.size for each in jax.tree.leaves(state[0])))


def main() -> None:
    """Parse and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training", type=Training.from_json, help="JSON, see training.py")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--generator", help="of random numbers, such as rbg; default: that of JAX")
    parser.add_argument("--convolutions", choices=CONVOLUTIONS, default="patches")
    parser.add_argument("--steps", choices=STEPS, default="scan", help="what goes from one to the next")
    args = parser.parse_args()
    if args.generator:
        jax.config.update("jax_default_prng_impl", args.generator)
    dense = bf16_product if args.precision == "bf16" else jnp.matmul
    products = Products(dense, CONVOLUTIONS[args.convolutions])
    run(args.training, products, STEPS[args.steps](step_of(args.training, products), args.training.batch_size))


if __name__ == "__main__":
    main()
