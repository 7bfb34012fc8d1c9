"""Instruction sets that this processor can run."""


cdef extern from *:
    """
    #if defined(__x86_64__)
    /* all that -march=x86-64-v3 and -v4 let the compiler use, where it can tell */
    #if __GNUC__ >= 12
    static int has_avx2(void) { return __builtin_cpu_supports("x86-64-v3"); }
    static int has_avx512(void) { return __builtin_cpu_supports("x86-64-v4"); }
    #else
    static int has_avx2(void)
    {
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi")
            && __builtin_cpu_supports("bmi2");
    }
    static int has_avx512(void)
    {
        return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vl");
    }
    #endif
    #else
    static int has_avx2(void) { return 0; }
    static int has_avx512(void) { return 0; }
    #endif
    """
    bint has_avx2()
    bint has_avx512()


def instruction_sets():
    """Return the names of the builds that run here, the widest first."""
    names = []
    if has_avx512():
        names.append("avx512")
    if has_avx2():
        names.append("avx2")
    return [*names, "baseline"]
