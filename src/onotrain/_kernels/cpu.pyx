"""What the CPU of this machine can run."""

cdef extern from *:
    """
    #if defined(__x86_64__)
    /* These read CPUID and ask whether the operating system saves the wide registers. */
    static int onotrain_has_v3(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
            && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    }
    static int onotrain_has_v4(void) {
        return onotrain_has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vl");
    }
    static int onotrain_has_bf16(void) { return onotrain_has_v4() && __builtin_cpu_supports("avx512bf16"); }
    #else
    static int onotrain_has_v3(void) { return 0; }
    static int onotrain_has_v4(void) { return 0; }
    static int onotrain_has_bf16(void) { return 0; }
    #endif
    """
    bint onotrain_has_v3()
    bint onotrain_has_v4()
    bint onotrain_has_bf16()


def levels() -> list[str]:
    """Names of the compiled levels that this CPU can run, the fastest first.

    Each stands for exactly the instruction sets that ``setup.py`` compiles it with.
    """
    return [
        *(["x86_64_v4"] if onotrain_has_v4() else []), *(["x86_64_v3"] if onotrain_has_v3() else []), "baseline",
    ]


def has_bf16() -> bool:
    """Whether this CPU multiplies in bfloat16, and can run ``x86_64_v4_bf16``."""
    return onotrain_has_bf16()
