#include "kernel.h"

/* ---------------------------------------------------------------- convolution
 * Output channels are handled in blocks of at most 3: 3 x 4 vector accumulators. */
ALWAYS int block(int n, int most) { return n <= most ? n : n == most + 1 ? (most + 2) / 2 : most; }

typedef struct {            /* one of the input's pixels that an output pixel takes from */
    idx at;                 /* of the pixel in its plane */
    int weight;             /* which of the k x k */
} Tap;

ALWAYS int taps_of(const int K, const int up, const Map *m, int y, int x, Tap *tap)
{
    if (K == 1) {
        *tap = (Tap){(idx)(y * m->W + x) * B, 0};
        return 1;
    }
    int n = 0;
    for (int ky = 0; ky < 3; ky++) {
        const int row = y * m->down + ky - 1;
        if (row < 0 || row % up || row / up >= m->H) continue;
        for (int kx = 0; kx < 3; kx++) {
            const int col = x * m->down + kx - 1;
            if (col < 0 || col % up || col / up >= m->W) continue;
            tap[n++] = (Tap){(idx)(row / up * m->W + col / up) * B, ky * 3 + kx};
        }
    }
    return n;
}

ALWAYS void pixel(const int N, const float *x, idx xs, int cin, const float *w, float *out, idx os,
                  const Tap *tap, int taps, const float *scale, const float *shift, float floor)
{
    v8 acc[3][4];
    UNROLL for (int j = 0; j < N; j++)
        UNROLL for (int v = 0; v < 4; v++) acc[j][v] = ZERO;
    for (int t = 0; t < taps; t++) {
        const float *xp = x + tap[t].at;
        const float *wp = w + (idx)tap[t].weight * cin * N;
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
            if (scale) r = _mm256_max_ps(FMA(r, BC(scale + j), BC(shift + j)), SET(floor));
            ST(out + j * os + 8 * v, r);
        }
}

ALWAYS void convolve(const int K, const int up, const Map *m, const float *x, idx xs, int cin,
                     const float *w, float *out, idx os, int cout, const float *scale,
                     const float *shift, float floor)
{
    Tap tap[9];
    for (int half = 0; half < 64; half += 32) {
        float *to = out + half;
        for (int y = 0; y < m->oH; y++)
            for (int xx = 0; xx < m->oW; xx++, to += B) {
                const int taps = taps_of(K, up, m, y, xx, tap);
                const float *wp = w;
                for (int co = 0; co < cout;) {
                    const int n = block(cout - co, 3);
                    const float *sc = scale ? scale + co : 0, *sh = shift ? shift + co : 0;
                    float *o = to + co * os;
#define PIXEL(N) pixel(N, x + half, xs, cin, wp, o, os, tap, taps, sc, sh, floor)
                    if (n == 3) PIXEL(3);
                    else if (n == 2) PIXEL(2);
                    else PIXEL(1);
                    wp += (idx)n * cin * K * K;
                    co += n;
                }
            }
    }
}

/* scale != NULL: out = max(scale * conv + shift, floor), else out = conv */
void conv(const Map *m, const float *x, idx xs, int cin, const float *w, float *out, idx os,
          int cout, const float *scale, const float *shift, float floor)
{
#define CONVOLVE(K, up, sc, sh) convolve(K, up, m, x, xs, cin, w, out, os, cout, sc, sh, floor)
    if (m->up == 2) CONVOLVE(3, 2, 0, 0);
    else if (m->k == 3 && scale) CONVOLVE(3, 1, scale, shift);
    else if (m->k == 3) CONVOLVE(3, 1, 0, 0);
    else if (scale) CONVOLVE(1, 1, scale, shift);
    else CONVOLVE(1, 1, 0, 0);
}

/* weights (cout, cin, K, K) -> blocks of [tap][cin][block]; backward: transposed and flipped */
void pack(const float *w, float *p, int cout, int cin, int K, int backward)
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
 * acc[cout of the block][cin of the block] += sum over rows of n floats of one tap. */
ALWAYS void taps(const int NO, const int NI, const int U, const float *d, idx ds, const float *x,
                 idx xs, float *mem, int rows, idx dstep, idx xstep, int n)
{
    v8 acc[2][3][4];
    UNROLL for (int u = 0; u < U; u++)
        UNROLL for (int i = 0; i < NO; i++)
            UNROLL for (int j = 0; j < NI; j++)
                acc[u][i][j] = u ? ZERO : LD(mem + (i * NI + j) * 8);
    for (int r = 0; r < rows; r++, d += dstep, x += xstep)
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
                     int rows, idx dstep, idx xstep, int n)
{
#define TAPS(NO, NI) \
    case (NO) * 8 + (NI): \
        taps(NO, NI, (NO) * (NI) <= 5 ? 2 : 1, d, ds, x, xs, mem, rows, dstep, xstep, n); \
        break;
    switch (no * 8 + ni) {
        TAPS(1, 1) TAPS(1, 2) TAPS(1, 3) TAPS(1, 4)
        TAPS(2, 1) TAPS(2, 2) TAPS(2, 3) TAPS(2, 4)
        TAPS(3, 1) TAPS(3, 2) TAPS(3, 3) TAPS(3, 4)
    }
}

/* as below for one block of channels, 3x3 with stride 1: rows of the image at once */
static void taps_rows(int no, int ni, const float *d, idx ds, const float *x, idx xs, float *mem,
                      int H, int W)
{
    const int step = H * W <= 16 ? H : 1;
    for (int y = 0; y < H; y += step)
        for (int ky = 0; ky < 3; ky++) {
            int y0 = y, y1 = y + step;
            if (y0 + ky - 1 < 0) y0 = 1 - ky;
            if (y1 + ky - 1 > H) y1 = H + 1 - ky;
            if (y1 <= y0) continue;
            for (int kx = 0; kx < 3; kx++) {
                const int x0 = kx == 0, x1 = kx == 2 ? W - 1 : W;
                if (x1 <= x0) continue;
                taps_any(no, ni, d + (y0 * W + x0) * B, ds,
                         x + ((y0 + ky - 1) * W + x0 + kx - 1) * B, xs,
                         mem + (ky * 3 + kx) * 96, y1 - y0, (idx)W * B, (idx)W * B,
                         (x1 - x0) * B);
            }
        }
}

/* as below for one block of channels, 3x3 with a stride: a pixel is a row of taps */
static void taps_strided(int no, int ni, int stride, const float *d, idx ds, const float *x,
                         idx xs, float *mem, int H, int W)
{
    const int w = (W - 1) / stride + 1;
    for (int y = 0; y < H; y += stride)
        for (int ky = 0; ky < 3; ky++) {
            if (y + ky - 1 < 0 || y + ky - 1 >= H) continue;
            for (int kx = 0; kx < 3; kx++) {
                const int x0 = kx == 0, most = (W - kx + stride) / stride, x1 = most < w ? most : w;
                if (x1 <= x0) continue;
                taps_any(no, ni, d + (y / stride * w + x0) * B, ds,
                         x + ((y + ky - 1) * W + stride * x0 + kx - 1) * B, xs,
                         mem + (ky * 3 + kx) * 96, x1 - x0, B, (idx)stride * B, B);
            }
        }
}

/* grad (cout, cin, K, K) = gradient of the weights; d: gradient of the convolution's output;
 * H, W: of the input. Only a 3x3 can have a stride. */
void conv_weight(int K, int stride, const float *x, idx xs, int cin, const float *d, idx ds,
                 int cout, int H, int W, float *grad)
{
    float mem[9 * 12 * 8] __attribute__((aligned(32)));
    const int T = K * K;
    for (int co = 0, no; co < cout; co += no) {
        no = block(cout - co, 3);
        for (int ci = 0, ni; ci < cin; ci += ni) {
            ni = block(cin - ci, 4);
            const float *dp = d + co * ds, *xp = x + ci * xs;
            memset(mem, 0, sizeof(float) * T * 12 * 8);
            if (K == 1)
                taps_any(no, ni, dp, ds, xp, xs, mem, 1, 0, 0, H * W * B);
            else if (stride == 1)
                taps_rows(no, ni, dp, ds, xp, xs, mem, H, W);
            else
                taps_strided(no, ni, stride, dp, ds, xp, xs, mem, H, W);
            for (int t = 0; t < T; t++)
                for (int i = 0; i < no; i++)
                    for (int j = 0; j < ni; j++)
                        grad[((idx)(co + i) * cin + ci + j) * T + t] =
                            (float)lanes(LD(mem + t * 96 + (i * ni + j) * 8));
        }
    }
}
