/* For any processor: vectors of four, bits counted by adding neighbours. */
#include <math.h>
#include <string.h>

#include "packed.h"

#define NAME(word) portable_##word
#define TARGET
#define LANES 4
#define PIXELS 2
#define BLOCKS 1
#define FLUSH_EVERY 31

typedef uint32_t words __attribute__((vector_size(LANES * 4), aligned(4)));

static inline words add_bits(words sum, words x) {
    x = x - ((x >> 1) & 0x55555555u);
    x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
    return sum + ((x + (x >> 4)) & 0x0f0f0f0fu);
}

static inline words widen(words bytes) {
    words pairs = (bytes & 0x00ff00ffu) + ((bytes >> 8) & 0x00ff00ffu);
    return (pairs & 0xffffu) + (pairs >> 16);
}

static inline uint32_t signs16(const float *x, const float *shift) {
    uint32_t found = 0;
    for (int i = 0; i < BLOCK; i++)
        found |= (uint32_t)((shift ? x[i] + shift[i] : x[i]) >= 0) << i;
    return found;
}

static inline uint32_t at_least16(const int32_t *x, const int32_t *low) {
    uint32_t found = 0;
    for (int i = 0; i < BLOCK; i++)
        found |= (uint32_t)(x[i] >= low[i]) << i;
    return found;
}

#include "kernels.h"
