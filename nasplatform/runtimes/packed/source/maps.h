/* Operations on single elements. The functions are those of functions.py, operation by operation:
 * to the same bits. */

INLINE float exponential(float x) {
    x = x > -87.0f ? x : -87.0f;
    x = x < 88.0f ? x : 88.0f;
    float whole = (x * 1.44269504f + 12582912.0f) - 12582912.0f; /* rounded */
    float rest = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;
    float made = 1.9875691500e-4f * rest + 1.3981999507e-3f;
    made = made * rest + 8.3334519073e-3f;
    made = made * rest + 4.1665795894e-2f;
    made = made * rest + 1.6666665459e-1f;
    made = made * rest + 0.5f;
    made = made * rest * rest + rest + 1.0f;
    int32_t bits = (int32_t)((uint32_t)((int32_t)whole + 127) << 23);
    float power;
    memcpy(&power, &bits, sizeof power);
    return made * power;
}

INLINE float sigmoid(float x) { return x == x ? 1.0f / (1.0f + exponential(-x)) : x; }

INLINE float gelu(float value) {
    float x = value * 0.70710678f, size = x < 0 ? -x : x;
    float t = 1.0f / (1.0f + 0.3275911f * size);
    float made = 1.061405429f * t + -1.453152027f;
    made = made * t + 1.421413741f;
    made = made * t + -0.284496736f;
    made = made * t + 0.254829592f;
    float tail = made * t * exponential(-(size * size));
    float share = x < 0 ? tail : (1.0f - tail) + 1.0f;
    return value == value ? value * 0.5f * share : value;
}

/* To `n` channels of one pixel, the first of which lies at `place` in the map. */
INLINE void apply(const step *s, float *x, int64_t channel, int64_t n, int64_t place) {
    for (int64_t j = 0; j < s->n_ops; j++) {
        const float *v = s->ops[j].values;
        switch (s->ops[j].kind) {
        case MUL:
            for (int64_t i = 0; i < n; i++)
                x[i] *= v[channel + i];
            break;
        case ADD:
            for (int64_t i = 0; i < n; i++)
                x[i] += v[channel + i];
            break;
        case PRELU:
            for (int64_t i = 0; i < n; i++)
                x[i] = x[i] < 0 ? x[i] * v[channel + i] : x[i];
            break;
        case CLAMP: {
            const float low = v[0], high = v[1];
            for (int64_t i = 0; i < n; i++) {
                float y = x[i] < low ? low : x[i];
                x[i] = y > high ? high : y;
            }
            break;
        }
        case PLUS:
            for (int64_t i = 0; i < n; i++)
                x[i] += v[place + i];
            break;
        case TIMES:
            for (int64_t i = 0; i < n; i++)
                x[i] *= v[place + i];
            break;
        case GATE: {
            const float *gate = v + place / (s->out_h * s->out_w * s->out_c) * s->out_c + channel;
            for (int64_t i = 0; i < n; i++)
                x[i] *= gate[i];
            break;
        }
        case SIGMOID:
            for (int64_t i = 0; i < n; i++)
                x[i] = sigmoid(x[i]);
            break;
        default:
            for (int64_t i = 0; i < n; i++)
                x[i] = gelu(x[i]);
        }
    }
}
