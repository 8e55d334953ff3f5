/* The largest number or the mean under a window, channel by channel. */

INLINE void pool_rows(const step *s, int64_t part, int64_t parts, const int largest) {
    int64_t c = s->in_c;
    for (EACH_ROW(s, part, parts, s->out_h)) {
        int64_t image = row / s->out_h, top = row % s->out_h * s->stride_h - s->pad_top;
        for (int64_t i = 0; i < s->out_w; i++) {
            int64_t left = i * s->stride_w - s->pad_left, inside = 0;
            float *out = (float *)s->out + (row * s->out_w + i) * c;
            for (int64_t tap = 0; tap < s->kernel_h * s->kernel_w; tap++) {
                int64_t y = top + tap / s->kernel_w * s->dilation_h;
                int64_t x = left + tap % s->kernel_w * s->dilation_w;
                if (y < 0 || y >= s->in_h || x < 0 || x >= s->in_w)
                    continue;
                const float *in = (const float *)s->in + ((image * s->in_h + y) * s->in_w + x) * c;
                if (!inside++)
                    memcpy(out, in, c * sizeof(float));
                else if (largest)
                    for (int64_t j = 0; j < c; j++)
                        out[j] = out[j] < in[j] ? in[j] : out[j];
                else
                    for (int64_t j = 0; j < c; j++)
                        out[j] += in[j];
            }
            float by = (float)(s->count ? s->count : inside); /* count: padding counts too */
            for (int64_t j = 0; !largest && j < c; j++)
                out[j] /= by;
            apply(s, out, 0, c, (row * s->out_w + i) * c);
        }
    }
}

TARGET static void max_pool(const step *s, int64_t part, int64_t parts) {
    pool_rows(s, part, parts, 1);
}

TARGET static void avg_pool(const step *s, int64_t part, int64_t parts) {
    pool_rows(s, part, parts, 0);
}
