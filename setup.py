"""Builds the kernels; all else about the package is in pyproject.toml.

Every kernel is translated from Cython to C once and compiled for several levels of the CPU, from which
`onotrain._kernels` chooses when it runs: one installation serves all nodes of a mixed cluster.

``python setup.py build_ext --inplace`` builds for work in the source tree.  With ``ONOTRAIN_DEBUG_KERNELS=1`` the
kernels check every index and are built for AddressSanitizer: run with
``LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so.6)"``, the second for exceptions of
C++ libraries, and go back with ``--force``.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from sysconfig import get_platform

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

KERNELS = "onotrain._kernels"
SOURCES = Path("src/onotrain/_kernels")
DEBUG = os.environ.get("ONOTRAIN_DEBUG_KERNELS", "0") != "0"

# NaN, infinities and signed zeros keep their meaning.  Given up are errno after sqrt and the floating-point exception
# flags: nobody reads them, and either would keep loops from being vectorised.
FLAGS = ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math"]
LINK_FLAGS: list[str] = []
if DEBUG:
    FLAGS = ["-O1", "-g", "-fsanitize=address", "-fno-omit-frame-pointer"]
    LINK_FLAGS = ["-fsanitize=address"]

# Instruction sets are spelled out, not named as -march=x86-64-v3, so that they are the ones that cpu.pyx asks for, and
# for compilers that do not know those names.
V3 = ["-mavx2", "-mfma", "-mbmi", "-mbmi2"]
V4 = [*V3, "-mavx512f", "-mavx512bw", "-mavx512cd", "-mavx512dq", "-mavx512vl"]
LEVELS = {"baseline": []} | ({"x86_64_v3": V3, "x86_64_v4": V4} if get_platform().endswith("x86_64") else {})

# The products of float32 once more, in bfloat16 (bf16_tiles.h), for CPUs of x86_64_v4 that have it.
BF16 = {"x86_64_v4_bf16": [*V4, "-mavx512bf16"]} if "x86_64_v4" in LEVELS else {}

# The rules of the optimisers round every operation: their bits depend neither on the level, nor on how the parameters
# are cut into shards, and the division and square root in them hide what fusing would save.  What codecs
# encode is rounded by adding to a product, and is the reference's to the bit.
EXTRA = dict.fromkeys(("update", "update_rows", "codecs"), ["-ffp-contract=off"])

LEVELLED = (
    "dense", "conv", "elementwise", "group_norm", "batch_norm", "batch_norm_backward",
    "softmax", "losses", "distributions", "update", "update_rows", "order", "gather",
    "codecs", "pool", "samples",
)  # fmt: skip
WITH_PRODUCTS = ("dense", "conv", "update")
# No arithmetic of their own to speed up, or none that matters.
SINGLE = ("cpu", "gemm", "statistics", "program", "random", "sync", "embedding", "pushes", "events")
SHARED = f"{KERNELS}._cyutility"  # Cython's memoryviews, which every module would otherwise compile for itself

DIRECTIVES = {
    "language_level": "3",
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "freethreading_compatible": True,
}


def headers(module: str) -> list[str]:
    """Return the headers that a module is compiled with, by the names in its sources and in those headers."""
    found, new = set[str](), {f"{module}.pyx", f"{module}.pxd"}
    while new:
        found |= new
        text = "\n".join((SOURCES / name).read_text() for name in new if (SOURCES / name).is_file())
        new = set(re.findall(r'"(\w+\.h)"', text)) - found
        new |= {f"{name}.pxd" for name in re.findall(rf"{KERNELS}\.(\w+) cimport", text)} - found
    return [str(SOURCES / name) for name in sorted(found) if name.endswith(".h")]


def extension(name: str, flags: list[str]) -> Extension:
    """Return the extension module `name`, whose last part is the name of its source."""
    module = name.rpartition(".")[2]
    return Extension(
        name,
        [str(SOURCES / f"{module}.pyx")],
        include_dirs=[str(SOURCES)],
        depends=headers(module),
        extra_compile_args=[*FLAGS, *flags, *EXTRA.get(module, [])],
        extra_link_args=LINK_FLAGS,
    )


EXTENSIONS = [
    *(extension(f"{KERNELS}.{level}.{name}", flags) for level, flags in LEVELS.items() for name in LEVELLED),
    *(extension(f"{KERNELS}.{level}.{name}", flags) for level, flags in BF16.items() for name in WITH_PRODUCTS),
    *(extension(f"{KERNELS}.{name}", []) for name in SINGLE),
    Extension(SHARED, [], extra_compile_args=[*FLAGS, "-O1"], extra_link_args=LINK_FLAGS),
]


class BuildKernels(build_ext):
    """Translate each kernel once, then compile a copy of the C file for each level, in parallel."""

    def finalize_options(self) -> None:
        """Compile on all cores unless told otherwise; times of files do not tell which flags they were built with."""
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()
        self.force = self.force or DEBUG

    def build_extensions(self) -> None:
        """Replace the Cython sources by C files; two modules must not share one, or their objects would collide."""
        from Cython.Build import cythonize

        generated = Path(self.build_temp) / "cython"
        translated = cythonize(
            [
                *(Extension(f"{KERNELS}.{name}", [str(SOURCES / f"{name}.pyx")]) for name in (*SINGLE, *LEVELLED)),
                Extension(SHARED, [str(SOURCES / "_cyutility.c")]),
            ],
            build_dir=str(generated),
            include_path=["src"],
            compiler_directives=DIRECTIVES,
            shared_utility_qualified_name=SHARED,
            force=self.force,
            quiet=True,
        )
        c_files = {module.name.rpartition(".")[2]: Path(module.sources[0]) for module in translated}
        for ext in self.extensions:
            level, name = ext.name.split(".")[-2:]
            source = generated / level / f"{name}.c"
            source.parent.mkdir(parents=True, exist_ok=True)
            if not source.exists() or source.stat().st_mtime != c_files[name].stat().st_mtime:
                shutil.copy2(c_files[name], source)
            ext.sources = [str(source)]
        super().build_extensions()


setup(ext_modules=EXTENSIONS, cmdclass={"build_ext": BuildKernels})
