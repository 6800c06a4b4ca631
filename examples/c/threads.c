/* Runs a model on several threads: on those of mcc's runtime, then on the program's own pool, which here makes the calls
 * sequentially. The results are bit-identical.
 *
 *   mcc tests/models/digits.onnx -o digits.o --threads
 *   cargo rustc --release --package mcc-runtime --features threads --crate-type staticlib
 *   cc -std=c11 -I. examples/c/threads.c digits.o target/release/libmcc_runtime.a -lpthread -ldl -lm -o threads
 *   ./threads
 */
#include <stdalign.h>
#include <stdio.h>
#include <string.h>

#include "digits.h"

static alignas(64) unsigned char arena[DIGITS_ARENA_SIZE];

/* An application's scheduler would start the calls on its threads and wait for all of them. */
static void one_by_one(void *context, void (*task)(void *argument, int64_t index), void *argument, int64_t count)
{
    (void)context;
    for (int64_t index = 0; index < count; index++)
        task(argument, index);
}

int main(void)
{
    float image[64], one[10], two[10], three[10];
    const mcc_pool own = {NULL, one_by_one, 4};
    const mcc_pool *threads = mcc_pool_new(4);
    int32_t code;
    for (int i = 0; i < 64; i++)
        image[i] = (float)(i % 9) / 8;
    code = digits_run(image, one, arena, sizeof arena, NULL);
    if (code == MCC_OK)
        code = digits_run(image, two, arena, sizeof arena, threads);
    if (code == MCC_OK)
        code = digits_run(image, three, arena, sizeof arena, &own);
    mcc_pool_free(threads);
    if (code != MCC_OK || memcmp(one, two, sizeof one) || memcmp(one, three, sizeof one)) {
        fprintf(stderr, "%s\n", code != MCC_OK ? digits_explain(code) : "the results differ");
        return 1;
    }
    printf("a run uses at most %d threads; on 1 and on 4 it gives the same\n", (int)digits_model.threads);
    return 0;
}
