/* Runs steps one after the other with the instructions that this processor has. */
#include "packed.h"

#define API __attribute__((visibility("default")))

enum { PORTABLE, AVX2, AVX512 };

/* The best of the three that runs here. */
API int64_t packed_best(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vpopcntdq"))
        return AVX512;
    if (__builtin_cpu_supports("avx2"))
        return AVX2;
#endif
    return PORTABLE;
}

API int64_t packed_step_bytes(void) { return sizeof(step); }

API void packed_run(pool *threads, int64_t instructions, const step *steps, int64_t count) {
    kernel make = portable_kernel;
#if defined(__x86_64__)
    if (instructions == AVX2)
        make = avx2_kernel;
    else if (instructions == AVX512)
        make = avx512_kernel;
#endif
    for (int64_t i = 0; i < count; i++)
        pool_run(threads, make, &steps[i]);
}
