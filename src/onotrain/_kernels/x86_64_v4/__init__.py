"""The kernels compiled for x86-64 CPUs with AVX-512; empty on other architectures."""
