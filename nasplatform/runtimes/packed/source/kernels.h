/* The steps, once for each set of instructions: the including file says LANES of a vector, how many
 * PIXELS and BLOCKS of output channels are held in registers, and how bits are counted.
 * Sums of floats go along `depth` one by one, each product rounded, as the reference does. */

enum { VECTORS = BLOCK / LANES, WIDE = BLOCK * BLOCKS };

typedef float floats __attribute__((vector_size(LANES * 4), aligned(4)));

#define UNROLL _Pragma("GCC unroll 16")
#define INLINE TARGET static inline __attribute__((always_inline))

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Where the share of `part` begins. */
INLINE int64_t begin(int64_t all, int64_t part, int64_t parts) { return all * part / parts; }

#include "maps.h"

TARGET static void map(const step *s, int64_t part, int64_t parts) {
    int64_t rows = s->images * s->out_h * s->out_w, c = s->out_c;
    for (int64_t r = begin(rows, part, parts); r < begin(rows, part + 1, parts); r++) {
        float *out = (float *)s->out + r * c;
        memcpy(out, (const float *)s->in + r * c, c * sizeof(float));
        apply(s, out, 0, c, r * c);
    }
}

/* ---------------------------------------------------------------- convolutions */

/* A pixel of what is made, counted up without divisions. */
typedef struct {
    int64_t image, y, x;
} spot;

INLINE spot spot_of(const step *s, int64_t pixel) {
    return (spot){pixel / (s->out_h * s->out_w), pixel / s->out_w % s->out_h, pixel % s->out_w};
}

INLINE void advance(const step *s, spot *at) {
    if (++at->x < s->out_w)
        return;
    at->x = 0;
    if (++at->y < s->out_h)
        return;
    at->y = 0;
    at->image++;
}

/* Where the kernel's first corner lies in the padded source, in numbers or words. */
INLINE int64_t corner(const step *s, spot at) {
    int64_t row = at.image * s->padded_h + at.y * s->stride_h;
    return (row * s->padded_w + at.x * s->stride_w) * s->in_c;
}

/* Take up the next pixels, the last one again where there are too few: returns how many. */
INLINE int64_t take(const step *s, spot *next, int64_t left, spot *taken, const int pixels) {
    int64_t n = smaller(left, pixels);
    for (int p = 0; p < pixels; p++) {
        taken[p] = p < n ? *next : taken[n - 1];
        if (p < n)
            advance(s, next);
    }
    return n;
}

/* Finish `n` channels of one pixel; `whole` is how many a full tile has. */
INLINE void store(const step *s, float *made, int64_t channel, int64_t n, int64_t at,
                  const int whole) {
    if (n == whole)
        apply(s, made, channel, whole, at);
    else
        apply(s, made, channel, n, at);
    memcpy((float *)s->out + at, made, n * sizeof(float));
}

/* Bits in which inputs and weights differ: sums[pixel][lane]. */
INLINE void count_tile(const step *s, const uint32_t *const *x, const uint32_t *w, int32_t *sums,
                       const int pixels, const int blocks) {
    words total[PIXELS][BLOCKS * VECTORS];
    UNROLL for (int p = 0; p < pixels; p++) UNROLL for (int v = 0; v < blocks * VECTORS; v++)
        total[p][v] = (words){0};
    for (int64_t k = 0; k < s->depth;) {
        int64_t end = s->depth - k > FLUSH_EVERY ? k + FLUSH_EVERY : s->depth;
        words some[PIXELS][BLOCKS * VECTORS];
        UNROLL for (int p = 0; p < pixels; p++) UNROLL for (int v = 0; v < blocks * VECTORS; v++)
            some[p][v] = (words){0};
        for (; k < end; k++) {
            words row[BLOCKS * VECTORS];
            UNROLL for (int v = 0; v < blocks * VECTORS; v++)
                row[v] = *(const words *)(w + (v / VECTORS * s->depth + k) * BLOCK +
                                          v % VECTORS * LANES);
            int64_t at = s->offsets[k];
            UNROLL for (int p = 0; p < pixels; p++) {
                words input = (words){0} + x[p][at];
                UNROLL for (int v = 0; v < blocks * VECTORS; v++)
                    some[p][v] = add_bits(some[p][v], input ^ row[v]);
            }
        }
        UNROLL for (int p = 0; p < pixels; p++) UNROLL for (int v = 0; v < blocks * VECTORS; v++)
            total[p][v] += widen(some[p][v]);
    }
    UNROLL for (int p = 0; p < pixels; p++) UNROLL for (int v = 0; v < blocks * VECTORS; v++)
        *(words *)(sums + p * WIDE + v * LANES) = total[p][v];
}

INLINE void sum_tile(const step *s, const float *const *x, const float *w, float *sums,
                     const int pixels, const int blocks) {
    floats total[PIXELS][BLOCKS * VECTORS];
    UNROLL for (int p = 0; p < pixels; p++) UNROLL for (int v = 0; v < blocks * VECTORS; v++)
        total[p][v] = (floats){0};
    for (int64_t k = 0; k < s->depth; k++) {
        floats row[BLOCKS * VECTORS];
        UNROLL for (int v = 0; v < blocks * VECTORS; v++)
            row[v] =
                *(const floats *)(w + (v / VECTORS * s->depth + k) * BLOCK + v % VECTORS * LANES);
        int64_t at = s->offsets[k];
        UNROLL for (int p = 0; p < pixels; p++) UNROLL for (int v = 0; v < blocks * VECTORS; v++)
            total[p][v] += x[p][at] * row[v];
    }
    UNROLL for (int p = 0; p < pixels; p++) UNROLL for (int v = 0; v < blocks * VECTORS; v++)
        *(floats *)(sums + p * WIDE + v * LANES) = total[p][v];
}

/* Turn counts into sums of signs: inputs - 2 * differing, of the places inside of the map only;
 * outside the bits are 0, which differ where the weight is +1. */
INLINE void to_sums(const step *s, spot at, const int32_t *tap_counts, int32_t *sums,
                    int64_t lanes) {
    int64_t channels = s->count, taps = s->kernel_h * s->kernel_w;
    int64_t top = at.y * s->stride_h - s->pad_top;
    int64_t left = at.x * s->stride_w - s->pad_left;
    int64_t bottom = top + (s->kernel_h - 1) * s->dilation_h;
    int64_t right = left + (s->kernel_w - 1) * s->dilation_w;
    int64_t inside = taps;
    if (top < 0 || left < 0 || bottom >= s->in_h || right >= s->in_w)
        for (int64_t tap = 0; tap < taps; tap++) {
            int64_t y = top + tap / s->kernel_w * s->dilation_h;
            int64_t x = left + tap % s->kernel_w * s->dilation_w;
            if (y >= 0 && y < s->in_h && x >= 0 && x < s->in_w)
                continue;
            inside--;
            for (int64_t i = 0; i < lanes; i++)
                sums[i] -= tap_counts[(i / BLOCK * taps + tap) * BLOCK + i % BLOCK];
        }
    int32_t all = (int32_t)(inside * channels);
    for (int64_t i = 0; i < lanes; i++)
        sums[i] = all - 2 * sums[i];
}

/* Write the bits of sums that reach their thresholds, where the next layer reads them. */
INLINE void to_bits(const step *s, spot at, int64_t block, const int32_t *sums, int blocks) {
    int64_t row = (at.image * s->to_h + at.y + s->to_top) * s->to_w;
    uint32_t *out = (uint32_t *)s->out + (row + at.x + s->to_left) * ((s->out_c + 31) / 32);
    uint16_t *halves = (uint16_t *)out; /* little-endian: the caller sees to it */
    for (int b = 0; b < blocks; b++)
        halves[block + b] = (uint16_t)(at_least16(sums + b * BLOCK,
                                                  s->thresholds + (block + b) * BLOCK) ^
                                       (uint32_t)s->flips[block + b]);
}

/* Make some blocks of one group, for pixels [from, to). */
INLINE void binary_block(const step *s, int64_t group, int64_t block, int64_t from, int64_t to,
                          const int pixels, const int blocks) {
    int64_t each = s->out_c / s->groups, rows = (each + BLOCK - 1) / BLOCK;
    int64_t taps = s->kernel_h * s->kernel_w, place = group * rows + block;
    int64_t n = smaller(each - block * BLOCK, blocks * BLOCK);
    int64_t channel = group * each + block * BLOCK;
    const uint32_t *w = (const uint32_t *)s->weights + place * s->depth * BLOCK;
    const int32_t *tap_counts = s->tap_counts + place * taps * BLOCK;
    const uint32_t *in = (const uint32_t *)s->in + group * (s->in_c / s->groups);
    spot next = spot_of(s, from), spots[PIXELS];
    for (int64_t pixel = from; pixel < to; pixel += pixels) {
        const uint32_t *x[PIXELS];
        int32_t sums[PIXELS * WIDE];
        int64_t taken = take(s, &next, to - pixel, spots, pixels);
        for (int p = 0; p < pixels; p++)
            x[p] = in + corner(s, spots[p]);
        count_tile(s, x, w, sums, pixels, blocks);
        for (int64_t p = 0; p < taken; p++) {
            int32_t *sum = sums + p * WIDE;
            to_sums(s, spots[p], tap_counts, sum, blocks * BLOCK);
            if (s->thresholds) {
                to_bits(s, spots[p], block, sum, blocks);
                continue;
            }
            float made[WIDE];
            for (int i = 0; i < blocks * BLOCK; i++)
                made[i] = (float)sum[i];
            store(s, made, channel, n, (pixel + p) * s->out_c + channel, blocks * BLOCK);
        }
    }
}

INLINE void float_block(const step *s, int64_t group, int64_t block, int64_t from, int64_t to,
                         const int pixels, const int blocks) {
    int64_t each = s->out_c / s->groups, rows = (each + BLOCK - 1) / BLOCK;
    int64_t n = smaller(each - block * BLOCK, blocks * BLOCK);
    int64_t channel = group * each + block * BLOCK;
    const float *w = (const float *)s->weights + (group * rows + block) * s->depth * BLOCK;
    const float *in = (const float *)s->in + group * (s->in_c / s->groups);
    spot next = spot_of(s, from), spots[PIXELS];
    for (int64_t pixel = from; pixel < to; pixel += pixels) {
        const float *x[PIXELS];
        float sums[PIXELS * WIDE];
        int64_t taken = take(s, &next, to - pixel, spots, pixels);
        for (int p = 0; p < pixels; p++)
            x[p] = in + corner(s, spots[p]);
        sum_tile(s, x, w, sums, pixels, blocks);
        for (int64_t p = 0; p < taken; p++)
            store(s, sums + p * WIDE, channel, n, (pixel + p) * s->out_c + channel,
                  blocks * BLOCK);
    }
}

/* Blocks of output channels that are made together, of all groups. */
INLINE int64_t units_of(const step *s) {
    int64_t rows = (s->out_c / s->groups + BLOCK - 1) / BLOCK;
    return s->groups * ((rows + BLOCKS - 1) / BLOCKS);
}

/* make_unit: one unit, for pixels [from, to). make_blocks: all of a step. */
#define EVERY_BLOCK(make)                                                                          \
    TARGET static void make##_unit(const step *s, int64_t unit, int64_t from, int64_t to) {        \
        int64_t rows = (s->out_c / s->groups + BLOCK - 1) / BLOCK;                                 \
        int64_t steps = (rows + BLOCKS - 1) / BLOCKS;                                              \
        int64_t group = unit / steps, block = unit % steps * BLOCKS;                               \
        if (to - from < PIXELS / 2)                                                                \
            for (int64_t b = block; b < smaller(rows, block + BLOCKS); b++)                        \
                make(s, group, b, from, to, 1, 1);                                                 \
        else if (block + BLOCKS <= rows)                                                           \
            make(s, group, block, from, to, PIXELS, BLOCKS);                                       \
        else                                                                                       \
            make(s, group, block, from, to, PIXELS, 1);                                            \
    }                                                                                              \
    TARGET static void make##s(const step *s, int64_t part, int64_t parts) {                       \
        int64_t pixels = s->images * s->out_h * s->out_w, units = units_of(s);                     \
        int by_pixel = pixels >= PIXELS * parts;                                                   \
        int64_t from = by_pixel ? begin(pixels, part, parts) : 0;                                  \
        int64_t to = by_pixel ? begin(pixels, part + 1, parts) : pixels;                           \
        int64_t unit = by_pixel ? 0 : begin(units, part, parts);                                   \
        int64_t last = by_pixel ? units : begin(units, part + 1, parts);                           \
        for (; unit < last; unit++)                                                                \
            make##_unit(s, unit, from, to);                                                        \
    }

EVERY_BLOCK(binary_block)
EVERY_BLOCK(float_block)

/* One kernel for each channel: the channels of a pixel are made together. */
TARGET static void depthwise(const step *s, int64_t part, int64_t parts) {
    int64_t pixels = s->images * s->out_h * s->out_w, c = s->out_c;
    int64_t pixel = begin(pixels, part, parts), to = begin(pixels, part + 1, parts);
    for (spot at = spot_of(s, pixel); pixel < to; pixel++, advance(s, &at)) {
        float *restrict out = (float *)s->out + pixel * c;
        memset(out, 0, c * sizeof(float));
        for (int64_t k = 0; k < s->depth; k++) {
            const float *x = (const float *)s->in + corner(s, at) + s->offsets[k];
            const float *w = (const float *)s->weights + k * c;
            for (int64_t i = 0; i < c; i++)
                out[i] += x[i] * w[i];
        }
        apply(s, out, 0, c, pixel * c);
    }
}

/* Convolutions of 1 x 1 whose weights are another map: those of each image are its own. */
TARGET static void products(const step *s, int64_t part, int64_t parts) {
    int64_t pixels = s->out_h * s->out_w, units = units_of(s), work = s->images * units;
    int64_t blocks = s->groups * ((s->out_c / s->groups + BLOCK - 1) / BLOCK);
    step one = *s;
    for (int64_t i = begin(work, part, parts); i < begin(work, part + 1, parts); i++) {
        int64_t image = i / units;
        one.weights = (const float *)s->weights + image * blocks * s->depth * BLOCK;
        float_block_unit(&one, i % units, image * pixels, (image + 1) * pixels);
    }
}

/* ---------------------------------------------------------------- from one form to another */

/* Rows of the source, of all images; what is made of each is one share of the work. */
#define EACH_ROW(s, part, parts, height)                                                           \
    int64_t row = begin((s)->images * (height), part, parts);                                      \
    row < begin((s)->images * (height), (part) + 1, parts);                                        \
    row++

/* Images with the channels outermost -> maps inside of their padding. */
TARGET static void layout(const step *s, int64_t part, int64_t parts) {
    for (EACH_ROW(s, part, parts, s->in_h)) {
        int64_t image = row / s->in_h, y = row % s->in_h, area = s->in_h * s->in_w;
        const float *in = (const float *)s->in + image * s->in_c * area + y * s->in_w;
        float *out = (float *)s->out + ((image * s->padded_h + y + s->pad_top) * s->padded_w +
                                        s->pad_left) * s->in_c;
        for (int64_t c = 0; c < s->in_c; c++)
            for (int64_t x = 0; x < s->in_w; x++)
                out[x * s->in_c + c] = in[c * area + x];
    }
}

TARGET static void pad(const step *s, int64_t part, int64_t parts) {
    int64_t length = s->in_w * s->in_c;
    for (EACH_ROW(s, part, parts, s->in_h)) {
        int64_t image = row / s->in_h, y = row % s->in_h;
        float *out = (float *)s->out + ((image * s->padded_h + y + s->pad_top) * s->padded_w +
                                        s->pad_left) * s->in_c;
        memcpy(out, (const float *)s->in + row * length, length * sizeof(float));
    }
}

/* Floats -> the bits of their signs, inside of the padding; each group begins a word. */
TARGET static void pack(const step *s, int64_t part, int64_t parts) {
    int64_t each = s->in_c / s->groups, words_each = (each + 31) / 32;
    for (EACH_ROW(s, part, parts, s->in_h)) {
        int64_t image = row / s->in_h, y = row % s->in_h;
        const float *in = (const float *)s->in + row * s->in_w * s->in_c;
        uint32_t *out = (uint32_t *)s->out + ((image * s->padded_h + y + s->pad_top) * s->padded_w +
                                              s->pad_left) * s->groups * words_each;
        for (int64_t i = 0; i < s->in_w * s->groups; i++, in += each) {
            const float *shift = s->shift ? s->shift + i % s->groups * each : NULL;
            for (int64_t c = 0; c < each; c += 32) {
                uint32_t found = 0;
                for (int64_t from = c; from < smaller(each, c + 32);) {
                    if (each - from >= BLOCK) {
                        found |= signs16(in + from, shift ? shift + from : shift) << (from - c);
                        from += BLOCK;
                    } else {
                        float x = shift ? in[from] + shift[from] : in[from];
                        found |= (uint32_t)(x >= 0) << (from - c);
                        from++;
                    }
                }
                *out++ = found;
            }
        }
    }
}

/* Runs of numbers of the source, each to its place in the new map: those of one image. */
INLINE void gather_runs(const step *s, const float *in, float *out, int64_t first, int64_t last) {
    const int32_t *from = s->offsets;
    int64_t run = s->count;
    for (int64_t k = first; k < last; k++)
        if (from[k] < 0)
            continue;
        else if (run == 1)
            out[k] = in[from[k]];
        else
            memcpy(out + k * run, in + from[k], run * sizeof(float));
}

TARGET static void gather(const step *s, int64_t part, int64_t parts) {
    int64_t size = s->in_h * s->in_w * s->in_c, runs = s->depth;
    int64_t to = begin(s->images * runs, part + 1, parts);
    for (int64_t at = begin(s->images * runs, part, parts), last; at < to; at = last) {
        int64_t image = at / runs;
        last = smaller(to, (image + 1) * runs);
        gather_runs(s, (const float *)s->in + image * size,
                    (float *)s->out + image * runs * s->count, at - image * runs,
                    last - image * runs);
    }
}

#include "pixels.h"
#include "pools.h"

TARGET void NAME(kernel)(const step *s, int64_t part, int64_t parts) {
    static const kernel kinds[] = {layout,    pad,      pack, binary_blocks, float_blocks,
                                   depthwise, products, map,  max_pool,      avg_pool,
                                   layer_norm, softmax, gather};
    kinds[s->kind](s, part, parts);
}
