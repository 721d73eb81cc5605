"""Cases in which onotrain runs against its peers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from case import CORES, EPOCH, Case, Pair
from peak import peak_gflops
from peer_programs import (
    ASIDE,
    FLOAT32,
    IN_BF16,
    JAX,
    JAX_512,
    ON_IMAGES,
    ON_MNIST,
    PREDICTING,
    PREDICTING_BF16,
    TORCH,
    TORCH_DDP,
    Peer,
)
from peers.training import Training
from processes import pinned
from rows import Outcome, Reading, Row, Side
from samples import FEW, MNIST, MNIST_FEW, SMOOTH_4_4, SMOOTH_10_3, SMOOTH_10_10

BF16 = {"training.precision": "bf16"}
#: Images of MNIST to train on.
IMAGES = 60_000

MLP = Training(MNIST)
#: Without what programs of bare products leave out.
BARE = replace(MLP, dropout=0.0, weight_decay=0.0, halve_every=None, optimizer="sgd", learning_rate=0.1)
VALUES = Training(
    SMOOTH_10_3, (10, 64, 64, 3), epochs=10, activation="tanh", dropout=0.0, loss="mse", weight_decay=0.0,
    halve_every=None, normalize=None,
)  # fmt: skip
#: Steps of some tenths of a millisecond, each an epoch.
TINY = replace(VALUES, data=SMOOTH_4_4, widths=(4, 32, 16, 4), batch_size=10_000, epochs=1000, together=50)
#: `configs/mnist-lenet5.yaml` and `configs/mnist-nielsen.yaml` without dropout and shifts, at a constant rate.  On few
#: images: an epoch is 160 steps, or 20, so that a program runs for seconds.
LENET = replace(
    MLP, data=MNIST_FEW, convolutions=((6, 5, 0), (16, 5, 0)), widths=(784, 120, 84, 10), dropout=0.0,
    learning_rate=2e-3, halve_every=None, epochs=3,
)  # fmt: skip
NIELSEN = replace(LENET, convolutions=((20, 5, 0),), widths=(784, 100, 10), learning_rate=1e-3)
WIDE = replace(MLP, data=MNIST_FEW, widths=(784, 4096, 4096, 4096, 10), batch_size=256, epochs=2)


def operations(widths: Sequence[int]) -> int:
    """Return the operations of a sample: three products for each layer, and two for the first."""
    products = [inputs * outputs for inputs, outputs in zip(widths, widths[1:], strict=False)]
    return 2 * (3 * sum(products) - products[0])


def bf16_target() -> float:
    """Return how many times faster than float32 training in bf16 shall be on this processor."""
    return 3.0 if "amx_bf16" in Path("/proc/cpuinfo").read_text() else 1.5


def _race(training: Training, ranks: int, peers: Sequence[Peer], *rows: Row) -> Case:
    """Return a case of trainings of ours and of peers; the rows differ in which peers count."""

    def measure(pair: Pair) -> dict[str, Reading]:
        mine = pair.train(training, ranks)
        reading = Reading(mine, pair.peers_train(peers, training, ranks))
        return {row.name: reading for row in rows}

    return Case(rows, measure)


def _mnist(batch_size: int, target: float, ddp: float, process: float) -> Case:
    name, batch = f"mnist-{batch_size}", f"global batch {batch_size}"
    race = _race(
        replace(MLP, batch_size=batch_size), CORES, ON_MNIST,
        Row(name, f"MNIST, {batch}, 2 ranks, against the best peer", target, side_unit=EPOCH, aside=ASIDE),
        Row(f"{name}-ddp", f"{batch}, against DDP of 2 processes", ddp, side_unit=EPOCH, beside=(TORCH_DDP.name,)),
        Row(f"{name}-process", f"{batch}, against one process with 2 threads", process, side_unit=EPOCH,
            beside=(TORCH.name,)),
    )  # fmt: skip

    def measure(pair: Pair) -> dict[str, Reading]:
        readings = dict(race.measure(pair))
        return {**readings, f"{name}-accuracy": Reading.of(readings[name].score)}

    accuracy = Row(f"{name}-accuracy", f"{batch}: test accuracy after 5 epochs", 0.98, "")
    return Case((*race.rows, accuracy), measure)


def _images(name: str, what: str, training: Training) -> Case:
    text, unit = f"{what}, batch {training.batch_size}, 2 ranks", f"s for {FEW:,} images"
    return _race(
        training, CORES, ON_IMAGES,
        Row(name, f"{text}, against the best peer", 1.5, side_unit=unit),
        Row(f"{name}-ddp", f"{text}, against DDP of 2 processes", 1.5, side_unit=unit, beside=(TORCH_DDP.name,)),
    )  # fmt: skip


def _values(batch_size: int, ranks: int, target: float) -> Case:
    who = "1 rank, against the best peer with 1 thread" if ranks == 1 else "2 ranks, against the best with 2 threads"
    row = Row(
        f"values-{batch_size}-{ranks}", f"10-64-64-3, batch {batch_size}, {who}", target, side_unit=EPOCH, aside=ASIDE
    )
    return _race(replace(VALUES, batch_size=batch_size), ranks, FLOAT32, row)


def _tiny() -> Case:
    def microseconds(side: Side) -> Side:
        return replace(side, value=side.value * 1e6) if isinstance(side, Outcome) else side

    def measure(pair: Pair) -> dict[str, Reading]:
        mine = microseconds(pair.train(TINY, CORES))
        found = {name: microseconds(side) for name, side in pair.peers_train(FLOAT32, TINY, CORES).items()}
        return {"tiny": Reading(mine), "tiny-peers": Reading(mine, found)}

    what = "4-32-16-4, 10,000 samples a step, 2 ranks"
    return Case(
        (
            Row("tiny", what, 330.0, "us", "at most"),
            Row("tiny-peers", f"{what}, against the best peer", None, side_unit="us a step", aside=ASIDE),
        ),
        measure,
    )


def _odd_widths() -> Case:
    odd, even = (replace(VALUES, data=SMOOTH_10_10, widths=(10, n, n, 10), batch_size=256) for n in (45, 46))

    def measure(pair: Pair) -> dict[str, Reading]:
        return {"odd": Reading(pair.train(odd, CORES), {"10-46-46-10": pair.train(even, CORES)})}

    row = Row("odd", "10-45-45-10, batch 256, 2 ranks, against 10-46-46-10", 0.05, sense="within", side_unit=EPOCH)
    return Case((row,), measure)


def _bare(batch_size: int, target: float) -> Case:
    """Return a case for those who measure us against programs of bare products."""
    training, name = replace(BARE, batch_size=batch_size), f"bare-{batch_size}"

    def measure(pair: Pair) -> dict[str, Reading]:
        mine = pair.train(training, CORES)
        with pinned(CORES):
            peak = peak_gflops(pair.ours.folder, CORES)
        found = pair.peers_train(FLOAT32, training, CORES)
        gigas = operations(training.widths) * IMAGES / 1e9
        return {
            name: Reading(mine, {"the peak": Outcome(gigas / peak)}),
            f"{name}-gflops": Reading(Outcome(gigas / mine.value, mine.score)),
            f"{name}-peers": Reading(mine, found),
        }

    what = f"MNIST, bare (sgd, no dropout), global batch {batch_size}, 2 ranks"
    return Case(
        (
            Row(name, f"{what}: part of the cores' peak", target, "", side_unit=EPOCH),
            Row(f"{name}-gflops", f"{what}: speed", None, "GFLOP/s"),
            Row(f"{name}-peers", f"{what}, against the best peer", None, side_unit=EPOCH, aside=ASIDE),
        ),
        measure,
    )


def _bf16() -> Case:
    training = replace(MLP, batch_size=512)

    def measure(pair: Pair) -> dict[str, Reading]:
        mine = pair.train(training, CORES, BF16)
        float32 = pair.train(training, CORES)
        lost = 100 * ((float32.score or 0.0) - (mine.score or 0.0))
        return {
            "bf16": Reading(mine, {"onotrain, float32": float32}),
            "bf16-peers": Reading(mine, pair.peers_train(IN_BF16, training, CORES)),
            "bf16-accuracy": Reading.of(lost),
        }

    what = "MNIST in bf16, global batch 512, 2 ranks"
    return Case(
        (
            Row("bf16", f"{what}, against our float32", bf16_target(), side_unit=EPOCH),
            Row("bf16-peers", f"{what}, against the best peer in bf16", 1.3, side_unit=EPOCH),
            Row("bf16-accuracy", f"{what}: test accuracy that float32 has more", 0.1, "points", "at most"),
        ),
        measure,
    )


def _predict(name: str, what: str, peers: Sequence[Peer], *options: str) -> Case:
    """Return a case that predicts images, with the network of a short training on both sides."""
    samples = ("--samples", IMAGES)

    def measure(pair: Pair) -> dict[str, Reading]:
        training = replace(pair.of(MLP), epochs=2)
        with pinned(CORES):
            found = pair.ours.bench("predict", *samples, *options, ranks=CORES)
            network, score = pair.ours.trained(training, CORES, options)
            beside = {peer.name: pair.peers.predict(peer, training, network, CORES) for peer in pair.timed(peers)}
        mine = Outcome(found["seconds"]["median"], score)
        bare = {"bare products": Outcome(found["gemm_seconds"]["median"])}
        return {name: Reading(mine, beside), f"{name}-gemm": Reading(mine, bare)}

    aside = () if options else ASIDE
    rows = [Row(name, f"predict {IMAGES:,} images{what}, against the best torch", 1.1, side_unit="s", aside=aside)]
    if not options:
        rows.append(Row(f"{name}-gemm", "speed of prediction by that of its bare products", 0.85, "", side_unit="s"))
    return Case(tuple(rows), measure)


CASES = (
    _mnist(64, 1.9, ddp=6.0, process=2.5),
    _mnist(512, 1.5, ddp=2.2, process=2.2),
    _images("lenet-64", "LeNet-5 without dropout", LENET),
    _images("lenet-512", "LeNet-5 without dropout", replace(LENET, batch_size=512)),
    _images("nielsen-64", "Nielsen's network without shifts", NIELSEN),
    *(
        _values(batch_size, ranks, target)
        for ranks in (1, 2)
        for batch_size, target in ((64, 1.5), (256, 1.5), (1024, 1.3))
    ),
    _tiny(),
    _odd_widths(),
    _bare(64, 0.80),
    _bare(512, 0.85),
    _bf16(),
    _predict("predict", "", PREDICTING),
    _predict("predict-bf16", " in bf16", PREDICTING_BF16, "--precision", "bf16"),
    _race(
        MLP, 1, (TORCH, JAX, JAX_512),
        Row("one-rank", "MNIST, batch 64, 1 rank, against torch with 1 thread", 1.7, side_unit=EPOCH,
            beside=(TORCH.name,)),
        Row("one-rank-peers", "MNIST, batch 64, 1 rank, against the best peer with 1 thread", None, side_unit=EPOCH),
    ),
    _race(
        WIDE, CORES, (TORCH_DDP,),
        Row("wide-ddp", "784-4096-4096-4096-10, batch 256, against DDP of 2 processes", 1.5, side_unit=EPOCH),
    ),
)  # fmt: skip
