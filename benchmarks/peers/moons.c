/* A perceptron 2-16-16-1 under the hinge loss with weight decay: SGD steps in plain loops.
 * Activations are kept with the examples side by side, so that the compiler vectorises over them.
 * Parameters are those of the model's state_dict, one array after the other. */

#define WIDTH 16
#ifndef EXAMPLES
#define EXAMPLES 100
#endif

typedef struct {
    double w1[WIDTH][2], b1[WIDTH], w2[WIDTH][WIDTH], b2[WIDTH], w3[WIDTH], b3;
} Parameters;

enum { COUNT = sizeof(Parameters) / sizeof(double) };

/* The loss; its gradient is stored in g. x has the examples side by side. */
double gradients(const Parameters *p, Parameters *g, const double x[2][EXAMPLES],
                 const double *y, double decay) {
    static double h1[WIDTH][EXAMPLES], h2[WIDTH][EXAMPLES], d1[WIDTH][EXAMPLES];
    static double d2[EXAMPLES], d3[EXAMPLES];
    double loss = 0;

    for (int i = 0; i < WIDTH; i++)
        for (int e = 0; e < EXAMPLES; e++) {
            double a = p->b1[i] + p->w1[i][0] * x[0][e] + p->w1[i][1] * x[1][e];
            h1[i][e] = a > 0 ? a : 0;
        }
    for (int i = 0; i < WIDTH; i++) {
        double a[EXAMPLES];
        for (int e = 0; e < EXAMPLES; e++) a[e] = p->b2[i];
        for (int k = 0; k < WIDTH; k++)
            for (int e = 0; e < EXAMPLES; e++) a[e] += p->w2[i][k] * h1[k][e];
        for (int e = 0; e < EXAMPLES; e++) h2[i][e] = a[e] > 0 ? a[e] : 0;
    }
    for (int e = 0; e < EXAMPLES; e++) d3[e] = p->b3;
    for (int k = 0; k < WIDTH; k++)
        for (int e = 0; e < EXAMPLES; e++) d3[e] += p->w3[k] * h2[k][e];
    for (int e = 0; e < EXAMPLES; e++) {
        double margin = 1 - y[e] * d3[e];
        loss += margin > 0 ? margin : 0;
        d3[e] = margin > 0 ? -y[e] / EXAMPLES : 0;
    }

    g->b3 = 0;
    for (int e = 0; e < EXAMPLES; e++) g->b3 += d3[e];
    for (int i = 0; i < WIDTH; i++)
        for (int e = 0; e < EXAMPLES; e++) d1[i][e] = 0;
    for (int i = 0; i < WIDTH; i++) {
        double w3 = 0, b2 = 0;
        for (int e = 0; e < EXAMPLES; e++) {
            w3 += d3[e] * h2[i][e];
            d2[e] = h2[i][e] > 0 ? d3[e] * p->w3[i] : 0;
            b2 += d2[e];
        }
        g->w3[i] = w3;
        g->b2[i] = b2;
        for (int k = 0; k < WIDTH; k++) {
            double w2 = 0;
            for (int e = 0; e < EXAMPLES; e++) {
                w2 += d2[e] * h1[k][e];
                d1[k][e] += p->w2[i][k] * d2[e];
            }
            g->w2[i][k] = w2;
        }
    }
    for (int i = 0; i < WIDTH; i++) {
        double w0 = 0, w1 = 0, b1 = 0;
        for (int e = 0; e < EXAMPLES; e++) {
            double d = h1[i][e] > 0 ? d1[i][e] : 0;
            w0 += d * x[0][e];
            w1 += d * x[1][e];
            b1 += d;
        }
        g->w1[i][0] = w0;
        g->w1[i][1] = w1;
        g->b1[i] = b1;
    }

    const double *number = (const double *)p;
    double *slope = (double *)g, squares = 0;
    for (int k = 0; k < COUNT; k++) {
        squares += number[k] * number[k];
        slope[k] += 2 * decay * number[k];
    }
    return loss / EXAMPLES + decay * squares;
}

/* So many SGD steps; the loss before the last. */
double steps(int count, Parameters *p, Parameters *g, const double x[2][EXAMPLES],
             const double *y, double decay, double lr) {
    double loss = 0;
    for (int s = 0; s < count; s++) {
        loss = gradients(p, g, x, y, decay);
        for (int k = 0; k < COUNT; k++) ((double *)p)[k] -= lr * ((double *)g)[k];
    }
    return loss;
}
