"""The peers as programs, each in an environment of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peers.training import Training
from processes import Failed, run_program, without_limits
from programs import ROOT, fastest, same_network
from rows import Absent, Outcome, Side

SCRIPTS = ROOT / "benchmarks" / "peers"
#: Environment -> packages whose versions are told.
ENVIRONMENTS = {"torch": ("torch",), "jax": ("jax", "jaxlib"), "sklearn": ("scikit-learn",)}
_WIDE = {"XLA_FLAGS": "--xla_cpu_prefer_vector_width=512"}


@dataclass(frozen=True)
class Peer:
    """A program with its settings."""

    name: str
    environment: str
    options: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    #: Processes that share the cores.
    world: int = 1


TORCH = Peer("torch", "torch")
TORCH_DDP = Peer("torch DDP", "torch", world=2)
TORCH_MEDIUM = Peer("torch medium", "torch", ("--precision=medium",))
TORCH_BF16 = Peer("torch bf16", "torch", ("--precision=bf16",))
TORCH_COMPILED = Peer("torch compile", "torch", ("--compile",))
TORCH_COMPILED_BF16 = Peer("torch compile bf16", "torch", ("--compile", "--precision=bf16"))
JAX = Peer("JAX", "jax")
JAX_512 = Peer("JAX 512", "jax", variables=_WIDE)
TORCH_CHANNELS_LAST = Peer("torch channels-last", "torch", ("--channels-last",))
TORCH_COMPILED_CHANNELS_LAST = Peer("torch compile channels-last", "torch", ("--compile", "--channels-last"))
JAX_CONVOLUTIONS = Peer("JAX convolutions", "jax", ("--convolutions=xla", "--steps=python"), _WIDE)
JAX_RBG = Peer("JAX rbg", "jax", ("--generator=unsafe_rbg",))
JAX_BF16 = Peer("JAX bf16", "jax", ("--precision=bf16",))
JAX_BF16_512 = Peer("JAX bf16 512", "jax", ("--precision=bf16",), _WIDE)
SKLEARN = Peer("scikit-learn", "sklearn")

#: Of those that multiply in float32, the one whose products are in bf16 where the processor has them.
ASIDE = (TORCH_MEDIUM.name,)
FLOAT32 = (TORCH, TORCH_MEDIUM, TORCH_COMPILED, JAX, JAX_512, SKLEARN)
#: With dropout the generator matters; DDP is far too slow for small networks.
ON_MNIST = (*FLOAT32, JAX_RBG, TORCH_DDP)
#: Convolutions, which are products with patches in JAX, but for the one that has those of XLA.
ON_IMAGES = (TORCH, TORCH_CHANNELS_LAST, TORCH_COMPILED_CHANNELS_LAST, TORCH_DDP, JAX_512, JAX_CONVOLUTIONS)
IN_BF16 = (TORCH_BF16, TORCH_MEDIUM, TORCH_COMPILED_BF16, JAX_BF16, JAX_BF16_512)
PREDICTING, PREDICTING_BF16 = (TORCH, TORCH_MEDIUM, TORCH_COMPILED), (TORCH_BF16, TORCH_MEDIUM, TORCH_COMPILED_BF16)


def outcome(printed: str, training: Training) -> Outcome:
    """Return what the lines of a peer come to: its fastest epoch [s], without the first, and the score.

    Raises
    ------
    Failed
        Its network is another one than that of the training.
    """
    *epochs, end = (json.loads(line) for line in printed.splitlines())
    same_network(training, end["parameters"])
    return Outcome(fastest([epoch["seconds"] for epoch in epochs]), end["score"])


class Peers:
    """All peers; what they write while they compile goes to the folder."""

    def __init__(self, venv: Path, folder: Path) -> None:
        self._venv, self._folder = venv.absolute(), folder

    def train(self, peer: Peer, training: Training, cores: int) -> Side:
        """Train on so many cores, which this process is pinned to; return the fastest epoch [s] and the score."""
        options = [*peer.options, *(["--world", str(peer.world)] if peer.world > 1 else [])]
        return self._run(peer, f"{peer.environment}_train.py", training, options, cores // peer.world)

    def predict(self, peer: Peer, training: Training, network: Path, threads: int) -> Side:
        """Predict the training images with the network of a file; return the seconds, and the score of the others."""
        return self._run(peer, f"{peer.environment}_predict.py", training, [str(network), *peer.options], threads)

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages of each environment that is there."""
        packages = [(python, name) for environment, names in ENVIRONMENTS.items() for name in names
                    if (python := self._python(environment)).exists()]  # fmt: skip
        script = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"
        return {
            name: run_program([python, "-c", script, name], self._folder, without_limits()).strip()
            for python, name in packages
        }

    def _python(self, environment: str) -> Path:
        return Path(f"{self._venv}-{environment}") / "bin" / "python"

    def _run(self, peer: Peer, script: str, training: Training, arguments: Sequence[str], threads: int) -> Side:
        python = self._python(peer.environment)
        # JAX takes the cores that it is pinned to, scikit-learn the threads of its BLAS.
        own = [f"--threads={threads}"] if peer.environment == "torch" else []
        environment = {
            **without_limits(), "OPENBLAS_NUM_THREADS": str(threads), **peer.variables,
            "TORCHINDUCTOR_CACHE_DIR": str(self._folder / "inductor"),
        }  # fmt: skip
        command = [python, SCRIPTS / script, training.to_json(), *arguments, *own]
        try:
            return outcome(run_program(command, self._folder, environment), training)
        except Failed as error:
            return Absent(str(error))
