"""The peer of `onotrain predict`: the forward pass of a trained dense network over images in memory, with PyTorch.

Everything is set in PyTorch's favour: the images are normalised before the clock starts, and rounded to bf16 where that
is asked; logits are enough, several batch sizes are tried, and the best one counts.  Prints the seconds, then the
accuracy on the test images.

    python torch_predict.py "$TRAINING" network.npz --threads 2 --precision bf16
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch_train import add_options, network, set_up
from training import Training, say

REPEATS = 5
BATCHES = (64, 128, 256, 512, 1024, 2048, 4096, 10_000, 60_000)


def load(training: Training, path: Path) -> nn.Sequential:
    """Return the network with the parameters of a file that `onotrain export` has written."""
    model = network(training, dropout=0.0)
    with np.load(path) as file, torch.no_grad():
        for index, linear in enumerate(layer for layer in model if isinstance(layer, nn.Linear)):
            linear.weight.copy_(torch.from_numpy(file[f"dense_{index}.weight"]))
            linear.bias.copy_(torch.from_numpy(file[f"dense_{index}.bias"]))
    return model.eval()


def seconds(net: nn.Module, x: torch.Tensor, out: torch.Tensor, batch: int) -> float:
    """Return the median time of predicting all samples, after one pass to warm up."""
    times = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        for begin in range(0, len(x), batch):
            out[begin : begin + batch] = net(x[begin : begin + batch])
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    """Parse, predict, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training", type=Training.from_json, help="JSON, see training.py; of its test images")
    parser.add_argument("network", type=Path, help="NPZ file")
    add_options(parser)
    args = parser.parse_args()
    set_up(args)
    model = load(args.training, args.network)
    x, _, x_test, y_test = args.training.arrays()
    kind = torch.bfloat16 if args.precision == "bf16" else torch.float32
    images, tests = (torch.from_numpy(each).to(kind) for each in (x, x_test))
    model = model.to(kind)
    net = torch.compile(model) if args.compile else model
    with torch.inference_mode():
        out = torch.empty(len(images), args.training.widths[-1], dtype=kind)
        say(seconds=min(seconds(net, images, out, batch) for batch in BATCHES))
        score = args.training.score(model(tests).float().numpy(), y_test)
    say(score=score, parameters=sum(each.numel() for each in model.parameters()))


if __name__ == "__main__":
    main()
