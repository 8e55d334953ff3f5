/* For x86-64 with AVX-512 and VPOPCNTDQ, which counts the bits of sixteen words at once. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "packed.h"

#define NAME(word) avx512_##word
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vpopcntdq")))
#define LANES 16
#define PIXELS 6
#define BLOCKS 2
#define FLUSH_EVERY INT64_MAX

typedef uint32_t words __attribute__((vector_size(LANES * 4), aligned(4)));

TARGET static inline words add_bits(words sum, words x) {
    return sum + (words)_mm512_popcnt_epi32((__m512i)x);
}

TARGET static inline words widen(words counts) { return counts; }

TARGET static inline uint32_t signs16(const float *x, const float *shift) {
    __m512 moved = _mm512_loadu_ps(x);
    if (shift)
        moved = _mm512_add_ps(moved, _mm512_loadu_ps(shift));
    return _mm512_cmp_ps_mask(moved, _mm512_setzero_ps(), _CMP_GE_OQ);
}

TARGET static inline uint32_t at_least16(const int32_t *x, const int32_t *low) {
    return _mm512_cmpge_epi32_mask(_mm512_loadu_si512(x), _mm512_loadu_si512(low));
}

#include "kernels.h"
#else
typedef int nothing; /* ISO C wants something in every file */
#endif
