/* A GPT of one layer (16 wide, 4 heads, 27 letters, documents of 8) in float32: Adam steps.
 *
 * Tuned by hand: a vector holds 16 numbers of a position, or of one column of a matrix, or 8 where
 * the CPU's vectors are shorter; every map is a chain of fused multiply-adds with registers for as
 * many positions as there is room for; attention runs with the positions side by side; exp is a
 * polynomial, and nothing is allocated or called. Parameters and gradients are those of the model's
 * state_dict, one array after the other. */

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { WIDTH = 16, HEADS = 4, SHARE = 4, LETTERS = 27, LENGTH = 8, HIDDEN = 64, CONTEXT = 16 };

/* LANES numbers in a vector; a tile of sums in registers is TALL by WIDE. */
#ifdef __AVX512F__
enum { LANES = 16, TALL = 8, WIDE = 1, ROWS = 1 };
#else
enum { LANES = 8, TALL = 4, WIDE = 2, ROWS = 4 };
#endif

/* Vectors that hold a position's numbers, those of the hidden layer, its letters. */
enum { PARTS = WIDTH / LANES, HIDDEN_PARTS = HIDDEN / LANES };
enum { LETTER_PARTS = 2 * PARTS, PLACES = LETTER_PARTS * LANES };

typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t VectorInt __attribute__((vector_size(4 * LANES)));
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
    float query[WIDTH][WIDTH], key[WIDTH][WIDTH], value[WIDTH][WIDTH], output[WIDTH][WIDTH];
    float expand[WIDTH][HIDDEN], contract[HIDDEN][WIDTH], head[WIDTH][PLACES];
} Turned __attribute__((aligned(64)));

#define INLINE static inline __attribute__((always_inline))

INLINE Vector at(const float *numbers) { return *(const Vector *)numbers; }

INLINE float sum(Vector v) {
    float s = 0;
    for (int k = 0; k < LANES; k++) s += v[k];
    return s;
}

/* The sum of the products of two positions' numbers. */
INLINE float dot(const Vector a[][LENGTH], const Vector b[][LENGTH], int t) {
    Vector products = a[0][t] * b[0][t];
    for (int p = 1; p < PARTS; p++) products += a[p][t] * b[p][t];
    return sum(products);
}

/* a where the mask is set, else b. */
#define CHOOSE(V, I)                                                                        \
    INLINE V choose_##V(I mask, V a, V b) { return (V)(((I)a & mask) | ((I)b & ~mask)); }
CHOOSE(Vector, VectorInt)
CHOOSE(Line, LineInt)

/* x where a number is above 0, else 0. */
INLINE Vector positive(Vector number, Vector x) {
    return choose_Vector(number > 0, x, (Vector){});
}

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
EXP(Vector, VectorInt)
EXP(Line, LineInt)

/* y[t] += sum over k of x[t][k] * columns[k], for all positions t; y and x have so many vectors
 * and numbers, and a column's first number is `stride` behind that of the one before. */
INLINE void map(Vector y[][LENGTH], int vectors, const Vector x[][LENGTH], int count,
                const float *columns, int stride) {
    for (int o = 0; o < vectors; o += WIDE)
        for (int first = 0; first < LENGTH; first += TALL) {
            Vector a[TALL][WIDE];
            for (int t = 0; t < TALL; t++)
                for (int j = 0; j < WIDE; j++) a[t][j] = y[o + j][first + t];
            for (int k = 0; k < count; k++) {
                const float *column = columns + k * stride + o * LANES;
                for (int t = 0; t < TALL; t++)
                    for (int j = 0; j < WIDE; j++)
                        a[t][j] += x[k / LANES][first + t][k % LANES] * at(column + j * LANES);
            }
            for (int t = 0; t < TALL; t++)
                for (int j = 0; j < WIDE; j++) y[o + j][first + t] = a[t][j];
        }
}

/* The gradient of a map with respect to its matrix: rows[i] += sum over t of dy[t][i] * x[t]. */
INLINE void outer(float rows[][WIDTH], int count, const Vector dy[][LENGTH],
                  const Vector x[][LENGTH]) {
    for (int first = 0; first + ROWS <= count; first += ROWS) {
        Vector a[ROWS][PARTS];
        for (int i = 0; i < ROWS; i++)
            for (int p = 0; p < PARTS; p++) a[i][p] = at(rows[first + i] + p * LANES);
        for (int t = 0; t < LENGTH; t++)
            for (int i = 0; i < ROWS; i++)
                for (int p = 0; p < PARTS; p++)
                    a[i][p] += dy[(first + i) / LANES][t][(first + i) % LANES] * x[p][t];
        for (int i = 0; i < ROWS; i++)
            for (int p = 0; p < PARTS; p++) *(Vector *)(rows[first + i] + p * LANES) = a[i][p];
    }
    for (int i = count / ROWS * ROWS; i < count; i++)
        for (int p = 0; p < PARTS; p++) {
            Vector a = at(rows[i] + p * LANES);
            for (int t = 0; t < LENGTH; t++) a += dy[i / LANES][t][i % LANES] * x[p][t];
            *(Vector *)(rows[i] + p * LANES) = a;
        }
}

INLINE void normalize(Vector y[][LENGTH], float scale[LENGTH], const Vector x[][LENGTH]) {
    for (int t = 0; t < LENGTH; t++) {
        scale[t] = 1 / sqrtf(dot(x, x, t) / WIDTH + 1e-5f);
        for (int p = 0; p < PARTS; p++) y[p][t] = x[p][t] * scale[t];
    }
}

/* dx += the gradient of `normalize`. */
INLINE void normalize_back(Vector dx[][LENGTH], const Vector dy[][LENGTH],
                           const Vector y[][LENGTH], const float scale[LENGTH]) {
    for (int t = 0; t < LENGTH; t++) {
        float mean = dot(dy, y, t) / WIDTH;
        for (int p = 0; p < PARTS; p++) dx[p][t] += scale[t] * (dy[p][t] - y[p][t] * mean);
    }
}

/* out[k][i] = in[i][k]; rows that are not there are zeros. */
INLINE void transpose(float *out, int width, const float *in, int rows, int columns) {
    for (int k = 0; k < columns; k++)
        for (int i = 0; i < width; i++) out[k * width + i] = i < rows ? in[i * columns + k] : 0;
}

/* Each number of the positions in a line of its own, and back. */
INLINE void to_lines(Line lines[WIDTH], const Vector x[][LENGTH]) {
    for (int k = 0; k < WIDTH; k++)
        for (int t = 0; t < LENGTH; t++) lines[k][t] = x[k / LANES][t][k % LANES];
}

INLINE void to_rows(Vector x[][LENGTH], const Line lines[WIDTH]) {
    for (int t = 0; t < LENGTH; t++)
        for (int k = 0; k < WIDTH; k++) x[k / LANES][t][k % LANES] = lines[k][t];
}

static void turn(Turned *w, const Parameters *p) {
    transpose(w->query[0], WIDTH, p->query[0], WIDTH, WIDTH);
    transpose(w->key[0], WIDTH, p->key[0], WIDTH, WIDTH);
    transpose(w->value[0], WIDTH, p->value[0], WIDTH, WIDTH);
    transpose(w->output[0], WIDTH, p->output[0], WIDTH, WIDTH);
    transpose(w->expand[0], HIDDEN, p->expand[0], HIDDEN, WIDTH);
    transpose(w->contract[0], WIDTH, p->contract[0], WIDTH, HIDDEN);
    transpose(w->head[0], PLACES, p->head[0], LETTERS, WIDTH);
}

/* One document: its loss, times `weight`; its gradient, times `weight`, is added to g, that of
 * `contract` to its transpose. */
static float document(const Parameters *p, const Turned *w, Parameters *g,
                      float contract[HIDDEN][WIDTH], const int32_t *token, const int32_t *target,
                      float weight) {
    Vector e[PARTS][LENGTH], x[PARTS][LENGTH], a[PARTS][LENGTH], b[PARTS][LENGTH];
    Vector middle[PARTS][LENGTH], y[PARTS][LENGTH], attended[PARTS][LENGTH];
    Vector q[PARTS][LENGTH] = {}, k[PARTS][LENGTH] = {}, v[PARTS][LENGTH] = {};
    Vector h[HIDDEN_PARTS][LENGTH] = {}, z[LETTER_PARTS][LENGTH] = {};
    float s0[LENGTH], s1[LENGTH], s2[LENGTH], loss = 0;
    Line ql[WIDTH], kl[WIDTH], vl[WIDTH], al[WIDTH], probability[HEADS][LENGTH];

    for (int t = 0; t < LENGTH; t++)
        for (int part = 0; part < PARTS; part++)
            e[part][t] = at(p->tokens[token[t]] + part * LANES) + at(p->positions[t] + part * LANES);
    normalize(x, s0, e);
    normalize(a, s1, x);
    map(q, PARTS, a, WIDTH, w->query[0], WIDTH);
    map(k, PARTS, a, WIDTH, w->key[0], WIDTH);
    map(v, PARTS, a, WIDTH, w->value[0], WIDTH);

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
    map(middle, PARTS, attended, WIDTH, w->output[0], WIDTH);

    normalize(b, s2, middle);
    memcpy(y, middle, sizeof y);
    map(h, HIDDEN_PARTS, b, WIDTH, w->expand[0], HIDDEN);
    for (int part = 0; part < HIDDEN_PARTS; part++)
        for (int t = 0; t < LENGTH; t++) h[part][t] = positive(h[part][t], h[part][t]);
    map(y, PARTS, h, HIDDEN, w->contract[0], WIDTH);
    map(z, LETTER_PARTS, y, WIDTH, w->head[0], PLACES);

    /* Cross-entropy; z becomes its derivative. */
    VectorInt column;
    for (int c = 0; c < LANES; c++) column[c] = c;
    for (int t = 0; t < LENGTH; t++) {
        int part = target[t] / LANES, lane = target[t] % LANES;
        float chosen = z[part][t][lane], top = -INFINITY, total = 0;
        Vector larger = (Vector){} - INFINITY, totals = {};
        for (int c = 0; c < LETTER_PARTS; c++) {
            z[c][t] = choose_Vector(column < LETTERS - c * LANES, z[c][t], (Vector){} - INFINITY);
            larger = choose_Vector(z[c][t] > larger, z[c][t], larger);
        }
        for (int c = 0; c < LANES; c++) top = larger[c] > top ? larger[c] : top;
        for (int c = 0; c < LETTER_PARTS; c++) {
            z[c][t] = choose_Vector(column < LETTERS - c * LANES, exp_Vector(z[c][t] - top),
                                    (Vector){});
            totals += z[c][t];
        }
        total = sum(totals);
        loss += logf(total) - (chosen - top);
        for (int c = 0; c < LETTER_PARTS; c++) z[c][t] *= weight / LENGTH / total;
        z[part][t][lane] -= weight / LENGTH;
    }

    /* Backward. */
    Vector dy[PARTS][LENGTH] = {}, dm[PARTS][LENGTH], dh[HIDDEN_PARTS][LENGTH] = {};
    Vector db[PARTS][LENGTH] = {}, da[PARTS][LENGTH] = {}, dx[PARTS][LENGTH];
    Vector de[PARTS][LENGTH] = {}, d_attended[PARTS][LENGTH] = {};
    Vector dq[PARTS][LENGTH], dk[PARTS][LENGTH], dv[PARTS][LENGTH];
    Line dql[WIDTH] = {}, dkl[WIDTH], dvl[WIDTH], dal[WIDTH];
    outer(g->head, LETTERS, z, y);
    map(dy, PARTS, z, LETTERS, p->head[0], WIDTH);
    memcpy(dm, dy, sizeof dm);
    map(dh, HIDDEN_PARTS, dy, WIDTH, p->contract[0], HIDDEN);
    for (int part = 0; part < HIDDEN_PARTS; part++)
        for (int t = 0; t < LENGTH; t++) dh[part][t] = positive(h[part][t], dh[part][t]);
    outer(contract, HIDDEN, h, dy);
    outer(g->expand, HIDDEN, dh, b);
    map(db, PARTS, dh, HIDDEN, p->expand[0], WIDTH);
    normalize_back(dm, db, b, s2);
    outer(g->output, WIDTH, dm, attended);
    map(d_attended, PARTS, dm, WIDTH, p->output[0], WIDTH);
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
    map(da, PARTS, dq, WIDTH, p->query[0], WIDTH);
    map(da, PARTS, dk, WIDTH, p->key[0], WIDTH);
    map(da, PARTS, dv, WIDTH, p->value[0], WIDTH);
    normalize_back(dx, da, a, s1);
    normalize_back(de, dx, x, s0);
    for (int t = 0; t < LENGTH; t++)
        for (int part = 0; part < PARTS; part++) {
            *(Vector *)(g->positions[t] + part * LANES) += de[part][t];
            *(Vector *)(g->tokens[token[t]] + part * LANES) += de[part][t];
        }
    return loss * weight / LENGTH;
}

/* The mean loss of some documents; its gradient is stored in g. */
float gradients(const Parameters *p, Parameters *g, int documents, const int32_t *tokens,
                const int32_t *targets) {
    static Turned w;
    float contract[HIDDEN][WIDTH] = {}, loss = 0;
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
