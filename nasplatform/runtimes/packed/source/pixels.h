/* What is computed over the channels of each pixel: functions.py says in which order. */

/* Each of sixteen lanes sums every sixteenth number, of `squared` its square. */
INLINE float lane_sum(const float *x, int64_t n, const int squared) {
    float lanes[BLOCK] = {0};
    int64_t whole = n - n % BLOCK;
    for (int64_t k = 0; k < whole; k += BLOCK)
        for (int i = 0; i < BLOCK; i++)
            lanes[i] += squared ? x[k + i] * x[k + i] : x[k + i];
    for (int64_t k = whole; k < n; k++)
        lanes[k - whole] += squared ? x[k] * x[k] : x[k];
    for (int half = BLOCK / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            lanes[i] += lanes[i + half];
    return lanes[0];
}

/* The largest number; what is none is passed over. */
INLINE float largest(const float *x, int64_t n) {
    float lanes[BLOCK];
    for (int i = 0; i < BLOCK; i++)
        lanes[i] = -INFINITY;
    int64_t whole = n - n % BLOCK;
    for (int64_t k = 0; k < whole; k += BLOCK)
        for (int i = 0; i < BLOCK; i++)
            lanes[i] = x[k + i] > lanes[i] ? x[k + i] : lanes[i];
    for (int64_t k = whole; k < n; k++)
        lanes[0] = x[k] > lanes[0] ? x[k] : lanes[0];
    for (int i = 1; i < BLOCK; i++)
        lanes[0] = lanes[i] > lanes[0] ? lanes[i] : lanes[0];
    return lanes[0];
}

TARGET static void layer_norm(const step *s, int64_t part, int64_t parts) {
    int64_t c = s->in_c;
    for (EACH_ROW(s, part, parts, s->in_h * s->in_w)) {
        const float *in = (const float *)s->in + row * c;
        float *out = (float *)s->out + row * c, mean = lane_sum(in, c, 0) / (float)c;
        for (int64_t i = 0; i < c; i++)
            out[i] = in[i] - mean;
        float by = 1.0f / __builtin_sqrtf(lane_sum(out, c, 1) / (float)c + *s->shift);
        for (int64_t i = 0; i < c; i++)
            out[i] *= by;
        apply(s, out, 0, c, row * c);
    }
}

TARGET static void softmax(const step *s, int64_t part, int64_t parts) {
    int64_t c = s->in_c;
    for (EACH_ROW(s, part, parts, s->in_h * s->in_w)) {
        const float *in = (const float *)s->in + row * c;
        float *out = (float *)s->out + row * c, most = largest(in, c);
        for (int64_t i = 0; i < c; i++) {
            float x = in[i] - most;
            float power = x == x ? exponential(x) : x;
            out[i] = x < -87.0f ? 0.0f : power;
        }
        float sum = lane_sum(out, c, 0);
        for (int64_t i = 0; i < c; i++)
            out[i] /= sum;
        apply(s, out, 0, c, row * c);
    }
}
