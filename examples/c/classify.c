/* Reads pictures of digits (8x8, plain PGM) and prints what the compiled model sees in them.
 *
 *   mcc tests/models/digits.onnx -o digits.o
 *   cc -std=c11 -I. examples/c/classify.c digits.o -o classify
 *   ./classify tests/models/digits/sample_3_label3.pgm
 */
#include <stdalign.h>
#include <stdio.h>

#include "digits.h"

enum { SIDE = 8, CLASSES = 10 };

/* The model's working memory is the caller's: here static, so nothing is allocated at all. */
static alignas(64) unsigned char arena[DIGITS_ARENA_SIZE];

static int read_pgm(const char *path, float *image)
{
    int width, height, white, ok;
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    ok = fscanf(file, "P2 %d %d %d", &width, &height, &white) == 3 && width == SIDE && height == SIDE && white > 0;
    for (int i = 0; ok && i < SIDE * SIDE; i++) {
        int grey;
        ok = fscanf(file, "%d", &grey) == 1;
        image[i] = (float)grey / (float)white;
    }
    fclose(file);
    return ok;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s PICTURE.pgm...\n", argv[0]);
        return 2;
    }
    for (int n = 1; n < argc; n++) {
        float image[SIDE * SIDE], probabilities[CLASSES];
        int best = 0;
        int32_t code;
        if (!read_pgm(argv[n], image)) {
            fprintf(stderr, "%s: not an 8x8 plain PGM picture\n", argv[n]);
            return 1;
        }
        code = digits_run(image, probabilities, arena, sizeof arena);
        if (code != MCC_OK) {
            fprintf(stderr, "%s: %s\n", argv[n], digits_explain(code));
            return 1;
        }
        for (int i = 1; i < CLASSES; i++)
            if (probabilities[i] > probabilities[best])
                best = i;
        printf("%s: %d (%.1f %%)\n", argv[n], best, 100.0 * (double)probabilities[best]);
    }
    return 0;
}
