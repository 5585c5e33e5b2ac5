/* A GPT of one layer (16 wide, 4 heads, 27 letters, documents of 8) in float32: Adam steps.
 *
 * Tuned by hand: one vector holds the 16 numbers of a position, or one column of a matrix, so
 * every map is a chain of fused multiply-adds with registers for all eight positions; attention
 * runs with the positions side by side; exp is a polynomial, and nothing is allocated or called.
 * Parameters and gradients are those of the model's state_dict, one array after the other. */

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { WIDTH = 16, HEADS = 4, SHARE = 4, LETTERS = 27, LENGTH = 8, HIDDEN = 64, CONTEXT = 16 };

typedef float Row __attribute__((vector_size(4 * WIDTH), aligned(4)));  /* a position's numbers */
typedef int32_t RowInt __attribute__((vector_size(4 * WIDTH)));
typedef float Line __attribute__((vector_size(4 * LENGTH), aligned(4)));  /* one number each */
typedef int32_t LineInt __attribute__((vector_size(4 * LENGTH)));

typedef struct {
    float tokens[LETTERS][WIDTH], positions[CONTEXT][WIDTH], head[LETTERS][WIDTH];
    float query[WIDTH][WIDTH], key[WIDTH][WIDTH], value[WIDTH][WIDTH], output[WIDTH][WIDTH];
    float expand[HIDDEN][WIDTH], contract[WIDTH][HIDDEN];
} Parameters;

enum { COUNT = sizeof(Parameters) / sizeof(float) };

/* The matrices the other way round, made once for all documents of a step. */
typedef struct {
    Row query[WIDTH], key[WIDTH], value[WIDTH], output[WIDTH];
    Row expand[HIDDEN / WIDTH][WIDTH], contract[HIDDEN], head[2][WIDTH];
} Turned;

#define INLINE static inline __attribute__((always_inline))

INLINE float sum(Row v) {
    float s = 0;
    for (int k = 0; k < WIDTH; k++) s += v[k];
    return s;
}

/* a where the mask is set, else b. */
#define CHOOSE(V, I)                                                                        \
    INLINE V choose_##V(I mask, V a, V b) { return (V)(((I)a & mask) | ((I)b & ~mask)); }
CHOOSE(Row, RowInt)
CHOOSE(Line, LineInt)

/* x where a number is above 0, else 0. */
INLINE Row positive(Row number, Row x) { return choose_Row(number > 0, x, (Row){}); }

/* e^x for x <= 0 to the last bits of float32: 2^n times a polynomial on [-ln2/2, ln2/2]. */
#define EXP(V, I)                                                                           \
    INLINE V exp_##V(V x) {                                                                 \
        x = choose_##V(x < -87.0f, (V){} - 87.0f, x);                                       \
        I exponent = __builtin_convertvector(x * 1.44269504f - 0.5f, I);                    \
        V n = __builtin_convertvector(exponent, V);                                         \
        V r = x - n * 0.693359375f + n * 2.12194440e-4f;                                    \
        V p = (((((1.9875691500e-4f * r + 1.3981999507e-3f) * r + 8.3334519073e-3f) * r +   \
                 4.1665795894e-2f) * r + 1.6666665459e-1f) * r + 5.0000001201e-1f) * r * r + \
              r + 1.0f;                                                                     \
        return p * (V)((exponent + 127) << 23);                                             \
    }
EXP(Row, RowInt)
EXP(Line, LineInt)

/* y[t] += sum over k of x[t][k] * columns[k], for all positions t. */
INLINE void map(Row y[LENGTH], const Row x[LENGTH], const Row *columns) {
    Row a[LENGTH];
    for (int t = 0; t < LENGTH; t++) a[t] = y[t];
    for (int k = 0; k < WIDTH; k++)
        for (int t = 0; t < LENGTH; t++) a[t] += x[t][k] * columns[k];
    for (int t = 0; t < LENGTH; t++) y[t] = a[t];
}

/* The gradient of a map with respect to its matrix: rows[i] += sum over t of dy[t][i] * x[t]. */
INLINE void outer(float rows[][WIDTH], int count, const Row dy[LENGTH], const Row x[LENGTH]) {
    for (int i = 0; i < count; i++) {
        Row a = *(Row *)rows[i];
        for (int t = 0; t < LENGTH; t++) a += dy[t][i] * x[t];
        *(Row *)rows[i] = a;
    }
}

INLINE void normalize(Row y[LENGTH], float scale[LENGTH], const Row x[LENGTH]) {
    for (int t = 0; t < LENGTH; t++) {
        scale[t] = 1 / sqrtf(sum(x[t] * x[t]) / WIDTH + 1e-5f);
        y[t] = x[t] * scale[t];
    }
}

/* dx += the gradient of `normalize`. */
INLINE void normalize_back(Row dx[LENGTH], const Row dy[LENGTH], const Row y[LENGTH],
                           const float scale[LENGTH]) {
    for (int t = 0; t < LENGTH; t++)
        dx[t] += scale[t] * (dy[t] - y[t] * (sum(dy[t] * y[t]) / WIDTH));
}

INLINE void transpose(Row out[WIDTH], const float *in, int stride, int rows) {
    for (int k = 0; k < WIDTH; k++)
        for (int i = 0; i < WIDTH; i++) out[k][i] = i < rows ? in[i * stride + k] : 0;
}

/* Each number of the positions in a line of its own, and back. */
INLINE void to_lines(Line lines[WIDTH], const Row x[LENGTH]) {
    for (int k = 0; k < WIDTH; k++)
        for (int t = 0; t < LENGTH; t++) lines[k][t] = x[t][k];
}

INLINE void to_rows(Row x[LENGTH], const Line lines[WIDTH]) {
    for (int t = 0; t < LENGTH; t++)
        for (int k = 0; k < WIDTH; k++) x[t][k] = lines[k][t];
}

static void turn(Turned *w, const Parameters *p) {
    transpose(w->query, p->query[0], WIDTH, WIDTH);
    transpose(w->key, p->key[0], WIDTH, WIDTH);
    transpose(w->value, p->value[0], WIDTH, WIDTH);
    transpose(w->output, p->output[0], WIDTH, WIDTH);
    for (int b = 0; b < HIDDEN / WIDTH; b++) {
        transpose(w->expand[b], p->expand[b * WIDTH], WIDTH, WIDTH);
        transpose(w->contract + b * WIDTH, p->contract[0] + b * WIDTH, HIDDEN, WIDTH);
    }
    transpose(w->head[0], p->head[0], WIDTH, WIDTH);
    transpose(w->head[1], p->head[WIDTH], WIDTH, LETTERS - WIDTH);
}

/* One document: its loss, times `weight`; its gradient, times `weight`, is added to g, that of
 * `contract` to its transpose. */
static float document(const Parameters *p, const Turned *w, Parameters *g, Row contract[HIDDEN],
                      const int32_t *token, const int32_t *target, float weight) {
    Row e[LENGTH], x[LENGTH], a[LENGTH], b[LENGTH], middle[LENGTH], y[LENGTH], attended[LENGTH];
    Row q[LENGTH] = {}, k[LENGTH] = {}, v[LENGTH] = {}, h[HIDDEN / WIDTH][LENGTH] = {};
    Row z[2][LENGTH] = {};
    float s0[LENGTH], s1[LENGTH], s2[LENGTH], loss = 0;
    Line ql[WIDTH], kl[WIDTH], vl[WIDTH], al[WIDTH], probability[HEADS][LENGTH];

    for (int t = 0; t < LENGTH; t++)
        e[t] = *(Row *)p->tokens[token[t]] + *(Row *)p->positions[t];
    normalize(x, s0, e);
    normalize(a, s1, x);
    map(q, a, w->query);
    map(k, a, w->key);
    map(v, a, w->value);

    /* Attention: a line runs over the positions that ask, s over those that answer. */
    to_lines(ql, q);
    to_lines(kl, k);
    to_lines(vl, v);
    const Line one = (Line){} + 1.0f;
    const LineInt place = {0, 1, 2, 3, 4, 5, 6, 7};
    for (int head = 0; head < HEADS; head++) {
        Line *score = probability[head], largest = (Line){} - INFINITY, total = {};
        for (int s = 0; s < LENGTH; s++) {
            Line dot = {};
            for (int c = head * SHARE; c < (head + 1) * SHARE; c++) dot += ql[c] * kl[c][s];
            score[s] = choose_Line(place >= s, dot * 0.5f, (Line){} - INFINITY);
            largest = choose_Line(score[s] > largest, score[s], largest);
        }
        for (int s = 0; s < LENGTH; s++) {
            score[s] = exp_Line(score[s] - largest) * choose_Line(place >= s, one, (Line){});
            total += score[s];
        }
        total = 1.0f / total;
        for (int s = 0; s < LENGTH; s++) score[s] *= total;
        for (int c = head * SHARE; c < (head + 1) * SHARE; c++) {
            Line sum = {};
            for (int s = 0; s < LENGTH; s++) sum += score[s] * vl[c][s];
            al[c] = sum;
        }
    }
    to_rows(attended, al);
    memcpy(middle, x, sizeof x);
    map(middle, attended, w->output);

    normalize(b, s2, middle);
    memcpy(y, middle, sizeof y);
    for (int part = 0; part < HIDDEN / WIDTH; part++) {
        map(h[part], b, w->expand[part]);
        for (int t = 0; t < LENGTH; t++) h[part][t] = positive(h[part][t], h[part][t]);
        map(y, h[part], w->contract + part * WIDTH);
    }
    map(z[0], y, w->head[0]);
    map(z[1], y, w->head[1]);

    /* Cross-entropy; z becomes its derivative. */
    const RowInt column = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const RowInt valid = column < LETTERS - WIDTH;
    for (int t = 0; t < LENGTH; t++) {
        float chosen = z[target[t] / WIDTH][t][target[t] % WIDTH], top = -INFINITY;
        Row second = choose_Row(valid, z[1][t], (Row){} - INFINITY);
        Row larger = choose_Row(z[0][t] > second, z[0][t], second);
        for (int c = 0; c < WIDTH; c++) top = larger[c] > top ? larger[c] : top;
        z[0][t] = exp_Row(z[0][t] - top);
        z[1][t] = choose_Row(valid, exp_Row(z[1][t] - top), (Row){});
        float total = sum(z[0][t] + z[1][t]);
        loss += logf(total) - (chosen - top);
        z[0][t] *= weight / LENGTH / total;
        z[1][t] *= weight / LENGTH / total;
        z[target[t] / WIDTH][t][target[t] % WIDTH] -= weight / LENGTH;
    }

    /* Backward. */
    Row dy[LENGTH] = {}, dm[LENGTH], db[LENGTH] = {}, da[LENGTH] = {}, dx[LENGTH], de[LENGTH] = {};
    Row dq[LENGTH], dk[LENGTH], dv[LENGTH], d_attended[LENGTH] = {};
    Line dql[WIDTH] = {}, dkl[WIDTH], dvl[WIDTH], dal[WIDTH];
    outer(g->head, WIDTH, z[0], y);
    outer(g->head + WIDTH, LETTERS - WIDTH, z[1], y);
    map(dy, z[0], (const Row *)p->head[0]);
    for (int c = WIDTH; c < LETTERS; c++)
        for (int t = 0; t < LENGTH; t++) dy[t] += z[1][t][c - WIDTH] * *(Row *)p->head[c];
    memcpy(dm, dy, sizeof dm);
    for (int part = 0; part < HIDDEN / WIDTH; part++) {
        Row dh[LENGTH] = {};
        for (int o = 0; o < WIDTH; o++)
            for (int t = 0; t < LENGTH; t++)
                dh[t] += dy[t][o] * *(Row *)(p->contract[o] + part * WIDTH);
        for (int t = 0; t < LENGTH; t++) dh[t] = positive(h[part][t], dh[t]);
        outer((float (*)[WIDTH])(contract + part * WIDTH), WIDTH, h[part], dy);
        outer(g->expand + part * WIDTH, WIDTH, dh, b);
        map(db, dh, (const Row *)p->expand[part * WIDTH]);
    }
    normalize_back(dm, db, b, s2);
    outer(g->output, WIDTH, dm, attended);
    map(d_attended, dm, (const Row *)p->output[0]);
    memcpy(dx, dm, sizeof dx);

    to_lines(dal, d_attended);
    for (int head = 0; head < HEADS; head++) {
        Line *chance = probability[head], dp[LENGTH], mean = {};
        for (int s = 0; s < LENGTH; s++) {
            Line dot = {};
            for (int c = head * SHARE; c < (head + 1) * SHARE; c++) dot += dal[c] * vl[c][s];
            dp[s] = dot;
            mean += dot * chance[s];
        }
        for (int s = 0; s < LENGTH; s++) {
            Line d = chance[s] * (dp[s] - mean) * 0.5f;
            for (int c = head * SHARE; c < (head + 1) * SHARE; c++) {
                Line from_value = chance[s] * dal[c], from_key = d * ql[c];
                float value = 0, key = 0;
                for (int t = 0; t < LENGTH; t++) value += from_value[t], key += from_key[t];
                dvl[c][s] = value;
                dkl[c][s] = key;
                dql[c] += d * kl[c][s];
            }
        }
    }
    to_rows(dq, dql);
    to_rows(dk, dkl);
    to_rows(dv, dvl);
    outer(g->query, WIDTH, dq, a);
    outer(g->key, WIDTH, dk, a);
    outer(g->value, WIDTH, dv, a);
    map(da, dq, (const Row *)p->query[0]);
    map(da, dk, (const Row *)p->key[0]);
    map(da, dv, (const Row *)p->value[0]);
    normalize_back(dx, da, a, s1);
    normalize_back(de, dx, x, s0);
    for (int t = 0; t < LENGTH; t++) {
        *(Row *)g->positions[t] += de[t];
        *(Row *)g->tokens[token[t]] += de[t];
    }
    return loss * weight / LENGTH;
}

/* The mean loss of some documents; its gradient is stored in g. */
float gradients(const Parameters *p, Parameters *g, int documents, const int32_t *tokens,
                const int32_t *targets) {
    static Turned w;
    Row contract[HIDDEN] = {};
    float loss = 0;
    turn(&w, p);
    memset(g, 0, sizeof *g);
    for (int d = 0; d < documents; d++)
        loss += document(p, &w, g, contract, tokens + d * LENGTH, targets + d * LENGTH,
                         1.0f / documents);
    for (int i = 0; i < HIDDEN; i++)
        for (int o = 0; o < WIDTH; o++) g->contract[o][i] = contract[i][o];
    return loss;
}

/* So many Adam steps, the first being number `done` + 1; the loss before the last. */
float steps(int count, Parameters *p, Parameters *g, float *mean, float *square, int documents,
            const int32_t *tokens, const int32_t *targets, double lr, int done) {
    float *number = (float *)p, *slope = (float *)g, loss = 0;
    for (int s = done + 1; s <= done + count; s++) {
        loss = gradients(p, g, documents, tokens, targets);
        double root = sqrt(1 - pow(0.999, s));
        float rate = lr * root / (1 - pow(0.9, s)), eps = 1e-8 * root;
        for (int k = 0; k < COUNT; k++) {
            mean[k] = 0.9f * mean[k] + 0.1f * slope[k];
            square[k] = 0.999f * square[k] + 0.001f * slope[k] * slope[k];
            number[k] -= rate * mean[k] / (sqrtf(square[k]) + eps);
        }
    }
    return loss;
}
