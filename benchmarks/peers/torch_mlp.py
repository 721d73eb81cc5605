"""The peer: a dense network on MNIST with PyTorch, alone or with DistributedDataParallel (gloo), on CPUs.

Everything is set in PyTorch's favour: the data are a float tensor in memory before the clock starts, the optimiser is
the fused one, and only the training loop is timed.  Prints one JSON object per epoch.

    python torch_mlp.py --data $ONOTRAIN_DATA_DIR/mnist --world 2 --batch 32 --epochs 3
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def load(folder: Path, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return standardised float32 images (n, 784) and int64 labels (n,)."""

    def read(kind: str, offset: int) -> np.ndarray:
        packed = folder / f"{name}-{kind}-ubyte.gz"
        plain = folder / f"{name}-{kind}-ubyte"
        data = gzip.decompress(packed.read_bytes()) if packed.exists() else plain.read_bytes()
        return np.frombuffer(data, np.uint8, offset=offset)

    images = read("images-idx3", 16).reshape(-1, 784).astype(np.float32)
    return torch.from_numpy((images / 255 - 0.1307) / 0.3081), torch.from_numpy(read("labels-idx1", 8).astype(np.int64))


def network(widths: list[int], dropout: float) -> nn.Sequential:
    """Return dense layers with ReLU and dropout between them."""
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False)):
        linear = nn.Linear(inputs, outputs)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers.append(linear)
        if index < len(widths) - 2:
            layers += [nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers)


def run(rank: int, args: argparse.Namespace) -> None:
    """Train as one of the ranks."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.world > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(args.port))
        dist.init_process_group("gloo", rank=rank, world_size=args.world)
    x, y = (part[: args.samples] for part in load(args.data, "train"))
    x_test, y_test = load(args.data, "t10k")
    model = network(args.widths, args.dropout)
    net = DistributedDataParallel(model) if args.world > 1 else model
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5, fused=True)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(args.epochs):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))[rank :: args.world]
        net.train()
        start = time.perf_counter()
        for begin in range(0, len(order), args.batch):
            index = order[begin : begin + args.batch]
            optimizer.zero_grad()
            criterion(net(x[index]), y[index]).backward()
            optimizer.step()
        seconds = time.perf_counter() - start
        schedule.step()
        model.eval()
        with torch.no_grad():
            accuracy = (model(x_test).argmax(1) == y_test).float().mean().item()
        if rank == 0:
            print(
                json.dumps({"epoch": epoch + 1, "train_seconds": seconds, "validation_accuracy": accuracy}), flush=True
            )
    if args.world > 1:
        dist.destroy_process_group()


def main() -> None:
    """Parse, and start the ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the four IDX files")
    parser.add_argument("--world", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32, help="samples per rank and step")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--samples", type=int, help="of an epoch; default: all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--widths", type=int, nargs="+", default=[784, 512, 256, 128, 10])
    parser.add_argument("--port", type=int, default=29511)
    args = parser.parse_args()
    if args.world == 1:
        run(0, args)
    else:
        torch.multiprocessing.spawn(run, args=(args,), nprocs=args.world)


if __name__ == "__main__":
    main()
