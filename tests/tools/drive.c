/* Runs any compiled model through its descriptor. Compile with -DMODEL=NAME_model and the model's header included by
   -include; usage: drive IN... -- OUT..., in files of: rank and element type (int32), dims (int64), data.
   RUNS in the environment is how often it runs; the last time is between the marks that qemu_blocks.c counts from and to.
   Counts what the model itself allocates: it must be nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const mcc_model MODEL;

int close(int descriptor);
enum { COUNT = -7310001, STOP = -7310002 };

static size_t allocations;
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size) { allocations++; return __real_malloc(size); }

static const size_t sizes[] = {[MCC_F32] = 4, [MCC_U8] = 1, [MCC_I8] = 1, [MCC_U16] = 2, [MCC_I16] = 2, [MCC_I32] = 4,
                               [MCC_I64] = 8, [MCC_BOOL] = 1, [MCC_F16] = 2, [MCC_F64] = 8, [MCC_U32] = 4, [MCC_U64] = 8,
                               [MCC_BF16] = 2, [MCC_F8E4M3FN] = 1, [MCC_F8E4M3FNUZ] = 1, [MCC_F8E5M2] = 1,
                               [MCC_F8E5M2FNUZ] = 1, [MCC_U4] = 1, [MCC_I4] = 1, [MCC_F4E2M1] = 1,
                               [MCC_F8E8M0] = 1, [MCC_U2] = 1, [MCC_I2] = 1};

static size_t bytes(const mcc_tensor *t)
{
    size_t n = sizes[t->dtype];
    for (int32_t i = 0; i < t->rank; i++) n *= (size_t)t->dims[i];
    return n;
}

static void fail(const char *what, int32_t code)
{
    fprintf(stderr, "%s: %s\n", what, mcc_message(code));
    exit(1);
}

static mcc_tensor read_tensor(const char *path)
{
    mcc_tensor t = {0};
    FILE *f = fopen(path, "rb");
    if (!f || fread(&t.rank, 4, 1, f) != 1 || fread(&t.dtype, 4, 1, f) != 1) exit(2);
    t.dims = calloc((size_t)t.rank + 1, 8);
    if (fread(t.dims, 8, (size_t)t.rank, f) != (size_t)t.rank) exit(2);
    size_t n = bytes(&t);
    t.data = malloc(n ? n : 1);
    if (fread(t.data, 1, n, f) != n) exit(2);
    fclose(f);
    return t;
}

int main(int argc, char **argv)
{
    mcc_tensor *in = calloc((size_t)MODEL.input_count + 1, sizeof *in);
    mcc_tensor *out = calloc((size_t)MODEL.output_count + 1, sizeof *out);
    if (argc != MODEL.input_count + MODEL.output_count + 2) return 2;
    for (int i = 0; i < MODEL.input_count; i++) in[i] = read_tensor(argv[1 + i]);
    for (int i = 0; i < MODEL.output_count; i++) out[i].dims = calloc((size_t)MODEL.outputs[i].rank + 1, 8);
    int64_t arena_size = 0;
    int32_t code = MODEL.shapes(in, out, &arena_size);
    if (code != MCC_OK) fail("shapes", code);
    for (int i = 0; i < MODEL.output_count; i++) out[i].data = calloc(bytes(&out[i]) + 1, 1);
    size_t room = ((size_t)arena_size + 127) / 64 * 64;
    void *arena = aligned_alloc(64, room);
    size_t before = allocations;
    const char *runs = getenv("RUNS");
    for (int n = runs ? atoi(runs) : 1; n > 0; n--) {
        if (n == 1) close(COUNT);
        code = MODEL.invoke(in, out, arena, (size_t)arena_size, 0);
        if (n == 1) close(STOP);
        if (code != MCC_OK) fail("invoke", code);
    }
    if (allocations != before) return 3;
    for (int i = 0; i < MODEL.output_count; i++) {
        FILE *f = fopen(argv[MODEL.input_count + 2 + i], "wb");
        fwrite(&out[i].rank, 4, 1, f);
        fwrite(&out[i].dtype, 4, 1, f);
        fwrite(out[i].dims, 8, (size_t)out[i].rank, f);
        fwrite(out[i].data, 1, bytes(&out[i]), f);
        fclose(f);
    }
    return 0;
}
