/* Training of cell networks on tiny images, one CPU thread, float32: what the files share.
 *
 * convolution.c has the convolutions, layers.c batch normalisation and what is around it,
 * network.c stem, classifier, loss and training; nasbench101.c and nasbench201.c lay out the
 * cells between stem and classifier.
 *
 * Layout: an activation is (channel, row, column, sample) with the 64 samples of a batch
 * innermost, that is eight 8-lane vectors per pixel; the stride between channel planes is
 * padded by one pixel so that planes do not fall into the same cache sets.
 *
 * Every floating-point operation is an explicit 8-lane (or scalar) operation in a fixed order,
 * and compiled with -ffp-contract=off, so results do not depend on the machine's wider units
 * or on what the compiler's vectoriser makes of them.
 *
 * Flat parameter order: stem; the cells' layers, see their files; then the classifier. A layer is
 * weight (cout, cin, k, k), batch-norm scale (cout), batch-norm shift (cout); the classifier is
 * weight (classes, channels), bias (classes). Flat statistics order: per layer, in the
 * same order, running mean (cout), running variance (cout).
 */
#if !defined(__AVX2__) || !defined(__FMA__)
#error "cellnet needs AVX2 and FMA"
#endif
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define B 64
#define MAXCLASS 16
#define EXPORT __attribute__((visibility("default")))
#define ALWAYS static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
typedef __m256 v8;
typedef long idx;
#define LD(p) _mm256_load_ps(p)
#define ST(p, v) _mm256_store_ps((p), (v))
#define BC(p) _mm256_broadcast_ss(p)
#define SET(s) _mm256_set1_ps(s)
#define FMA(a, b, c) _mm256_fmadd_ps((a), (b), (c))
#define ADD(a, b) _mm256_add_ps((a), (b))
#define SUB(a, b) _mm256_sub_ps((a), (b))
#define MUL(a, b) _mm256_mul_ps((a), (b))
#define ZERO _mm256_setzero_ps()
#define GT(a, b) _mm256_cmp_ps((a), (b), _CMP_GT_OQ)
#define AND(a, b) _mm256_and_ps((a), (b))
#define SEL(mask, yes, no) _mm256_blendv_ps((no), (yes), (mask))

ALWAYS double lanes(v8 v)
{
    float f[8] __attribute__((aligned(32)));
    ST(f, v);
    return (((double)f[0] + f[4]) + ((double)f[2] + f[6])) +
           (((double)f[1] + f[5]) + ((double)f[3] + f[7]));
}

/* ---------------------------------------------------------------- convolution.c */
typedef struct {            /* output pixel y takes from the input's pixels (y down + ky - 1) / up */
    int k, down, up, H, W, oH, oW; /* k, down, up: 1, 1, 1 or 3, any, 1 or 3, 1, 2; input, output */
} Map;

void conv(const Map *m, const float *x, idx xs, int cin, const float *w, float *out, idx os,
          int cout, const float *scale, const float *shift, float floor);
void pack(const float *w, float *p, int cout, int cin, int K, int backward);
void conv_weight(int K, int stride, const float *x, idx xs, int cin, const float *d, idx ds,
                 int cout, int H, int W, float *grad);

/* ---------------------------------------------------------------- the network */
typedef struct Layer Layer;
struct Layer {              /* convolution, batch-norm, ReLU, of which parts may lack */
    int cin, cout, xH, xW;  /* height and width of the input */
    int k, stride;          /* k 0: no convolution, z is given; stride 0 is 1, with k 3 also 2 */
    int bare;               /* no batch-norm, no ReLU */
    float floor;            /* what the output is cut at: 0, or -INFINITY for no ReLU */
    int H, W;               /* from here on filled in by layer_init: size of the output */
    idx ps;                 /* plane stride of the output */
    idx w, g, b, m, v;      /* offsets: weight, scale, shift; running mean, variance */
    float *z;               /* convolution's output */
    float *pf, *pb;         /* packed weights, forward and backward */
    float *scale, *shift, *mean, *inv;
    Layer *next;            /* another layer of the network */
};

typedef struct Net Net;

typedef struct {            /* a kind of network: what happens between stem and classifier */
    size_t block;           /* bytes of one of the net's blocks */
    int (*lay_out)(Net *, const void *cell); /* sets features; 0 when impossible */
    void (*forward)(Net *, int train);
    const float *(*backward)(Net *, const float *d); /* features' gradient -> stem_out's */
} Kind;

struct Net {
    const Kind *kind;
    int channels, H, W, classes, stem_channels, stages, per_stage;
    idx nparams, nstats, used, biggest;
    char *arena;
    float *params, *grads, *moment, *stats;
    float *input, *scratch, *spare, *rows; /* scratch, spare: any layer's planes; rows: a plane */
    Layer stem, *layers;    /* layers: head of the list of all */
    float *stem_out;
    void *blocks;           /* stages x per_stage of kind->block bytes */
    const float *features;  /* what is averaged for the classifier: fC planes of fH x fW */
    int fC, fH, fW;
    idx lin_w, lin_b;
    float *pooled, *logits, *dout;
    int packed_for_eval;
};

ALWAYS idx plane(int H, int W) { return (idx)(H * W + 1) * B; }

Net *net_new(const Kind *kind, const void *cell, int channels, int H, int W, int stem, int stages,
             int per_stage, int classes, float stem_floor);
float *take(Net *n, idx floats);

/* ---------------------------------------------------------------- layers.c */
void layer_init(Net *n, Layer *l, Layer shape);
void layer_conv(Net *n, Layer *l, const float *x, idx xs, float *out, int train);
void layer_forward(Net *n, Layer *l, const float *x, idx xs, float *out, int train);
void layer_norm(Net *n, Layer *l, float *out, int train);
void activate(const Layer *l, int c, float *out, const float *const *add, int nadd);
void norm_back(Net *n, Layer *l, int c, const float *const *src, int nsrc, float *dz);
void layer_back(Net *n, Layer *l, const float *x, idx xs, const float *dz, float *dx);
void plane_sum(float *out, const float *const *src, int n, int len);
