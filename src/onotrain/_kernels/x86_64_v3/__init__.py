"""The kernels compiled for x86-64 CPUs with AVX2 and FMA; empty on other architectures."""
