"""Kernels with products in bfloat16 of float32, beside those of x86_64_v4: AVX-512 BF16."""
