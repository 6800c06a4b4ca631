/* Checks recorded cases: folders with input_0.pb, output_0.pb, ... or .npy, in ONNX's layout. */
#include "runner.h"

enum { MAX_PATH = 4096, MAX_SETS = 4096 };

static void join(char path[MAX_PATH], const char *folder, const char *name)
{
    size_t n = length(folder), m = length(name);
    if (n + m + 2 > MAX_PATH)
        fail(FAULT, "too long a path: ", folder, NULL);
    memcpy(path, folder, n);
    path[n] = '/';
    memcpy(path + n + 1, name, m + 1);
}

/* The number in a name such as input_3.pb, or -1. */
static int64_t numbered(const char *name, const char *prefix, const char *end)
{
    const char *rest = after(name, prefix);
    int64_t number;
    rest = rest ? parse_integer(rest, &number) : NULL;
    return rest && equal(rest, end) ? number : -1;
}

/* ---- tolerances ---- */

/* A file of lines "RTOL ATOL", one per output; the last line holds for all further outputs. */
typedef struct tolerances {
    double rtol[MAX_PORTS], atol[MAX_PORTS];
    int32_t count;
} tolerances;

static tolerances read_tolerances(const char *folder)
{
    static char path[MAX_PATH], text[1 << 14];
    tolerances t = {.count = 0};
    join(path, folder, "tolerance");
    int64_t n = read_text(path, text, sizeof text);
    const char *at = text;
    while (n > 0) {
        while (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')
            at++;
        if (!*at)
            break;
        double *rtol = &t.rtol[t.count], *atol = &t.atol[t.count];
        if (t.count == MAX_PORTS || !(at = parse_real(at, rtol)) || *at++ != ' ' || !(at = parse_real(at, atol)))
            fail(FAULT, path, ": expected lines of two numbers, RTOL ATOL", NULL);
        t.count++;
    }
    return t;
}

/* ---- a data set ---- */

typedef struct set {
    const char *folder;
    /* The tensors of one side by the model's order. */
    tensor *tensors;
    bool *given;
    const mcc_port *ports;
    int32_t count;
    /* Names by number. */
    const char *const *names;
    int32_t name_count;
    const char *prefix;
} set;

static int32_t port_named(const set *s, const char *name, size_t count)
{
    for (int32_t i = 0; i < s->count; i++)
        if (length(s->ports[i].name) == count && !memcmp(s->ports[i].name, name, count))
            return i;
    return -1;
}

/* A tensor belongs to the port whose name it carries, else to that of its number. Those of inputs that the compiled model
 * does not have (it was compiled for given values) are left out. */
static void read_one(void *context, const char *name)
{
    set *s = context;
    static char path[MAX_PATH];
    bool pb = ends_with(name, ".pb");
    int64_t number = numbered(name, s->prefix, pb ? ".pb" : ".npy");
    if (number < 0)
        return;
    join(path, s->folder, name);
    const char *by_number = number < s->name_count ? s->names[number] : NULL;
    int32_t slot = by_number ? port_named(s, by_number, length(by_number)) : -1;
    tensor t;
    if (pb) {
        t = read_tensor(path, 0);
        int32_t named = port_named(s, t.name, t.name_length);
        slot = named >= 0 ? named : slot;
    }
    if (!by_number && slot < 0)
        fail(FAULT, path, ": the model does not have that many", NULL);
    if (slot < 0)
        return;
    if (!pb)
        t = read_tensor(path, s->ports[slot].dtype);
    if (s->given[slot])
        fail(FAULT, path, ": a second tensor for ", s->ports[slot].name, NULL);
    s->tensors[slot] = t;
    s->given[slot] = true;
}

/* Reads one side of a data set; whether it is there. */
static bool read_side(set *s)
{
    int32_t found = 0;
    list_folder(s->folder, read_one, s);
    for (int32_t i = 0; i < s->count; i++)
        found += s->given[i];
    if (found && found < s->count)
        for (int32_t i = 0; i < s->count; i++)
            if (!s->given[i])
                fail(FAULT, s->folder, ": no data for ", s->ports[i].name, NULL);
    return found == s->count;
}

/* Whether the outputs of a data set are right; prints a line. */
static bool verify_set(const char *folder, const tolerances *tolerance, const options *o, const mcc_pool *pool)
{
    static session s;
    static tensor expected[MAX_PORTS];
    static const char *output_names[MAX_PORTS];
    bool input_given[MAX_PORTS] = {false}, output_given[MAX_PORTS] = {false};
    const mcc_model *model = mcc_runner_card.model;
    int32_t before = pages();
    memset(&s, 0, sizeof s);
    s.model = model;
    s.pool = pool;
    for (int32_t i = 0; i < model->output_count; i++)
        output_names[i] = model->outputs[i].name;
    set in = {folder, s.inputs, input_given, model->inputs, own_inputs(model), mcc_runner_card.file_inputs,
              mcc_runner_card.file_input_count, "input_"};
    set out = {folder, expected, output_given, model->outputs, model->output_count, output_names, model->output_count,
               "output_"};
    if (!read_side(&in))
        fail(FAULT, folder, ": no input_0.pb or input_0.npy", NULL);
    if (!read_side(&out))
        fail(FAULT, folder, ": no output_0.pb or output_0.npy", NULL);
    prepare(&s, o);
    run(&s);
    bool right = true;
    for (int32_t i = 0; i < model->output_count && right; i++) {
        int32_t line = i < tolerance->count ? i : tolerance->count - 1;
        double rtol = o->rtol >= 0 ? o->rtol : line >= 0 ? tolerance->rtol[line] : 1e-3;
        double atol = o->atol >= 0 ? o->atol : line >= 0 ? tolerance->atol[line] : 1e-5;
        tensor got = {.data = s.out[i].data, .rank = s.out[i].rank, .dtype = s.out[i].dtype};
        memcpy(got.dims, s.out_dims[i], sizeof got.dims);
        /* What agrees prints nothing. */
        right = agree(folder, model->outputs[i].name, &got, &expected[i], rtol, atol);
    }
    if (right) {
        put("pass ");
        put(folder);
    }
    put("\n");
    flush();
    release(before);
    return right;
}

/* ---- cases ---- */

static struct {
    int64_t numbers[MAX_SETS];
    int32_t count;
    bool has_tensors;
} sets;

static void find_set(void *context, const char *name)
{
    (void)context;
    int64_t number = numbered(name, "test_data_set_", "");
    sets.has_tensors |= numbered(name, "output_", ".pb") >= 0 || numbered(name, "output_", ".npy") >= 0;
    if (number < 0)
        return;
    if (sets.count == MAX_SETS)
        fail(FAULT, "more than 4096 data sets in a folder", NULL);
    /* Ascending. */
    int32_t at = sets.count++;
    for (; at && sets.numbers[at - 1] > number; at--)
        sets.numbers[at] = sets.numbers[at - 1];
    sets.numbers[at] = number;
}

static void set_name(char name[64], int64_t number)
{
    char digits[24];
    int32_t n = 0;
    do
        digits[n++] = (char)('0' + number % 10);
    while (number /= 10);
    memcpy(name, "test_data_set_", 14);
    for (int32_t i = 0; i < n; i++)
        name[14 + i] = digits[n - 1 - i];
    name[14 + n] = 0;
}

bool verify_cases(const options *o)
{
    int64_t passed = 0, failed = 0;
    const mcc_pool *pool = o->threads > 1 ? make_pool(o->threads) : NULL;
    if (!o->cases[0])
        fail(USAGE, "verify: give folders of recorded cases", NULL);
    for (int32_t i = 0; o->cases[i]; i++) {
        const char *folder = o->cases[i];
        sets.count = 0;
        sets.has_tensors = false;
        if (!list_folder(folder, find_set, NULL))
            fail(FAULT, "no folder ", folder, NULL);
        tolerances tolerance = read_tolerances(folder);
        if (!sets.count && !sets.has_tensors)
            fail(FAULT, folder, ": neither test_data_set_0 nor output_0.pb or output_0.npy", NULL);
        if (sets.has_tensors)
            *(verify_set(folder, &tolerance, o, pool) ? &passed : &failed) += 1;
        for (int32_t n = 0; n < sets.count; n++) {
            char name[64], path[MAX_PATH];
            set_name(name, sets.numbers[n]);
            join(path, folder, name);
            *(verify_set(path, &tolerance, o, pool) ? &passed : &failed) += 1;
        }
    }
    put_integer(passed);
    put(" passed, ");
    put_integer(failed);
    put(" failed\n");
    flush();
    return !failed;
}
