"""Files that were changed at random are refused with one message or read, in little memory and time, whatever they are.

``ONOTRAIN_FUZZ=n`` (``make test-fuzz``) tries n times as many.  What was found once is in ``corpus/``, and in the tests
of `test_kinds.py`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fuzz import mutations, seeds
from fuzz.bounded import Bounded, check
from onotrain.runs.checkpoint_store import read_checkpoint

TIMES = int(os.environ.get("ONOTRAIN_FUZZ", "1"))
CORPUS = Path(__file__).with_name("corpus")
EXAMPLES = settings(
    max_examples=6 * TIMES,
    deadline=None,
    derandomize=TIMES == 1,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate) if TIMES == 1 else tuple(set(Phase) - {Phase.explain}),
)
RANDOM = st.randoms(use_true_random=False)
RESUME = ("train", "c.yaml", "--quiet", "--output", "run", "--resume", "--set", "training.epochs=2")

pytestmark = pytest.mark.timeout(120 + 300 * TIMES)


@pytest.fixture(scope="module")
def runs() -> Iterator[Bounded]:
    with Bounded() as made:
        yield made


@pytest.fixture(scope="module")
def place(runs: Bounded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a directory with a run, and a copy of it that stays as it is."""
    directory = tmp_path_factory.mktemp("fuzz")
    seeds.make_run(directory, runs)
    shutil.copytree(directory / "run", directory / "kept")
    return directory


def restored(place: Path) -> Path:
    """Return the run as it was."""
    shutil.rmtree(place / "run")
    return Path(shutil.copytree(place / "kept", place / "run"))


def commands_for(name: str) -> list[tuple[str, ...]]:
    """Return the command lines that read a data file."""
    return [
        ("data", "info", name),
        ("init", name, "-o", "o.yaml", "--force"),
        ("predict", "run", name, "-o", "p.csv"),
        ("evaluate", "run", name),
        ("train", "c.yaml", "--quiet", "--overwrite", "--output", "other", "--set", f"data.train={name}"),
    ]


def commands_for_checkpoint(name: str) -> list[tuple[str, ...]]:
    """Return the command lines that read a checkpoint."""
    return [
        ("inspect", name),
        ("inspect", name, "--json"),
        ("predict", name, "d.csv", "-o", "p.csv"),
        ("evaluate", name, "d.csv"),
        ("export", name, "-o", "x.npz"),
        ("train", "c.yaml", "--from", name, "--quiet", "--overwrite", "--output", "other"),
    ]


@pytest.mark.parametrize("kind", ["csv", "npy", "npz", "idx", "hdf5"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_data(kind: str, runs: Bounded, place: Path) -> None:
    @EXAMPLES
    @given(RANDOM)
    def one(random: Random) -> None:
        name, data = seeds.changed_file(kind, random)
        (place / name).write_bytes(data)
        check(runs.run(*random.choice(commands_for(name)), cwd=place), {0, 2, 3, 5, 6})

    one()


def test_configurations(runs: Bounded, place: Path) -> None:
    @EXAMPLES
    @given(RANDOM)
    def one(random: Random) -> None:
        (place / "f.yaml").write_bytes(seeds.changed_config(random))
        train = ("train", "f.yaml", "--quiet", "--overwrite", "--output", "other", "--set", "training.epochs=1")
        check(runs.run(*random.choice((("validate", "f.yaml"), train)), cwd=place), {0, 2, 3, 5, 6})

    one()


def test_checkpoints(runs: Bounded, place: Path) -> None:
    saved = next((place / "kept" / "checkpoints").glob("step-*.h5"))
    seed = read_checkpoint(saved)

    @EXAMPLES
    @given(RANDOM)
    def one(random: Random) -> None:
        data = mutations.changed_checkpoint(seed, random)
        (place / "f.h5").write_bytes(data)
        arguments = random.choice((RESUME, *commands_for_checkpoint("f.h5")))
        if arguments == RESUME:
            (restored(place) / "checkpoints" / saved.name).write_bytes(data)
        check(runs.run(*arguments, cwd=place))

    one()
    restored(place)


def test_run_directories(runs: Bounded, place: Path) -> None:
    names = sorted(str(p.relative_to(place / "kept")) for p in (place / "kept").rglob("*") if p.suffix != ".h5")
    files = [name for name in names if (place / "kept" / name).is_file()]

    @EXAMPLES
    @given(RANDOM)
    def one(random: Random) -> None:
        file = restored(place) / random.choice(files)
        file.write_bytes(_changed(file, random))
        arguments = random.choice(
            (("inspect", "run"), ("inspect", "run", "--json"), ("inspect", "run", "--plot", "p.png"), RESUME,
             ("evaluate", "run", "d.csv"), ("report", "run", "--no-samples"), ("watch", "run", "--once"))
        )  # fmt: skip
        check(runs.run(*arguments, cwd=place))

    one()
    restored(place)


def _changed(file: Path, random: Random) -> bytes:
    """Return the content of a file of a run, changed as what it is."""
    data = file.read_bytes()
    if random.random() < 0.2 or not data:
        return mutations.changed_bytes(data, random)
    if file.suffix == ".json":
        return json.dumps(mutations.changed_json(json.loads(data), random)).encode()
    if file.suffix == ".jsonl":
        lines = [json.dumps(mutations.changed_json(json.loads(line), random)) for line in data.splitlines()]
        return "".join(f"{line}\n" for line in lines).encode()
    if file.suffix == ".yaml":
        return json.dumps(mutations.changed_json(yaml.safe_load(data), random)).encode()
    return mutations.changed_bytes(data, random)


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_corpus(path: Path, runs: Bounded, place: Path) -> None:
    """The name of a file says how it must end, and what it is: ``3-<what>.<suffix>``."""
    shutil.copy(path, place / path.name)
    code, kind = int(path.name[0]), path.name.split("-")[1]
    arguments = ("validate", path.name) if path.suffix == ".yaml" else ("data", "info", path.name)
    arguments = ("inspect", path.name) if kind == "checkpoint" else arguments
    assert check(runs.run(*arguments, cwd=place)).code == code
