"""The table of the comparison is right for given numbers; the programs are found and counted right."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from onotrain.cli.network import model_of
from onotrain.config import Config, load_config

ROOT = Path(__file__).parents[2]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what imports a file of benchmarks/ by its name, for one test."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "peers"))
    names = [path.stem for path in (ROOT / "benchmarks").glob("*.py")] + ["peers.training", "training", "sklearn_train"]
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)

    def get(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield get
    for name in names:
        sys.modules.pop(name, None)


#: What compare.py would write of three rows, as `results` of its file.
MACHINE = {
    "date": "2031-02-03", "cpu": "Abacus 9", "cores": 2, "caches": {"L1d": "32K", "L2": "1024K"},
    "kernels": "x86_64_v3", "mpi": "Open MPI v5.0.11, package: x",
    "blas": [{"library": "openblas", "version": "0.3.30"}],
    "packages": {"numpy": "2.3.4"}, "python": "3.11.7", "peers": {"torch": "2.13.0+cpu", "jax": "0.10.2"},
    "commit": "abc1234",
}  # fmt: skip


#: Why a peer did not run.
REASON = "scikit-learn has no dropout"


def results(module: Any) -> list[Any]:
    rows = module("rows")
    side, absent, reading = rows.Outcome, rows.Absent, rows.Reading

    def beside(eager: float, compiled: float) -> dict[str, Any]:
        return {"eager": side(eager, 0.98), "compiled": side(compiled, 0.97), "sklearn": absent(REASON)}

    seconds = "s an epoch"
    readings = {
        rows.Row("fast", "against the best", 3.0, side_unit=seconds): [
            reading(side(2.0, 0.981), beside(12.0, 8.0)), reading(side(1.0, 0.982), beside(6.0, 7.0)),
            reading(side(2.0, 0.983), beside(12.0, 8.0)),
        ],
        rows.Row("eager", "against eager", 7.0, side_unit=seconds, beside=("eager",)): [
            reading(side(2.0), beside(12.0, 8.0)), reading(side(1.0), beside(6.0, 7.0)),
        ],
        rows.Row("gemm", "against bare products", 0.9, "", side_unit="ms"): [
            reading(side(ours), {"products": side(6.3)}) for ours in (7.0, 6.0, 7.2)
        ],
        rows.Row("memory", "memory of a rank", 80.0, "MiB", "at most"): [
            reading.of(figure) for figure in (61.25, 70.0, 80.5)
        ],
        rows.Row("odd", "odd widths", 0.05, sense="within", side_unit=seconds): [
            reading(side(1.0), {"even": side(0.98)})
        ],
        rows.Row("cost", "what it costs", None, "steps"): [reading.of(figure) for figure in (12.5, 120.4)],
        rows.Row("bf16", "in bf16", 1.5, side_unit=seconds): [reading(absent("no such key"))],
    }  # fmt: skip
    made = [rows.Result(row) for row in readings]
    for result in made:
        for each in readings[result.row]:
            result.add(each)
    return made


def table_of(module: Any, found: list[Any]) -> str:
    report = module("report")
    return module("results").table(report.COLUMNS, map(report.cells, found))


def test_the_table(module: Any) -> None:
    lines = table_of(module, results(module)).splitlines()
    assert lines == [
        "| what | target | median | min to max | met | onotrain | best other |  | score | its score |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| against the best | at least 3 times | 4.00 times | 4.00 to 7.00 | yes | 2.00 s an epoch | compiled "
        "| 8.00 s an epoch | 0.9820 | 0.9700 |",
        "| against eager | at least 7 times | 6.00 times | 6.00 to 6.00 | **no** | 1.50 s an epoch | eager "
        "| 9.00 s an epoch |  | 0.9800 |",
        "| against bare products | at least 0.9 | 0.900 | 0.875 to 1.05 | yes | 7.00 ms | products | 6.30 ms |  |  |",
        "| memory of a rank | at most 80 MiB | 70.0 MiB | 61.2 to 80.5 | yes |  |  |  |  |  |",
        "| odd widths | the same within 5 % | 0.980 times | 0.980 to 0.980 | yes | 1.00 s an epoch | even "
        "| 0.980 s an epoch |  |  |",
        "| what it costs |  | 66.5 steps | 12.5 to 120 |  |  |  |  |  |  |",
        "| in bf16 | at least 1.5 times | not measured |  |  |  |  |  |  |  |",
    ]


def test_all_that_ran_is_shown_and_why_the_rest_did_not(module: Any) -> None:
    report, found = module("report"), results(module)
    assert report.peers_table(found).splitlines() == [
        "| median (score) | onotrain | eager | compiled |",
        "| --- | --- | --- | --- |",
        "| against the best [s an epoch] | 2.00 (0.9820) | 12.0 (0.9800) | 8.00 (0.9700) |",
    ]
    assert report.reasons(found).splitlines() == [f"- sklearn (fast): `{REASON}`", "- onotrain (bf16): `no such key`"]


def test_the_opponent_is_the_best_by_its_median_that_ran_in_every_pair(module: Any) -> None:
    rows = module("rows")
    result = rows.Result(rows.Row("r", "r", 1.0, side_unit="s", aside=("other precision",)))
    assert (result.opponent, result.figures, result.median, result.met) == (None, [], None, None)
    for slow, quick, now_and_then in ((4.0, 3.0, 1.0), (4.0, 9.0, None), (4.0, 3.0, 1.0)):
        other = rows.Absent("out of luck") if now_and_then is None else rows.Outcome(now_and_then)
        sides = {"slow": rows.Outcome(slow), "quick": rows.Outcome(quick), "now and then": other}
        sides["other precision"] = rows.Outcome(0.1)
        result.add(rows.Reading(rows.Outcome(2.0), sides))
    assert result.opponent == "quick" and set(result.medians) == {"slow", "quick", "other precision"}
    assert result.figures == [1.5, 4.5, 1.5] and result.median == 1.5 and result.met
    assert result.absent == {"now and then": "out of luck"}


def test_who_is_far_behind_is_not_timed_again(module: Any) -> None:
    rows, case, peers = module("rows"), module("case"), module("peer_programs")
    behind, asked = rows.Result(rows.Row("r", "r", 1.0, side_unit="s")), rows.Result(
        rows.Row("s", "s", 1.0, side_unit="s", beside=("JAX",))
    )  # fmt: skip
    for best, near, jax, torch in ((1.0, 1.24, 2.0, 2.0), (1.0, 1.3, 2.0, 1.3)):
        sides = {"best": best, "near": near, "JAX": jax, "torch": torch}
        for result in (behind, asked):
            result.add(rows.Reading(rows.Outcome(1.0), {name: rows.Outcome(side) for name, side in sides.items()}))
    assert rows.far_behind([behind]) == {"JAX", "torch"}
    assert rows.far_behind([behind, asked]) == {"torch"}
    pair = case.Pair(None, None, 2, False, rows.far_behind([behind]))
    assert pair.timed([peers.JAX, peers.SKLEARN, peers.TORCH]) == [peers.SKLEARN]
    behind.add(rows.Reading(rows.Outcome(1.0), {"best": rows.Outcome(1.0), "near": rows.Outcome(0.9)}))
    assert behind.opponent == "best"
    assert "2.00 (, 2 pairs)" in module("report").peers_table([behind])


@pytest.mark.parametrize(
    ("figure", "sense", "target", "met"),
    [(0.9, "at least", 0.9, True), (0.899, "at least", 0.9, False), (0.9, "at most", 0.9, True),
     (0.901, "at most", 0.9, False), (1.05, "within", 0.0501, True), (0.94, "within", 0.05, False)],
)  # fmt: skip
def test_a_target_is_met_where_it_is_reached(module: Any, figure: float, sense: str, target: float, met: bool) -> None:
    rows = module("rows")
    assert rows.Result(rows.Row("r", "r", target, "", sense), [rows.Outcome(figure)]).met is met


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0642, "0.064"), (0.99949, "0.999"), (0.9999, "1.00"), (9.994, "9.99"), (9.996, "10.0"), (99.97, "100"),
     (1234.4, "1234"), (-0.5, "-0.500")],
)  # fmt: skip
def test_numbers_have_three_digits(module: Any, value: float, text: str) -> None:
    assert module("report").number(value) == text


def test_the_page_gets_table_and_plot_and_keeps_the_rest(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = module("report")
    begin, end = f"<!-- {report.NAME}: begin -->", f"<!-- {report.NAME}: end -->"
    file, page, plot = tmp_path / "r.json", tmp_path / "docs" / "p.md", tmp_path / "docs" / "images" / "p.png"
    module("results").save(file, {"machine": MACHINE, "pairs": 3}, [result.to_dict() for result in results(module)])
    page.parent.mkdir()
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    monkeypatch.setattr(sys, "argv", ["report.py", str(file), "--page", str(page), "--plot", str(plot)])
    for _ in range(2):  # the second time there is a table already
        report.main()
        text = page.read_text()
        assert text.startswith(f"before\n{begin}\nMeasured on 2031-02-03: Abacus 9, 2 cores (L1d 32K, L2 1024K)")
        about = text.replace("\n", " ")
        assert "`x86_64_v3`, Open MPI v5.0.11, openblas 0.3.30, NumPy 2.3.4, Python 3.11.7" in about
        assert "PyTorch 2.13.0+cpu, JAX 0.10.2, commit `abc1234`" in about
        assert "commit `abc1234`; medians of 3 pairs, of the first 2 for peers that took 1.25 times as long" in about
        assert table_of(module, results(module)) in text
        assert "![Medians, pairs and targets](images/p.png)" in text and report.peers_table(results(module)) in text
        assert text.endswith(f"`no such key`\n{end}\nafter\n")
        assert "old" not in text
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_file_of_results_has_what_the_table_needs_one_result_a_line(module: Any, tmp_path: Path) -> None:
    rows, found, file = module("rows"), results(module), tmp_path / "folder" / "r.json"
    assert module("results").load(file) == []
    module("results").save(file, {"machine": MACHINE}, [result.to_dict() for result in found])
    assert len(file.read_text().splitlines()) == len(found) + 5
    assert json.loads(file.read_text())["machine"] == MACHINE
    back = [rows.Result.from_dict(result) for result in module("results").load(file)]
    assert [result.figures for result in back] == [result.figures for result in found]
    assert table_of(module, back) == table_of(module, found)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"machine": {}, "pairs": 1, "results": []}',
     '{"machine": {}, "pairs": 1, "results": [{"name": "x"}]}'],
)  # fmt: skip
def test_a_file_that_holds_no_results_is_one_message(
    module: Any, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "r.json"
    file.write_text(content)
    page = tmp_path / "p.md"
    page.write_text("")
    monkeypatch.setattr(sys, "argv", ["report.py", str(file), "--page", str(page), "--plot", str(tmp_path / "p.png")])
    with pytest.raises(SystemExit, match=r"r\.json: \w+Error: "):
        module("report").main()
    assert page.read_text() == "" and not (tmp_path / "p.png").exists()


def test_a_page_without_markers_is_refused(module: Any) -> None:
    begin, end = "<!-- x: begin -->", "<!-- x: end -->"
    for page in ("", begin, f"{end}{begin}", f"{begin}{begin}{end}"):
        with pytest.raises(ValueError, match="needs the lines"):
            module("results").filled(page, "content", "x")


def test_rows_are_drawn_by_what_their_axis_shows(module: Any) -> None:
    shown = {
        title.split(" (")[0]: [r.row.name for r in rows] for title, rows in module("report").panels(results(module))
    }
    assert shown == {
        "times faster": ["fast", "eager"], "against what is possible": ["gemm"],
        "share of what is allowed": ["memory", "odd"],
    }  # fmt: skip


def test_the_pages_of_the_repository_hold_the_tables_of_the_kept_results(module: Any) -> None:
    """Which are made again without a new measurement."""
    page, report, slow, uneven = (module(name) for name in ("results", "report", "slow_network", "uneven"))
    strategies, kept = module("strategies"), {path.stem: page.load(path) for path in page.RESULTS.glob("*.json")}
    for file in page.RESULTS.glob("*-peers-*.json"):
        measured = [module("rows").Result.from_dict(row) for row in page.load(file)]
        assert table_of(module, measured) in report.PAGE.read_text()
    cases = {result["name"]: result for result in kept["2026-11-21-uneven"]}
    for table in (
        page.table(strategies.COLUMNS, map(strategies.cells, kept["2026-11-21-strategies"])),
        slow.table_of(kept["2026-11-21-slow-network"]),
        uneven.always_table([cases[case.name] for case in uneven.ALWAYS]),
        uneven.now_and_then_table([cases[case.name] for case in uneven.NOW_AND_THEN]),
    ):
        assert table in page.STRATEGIES.read_text()


def test_every_row_has_a_name_of_its_own_and_a_target(module: Any) -> None:
    cases = module("cases")
    assert len(cases.names()) == len(set(cases.names()))
    rows = {row.name: row for case in cases.CASES for row in case.rows}
    assert {name for name, row in rows.items() if row.target is None} == {
        "tiny-peers", "bare-64-gflops", "bare-64-peers", "bare-512-gflops", "bare-512-peers", "one-rank-peers",
        "saving-cost",
    }  # fmt: skip
    assert {name for name, row in rows.items() if row.sense == "at most"} == {
        "tiny", "bf16-accuracy", "update", "memory", "version", "fixed", "saving"
    }  # fmt: skip


def test_ours_trains_what_the_configuration_for_mnist_says(module: Any, tmp_path: Path) -> None:
    path, programs = tmp_path / "c.yaml", module("programs")
    path.write_text(programs.config(module("peers.training").Training("mnist")))
    ours, shipped = load_config(path).to_mapping(), load_config(ROOT / "configs" / "mnist-mlp.yaml").to_mapping()
    same = {"checkpoint": shipped["checkpoint"], "data": {**ours["data"], "validation": "test"}}
    assert Config.from_mapping({**ours, **same}) == Config.from_mapping(shipped)


@pytest.mark.parametrize(
    ("training", "shipped", "left_out"),
    [("LENET", "mnist-lenet5", "dropout"), ("NIELSEN", "mnist-nielsen", "random_shift")],
)
def test_ours_trains_what_the_configurations_for_images_say_but_for_one_layer(
    module: Any, training: str, shipped: str, left_out: str, tmp_path: Path
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(module("programs").config(getattr(module("races"), training)))
    ours, kept = load_config(path).to_mapping(), load_config(ROOT / "configs" / f"{shipped}.yaml").to_mapping()
    layers = [layer for layer in kept["model"]["layers"] if left_out not in layer]
    assert ours["model"]["layers"] == layers and len(layers) == len(kept["model"]["layers"]) - 1
    for section, key in (("data", "shape"), ("data", "normalize"), ("training", "batch_size")):
        assert ours[section][key] == kept[section][key]
    assert (ours["loss"], ours["optimizer"]) == (kept["loss"], kept["optimizer"])


def test_all_trainings_are_configurations(module: Any, tmp_path: Path) -> None:
    races, path = module("races"), tmp_path / "c.yaml"
    for training in (races.MLP, races.BARE, races.VALUES, races.TINY, races.WIDE, races.LENET, races.NIELSEN):
        path.write_text(module("programs").config(training))
        found = load_config(path)
        assert found.training.epochs == training.epochs and found.optimizer.name == training.optimizer
        assert type(training).from_json(training.to_json()) == training
        shape = training.image if training.convolutions else training.widths[:1]
        assert model_of(found, shape, {}).layout.parameter_count == training.parameters


def test_a_peer_of_another_network_is_refused(module: Any) -> None:
    peers, training = module("peer_programs"), module("races").LENET
    assert training.parameters == 6 * 25 + 6 + 16 * 150 + 16 + 256 * 120 + 120 + 120 * 84 + 84 + 84 * 10 + 10
    lines = ['{"seconds": 9.0}', '{"seconds": 2.0}', '{"seconds": 3.0}']
    end = f'{{"score": 0.5, "parameters": {training.parameters}}}'
    assert peers.outcome("\n".join([*lines, end]), training) == module("rows").Outcome(2.0, 0.5)
    with pytest.raises(module("processes").Failed, match="has 44,426 parameters, expected 107,786"):
        peers.outcome("\n".join([*lines, end]), dataclasses.replace(training, convolutions=((6, 5, 2), (16, 5, 2))))


def test_dense_layers_read_what_convolutions_leave(module: Any) -> None:
    races = module("races")
    assert races.LENET.dense == [(16 * 4 * 4, 120), (120, 84), (84, 10)]
    assert races.NIELSEN.dense == [(20 * 12 * 12, 100), (100, 10)]
    assert races.VALUES.dense == [(10, 64), (64, 64), (64, 3)]


def test_operations_of_a_sample(module: Any) -> None:
    assert module("races").operations((784, 512, 256, 128, 10)) == 2_596_352
    assert module("races").operations((3, 2)) == 2 * 2 * 6


def test_what_a_rank_needs_for_itself(module: Any) -> None:
    training = module("peers.training").Training("mnist", batch_size=6, widths=(5, 4, 3))
    gradients, rows = 5 * 4 + 4 + 4 * 3 + 3, 3
    assert module("programs").values_per_rank(training, ranks=2) == gradients + rows * (5 + 3 * (4 + 3))


def test_the_first_epoch_warms_up(module: Any) -> None:
    epochs = [{"train_seconds": seconds} for seconds in (9.0, 2.0, 3.0, 1.0)]
    assert module("programs").seconds_of(epochs) == 2.0
    assert module("programs").seconds_of(epochs[:1]) == 9.0
    fastest = module("programs").fastest
    assert fastest([0.1, 2.0, 3.0, 1.0]) == 1.0 and fastest([9.0]) == 9.0
    assert fastest([0.1, 0.1, 2.0, 3.0, 1.0, 5.0], together=2) == 2.5


def test_a_job_and_its_memory_are_found(module: Any) -> None:
    processes = module("processes")
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'], stdin=0)"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as process:
        while len(found := processes.descendants(process.pid)) < 2:
            time.sleep(0.02)
        assert found[0] == process.pid and len(found) == 2
        # One that has just begun has hardly any memory.
        while not all(processes.pss_kib(pid) > 500 for pid in found):
            time.sleep(0.02)
        process.communicate(b"\n")
    assert processes.descendants(process.pid) == [process.pid]
    assert processes.pss_kib(process.pid) == 0


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("mpirun: x\nonotrain: training.precision: unknown key\n  hint: see y\n", "training.precision: unknown key"),
        ("Traceback:\n  f()\ntorch.X.CppError: no compiler\n\nSet TORCH=1 for more\n", "torch.X.CppError: no compiler"),
        ("onotrain: internal error on rank 1; report\nTraceback:\n  f()\nKeyError: 'x'\n", "KeyError: 'x'"),
        ("scikit-learn has no dropout\n", "scikit-learn has no dropout"),
        ("", "it said nothing"),
    ],
)
def test_a_program_that_fails_says_why(module: Any, said: str, why: str, tmp_path: Path) -> None:
    processes = module("processes")
    script = "import sys; sys.stderr.write(sys.argv[1]); sys.exit(3)"
    with pytest.raises(processes.Failed, match=f"^{re.escape(why)}$"):
        processes.run_program([sys.executable, "-c", script, said], tmp_path, os.environ)
    with pytest.raises(processes.Failed, match="No such file"):
        processes.run_program([tmp_path / "python"], tmp_path, os.environ)


def test_programs_run_on_as_many_cores_as_they_shall(module: Any, tmp_path: Path) -> None:
    processes, before = module("processes"), os.sched_getaffinity(0)
    script = "import os; print(len(os.sched_getaffinity(0)))"
    with processes.pinned(1):
        assert processes.run_program([sys.executable, "-c", script], tmp_path, os.environ) == "1\n"
    assert os.sched_getaffinity(0) == before
    with pytest.raises(processes.Failed, match="1000000 cores are needed"):
        processes.first_cores(1_000_000)


def test_a_peer_trains_what_it_can(module: Any, tmp_path: Path) -> None:
    """scikit-learn, in place of all peers: what it prints is understood, and so is what it refuses."""
    peers, races = module("peer_programs"), module("races")
    venv, data = tmp_path / "venv", tmp_path / "values.npz"
    Path(f"{venv}-sklearn").symlink_to(sys.prefix)
    x, y = module("samples").smooth(10, 3, 600)
    np.savez(data, x=x[:500], y=y[:500], x_test=x[500:], y_test=y[500:])
    training = dataclasses.replace(races.VALUES, data=str(data), epochs=30, learning_rate=2e-2)
    found = peers.Peers(venv, tmp_path).train(peers.SKLEARN, training, 1)
    assert isinstance(found, module("rows").Outcome), found
    assert found.value > 0 and 0.5 < found.score < 1.0
    refused = peers.Peers(venv, tmp_path).train(peers.SKLEARN, dataclasses.replace(training, dropout=0.5), 1)
    assert refused == module("rows").Absent(REASON)
    missing = peers.Peers(venv, tmp_path).train(peers.JAX, training, 1)
    assert "venv-jax" in missing.reason


def test_scores(module: Any) -> None:
    training = module("peers.training").Training
    logits = np.array([[1.0, 2.0], [2.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    assert training("x").score(logits, np.array([1, 0, 0, 0])) == 0.75
    predicted, y = np.array([[1.0, 0.0], [3.0, 0.0]]), np.array([[0.0, 0.0], [4.0, 2.0]])
    assert training("x", loss="mse").score(predicted, y) == pytest.approx((1 - 2 / 8 + 1 - 4 / 2) / 2)


def test_names_of_files_of_results(module: Any) -> None:
    assert module("results").slug("Intel(R) Xeon(R) CPU @ 2.20GHz") == "intel-r-xeon-r-cpu-2-20ghz"


def test_rows_of_one_commit_are_kept_together(module: Any, tmp_path: Path) -> None:
    compare, rows = module("compare"), module("rows")
    version, fixed = (
        rows.Result(rows.Row(name, name, 1.0, "s"), [rows.Outcome(value)])
        for name, value in [("version", 0.1), ("fixed", 2.0)]
    )
    path, about = tmp_path / "results.json", {"commit": "abc"}
    module("results").save(path, {"machine": about, "pairs": 5}, compare.merged([fixed], path, about, 5))
    both = compare.merged([version], path, about, 5)
    assert [row["name"] for row in both] == ["version", "fixed"]  # in the order of the table
    for other, pairs in [({"commit": "abd"}, 5), (about, 3)]:
        assert [row["name"] for row in compare.merged([version], path, other, pairs)] == ["version"]


#: Stands for a training: epochs of these accuracies, then what follows.
STANDS_FOR_TRAINING = """
import pathlib, sys, time
run = pathlib.Path(sys.argv[1]); run.mkdir()
with open(run / "metrics.jsonl", "a", buffering=1) as file:
    for number, accuracy in enumerate({accuracies}):
        print(f'{{{{"epoch": {{number + 1}}, "steps": {{30 * (number + 1)}}, "train_seconds": 2.5, '
              f'"validation_accuracy": {{accuracy}}, "ranks_seconds": {{{{"compute": [0.5, 0.0]}}}}}}}}', file=file)
    file.write('{{"epoch": 9')  # a line that is being written
{then}
"""


class Namespaces:
    """Stands for hosts: a job is a process of this one, and every look at a counter finds 1000 bytes more."""

    def __init__(self, accuracies: tuple[float, ...], then: str) -> None:
        self.script = STANDS_FOR_TRAINING.format(accuracies=accuracies, then=then)
        self.looks = dict.fromkeys((4, 5, 6), 0)
        self.process: subprocess.Popen[str] | None = None

    def sent(self, host: int) -> int:
        self.looks[host] += 1
        return 77 + host * 1000 * self.looks[host]

    def start(self, command: list[object], hosts: Any, said: Any, mpi: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", self.script, str(command[command.index("--output") + 1])]
        self.process = subprocess.Popen(words, stdout=said, stderr=subprocess.STDOUT, text=True)
        return self.process


def train_slowly(module: Any, folder: Path, hosts: Namespaces, limit: float) -> dict[str, Any]:
    group = module("slow_network").Group(hosts, [4, 5, 6], module("programs").Ours(folder), folder)
    result: dict[str, Any] = group.train(module("slow_network").CASES[0], limit)
    return result


def test_a_run_over_slow_links_ends_at_its_target(module: Any, tmp_path: Path) -> None:
    hosts = Namespaces((0.9, 0.97), "time.sleep(100)")
    result = train_slowly(module, tmp_path, hosts, 60.0)
    assert hosts.process is not None and hosts.process.poll() is not None
    assert (result["accuracies"], result["seconds"]) == ([0.9, 0.97], [2.5, 5.0])
    # Of the host that sent most; its counter has been looked at once more for the second epoch.
    assert result["bytes_per_step"] == 6000 / 30
    found, clock, *others = module("slow_network").cells(result)
    assert (found, others) == ("5", ["60", "0.9700", "0.00", "20%"]) and 0.0 <= float(clock) < 60.0


def test_a_run_over_slow_links_ends_at_its_limit(module: Any, tmp_path: Path) -> None:
    hosts = Namespaces((0.9, 0.9699), "time.sleep(100)")
    result = train_slowly(module, tmp_path, hosts, 3.0)
    assert hosts.process is not None and hosts.process.poll() is not None
    assert module("slow_network").cells(result)[0] == "**not** in 3"
    assert module("slow_network").cells({"limit_seconds": 3.0})[0] == "no epoch in 3"


def test_bytes_of_a_step_are_those_after_the_first_epoch(module: Any) -> None:
    epochs = [{"sent": sent, "steps": steps} for sent, steps in ((None, 5), ([900, 500], 10), ([1000, 800], 20))]
    assert module("slow_network").bytes_per_step(epochs) == 30.0
    assert module("slow_network").bytes_per_step(epochs[:2]) == 90.0


def test_the_rank_that_computes_most_says_how_much_is_computed(module: Any) -> None:
    epochs = [
        {"train_seconds": 10.0, "ranks_seconds": {"compute": ranks}} for ranks in ([0.5, 2.0, 1.0], [2.5, 2.0, 1.0])
    ]
    assert module("slow_network").computing(epochs) == 0.2


def test_a_run_over_slow_links_that_fails_says_why(module: Any, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ended with 3:\nout of luck"):
        train_slowly(module, tmp_path, Namespaces((0.5,), "print('out of luck', flush=True); sys.exit(3)"), 60.0)


def test_results_of_slow_links_are_kept_by_case_and_hosts(module: Any, tmp_path: Path) -> None:
    slow, path = module("slow_network"), tmp_path / "results.json"
    first, second = (case.name for case in slow.CASES[:2])

    def result(name: str, hosts: int, accuracy: float) -> dict[str, Any]:
        epoch = {"steps": 10, "train_seconds": 7.0, "wall_seconds": 9.0, "sent": [10**7, 2 * 10**7, 0]}
        epoch["ranks_seconds"] = {"compute": [0.7, 0.0]}
        found = slow.summary([{**epoch, "validation_accuracy": accuracy}])
        return {"name": name, "what": f"the {name}", "hosts": hosts, "limit_seconds": 60.0, **found}

    for content in (result(second, 3, 0.98), result(first, 5, 0.98), result(first, 3, 0.5)):
        slow.Results(path, {}, "10mbit").add(content)
    results = slow.Results(path, {}, "10mbit")
    results.add(result(first, 3, 0.9712))  # in place of the other
    kept = slow.Results(path, {}, "10mbit").all()
    assert [(content["name"], content["hosts"]) for content in kept] == [(first, 3), (second, 3), (first, 5)]
    assert slow.table_of(kept).splitlines()[2] == f"| 3 | the {first} | 7 | 9 | 10 | 0.9712 | 2.00 | 10% |"
    slow.draw(kept, "10mbit", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_cases_of_slow_links_are_configurations(module: Any) -> None:
    slow = module("slow_network")
    for case in slow.CASES:
        settings = {"strategy": case.strategy, **slow.SETTINGS, **case.changes}
        changes = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
        config = load_config(ROOT / "configs" / "mnist-mlp.yaml", changes)
        assert config.training.batch_size == 2048 and config.strategy.name == case.strategy["name"]
