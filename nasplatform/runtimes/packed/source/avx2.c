/* For x86-64 with AVX2: bits counted by looking up nibbles. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "packed.h"

#define NAME(word) avx2_##word
#define TARGET __attribute__((target("avx2")))
#define LANES 8
#define PIXELS 4
#define BLOCKS 1
#define FLUSH_EVERY 31

typedef uint32_t words __attribute__((vector_size(LANES * 4), aligned(4)));

TARGET static inline words add_bits(words sum, words x) {
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1,
                                           2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i low = _mm256_set1_epi8(15);
    __m256i one = _mm256_shuffle_epi8(table, _mm256_and_si256((__m256i)x, low));
    __m256i two = _mm256_shuffle_epi8(
        table, _mm256_and_si256(_mm256_srli_epi16((__m256i)x, 4), low));
    return (words)_mm256_add_epi8((__m256i)sum, _mm256_add_epi8(one, two));
}

TARGET static inline words widen(words bytes) {
    __m256i pairs = _mm256_maddubs_epi16((__m256i)bytes, _mm256_set1_epi8(1));
    return (words)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

TARGET static inline uint32_t signs8(const float *x, const float *shift) {
    __m256 moved = _mm256_loadu_ps(x);
    if (shift)
        moved = _mm256_add_ps(moved, _mm256_loadu_ps(shift));
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(moved, _mm256_setzero_ps(), _CMP_GE_OQ));
}

TARGET static inline uint32_t signs16(const float *x, const float *shift) {
    return signs8(x, shift) | signs8(x + 8, shift ? shift + 8 : shift) << 8;
}

TARGET static inline uint32_t at_least8(const int32_t *x, const int32_t *low) {
    __m256i below = _mm256_cmpgt_epi32(_mm256_loadu_si256((const __m256i *)low),
                                       _mm256_loadu_si256((const __m256i *)x));
    return ~(uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(below)) & 0xffu;
}

TARGET static inline uint32_t at_least16(const int32_t *x, const int32_t *low) {
    return at_least8(x, low) | at_least8(x + 8, low + 8) << 8;
}

#include "kernels.h"
#else
typedef int nothing; /* ISO C wants something in every file */
#endif
