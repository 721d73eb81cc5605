"""A peer: networks in PyTorch on CPUs, eager or compiled, alone or with DistributedDataParallel (gloo).

Everything is set in PyTorch's favour: the data are float tensors in memory before the clock starts, the optimiser is
the fused one, and only the training loop is timed.  Prints the seconds of each epoch, then the score on the test data.

    python torch_train.py "$TRAINING" --threads 2 --precision bf16 --compile
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from training import Training, say

#: Where the processes of DDP find each other.
ADDRESS = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


def network(training: Training, dropout: float) -> nn.Sequential:
    """Return convolutions, and dense layers with activations and dropout between them.

    Activations come after maxima, of which there are fewer: they rise, so that the values are the same.
    """
    layers: list[nn.Module] = []
    channels, activation = training.image[0], ACTIVATIONS[training.activation]
    for filters, kernel, padding in training.convolutions:
        layers += [nn.Conv2d(channels, filters, kernel, padding=padding), nn.MaxPool2d(2), activation()]
        channels = filters
    if training.convolutions:
        layers = [nn.Unflatten(1, training.image), *layers, nn.Flatten()]
    for inputs, outputs in training.dense:
        layers += [nn.Linear(inputs, outputs), activation(), *([nn.Dropout(dropout)] if dropout else [])]
    for layer in layers:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers[: -2 if dropout else -1])


def optimizer_of(training: Training, model: nn.Module) -> torch.optim.Optimizer:
    """Return the fused optimiser."""
    kind: Any = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[training.optimizer]
    rate, decay = training.learning_rate, training.weight_decay
    return kind(model.parameters(), lr=rate, weight_decay=decay, fused=True)


def squared_error(predicted: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the mean over samples of the squared error, which is a sum over outputs."""
    return (predicted - y).square().sum(1).mean()


def loss_of(training: Training, net: nn.Module, args: argparse.Namespace) -> Callable[..., torch.Tensor]:
    """Return the function of features and targets that is differentiated."""
    criterion = nn.CrossEntropyLoss() if training.loss == "cross_entropy" else squared_error

    def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16) if args.precision == "bf16" else nullcontext():
            predicted = net(x)
        return criterion(predicted.float(), y)

    # A graph for whole batches and one for the last of an epoch, for which one of any size is slower.
    return torch.compile(loss, dynamic=False) if args.compile else loss


def set_up(args: argparse.Namespace) -> None:
    """Apply the options of the process."""
    torch.set_num_threads(args.threads)
    torch.set_float32_matmul_precision("medium" if args.precision == "medium" else "highest")


def run(rank: int, training: Training, args: argparse.Namespace) -> None:
    """Train as one of the processes."""
    set_up(args)
    torch.manual_seed(training.seed)
    if args.world > 1:
        os.environ.update(ADDRESS)
        dist.init_process_group("gloo", rank=rank, world_size=args.world)
    x, y, x_test, y_test = map(torch.from_numpy, training.arrays())
    model = network(training, training.dropout)
    if args.channels_last:
        model = model.to(memory_format=torch.channels_last)
    optimizer = optimizer_of(training, model)
    loss = loss_of(training, DistributedDataParallel(model) if args.world > 1 else model, args)
    share = training.batch_size // args.world
    for first in range(0, training.epochs, training.together):
        epochs = range(first, first + training.together)
        orders = [torch.from_numpy(training.order(epoch, len(x)))[rank :: args.world] for epoch in epochs]
        start = time.perf_counter()
        for epoch, order in zip(epochs, orders, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = training.rate(epoch)
            for begin in range(0, len(order), share):
                index = order[begin : begin + share]
                optimizer.zero_grad()
                loss(x[index], y[index]).backward()
                optimizer.step()
        seconds = time.perf_counter() - start
        if rank == 0:
            say(seconds=seconds / training.together)
    if rank == 0:
        with torch.inference_mode():
            score = training.score(model.eval()(x_test).numpy(), y_test.numpy())
        say(score=score, parameters=sum(each.numel() for each in model.parameters()))
    if args.world > 1:
        dist.destroy_process_group()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what training and prediction have in common."""
    parser.add_argument("--threads", type=int, default=1, help="of a process")
    parser.add_argument("--precision", choices=("float32", "medium", "bf16"), default="float32")
    parser.add_argument("--compile", action="store_true")


def main() -> None:
    """Parse, and start the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training", type=Training.from_json, help="JSON, see training.py")
    add_options(parser)
    parser.add_argument("--channels-last", action="store_true", help="how convolutions keep their arrays")
    parser.add_argument("--world", type=int, default=1, help="processes; batches are divided among them")
    args = parser.parse_args()
    if args.world == 1:
        run(0, args.training, args)
    else:
        # Forked, as nothing has run yet that has threads: spawned ones would import everything once more.
        torch.multiprocessing.start_processes(run, args=(args.training, args), nprocs=args.world, start_method="fork")


if __name__ == "__main__":
    main()
