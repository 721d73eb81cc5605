"""The peer of `onotrain predict`: the forward pass of a dense network over samples in memory, with PyTorch.

Everything is set in PyTorch's favour: the samples are float32 and normalised before the clock starts, logits are
enough, several batch sizes are tried, and the best one counts.  Prints one JSON object.

    python torch_predict.py --samples 60000 --threads 2
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch
from torch import nn

REPEATS = 5


def seconds(model: nn.Module, x: torch.Tensor, out: torch.Tensor, batch: int) -> float:
    """Return the median time of predicting all samples, after one pass to warm up."""
    times = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        for begin in range(0, len(x), batch):
            out[begin : begin + batch] = model(x[begin : begin + batch])
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    """Parse, predict, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=60_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--widths", type=int, nargs="+", default=[784, 512, 256, 128, 10])
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 128, 256, 512, 1024, 2048, 4096, 10_000, 60_000])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in zip(args.widths, args.widths[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    model = nn.Sequential(*layers[:-1]).eval()
    with torch.inference_mode():
        x = torch.randn(args.samples, args.widths[0])
        out = torch.empty(args.samples, args.widths[-1])
        found = {batch: seconds(model, x, out, batch) for batch in args.batches if batch <= args.samples}
    best = min(found, key=lambda batch: found[batch])
    print(json.dumps({"seconds": found[best], "batch": best, "by_batch": found}))


if __name__ == "__main__":
    main()
