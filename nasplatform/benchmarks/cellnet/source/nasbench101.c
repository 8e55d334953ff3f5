/* Cells of NAS-Bench-101 between stem and classifier.
 *
 * Flat parameter order per cell: the projections of the cell's input (all destinations stacked
 * along the output channel, in vertex order) and the convolutions of vertices 1 .. V-2 (vertices
 * with max-pool have none).
 */
#include "kernel.h"

#define MAXV 7

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
    Down down;
    Cell cell;
} Block;

typedef struct {
    int V;
    const uint8_t *matrix;
    const int8_t *ops;
} Choice;

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

static int lay_out(Net *n, const void *cell)
{
    const Choice *choice = cell;
    const int V = choice->V;
    Block *block = n->blocks;
    int H = n->H, W = n->W, cin = n->stem_channels, c = cin;
    float *x = n->stem_out;
    for (int s = 0; s < n->stages; s++)
        for (int m = 0; m < n->per_stage; m++, block++) {
            Down *d = &block->down;
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
            Cell *e = &block->cell;
            e->V = V, e->H = H, e->W = W, e->cin = cin, e->cout = c, e->ps = plane(H, W);
            e->x = x;
            int ch[MAXV], total = 0, off = 0;
            for (int i = 0; i < V; i++)
                for (int j = 0; j < V; j++) e->A[i][j] = j > i && choice->matrix[i * V + j];
            if (!vertex_channels(V, e->A, cin, c, ch)) return 0;
            for (int t = 1; t < V; t++) {
                Vertex *v = e->vertex + t;
                v->c = ch[t], v->op = t < V - 1 ? choice->ops[t] : -1;
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
            layer_init(n, &e->proj, (Layer){.cin = cin, .cout = total, .k = 1, .xH = H, .xW = W});
            for (int t = 1; t < V - 1; t++) {
                Vertex *v = e->vertex + t;
                if (v->op == 0 || v->op == 1)
                    layer_init(n, &v->conv, (Layer){.cin = v->c, .cout = v->c, .xH = H, .xW = W,
                                                    .k = v->op == 0 ? 3 : 1});
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
            x = e->out, cin = c;
        }
    n->features = x, n->fC = c, n->fH = H, n->fW = W;
    return 1;
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
            if (train)
                activate(&e->proj, p, out, add, nbase);
            else {
                add[nbase] = e->proj.z + p * e->ps; /* already activated */
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

static void forward(Net *n, int train)
{
    Block *block = n->blocks;
    for (int i = 0; i < n->stages * n->per_stage; i++) {
        const Down *d = &block[i].down;
        if (d->c) {
            const float *in = block[i - 1].cell.out;
            for (int c = 0; c < d->c; c++)
                pool2(in + c * d->ps_in, d->out + c * d->ps_out, d->at + c * d->ps_out, d->H, d->W);
        }
        cell_forward(n, &block[i].cell, train);
    }
}

static const float *backward(Net *n, const float *d)
{
    Block *block = n->blocks;
    for (int i = n->stages * n->per_stage - 1; i >= 0; i--) {
        cell_back(n, &block[i].cell, d);
        d = block[i].cell.dx;
        const Down *w = &block[i].down;
        if (w->c) {
            for (int c = 0; c < w->c; c++)
                pool2_back(d + c * w->ps_out, w->dx + c * w->ps_in, w->at + c * w->ps_out, w->H, w->W);
            d = w->dx;
        }
    }
    return d;
}

EXPORT Net *cellnet_new101(int V, const uint8_t *matrix, const int8_t *ops, int channels, int H,
                           int W, int stem, int stages, int per_stage, int classes)
{
    static const Kind kind = {sizeof(Block), lay_out, forward, backward};
    const Choice choice = {V, matrix, ops};
    if (V < 2 || V > MAXV) return 0;
    return net_new(&kind, &choice, channels, H, W, stem, stages, per_stage, classes, 0);
}
