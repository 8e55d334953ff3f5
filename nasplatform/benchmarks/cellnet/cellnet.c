/* Training of NAS-Bench-101 cell networks on tiny images, one CPU thread, float32.
 *
 * Layout: an activation is (channel, row, column, sample) with the 64 samples of a batch
 * innermost, that is eight 8-lane vectors per pixel; the stride between channel planes is
 * padded by one pixel so that planes do not fall into the same cache sets.
 *
 * Every floating-point operation is an explicit 8-lane (or scalar) operation in a fixed order,
 * and compiled with -ffp-contract=off, so results do not depend on the machine's wider units
 * or on what the compiler's vectoriser makes of them.
 *
 * Flat parameter order: stem; then per cell the projections of the cell's input (all
 * destinations stacked along the output channel, in vertex order) and the convolutions of
 * vertices 1 .. V-2 (vertices with max-pool have none); then the classifier. A convolution is
 * weight (cout, cin, k, k), batch-norm scale (cout), batch-norm shift (cout); the classifier is
 * weight (classes, channels), bias (classes). Flat statistics order: per convolution, in the
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
#define MAXV 7
#define MAXCLASS 16
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

/* ---------------------------------------------------------------- exp, log (no libm) */
static double exp_(double x)
{
    if (x < -700.0) return 0.0;
    if (x > 700.0) x = 700.0;
    const double t = x * 1.4426950408889634;
    const int64_t k = (int64_t)(t < 0 ? t - 0.5 : t + 0.5);
    const double r = (x - (double)k * 6.93147180369123816490e-01) -
                     (double)k * 1.90821492927058770002e-10;
    static const double over[14] = {0, 1., 1. / 2, 1. / 3, 1. / 4, 1. / 5, 1. / 6, 1. / 7, 1. / 8,
                                    1. / 9, 1. / 10, 1. / 11, 1. / 12, 1. / 13};
    double p = 1.0;
    for (int i = 13; i >= 1; i--) p = 1.0 + p * (r * over[i]);
    union { int64_t i; double d; } s;
    s.i = (k + 1023) << 52;
    return p * s.d;
}

static double log_(double x)
{
    union { int64_t i; double d; } u;
    u.d = x;
    const int64_t e = ((u.i >> 52) & 2047) - 1023;
    u.i = (u.i & 0xfffffffffffffLL) | (1023LL << 52);
    double y = (double)e * 0.6931471805599453 + (u.d - 1.0) * 0.6931471805599453;
    for (int i = 0; i < 4; i++) {
        const double q = exp_(y);
        y += 2.0 * (x - q) / (x + q);
    }
    return y;
}

/* ---------------------------------------------------------------- convolution
 * Output channels are handled in blocks of at most 3: 3 x 4 vector accumulators. */
ALWAYS int block(int n, int most) { return n <= most ? n : n == most + 1 ? (most + 2) / 2 : most; }

ALWAYS void pixel(const int N, const float *x, idx xs, int cin, const float *w, float *out, idx os,
                  int width, int ky0, int ky1, int kx0, int kx1, const int K,
                  const float *scale, const float *shift)
{
    v8 acc[3][4];
    UNROLL for (int j = 0; j < N; j++)
        UNROLL for (int v = 0; v < 4; v++) acc[j][v] = ZERO;
    for (int ky = ky0; ky < ky1; ky++)
        for (int kx = kx0; kx < kx1; kx++) {
            const float *xp = K == 3 ? x + ((ky - 1) * width + kx - 1) * B : x;
            const float *wp = w + (idx)(ky * K + kx) * cin * N;
            for (int ci = 0; ci < cin; ci++, xp += xs, wp += N) {
                v8 c[3];
                UNROLL for (int j = 0; j < N; j++) c[j] = BC(wp + j);
                UNROLL for (int v = 0; v < 4; v++) {
                    const v8 t = LD(xp + 8 * v);
                    UNROLL for (int j = 0; j < N; j++) acc[j][v] = FMA(t, c[j], acc[j][v]);
                }
            }
        }
    UNROLL for (int j = 0; j < N; j++)
        UNROLL for (int v = 0; v < 4; v++) {
            v8 r = acc[j][v];
            if (scale) r = _mm256_max_ps(FMA(r, BC(scale + j), BC(shift + j)), ZERO);
            ST(out + j * os + 8 * v, r);
        }
}

ALWAYS void convolve(const int K, const float *x, idx xs, int cin, const float *w, float *out,
                     idx os, int cout, int H, int W, const float *scale, const float *shift)
{
    for (int half = 0; half < 2; half++)
        for (int y = 0; y < H; y++)
            for (int xx = 0; xx < W; xx++) {
                const int ky0 = K == 3 && y == 0, ky1 = K == 3 ? (y == H - 1 ? 2 : 3) : 1;
                const int kx0 = K == 3 && xx == 0, kx1 = K == 3 ? (xx == W - 1 ? 2 : 3) : 1;
                const idx at = (idx)(y * W + xx) * B + half * 32;
                const float *wp = w;
                for (int co = 0; co < cout;) {
                    const int n = block(cout - co, 3);
                    const float *sc = scale ? scale + co : 0, *sh = shift ? shift + co : 0;
                    float *o = out + co * os + at;
#define PIXEL(N) pixel(N, x + at, xs, cin, wp, o, os, W, ky0, ky1, kx0, kx1, K, sc, sh)
                    if (n == 3) PIXEL(3);
                    else if (n == 2) PIXEL(2);
                    else PIXEL(1);
                    wp += (idx)n * cin * K * K;
                    co += n;
                }
            }
}

/* scale != NULL: out = max(scale * conv + shift, 0), else out = conv. */
static void conv(int K, const float *x, idx xs, int cin, const float *w, float *out, idx os,
                 int cout, int H, int W, const float *scale, const float *shift)
{
    if (K == 3 && scale) convolve(3, x, xs, cin, w, out, os, cout, H, W, scale, shift);
    else if (K == 3) convolve(3, x, xs, cin, w, out, os, cout, H, W, 0, 0);
    else if (scale) convolve(1, x, xs, cin, w, out, os, cout, H, W, scale, shift);
    else convolve(1, x, xs, cin, w, out, os, cout, H, W, 0, 0);
}

/* weights (cout, cin, K, K) -> blocks of [tap][cin][block]; backward: transposed and flipped */
static void pack(const float *w, float *p, int cout, int cin, int K, int backward)
{
    const int T = K * K, n_out = backward ? cin : cout, n_in = backward ? cout : cin;
    const idx so = backward ? T : (idx)cin * T, si = backward ? (idx)cin * T : T;
    for (int o = 0; o < n_out;) {
        const int n = block(n_out - o, 3);
        for (int t = 0; t < T; t++) {
            const float *q = w + o * so + (backward ? T - 1 - t : t);
            for (int i = 0; i < n_in; i++)
                for (int j = 0; j < n; j++) *p++ = q[i * si + j * so];
        }
        o += n;
    }
}

/* ---------------------------------------------------------------- gradient of the weights
 * acc[cout of the block][cin of the block] += sum over rows y0..y1-1 of one tap. */
ALWAYS void taps(const int NO, const int NI, const int U, const float *d, idx ds, const float *x,
                 idx xs, float *mem, int rows, idx stride, int n)
{
    v8 acc[2][3][4];
    UNROLL for (int u = 0; u < U; u++)
        UNROLL for (int i = 0; i < NO; i++)
            UNROLL for (int j = 0; j < NI; j++)
                acc[u][i][j] = u ? ZERO : LD(mem + (i * NI + j) * 8);
    for (int r = 0; r < rows; r++, d += stride, x += stride)
        for (int k = 0; k < n; k += 8 * U)
            UNROLL for (int u = 0; u < U; u++) {
                v8 g[3];
                UNROLL for (int i = 0; i < NO; i++) g[i] = LD(d + i * ds + k + 8 * u);
                UNROLL for (int j = 0; j < NI; j++) {
                    const v8 t = LD(x + j * xs + k + 8 * u);
                    UNROLL for (int i = 0; i < NO; i++)
                        acc[u][i][j] = FMA(g[i], t, acc[u][i][j]);
                }
            }
    UNROLL for (int i = 0; i < NO; i++)
        UNROLL for (int j = 0; j < NI; j++)
            ST(mem + (i * NI + j) * 8,
               U == 2 ? ADD(acc[0][i][j], acc[1][i][j]) : acc[0][i][j]);
}

static void taps_any(int no, int ni, const float *d, idx ds, const float *x, idx xs, float *mem,
                     int rows, idx stride, int n)
{
#define TAPS(NO, NI) \
    case (NO) * 8 + (NI): \
        taps(NO, NI, (NO) * (NI) <= 5 ? 2 : 1, d, ds, x, xs, mem, rows, stride, n); \
        break;
    switch (no * 8 + ni) {
        TAPS(1, 1) TAPS(1, 2) TAPS(1, 3) TAPS(1, 4)
        TAPS(2, 1) TAPS(2, 2) TAPS(2, 3) TAPS(2, 4)
        TAPS(3, 1) TAPS(3, 2) TAPS(3, 3) TAPS(3, 4)
    }
}

/* grad (cout, cin, K, K) = gradient of the weights; d: gradient of the convolution's output */
static void conv_weight(int K, const float *x, idx xs, int cin, const float *d, idx ds, int cout,
                        int H, int W, float *grad)
{
    float mem[9 * 12 * 8] __attribute__((aligned(32)));
    const int T = K * K, step = H * W <= 16 ? H : 1;
    for (int co = 0, no; co < cout; co += no) {
        no = block(cout - co, 3);
        for (int ci = 0, ni; ci < cin; ci += ni) {
            ni = block(cin - ci, 4);
            const float *dp = d + co * ds, *xp = x + ci * xs;
            memset(mem, 0, sizeof(float) * T * 12 * 8);
            if (K == 1)
                taps_any(no, ni, dp, ds, xp, xs, mem, 1, 0, H * W * B);
            else
                for (int y = 0; y < H; y += step)
                    for (int ky = 0; ky < 3; ky++) {
                        int y0 = y, y1 = y + step;
                        if (y0 + ky - 1 < 0) y0 = 1 - ky;
                        if (y1 + ky - 1 > H) y1 = H + 1 - ky;
                        if (y1 <= y0) continue;
                        for (int kx = 0; kx < 3; kx++) {
                            const int x0 = kx == 0, x1 = kx == 2 ? W - 1 : W;
                            if (x1 <= x0) continue;
                            taps_any(no, ni, dp + (y0 * W + x0) * B, ds,
                                     xp + ((y0 + ky - 1) * W + x0 + kx - 1) * B, xs,
                                     mem + (ky * 3 + kx) * 96, y1 - y0, (idx)W * B,
                                     (x1 - x0) * B);
                        }
                    }
            for (int t = 0; t < T; t++)
                for (int i = 0; i < no; i++)
                    for (int j = 0; j < ni; j++)
                        grad[((idx)(co + i) * cin + ci + j) * T + t] =
                            (float)lanes(LD(mem + t * 96 + (i * ni + j) * 8));
        }
    }
}

/* ---------------------------------------------------------------- element-wise passes */
/* out = sum of n planes (n >= 1), len floats */
static void plane_sum(float *out, const float *const *src, int n, int len)
{
    if (n == 1)
        memcpy(out, src[0], sizeof(float) * len);
    else
        for (int i = 0; i < len; i += 8) {
            v8 t = ADD(LD(src[0] + i), LD(src[1] + i));
            for (int k = 2; k < n; k++) t = ADD(t, LD(src[k] + i));
            ST(out + i, t);
        }
}

ALWAYS void max3(v8 *best, __m256i *at, v8 v, int k)
{
    const v8 m = GT(v, *best);
    *best = SEL(m, v, *best);
    *at = _mm256_castps_si256(SEL(m, _mm256_castsi256_ps(_mm256_set1_epi32(k)),
                                  _mm256_castsi256_ps(*at)));
}

/* 3x3 max-pool of one plane: first along columns (row maximum, index 0..2), then along rows.
 * The topmost row's leftmost maximum is the first maximum in row-major order.
 * ih, iv: index planes (NULL: not wanted); row: scratch plane. */
ALWAYS void pool3(const float *x, float *out, float *row, float *ih, float *iv, int H, int W,
                  const int want)
{
    for (int y = 0; y < H; y++)
        for (int c = 0; c < W; c++) {
            const idx p = (idx)(y * W + c) * B;
            for (int b = 0; b < B; b += 8) {
                const float *q = x + p + b;
                if (want) {
                    v8 best; __m256i at;
                    if (c) { best = LD(q - B); at = _mm256_setzero_si256(); max3(&best, &at, LD(q), 1); }
                    else { best = LD(q); at = _mm256_set1_epi32(1); }
                    if (c < W - 1) max3(&best, &at, LD(q + B), 2);
                    ST(row + p + b, best);
                    ST(ih + p + b, _mm256_castsi256_ps(at));
                } else {
                    v8 best = LD(q);
                    if (c) best = _mm256_max_ps(best, LD(q - B));
                    if (c < W - 1) best = _mm256_max_ps(best, LD(q + B));
                    ST(row + p + b, best);
                }
            }
        }
    const idx R = (idx)W * B;
    for (int y = 0; y < H; y++)
        for (idx p = y * R; p < (y + 1) * R; p += 8) {
            const float *q = row + p;
            if (want) {
                v8 best; __m256i at;
                if (y) { best = LD(q - R); at = _mm256_setzero_si256(); max3(&best, &at, LD(q), 1); }
                else { best = LD(q); at = _mm256_set1_epi32(1); }
                if (y < H - 1) max3(&best, &at, LD(q + R), 2);
                ST(out + p, best);
                ST(iv + p, _mm256_castsi256_ps(at));
            } else {
                v8 best = LD(q);
                if (y) best = _mm256_max_ps(best, LD(q - R));
                if (y < H - 1) best = _mm256_max_ps(best, LD(q + R));
                ST(out + p, best);
            }
        }
}

ALWAYS v8 picked(const float *d, const float *at, int k)
{
    return AND(LD(d), _mm256_castsi256_ps(_mm256_cmpeq_epi32(
        _mm256_castps_si256(LD(at)), _mm256_set1_epi32(k))));
}

static void pool3_back(const float *d, float *dx, float *row, const float *ih, const float *iv,
                       int H, int W)
{
    const idx R = (idx)W * B;
    for (int y = 0; y < H; y++)
        for (idx p = y * R; p < (y + 1) * R; p += 8) {
            v8 t = picked(d + p, iv + p, 1);
            if (y) t = ADD(t, picked(d + p - R, iv + p - R, 2));
            if (y < H - 1) t = ADD(t, picked(d + p + R, iv + p + R, 0));
            ST(row + p, t);
        }
    for (int y = 0; y < H; y++)
        for (int c = 0; c < W; c++) {
            const idx q = (idx)(y * W + c) * B;
            for (idx p = q; p < q + B; p += 8) {
                v8 t = picked(row + p, ih + p, 1);
                if (c) t = ADD(t, picked(row + p - B, ih + p - B, 2));
                if (c < W - 1) t = ADD(t, picked(row + p + B, ih + p + B, 0));
                ST(dx + p, t);
            }
        }
}

/* 2x2 max-pool with stride 2 of one plane; at: index plane of the output's size */
static void pool2(const float *x, float *out, float *at, int H, int W)
{
    for (int y = 0; y < H / 2; y++)
        for (int c = 0; c < W / 2; c++)
            for (int b = 0; b < B; b += 8) {
                const float *q = x + (idx)(2 * y * W + 2 * c) * B + b;
                const idx o = (idx)(y * (W / 2) + c) * B + b;
                v8 best = LD(q);
                __m256i k = _mm256_setzero_si256();
                max3(&best, &k, LD(q + B), 1);
                max3(&best, &k, LD(q + W * B), 2);
                max3(&best, &k, LD(q + W * B + B), 3);
                ST(out + o, best);
                ST(at + o, _mm256_castsi256_ps(k));
            }
}

static void pool2_back(const float *d, float *dx, const float *at, int H, int W)
{
    if ((H | W) & 1) memset(dx, 0, sizeof(float) * H * W * B);
    for (int y = 0; y < H / 2; y++)
        for (int c = 0; c < W / 2; c++)
            for (int b = 0; b < B; b += 8) {
                float *q = dx + (idx)(2 * y * W + 2 * c) * B + b;
                const idx o = (idx)(y * (W / 2) + c) * B + b;
                ST(q, picked(d + o, at + o, 0));
                ST(q + B, picked(d + o, at + o, 1));
                ST(q + W * B, picked(d + o, at + o, 2));
                ST(q + W * B + B, picked(d + o, at + o, 3));
            }
}

/* ---------------------------------------------------------------- the network */
typedef struct {            /* convolution, batch-norm, ReLU */
    int cin, cout, k, H, W;
    idx ps;                 /* plane stride of everything inside its cell */
    idx w, g, b, m, v;      /* offsets: weight, scale, shift; running mean, variance */
    float *z;               /* convolution's output */
    float *pf, *pb;         /* packed weights, forward and backward */
    float *scale, *shift, *mean, *inv;
} Layer;

typedef struct {
    int c, op, nsrc, src[MAXV], proj, off; /* proj: first channel in the projection or -1;
                                              off: first channel in the concatenation or -1 */
    Layer conv;
    float *in, *out, *din;  /* vertex input (own or a source's out), output, input's gradient */
    int own_in;
    float *ih, *iv;         /* max-pool indices */
} Vertex;

typedef struct {
    int V, H, W, cin, cout, has_out_proj, nproj;
    int A[MAXV][MAXV];
    idx ps;
    Layer proj;
    Vertex vertex[MAXV];
    float *x, *cat, *out, *dx; /* input, concatenation, output (cat or own), input's gradient */
} Cell;

typedef struct {            /* down-sampling before a cell: 0 channels when absent */
    int c, H, W;
    idx ps_in, ps_out;
    float *out, *at, *dx;
} Down;

typedef struct {
    int channels, H, W, classes, ncells, cout;
    idx nparams, nstats, arena_size, used;
    char *arena;
    float *params, *grads, *moment, *stats;
    float *input, *scratch, *rows;
    Layer stem;
    float *stem_out;
    Down *down;
    Cell *cell;
    idx lin_w, lin_b;
    float *pooled, *logits, *dpool, *dout;
    int packed_for_eval;
} Net;

static float *take(Net *n, idx floats)
{
    const idx at = n->used;
    n->used += (floats + 15) / 16 * 16;
    return n->arena ? (float *)n->arena + at : (float *)(at * 4 + 64);
}

static void layer_init(Net *n, Layer *l, int cin, int cout, int k, int H, int W, idx ps)
{
    l->cin = cin, l->cout = cout, l->k = k, l->H = H, l->W = W, l->ps = ps;
    l->w = n->nparams, n->nparams += (idx)cout * cin * k * k;
    l->g = n->nparams, n->nparams += cout;
    l->b = n->nparams, n->nparams += cout;
    l->m = n->nstats, n->nstats += cout;
    l->v = n->nstats, n->nstats += cout;
    l->z = take(n, cout * ps);
    l->pf = take(n, (idx)cout * cin * k * k);
    l->pb = take(n, (idx)cout * cin * k * k);
    l->scale = take(n, cout), l->shift = take(n, cout);
    l->mean = take(n, cout), l->inv = take(n, cout);
}

/* channels of every vertex, as nasbench's compute_vertex_channels; 0 when impossible */
static int vertex_channels(int V, int A[MAXV][MAXV], int cin, int cout, int *c)
{
    memset(c, 0, sizeof(int) * MAXV);
    c[0] = cin, c[V - 1] = cout;
    if (V == 2) return 1;
    int into = 0;
    for (int v = 1; v < V - 1; v++) into += A[v][V - 1];
    if (!into) return 0;
    int each = cout / into, extra = cout % into;
    for (int v = 1; v < V - 1; v++)
        if (A[v][V - 1]) c[v] = each + (extra-- > 0);
    for (int v = V - 3; v > 0; v--)
        if (!A[v][V - 1])
            for (int d = v + 1; d < V - 1; d++)
                if (A[v][d] && c[d] > c[v]) c[v] = c[d];
    for (int v = 1; v < V - 1; v++)
        if (c[v] < 1) return 0;
    return 1;
}

static idx plane(int H, int W) { return (idx)(H * W + 1) * B; }

static int lay_out(Net *n, int V, const uint8_t *matrix, const int8_t *ops, int stem, int stacks,
                   int modules)
{
    int H = n->H, W = n->W, c = stem;
    n->used = n->nparams = n->nstats = 0;
    idx biggest = 0, cells = 0;
    n->input = take(n, (idx)n->channels * H * W * B);
    layer_init(n, &n->stem, n->channels, stem, 3, H, W, plane(H, W));
    n->stem_out = take(n, stem * plane(H, W));
    float *x = n->stem_out;
    int cin = stem;
    biggest = stem * plane(H, W);
    for (int s = 0; s < stacks; s++)
        for (int m = 0; m < modules; m++, cells++) {
            Down *d = n->down + cells;
            d->c = 0;
            if (s && !m) {
                *d = (Down){.c = cin, .H = H, .W = W, .ps_in = plane(H, W)};
                d->dx = take(n, cin * d->ps_in);
                H /= 2, W /= 2, c *= 2;
                if (H < 1 || W < 1) return 0;
                d->ps_out = plane(H, W);
                d->out = take(n, cin * d->ps_out);
                d->at = take(n, cin * d->ps_out);
                x = d->out;
            }
            Cell *e = n->cell + cells;
            e->V = V, e->H = H, e->W = W, e->cin = cin, e->cout = c, e->ps = plane(H, W);
            e->x = x;
            int ch[MAXV], total = 0, off = 0;
            for (int i = 0; i < V; i++)
                for (int j = 0; j < V; j++) e->A[i][j] = j > i && matrix[i * V + j];
            if (!vertex_channels(V, e->A, cin, c, ch)) return 0;
            for (int t = 1; t < V; t++) {
                Vertex *v = e->vertex + t;
                v->c = ch[t], v->op = t < V - 1 ? ops[t] : -1;
                v->proj = -1, v->off = -1, v->nsrc = 0;
                if (e->A[0][t]) v->proj = total, total += ch[t];
                if (t < V - 1 && e->A[t][V - 1]) v->off = off, off += ch[t];
                for (int q = 1; q < t; q++)
                    if (e->A[q][t]) v->src[v->nsrc++] = q;
            }
            if (total < 1) return 0;
            e->nproj = total;
            e->has_out_proj = e->A[0][V - 1];
            e->cat = V > 2 ? take(n, c * e->ps) : 0;
            layer_init(n, &e->proj, cin, total, 1, H, W, e->ps);
            if (total * e->ps > biggest) biggest = total * e->ps;
            for (int t = 1; t < V - 1; t++) {
                Vertex *v = e->vertex + t;
                if (v->op == 0 || v->op == 1)
                    layer_init(n, &v->conv, v->c, v->c, v->op == 0 ? 3 : 1, H, W, e->ps);
                else {
                    v->ih = take(n, v->c * e->ps);
                    v->iv = take(n, v->c * e->ps);
                }
                v->out = v->off >= 0 ? e->cat + v->off * e->ps : take(n, v->c * e->ps);
                v->own_in = v->proj >= 0 || v->nsrc > 1;
                if (v->nsrc == 0 && v->proj < 0) return 0;
                v->in = v->own_in ? take(n, v->c * e->ps) : e->vertex[v->src[0]].out;
                v->din = take(n, v->c * e->ps);
            }
            e->out = e->has_out_proj || V == 2 ? take(n, c * e->ps) : e->cat;
            e->dx = take(n, cin * e->ps);
            if (c * e->ps > biggest) biggest = c * e->ps;
            x = e->out, cin = c;
        }
    n->cout = c;
    n->lin_w = n->nparams, n->nparams += (idx)c * n->classes;
    n->lin_b = n->nparams, n->nparams += n->classes;
    n->pooled = take(n, (idx)c * B);
    n->dpool = take(n, (idx)c * B);
    n->logits = take(n, (idx)MAXCLASS * B);
    n->dout = take(n, c * plane(H, W));
    n->scratch = take(n, biggest);
    n->rows = take(n, plane(n->H, n->W));
    n->params = take(n, n->nparams);
    n->grads = take(n, n->nparams);
    n->moment = take(n, n->nparams);
    n->stats = take(n, n->nstats);
    return 1;
}

void cellnet_free(Net *n)
{
    if (!n) return;
    free(n->arena), free(n->down), free(n->cell), free(n);
}

Net *cellnet_new(int V, const uint8_t *matrix, const int8_t *ops, int channels, int H, int W,
                 int stem, int stacks, int modules, int classes)
{
    if (V < 2 || V > MAXV || classes > MAXCLASS) return 0;
    Net *n = calloc(1, sizeof(Net));
    if (!n) return 0;
    n->channels = channels, n->H = H, n->W = W, n->classes = classes;
    n->ncells = stacks * modules;
    n->down = calloc(n->ncells, sizeof(Down));
    n->cell = calloc(n->ncells, sizeof(Cell));
    for (int pass = 0; pass < 2; pass++) {
        if (!n->down || !n->cell || !lay_out(n, V, matrix, ops, stem, stacks, modules)) {
            cellnet_free(n);
            return 0;
        }
        if (pass == 0) {
            const size_t bytes = (size_t)n->used * 4;
            n->arena = aligned_alloc(64, bytes);
            if (!n->arena) { cellnet_free(n); return 0; }
            memset(n->arena, 0, bytes);
        }
    }
    return n;
}

int64_t cellnet_nparams(const Net *n) { return n->nparams; }
int64_t cellnet_nstats(const Net *n) { return n->nstats; }

/* running means to 0, variances to 1, momentum to 0 */
static void reset_stats(Net *n, const Layer *l)
{
    for (int c = 0; c < l->cout; c++) n->stats[l->m + c] = 0.f, n->stats[l->v + c] = 1.f;
}

void cellnet_set_params(Net *n, const float *p)
{
    memcpy(n->params, p, sizeof(float) * n->nparams);
    memset(n->moment, 0, sizeof(float) * n->nparams);
    n->packed_for_eval = 0;
    reset_stats(n, &n->stem);
    for (int i = 0; i < n->ncells; i++) {
        Cell *e = n->cell + i;
        reset_stats(n, &e->proj);
        for (int t = 1; t < e->V - 1; t++)
            if (e->vertex[t].op < 2) reset_stats(n, &e->vertex[t].conv);
    }
}

void cellnet_get(const Net *n, float *params, float *grads, float *stats)
{
    memcpy(params, n->params, sizeof(float) * n->nparams);
    memcpy(grads, n->grads, sizeof(float) * n->nparams);
    memcpy(stats, n->stats, sizeof(float) * n->nstats);
}

/* batch statistics of channel c -> scale, shift; running statistics */
static void statistics(Net *n, Layer *l, int c)
{
    const int len = l->H * l->W * B;
    const float *z = l->z + c * l->ps;
    v8 s[4] = {ZERO, ZERO, ZERO, ZERO};
    for (int i = 0; i < len; i += 32)
        UNROLL for (int k = 0; k < 4; k++) s[k] = ADD(s[k], LD(z + i + 8 * k));
    const double mean = lanes(ADD(ADD(s[0], s[1]), ADD(s[2], s[3]))) / len;
    const v8 mv = SET((float)mean);
    UNROLL for (int k = 0; k < 4; k++) s[k] = ZERO;
    for (int i = 0; i < len; i += 32)
        UNROLL for (int k = 0; k < 4; k++) {
            const v8 t = SUB(LD(z + i + 8 * k), mv);
            s[k] = FMA(t, t, s[k]);
        }
    const double ss = lanes(ADD(ADD(s[0], s[1]), ADD(s[2], s[3])));
    const double inv = 1.0 / sqrt(ss / len + 1e-5);
    l->mean[c] = (float)mean;
    l->inv[c] = (float)inv;
    l->scale[c] = (float)(n->params[l->g + c] * inv);
    l->shift[c] = (float)(n->params[l->b + c] - mean * (n->params[l->g + c] * inv));
    float *rm = n->stats + l->m + c, *rv = n->stats + l->v + c;
    *rm = (float)(0.9 * *rm + 0.1 * mean);
    *rv = (float)(0.9 * *rv + 0.1 * (ss / (len - 1)));
}

static void fixed_statistics(Net *n, Layer *l)
{
    for (int c = 0; c < l->cout; c++) {
        const double inv = 1.0 / sqrt((double)n->stats[l->v + c] + 1e-5);
        const double a = n->params[l->g + c] * inv;
        l->scale[c] = (float)a;
        l->shift[c] = (float)(n->params[l->b + c] - n->stats[l->m + c] * a);
    }
}

/* out = max(scale z + shift, 0) + sum of the addends, one plane */
static void activate(const float *z, float scale, float shift, float *out,
                     const float *const *add, int nadd, int len)
{
    const v8 a = SET(scale), b = SET(shift), zero = ZERO;
    if (nadd == 0)
        for (int i = 0; i < len; i += 8) ST(out + i, _mm256_max_ps(FMA(LD(z + i), a, b), zero));
    else if (nadd == 1) {
        const float *p = add[0];
        for (int i = 0; i < len; i += 8)
            ST(out + i, ADD(_mm256_max_ps(FMA(LD(z + i), a, b), zero), LD(p + i)));
    } else
        for (int i = 0; i < len; i += 8) {
            v8 t = _mm256_max_ps(FMA(LD(z + i), a, b), zero);
            for (int k = 0; k < nadd; k++) t = ADD(t, LD(add[k] + i));
            ST(out + i, t);
        }
}

static void layer_conv(Net *n, Layer *l, const float *x, idx xs, float *out, int train)
{
    if (train) {
        pack(n->params + l->w, l->pf, l->cout, l->cin, l->k, 0);
        conv(l->k, x, xs, l->cin, l->pf, l->z, l->ps, l->cout, l->H, l->W, 0, 0);
        for (int c = 0; c < l->cout; c++) statistics(n, l, c);
    } else {
        if (!n->packed_for_eval) {
            pack(n->params + l->w, l->pf, l->cout, l->cin, l->k, 0);
            fixed_statistics(n, l);
        }
        conv(l->k, x, xs, l->cin, l->pf, out, l->ps, l->cout, l->H, l->W, l->scale, l->shift);
    }
}

static void layer_forward(Net *n, Layer *l, const float *x, idx xs, float *out, int train)
{
    layer_conv(n, l, x, xs, out, train);
    if (train)
        for (int c = 0; c < l->cout; c++)
            activate(l->z + c * l->ps, l->scale[c], l->shift[c], out + c * l->ps, 0, 0,
                     l->H * l->W * B);
}

/* sources' sum + activated projection -> v->in (or the cell's output) */
static void gather(Cell *e, Vertex *v, const float **base, int nbase, float *to, int train)
{
    const int len = e->H * e->W * B;
    for (int c = 0; c < v->c; c++) {
        const float *add[MAXV + 1];
        for (int k = 0; k < nbase; k++) add[k] = base[k] + c * e->ps;
        float *out = to + c * e->ps;
        if (v->proj < 0)
            plane_sum(out, add, nbase, len);
        else {
            const int p = v->proj + c;
            const float *z = e->proj.z + p * e->ps;
            if (train)
                activate(z, e->proj.scale[p], e->proj.shift[p], out, add, nbase, len);
            else {
                add[nbase] = z; /* already activated */
                plane_sum(out, add, nbase + 1, len);
            }
        }
    }
}

static void cell_forward(Net *n, Cell *e, int train)
{
    const int V = e->V;
    layer_conv(n, &e->proj, e->x, e->ps, e->proj.z, train);
    for (int t = 1; t < V - 1; t++) {
        Vertex *v = e->vertex + t;
        const float *base[MAXV];
        for (int k = 0; k < v->nsrc; k++) base[k] = e->vertex[v->src[k]].out;
        const float *in = v->in;
        if (v->own_in) {
            if (!train && v->nsrc == 0) in = e->proj.z + v->proj * e->ps;
            else gather(e, v, base, v->nsrc, v->in, train);
        }
        if (v->op < 2)
            layer_forward(n, &v->conv, in, e->ps, v->out, train);
        else
            for (int c = 0; c < v->c; c++) {
                const idx p = c * e->ps;
                if (train) pool3(in + p, v->out + p, n->rows, v->ih + p, v->iv + p, e->H, e->W, 1);
                else pool3(in + p, v->out + p, n->rows, 0, 0, e->H, e->W, 0);
            }
    }
    if (e->out != e->cat) {
        const float *base[1] = {e->cat};
        gather(e, e->vertex + V - 1, base, V > 2, e->out, train);
    }
}

/* x: (channels, H, W, B), contiguous; fills logits (classes, B) */
static void forward(Net *n, const float *x, int train)
{
    if (train) n->packed_for_eval = 0;
    layer_forward(n, &n->stem, x, (idx)n->H * n->W * B, n->stem_out, train);
    for (int i = 0; i < n->ncells; i++) {
        Down *d = n->down + i;
        if (d->c) {
            const float *in = n->cell[i - 1].out;
            for (int c = 0; c < d->c; c++)
                pool2(in + c * d->ps_in, d->out + c * d->ps_out, d->at + c * d->ps_out, d->H, d->W);
        }
        cell_forward(n, n->cell + i, train);
    }
    if (!train) n->packed_for_eval = 1;
    const Cell *e = n->cell + n->ncells - 1;
    const int px = e->H * e->W;
    const v8 by = SET((float)(1.0 / px));
    for (int c = 0; c < n->cout; c++)
        for (int b = 0; b < B; b += 8) {
            v8 t = ZERO;
            for (int p = 0; p < px; p++) t = ADD(t, LD(e->out + c * e->ps + p * B + b));
            ST(n->pooled + c * B + b, MUL(t, by));
        }
    for (int k = 0; k < n->classes; k++)
        for (int b = 0; b < B; b += 8) {
            v8 t = BC(n->params + n->lin_b + k);
            for (int c = 0; c < n->cout; c++)
                t = FMA(LD(n->pooled + c * B + b), BC(n->params + n->lin_w + k * n->cout + c), t);
            ST(n->logits + k * B + b, t);
        }
}

/* mean cross-entropy; logits become their gradient */
static double loss_gradient(Net *n, const int32_t *label)
{
    double total = 0;
    const int K = n->classes;
    for (int b = 0; b < B; b++) {
        double top = n->logits[b], sum = 0, e[MAXCLASS];
        for (int k = 1; k < K; k++)
            if (n->logits[k * B + b] > top) top = n->logits[k * B + b];
        for (int k = 0; k < K; k++) sum += e[k] = exp_(n->logits[k * B + b] - top);
        total += log_(sum) - (n->logits[label[b] * B + b] - top);
        for (int k = 0; k < K; k++)
            n->logits[k * B + b] = (float)((e[k] / sum - (k == label[b])) / B);
    }
    return total / B;
}

/* gradient through ReLU and batch-norm of one channel: d (sum of nsrc planes) -> dz */
static void norm_back(Net *n, Layer *l, int c, const float *const *src, int nsrc, float *dz)
{
    const int len = l->H * l->W * B;
    const float *z = l->z + c * l->ps;
    const v8 a = SET(l->scale[c]), b = SET(l->shift[c]), m = SET(l->mean[c]);
    v8 s0 = ZERO, s1 = ZERO, t0 = ZERO, t1 = ZERO;
    for (int i = 0; i < len; i += 16) {
        v8 g = LD(src[0] + i), h = LD(src[0] + i + 8);
        for (int k = 1; k < nsrc; k++) {
            g = ADD(g, LD(src[k] + i));
            h = ADD(h, LD(src[k] + i + 8));
        }
        const v8 u = LD(z + i), w = LD(z + i + 8);
        g = AND(g, GT(FMA(u, a, b), ZERO));
        h = AND(h, GT(FMA(w, a, b), ZERO));
        s0 = ADD(s0, g), s1 = ADD(s1, h);
        t0 = FMA(g, SUB(u, m), t0), t1 = FMA(h, SUB(w, m), t1);
        ST(dz + i, g);
        ST(dz + i + 8, h);
    }
    const double sum = lanes(ADD(s0, s1)), inv = l->inv[c];
    const double dot = lanes(ADD(t0, t1)) * inv; /* sum of gradient x normalised */
    n->grads[l->b + c] = (float)sum;
    n->grads[l->g + c] = (float)dot;
    /* dz = scale (g - sum/len - (z - mean) inv dot/len) = scale g + p (z - mean) + q */
    const v8 p = SET((float)(-l->scale[c] * inv * dot / len));
    const v8 q = SET((float)(-l->scale[c] * sum / len));
    for (int i = 0; i < len; i += 8)
        ST(dz + i, FMA(LD(dz + i), a, FMA(SUB(LD(z + i), m), p, q)));
}

static void layer_back(Net *n, Layer *l, const float *x, idx xs, const float *dz, float *dx)
{
    conv_weight(l->k, x, xs, l->cin, dz, l->ps, l->cout, l->H, l->W, n->grads + l->w);
    if (dx) {
        pack(n->params + l->w, l->pb, l->cout, l->cin, l->k, 1);
        conv(l->k, dz, l->ps, l->cout, l->pb, dx, l->ps, l->cin, l->H, l->W, 0, 0);
    }
}

static void cell_back(Net *n, Cell *e, const float *dout)
{
    const int V = e->V, len = e->H * e->W * B;
    for (int t = V - 2; t >= 1; t--) {
        Vertex *v = e->vertex + t;
        for (int c = 0; c < v->c; c++) {
            const float *src[MAXV];
            int k = 0;
            if (v->off >= 0) src[k++] = dout + (v->off + c) * e->ps;
            for (int u = t + 1; u < V - 1; u++)
                if (e->A[t][u] && c < e->vertex[u].c) src[k++] = e->vertex[u].din + c * e->ps;
            if (v->op < 2)
                norm_back(n, &v->conv, c, src, k, n->scratch + c * e->ps);
            else {
                const float *d = src[0];
                const idx p = c * e->ps;
                if (k > 1) plane_sum(n->scratch, src, k, len), d = n->scratch;
                pool3_back(d, v->din + p, n->rows, v->ih + p, v->iv + p, e->H, e->W);
            }
        }
        if (v->op < 2) layer_back(n, &v->conv, v->in, e->ps, n->scratch, v->din);
    }
    for (int t = 1; t < V; t++) {
        Vertex *v = e->vertex + t;
        if (v->proj < 0) continue;
        const float *d = t < V - 1 ? v->din : dout;
        for (int c = 0; c < v->c; c++) {
            const float *src[1] = {d + c * e->ps};
            norm_back(n, &e->proj, v->proj + c, src, 1, n->scratch + (v->proj + c) * e->ps);
        }
    }
    layer_back(n, &e->proj, e->x, e->ps, n->scratch, e->dx);
}

static void backward(Net *n, const float *x)
{
    const Cell *e = n->cell + n->ncells - 1;
    const int px = e->H * e->W, C = n->cout, K = n->classes;
    for (int k = 0; k < K; k++) {
        v8 s = ZERO;
        for (int b = 0; b < B; b += 8) s = ADD(s, LD(n->logits + k * B + b));
        n->grads[n->lin_b + k] = (float)lanes(s);
        for (int c = 0; c < C; c++) {
            v8 t = ZERO;
            for (int b = 0; b < B; b += 8)
                t = FMA(LD(n->logits + k * B + b), LD(n->pooled + c * B + b), t);
            n->grads[n->lin_w + k * C + c] = (float)lanes(t);
        }
    }
    const v8 by = SET((float)(1.0 / px));
    for (int c = 0; c < C; c++)
        for (int b = 0; b < B; b += 8) {
            v8 t = ZERO;
            for (int k = 0; k < K; k++)
                t = FMA(LD(n->logits + k * B + b), BC(n->params + n->lin_w + k * C + c), t);
            t = MUL(t, by);
            for (int p = 0; p < px; p++) ST(n->dout + c * e->ps + p * B + b, t);
        }
    const float *d = n->dout;
    for (int i = n->ncells - 1; i >= 0; i--) {
        cell_back(n, n->cell + i, d);
        d = n->cell[i].dx;
        Down *w = n->down + i;
        if (w->c) {
            for (int c = 0; c < w->c; c++)
                pool2_back(d + c * w->ps_out, w->dx + c * w->ps_in, w->at + c * w->ps_out, w->H, w->W);
            d = w->dx;
        }
    }
    for (int c = 0; c < n->stem.cout; c++) {
        const float *src[1] = {d + c * n->stem.ps};
        norm_back(n, &n->stem, c, src, 1, n->scratch + c * n->stem.ps);
    }
    layer_back(n, &n->stem, x, (idx)n->H * n->W * B, n->scratch, 0);
}

/* as torch.optim.SGD(nesterov=True, dampening=0) */
static void sgd(Net *n, float lr, float momentum, float decay)
{
    const v8 m = SET(momentum), w = SET(decay), l = SET(-lr);
    for (idx i = 0; i < n->nparams; i += 8) { /* arrays are padded to 16 floats */
        const v8 p = LD(n->params + i);
        const v8 g = FMA(p, w, LD(n->grads + i));
        const v8 v = FMA(LD(n->moment + i), m, g);
        ST(n->moment + i, v);
        ST(n->params + i, FMA(FMA(v, m, g), l, p));
    }
}

static void batch_input(Net *n, const float *images, const int32_t *labels, const int64_t *index,
                        int32_t *label)
{
    const int F = n->channels * n->H * n->W;
    const float *p[B];
    for (int b = 0; b < B; b++) p[b] = images + index[b] * F, label[b] = labels[index[b]];
    for (int f = 0; f < F; f++)
        for (int b = 0; b < B; b++) n->input[(idx)f * B + b] = p[b][f];
}

/* steps steps of SGD on the batches index[64 s ..]; returns the mean loss of the batches.
 * images: (n, channels, H, W); labels: (n). */
double cellnet_train(Net *n, const float *images, const int32_t *labels, const int64_t *index,
                     int64_t steps, const float *lr, float momentum, float decay)
{
    double total = 0;
    int32_t label[B];
    for (int64_t s = 0; s < steps; s++) {
        batch_input(n, images, labels, index + s * B, label);
        forward(n, n->input, 1);
        total += loss_gradient(n, label);
        backward(n, n->input);
        sgd(n, lr[s], momentum, decay);
    }
    return steps ? total / steps : 0.0;
}

/* One batch of 64 in training mode: logits (64, classes); when labels is given also the
 * gradients (cellnet_get) and the returned mean loss. No parameter changes; running statistics
 * do. train = 0: logits in evaluation mode. */
double cellnet_forward(Net *n, const float *images, const int32_t *labels, int train,
                       float *logits)
{
    int64_t index[B];
    int32_t label[B], zeros[B] = {0};
    for (int b = 0; b < B; b++) index[b] = b;
    batch_input(n, images, labels ? labels : zeros, index, label);
    n->packed_for_eval = 0;
    forward(n, n->input, train);
    for (int b = 0; b < B; b++)
        for (int k = 0; k < n->classes; k++) logits[b * n->classes + k] = n->logits[k * B + b];
    if (!labels || !train) return 0.0;
    const double loss = loss_gradient(n, label);
    backward(n, n->input);
    return loss;
}

/* number of the count images classified correctly (first of equal logits wins);
 * blocks: (ceil(count/64), channels, H, W, 64), 32-byte aligned */
int64_t cellnet_correct(Net *n, const float *blocks, const int32_t *labels, int64_t count)
{
    int64_t right = 0;
    n->packed_for_eval = 0;
    for (int64_t i = 0; i < count; i += B) {
        forward(n, blocks + i * n->channels * n->H * n->W, 0);
        for (int b = 0; b < B && i + b < count; b++) {
            int best = 0;
            for (int k = 1; k < n->classes; k++)
                if (n->logits[k * B + b] > n->logits[best * B + b]) best = k;
            right += best == labels[i + b];
        }
    }
    return right;
}
