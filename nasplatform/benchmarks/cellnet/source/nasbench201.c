/* Cells of NAS-Bench-201 between stem and classifier.
 *
 * A block is a reduction (none before the first stage and within a stage) and a cell. The caller
 * leaves out edges on no path from input to output, as NONE; a node without edges in is zero. Flat parameter order per block: the reduction's two 3x3 layers and the 1x1
 * convolution of its shortcut, which has no batch-norm; then the cell's convolutions in the order
 * of the edges. After the last block: the batch-norm before the classifier.
 */
#include "kernel.h"

#define NODES 4
#define EDGES 6
enum { NONE, SKIP, CONV1X1, CONV3X3, AVGPOOL };
static const int FROM[EDGES] = {0, 0, 1, 0, 1, 2}, TO[EDGES] = {1, 2, 2, 3, 3, 3};

typedef struct {
    int H, W, c, op[EDGES];
    idx ps;
    Layer conv[EDGES];
    float *x[NODES], *relu[NODES], *d[NODES]; /* node, its ReLU if it is convolved, gradient */
} Cell;

typedef struct {            /* ResNet's basic block with stride 2; 0 channels when absent */
    int c, H, W;            /* of the input */
    Layer first, second, shortcut;
    float *x, *relu, *mid, *pooled, *out, *dx, *dmid, *dpooled;
} Reduction;

typedef struct {
    Reduction reduction;
    Cell cell;
    Layer last;             /* used in the last block only */
    float *activated;
} Block;

/* ---------------------------------------------------------------- element-wise passes */
static void add_to(float *out, const float *x, idx len)
{
    for (idx i = 0; i < len; i += 8) ST(out + i, ADD(LD(out + i), LD(x + i)));
}

static void rectify(const float *x, float *out, idx len)
{
    for (idx i = 0; i < len; i += 8) ST(out + i, _mm256_max_ps(LD(x + i), ZERO));
}

/* gradient through the ReLU whose output is relu, added to out */
static void rectify_back(const float *d, const float *relu, float *out, idx len)
{
    for (idx i = 0; i < len; i += 8)
        ST(out + i, ADD(LD(out + i), AND(LD(d + i), GT(LD(relu + i), ZERO))));
}

ALWAYS int covered(int at, int n) { return 1 + (at > 0) + (at < n - 1); }

/* Mean over the pixels of a 3x3 window that lie in the plane, added to out; row: scratch plane.
 * back: its transpose. The sums are along columns, then along rows. */
ALWAYS void mean3(const float *x, float *out, float *row, int H, int W, const int back)
{
    const idx R = (idx)W * B;
    for (int y = 0; y < H; y++)
        for (int c = 0; c < W; c++) {
#define WEIGHT(c) SET(1.f / (float)(covered(y, H) * covered((c), W)))
            const idx q = y * R + c * B;
            const v8 w = WEIGHT(c), before = WEIGHT(c - 1), after = WEIGHT(c + 1);
            for (idx p = q; p < q + B; p += 8) {
                v8 t = back ? MUL(LD(x + p), w) : LD(x + p);
                if (c) t = back ? FMA(LD(x + p - B), before, t) : ADD(t, LD(x + p - B));
                if (c < W - 1) t = back ? FMA(LD(x + p + B), after, t) : ADD(t, LD(x + p + B));
                ST(row + p, t);
            }
        }
    for (int y = 0; y < H; y++)
        for (int c = 0; c < W; c++) {
            const idx q = y * R + c * B;
            const v8 w = WEIGHT(c);
            for (idx p = q; p < q + B; p += 8) {
                v8 t = LD(row + p);
                if (y) t = ADD(t, LD(row + p - R));
                if (y < H - 1) t = ADD(t, LD(row + p + R));
                ST(out + p, back ? ADD(t, LD(out + p)) : FMA(t, w, LD(out + p)));
            }
        }
}

/* mean of 2x2 windows with stride 2, cut at the border */
static void mean2(const float *x, float *out, int H, int W)
{
    for (int y = 0; y < H; y += 2)
        for (int c = 0; c < W; c += 2) {
            const int down = y < H - 1, right = c < W - 1;
            const v8 w = SET(1.f / (float)((1 + down) * (1 + right)));
            const float *q = x + (idx)(y * W + c) * B;
            for (int b = 0; b < B; b += 8, q += 8, out += 8) {
                v8 t = LD(q);
                if (right) t = ADD(t, LD(q + B));
                if (down) t = ADD(t, LD(q + W * B));
                if (down && right) t = ADD(t, LD(q + W * B + B));
                ST(out, MUL(t, w));
            }
        }
}

/* its transpose, added to dx */
static void mean2_back(const float *d, float *dx, int H, int W)
{
    for (int y = 0; y < H; y += 2)
        for (int c = 0; c < W; c += 2) {
            const int down = y < H - 1, right = c < W - 1;
            const v8 w = SET(1.f / (float)((1 + down) * (1 + right)));
            float *q = dx + (idx)(y * W + c) * B;
            for (int b = 0; b < B; b += 8, q += 8, d += 8) {
                const v8 t = MUL(LD(d), w);
                ST(q, ADD(LD(q), t));
                if (right) ST(q + B, ADD(LD(q + B), t));
                if (down) ST(q + W * B, ADD(LD(q + W * B), t));
                if (down && right) ST(q + W * B + B, ADD(LD(q + W * B + B), t));
            }
        }
}

/* ---------------------------------------------------------------- laying out */
static void reduction_init(Net *n, Reduction *r, float *x, int c, int H, int W)
{
    *r = (Reduction){.c = c, .H = H, .W = W, .x = x};
    layer_init(n, &r->first, (Layer){.cin = c, .cout = 2 * c, .xH = H, .xW = W, .k = 3,
                                     .stride = 2}); /* with the ReLU of the second */
    const int h = r->first.H, w = r->first.W;
    layer_init(n, &r->second, (Layer){.cin = 2 * c, .cout = 2 * c, .xH = h, .xW = w, .k = 3,
                                      .floor = -INFINITY});
    layer_init(n, &r->shortcut, (Layer){.cin = c, .cout = 2 * c, .xH = h, .xW = w, .k = 1,
                                        .bare = 1});
    const idx ps = plane(h, w);
    r->relu = take(n, c * plane(H, W)), r->dx = take(n, c * plane(H, W));
    r->mid = take(n, 2 * c * ps), r->dmid = take(n, 2 * c * ps);
    r->pooled = take(n, c * ps), r->dpooled = take(n, c * ps);
    r->out = take(n, 2 * c * ps);
}

static void cell_init(Net *n, Cell *e, const int8_t *ops, float *x, int c, int H, int W)
{
    *e = (Cell){.H = H, .W = W, .c = c, .ps = plane(H, W)};
    for (int i = 0; i < EDGES; i++) e->op[i] = ops[i];
    for (int t = 0; t < NODES; t++) {
        e->x[t] = t ? take(n, c * e->ps) : x;
        e->d[t] = t < NODES - 1 ? take(n, c * e->ps) : 0;
    }
    for (int i = 0; i < EDGES; i++) {
        if (e->op[i] != CONV1X1 && e->op[i] != CONV3X3) continue;
        layer_init(n, e->conv + i, (Layer){.cin = c, .cout = c, .xH = H, .xW = W,
                                           .k = e->op[i] == CONV3X3 ? 3 : 1, .floor = -INFINITY});
        if (!e->relu[FROM[i]]) e->relu[FROM[i]] = take(n, c * e->ps);
    }
}

static int lay_out(Net *n, const void *ops)
{
    Block *block = n->blocks;
    int H = n->H, W = n->W, c = n->stem_channels;
    float *x = n->stem_out;
    for (int s = 0; s < n->stages; s++)
        for (int m = 0; m < n->per_stage; m++, block++) {
            Reduction *r = &block->reduction;
            r->c = 0;
            if (s && !m) {
                reduction_init(n, r, x, c, H, W);
                x = r->out, c *= 2, H = r->first.H, W = r->first.W;
            }
            cell_init(n, &block->cell, ops, x, c, H, W);
            x = block->cell.x[NODES - 1];
        }
    block--;
    layer_init(n, &block->last, (Layer){.cin = c, .cout = c, .xH = H, .xW = W});
    block->last.z = x;
    block->activated = take(n, c * plane(H, W));
    n->features = block->activated, n->fC = c, n->fH = H, n->fW = W;
    return 1;
}

/* ---------------------------------------------------------------- forward */
static void reduction_forward(Net *n, Reduction *r, int train)
{
    const idx ps = plane(r->H, r->W), ps_out = r->first.ps;
    rectify(r->x, r->relu, r->c * ps);
    layer_forward(n, &r->first, r->relu, ps, r->mid, train);
    layer_forward(n, &r->second, r->mid, ps_out, r->out, train);
    for (int c = 0; c < r->c; c++) mean2(r->x + c * ps, r->pooled + c * ps_out, r->H, r->W);
    layer_forward(n, &r->shortcut, r->pooled, ps_out, n->scratch, train);
    for (int c = 0; c < 2 * r->c; c++)
        add_to(r->out + c * ps_out, n->scratch + c * ps_out, r->first.H * r->first.W * B);
}

static void cell_forward(Net *n, Cell *e, int train)
{
    for (int t = 1; t < NODES; t++) memset(e->x[t], 0, sizeof(float) * e->c * e->ps);
    if (e->relu[0]) rectify(e->x[0], e->relu[0], e->c * e->ps);
    for (int i = 0; i < EDGES; i++) { /* in this order a node is complete before it is used */
        const float *x = e->x[FROM[i]];
        float *out = e->x[TO[i]];
        Layer *l = e->conv + i;
        if (l->k) {
            layer_conv(n, l, e->relu[FROM[i]], e->ps, l->z, train);
            for (int c = 0; c < e->c; c++) {
                const float *so_far[1] = {out + c * e->ps};
                if (train) activate(l, c, out + c * e->ps, so_far, 1);
                else add_to(out + c * e->ps, l->z + c * e->ps, e->H * e->W * B);
            }
        } else if (e->op[i] == SKIP)
            add_to(out, x, e->c * e->ps);
        else if (e->op[i] == AVGPOOL)
            for (int c = 0; c < e->c; c++)
                mean3(x + c * e->ps, out + c * e->ps, n->rows, e->H, e->W, 0);
        const int complete = i == EDGES - 1 || TO[i + 1] != TO[i];
        if (complete && e->relu[TO[i]]) rectify(out, e->relu[TO[i]], e->c * e->ps);
    }
}

static void forward(Net *n, int train)
{
    Block *block = n->blocks;
    for (int i = 0; i < n->stages * n->per_stage; i++) {
        if (block[i].reduction.c) reduction_forward(n, &block[i].reduction, train);
        cell_forward(n, &block[i].cell, train);
    }
    block += n->stages * n->per_stage - 1;
    layer_norm(n, &block->last, block->activated, train);
}

/* ---------------------------------------------------------------- backward */
/* gradient d of the layer's output (after batch-norm and ReLU) -> parameters' gradients, dx */
static void through(Net *n, Layer *l, const float *x, idx xs, const float *d, float *dx)
{
    for (int c = 0; c < l->cout; c++) {
        const float *src[1] = {d + c * l->ps};
        norm_back(n, l, c, src, 1, n->scratch + c * l->ps);
    }
    layer_back(n, l, x, xs, n->scratch, dx);
}

static const float *reduction_back(Net *n, Reduction *r, const float *d)
{
    const idx ps = plane(r->H, r->W), ps_out = r->first.ps;
    through(n, &r->second, r->mid, ps_out, d, r->dmid);
    through(n, &r->first, r->relu, ps, r->dmid, n->spare);
    memset(r->dx, 0, sizeof(float) * r->c * ps);
    rectify_back(n->spare, r->relu, r->dx, r->c * ps);
    layer_back(n, &r->shortcut, r->pooled, ps_out, d, r->dpooled);
    for (int c = 0; c < r->c; c++) mean2_back(r->dpooled + c * ps_out, r->dx + c * ps, r->H, r->W);
    return r->dx;
}

static const float *cell_back(Net *n, Cell *e, const float *d)
{
    const idx all = e->c * e->ps;
    for (int t = 0; t < NODES - 1; t++) memset(e->d[t], 0, sizeof(float) * all);
    for (int i = EDGES - 1; i >= 0; i--) { /* in this order a node's gradient is complete */
        const float *from = TO[i] == NODES - 1 ? d : e->d[TO[i]];
        float *to = e->d[FROM[i]];
        if (e->conv[i].k) {
            through(n, e->conv + i, e->relu[FROM[i]], e->ps, from, n->spare);
            rectify_back(n->spare, e->relu[FROM[i]], to, all);
        } else if (e->op[i] == SKIP)
            add_to(to, from, all);
        else if (e->op[i] == AVGPOOL)
            for (int c = 0; c < e->c; c++)
                mean3(from + c * e->ps, to + c * e->ps, n->rows, e->H, e->W, 1);
    }
    return e->d[0];
}

static const float *backward(Net *n, const float *d)
{
    Block *block = n->blocks;
    const int last = n->stages * n->per_stage - 1;
    Layer *l = &block[last].last;
    for (int c = 0; c < l->cout; c++) {
        const float *src[1] = {d + c * l->ps};
        norm_back(n, l, c, src, 1, n->dout + c * l->ps);
    }
    for (int i = last; i >= 0; i--) {
        d = cell_back(n, &block[i].cell, d);
        if (block[i].reduction.c) d = reduction_back(n, &block[i].reduction, d);
    }
    return d;
}

EXPORT Net *cellnet_new201(const int8_t *ops, int channels, int H, int W, int stem, int stages,
                           int per_stage, int classes)
{
    static const Kind kind = {sizeof(Block), lay_out, forward, backward};
    return net_new(&kind, ops, channels, H, W, stem, stages, per_stage, classes, -INFINITY);
}
