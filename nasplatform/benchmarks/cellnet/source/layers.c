#include "kernel.h"

/* out = sum of n planes (n >= 1), len floats */
void plane_sum(float *out, const float *const *src, int n, int len)
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

/* shape: the fields before H; a layer without convolution gets its z from the caller later */
void layer_init(Net *n, Layer *l, Layer shape)
{
    *l = shape;
    if (!l->stride) l->stride = 1;
    l->H = (l->xH - 1) / l->stride + 1, l->W = (l->xW - 1) / l->stride + 1;
    l->ps = plane(l->H, l->W);
    const idx weights = (idx)l->cout * l->cin * l->k * l->k;
    l->w = n->nparams, n->nparams += weights;
    if (!l->bare) {
        l->g = n->nparams, n->nparams += l->cout;
        l->b = n->nparams, n->nparams += l->cout;
        l->m = n->nstats, n->nstats += l->cout;
        l->v = n->nstats, n->nstats += l->cout;
        l->next = n->layers, n->layers = l;
    }
    l->z = l->k ? take(n, l->cout * l->ps) : 0;
    l->pf = take(n, weights), l->pb = take(n, weights);
    l->scale = take(n, l->cout), l->shift = take(n, l->cout);
    l->mean = take(n, l->cout), l->inv = take(n, l->cout);
    const idx most = (l->cin > l->cout ? l->cin : l->cout) * plane(l->xH, l->xW);
    if (most > n->biggest) n->biggest = most;
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

/* out = max(scale z + shift, floor) + sum of the addends, the plane of one channel */
void activate(const Layer *l, int c, float *out, const float *const *add, int nadd)
{
    const float *z = l->z + c * l->ps;
    const int len = l->H * l->W * B;
    const v8 a = SET(l->scale[c]), b = SET(l->shift[c]), low = SET(l->floor);
    if (nadd == 0)
        for (int i = 0; i < len; i += 8) ST(out + i, _mm256_max_ps(FMA(LD(z + i), a, b), low));
    else if (nadd == 1) {
        const float *p = add[0];
        for (int i = 0; i < len; i += 8)
            ST(out + i, ADD(_mm256_max_ps(FMA(LD(z + i), a, b), low), LD(p + i)));
    } else
        for (int i = 0; i < len; i += 8) {
            v8 t = _mm256_max_ps(FMA(LD(z + i), a, b), low);
            for (int k = 0; k < nadd; k++) t = ADD(t, LD(add[k] + i));
            ST(out + i, t);
        }
}

/* training: z and what normalises it, to be activated; evaluation: out, activated;
 * a bare layer: out in both */
void layer_conv(Net *n, Layer *l, const float *x, idx xs, float *out, int train)
{
    const int norm = !train && !l->bare;
    if (train || !n->packed_for_eval) {
        pack(n->params + l->w, l->pf, l->cout, l->cin, l->k, 0);
        if (norm) fixed_statistics(n, l);
    }
    const Map map = {l->k, l->stride, 1, l->xH, l->xW, l->H, l->W};
    conv(&map, x, xs, l->cin, l->pf, train && !l->bare ? l->z : out, l->ps, l->cout,
         norm ? l->scale : 0, norm ? l->shift : 0, l->floor);
    if (train && !l->bare)
        for (int c = 0; c < l->cout; c++) statistics(n, l, c);
}

void layer_forward(Net *n, Layer *l, const float *x, idx xs, float *out, int train)
{
    layer_conv(n, l, x, xs, out, train);
    if (train && !l->bare)
        for (int c = 0; c < l->cout; c++) activate(l, c, out + c * l->ps, 0, 0);
}

/* a layer without convolution, its z being there */
void layer_norm(Net *n, Layer *l, float *out, int train)
{
    if (train)
        for (int c = 0; c < l->cout; c++) statistics(n, l, c);
    else if (!n->packed_for_eval)
        fixed_statistics(n, l);
    for (int c = 0; c < l->cout; c++) activate(l, c, out + c * l->ps, 0, 0);
}

/* gradient through ReLU and batch-norm of one channel: d (sum of nsrc planes) -> dz */
void norm_back(Net *n, Layer *l, int c, const float *const *src, int nsrc, float *dz)
{
    const int len = l->H * l->W * B;
    const float *z = l->z + c * l->ps;
    const v8 a = SET(l->scale[c]), b = SET(l->shift[c]), m = SET(l->mean[c]);
    const v8 low = SET(l->floor);
    v8 s0 = ZERO, s1 = ZERO, t0 = ZERO, t1 = ZERO;
    for (int i = 0; i < len; i += 16) {
        v8 g = LD(src[0] + i), h = LD(src[0] + i + 8);
        for (int k = 1; k < nsrc; k++) {
            g = ADD(g, LD(src[k] + i));
            h = ADD(h, LD(src[k] + i + 8));
        }
        const v8 u = LD(z + i), w = LD(z + i + 8);
        g = AND(g, GT(FMA(u, a, b), low));
        h = AND(h, GT(FMA(w, a, b), low));
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

/* gradient dz of the convolution's output -> gradient of the weights and, unless dx is NULL, of
 * the input; xs: plane stride of x and dx */
void layer_back(Net *n, Layer *l, const float *x, idx xs, const float *dz, float *dx)
{
    conv_weight(l->k, l->stride, x, xs, l->cin, dz, l->ps, l->cout, l->xH, l->xW, n->grads + l->w);
    if (!dx) return;
    const Map map = {l->k, 1, l->stride, l->H, l->W, l->xH, l->xW};
    pack(n->params + l->w, l->pb, l->cout, l->cin, l->k, 1);
    conv(&map, dz, l->ps, l->cout, l->pb, dx, xs, l->cin, 0, 0, 0);
}
