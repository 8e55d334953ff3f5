/* What the Python side hands over: steps with every size and address worked out and checked.
 * Maps are (images, height, width, channels); bits of a map are 32-bit words along channels. */
#ifndef PACKED_H
#define PACKED_H

#include <stdint.h>

enum { BLOCK = 16 }; /* output channels that weights are interleaved by */

enum {
    LAYOUT,
    PAD,
    PACK,
    BINARY_CONV,
    CONV,
    DEPTHWISE,
    PRODUCT,
    MAP,
    MAX_POOL,
    AVG_POOL,
    LAYER_NORM,
    SOFTMAX,
    GATHER
};

enum { MUL, ADD, PRELU, CLAMP, PLUS, TIMES, GATE, SIGMOID, GELU }; /* kinds of map_op */

/* One operation on every element. MUL, ADD, PRELU: `values` of each channel; PLUS, TIMES: those of
 * a map of the same shape; GATE: times those of each channel of the image; CLAMP: to
 * [values[0], values[1]]; SIGMOID, GELU: no values. */
typedef struct {
    int64_t kind;
    const float *values;
} map_op;

/* Geometry is that of the source (in_*), of the source with its padding (padded_*) and of what is
 * made (out_*). offsets: of each of the `depth` numbers under a kernel, from its first corner; of a
 * gather where each run of `count` numbers begins in the source, or below 0 where it is not there. */
typedef struct {
    int64_t kind, images, groups;
    int64_t in_h, in_w, in_c, padded_h, padded_w, out_h, out_w, out_c;
    int64_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int64_t to_h, to_w, to_top, to_left; /* of bits made by thresholds: where they are put */
    int64_t depth, count;
    const void *in;
    void *out;
    const void *weights;       /* [group][block][depth][BLOCK], float or bits; PRODUCT: those of each
                                * image; DEPTHWISE: [depth][channel] */
    const int32_t *offsets;    /* [depth] */
    const int32_t *tap_counts; /* [group][block][tap][BLOCK]: weights of +1 in each place */
    const int32_t *thresholds; /* [channel], or NULL where floats are made */
    const int32_t *flips;      /* [block]: bits that are set below the threshold instead */
    const float *shift;        /* [channel] or NULL; LAYER_NORM: what is added to the variance */
    const map_op *ops;
    int64_t n_ops;
} step;

/* Makes the share `part` of `parts` of a step. */
typedef void (*kernel)(const step *, int64_t part, int64_t parts);

void portable_kernel(const step *, int64_t part, int64_t parts);
void avx2_kernel(const step *, int64_t part, int64_t parts);
void avx512_kernel(const step *, int64_t part, int64_t parts);

typedef struct pool pool;
void pool_run(pool *, kernel, const step *);

#endif
