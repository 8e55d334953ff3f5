#include "kernel.h"

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

/* ---------------------------------------------------------------- memory */
/* the first pass of laying out only counts: its pointers point nowhere, but not at NULL */
float *take(Net *n, idx floats)
{
    const idx at = n->used;
    n->used += (floats + 15) / 16 * 16;
    return n->arena ? (float *)n->arena + at : (float *)(at * 4 + 64);
}

static int lay_out(Net *n, const void *cell, float stem_floor)
{
    n->used = n->nparams = n->nstats = n->biggest = 0;
    n->layers = 0;
    n->input = take(n, (idx)n->channels * n->H * n->W * B);
    layer_init(n, &n->stem, (Layer){.cin = n->channels, .cout = n->stem_channels, .k = 3,
                                    .xH = n->H, .xW = n->W, .floor = stem_floor});
    n->stem_out = take(n, n->stem.cout * n->stem.ps);
    if (!n->kind->lay_out(n, cell)) return 0;
    n->lin_w = n->nparams, n->nparams += (idx)n->fC * n->classes;
    n->lin_b = n->nparams, n->nparams += n->classes;
    n->pooled = take(n, (idx)n->fC * B);
    n->logits = take(n, (idx)MAXCLASS * B);
    n->dout = take(n, n->fC * plane(n->fH, n->fW));
    n->scratch = take(n, n->biggest);
    n->spare = take(n, n->biggest);
    n->rows = take(n, plane(n->H, n->W));
    n->params = take(n, n->nparams);
    n->grads = take(n, n->nparams);
    n->moment = take(n, n->nparams);
    n->stats = take(n, n->nstats);
    return 1;
}

EXPORT void cellnet_free(Net *n)
{
    if (!n) return;
    free(n->arena), free(n->blocks), free(n);
}

/* NULL when the cell or the size of the images is impossible */
Net *net_new(const Kind *kind, const void *cell, int channels, int H, int W, int stem, int stages,
             int per_stage, int classes, float stem_floor)
{
    if (classes > MAXCLASS) return 0;
    Net *n = calloc(1, sizeof(Net));
    if (!n) return 0;
    n->kind = kind;
    n->channels = channels, n->H = H, n->W = W, n->classes = classes;
    n->stem_channels = stem, n->stages = stages, n->per_stage = per_stage;
    n->blocks = calloc((size_t)stages * per_stage, kind->block);
    for (int pass = 0; pass < 2; pass++) {
        if (!n->blocks || !lay_out(n, cell, stem_floor)) {
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

EXPORT int64_t cellnet_nparams(const Net *n) { return n->nparams; }
EXPORT int64_t cellnet_nstats(const Net *n) { return n->nstats; }

/* running means to 0, variances to 1, momentum to 0 */
EXPORT void cellnet_set_params(Net *n, const float *p)
{
    memcpy(n->params, p, sizeof(float) * n->nparams);
    memset(n->moment, 0, sizeof(float) * n->nparams);
    n->packed_for_eval = 0;
    for (const Layer *l = n->layers; l; l = l->next)
        for (int c = 0; c < l->cout; c++) n->stats[l->m + c] = 0.f, n->stats[l->v + c] = 1.f;
}

EXPORT void cellnet_get(const Net *n, float *params, float *grads, float *stats)
{
    memcpy(params, n->params, sizeof(float) * n->nparams);
    memcpy(grads, n->grads, sizeof(float) * n->nparams);
    memcpy(stats, n->stats, sizeof(float) * n->nstats);
}

/* ---------------------------------------------------------------- forward and backward */
/* x: (channels, H, W, B), contiguous; fills logits (classes, B) */
static void forward(Net *n, const float *x, int train)
{
    if (train) n->packed_for_eval = 0;
    layer_forward(n, &n->stem, x, (idx)n->H * n->W * B, n->stem_out, train);
    n->kind->forward(n, train);
    if (!train) n->packed_for_eval = 1;
    const int px = n->fH * n->fW;
    const idx ps = plane(n->fH, n->fW);
    const v8 by = SET((float)(1.0 / px));
    for (int c = 0; c < n->fC; c++)
        for (int b = 0; b < B; b += 8) {
            v8 t = ZERO;
            for (int p = 0; p < px; p++) t = ADD(t, LD(n->features + c * ps + p * B + b));
            ST(n->pooled + c * B + b, MUL(t, by));
        }
    for (int k = 0; k < n->classes; k++)
        for (int b = 0; b < B; b += 8) {
            v8 t = BC(n->params + n->lin_b + k);
            for (int c = 0; c < n->fC; c++)
                t = FMA(LD(n->pooled + c * B + b), BC(n->params + n->lin_w + k * n->fC + c), t);
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

static void backward(Net *n, const float *x)
{
    const int px = n->fH * n->fW, C = n->fC, K = n->classes;
    const idx ps = plane(n->fH, n->fW);
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
            for (int p = 0; p < px; p++) ST(n->dout + c * ps + p * B + b, t);
        }
    const float *d = n->kind->backward(n, n->dout);
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
EXPORT double cellnet_train(Net *n, const float *images, const int32_t *labels, const int64_t *index,
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
EXPORT double cellnet_forward(Net *n, const float *images, const int32_t *labels, int train,
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
EXPORT int64_t cellnet_correct(Net *n, const float *blocks, const int32_t *labels, int64_t count)
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
