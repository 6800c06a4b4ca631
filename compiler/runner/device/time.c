/* Times a model, or each of its steps, on chosen CPUs. */
#include "runner.h"

enum {
    /* Runs that are measured at least, as in `mcc bench`. */
    MIN_RUNS = 5,
    /* Times that are kept. When there are more, every second one is dropped, and from then on every second one is
     * measured only for the least, the greatest and the sum. */
    MAX_TIMES = 1 << 20,
    /* Parts of the measurement whose medians show drift. */
    PARTS = 10
};

static struct {
    uint64_t *times, *sorted;
    uint64_t count, every, runs, least, most, sum, span;
} measured;

/* ---- steps ---- */

static struct {
    bool on;
    /* The level that runs and its first step; the step that runs, or -1. */
    int32_t level;
    int64_t start, last;
    uint64_t since;
    /* Nanoseconds of each step in the current run, and the least of all runs; -1 if it did not run. */
    int64_t *current, *least;
} steps;

/* What models call: with -2 - n at the start of a run of the code for level n, with a number before each step, with -1
 * after the last. */
void mcc_step(int32_t number)
{
    if (!steps.on)
        return;
    uint64_t time = now();
    if (steps.last >= 0 && steps.last < mcc_runner_card.step_count) {
        int64_t *sum = &steps.current[steps.last], took = (int64_t)(time - steps.since);
        *sum = *sum < 0 ? took : *sum + took;
    }
    if (number < -1) {
        steps.level = -2 - number;
        steps.start = steps.level < mcc_runner_card.level_count ? mcc_runner_card.level_starts[steps.level] : 0;
    }
    steps.last = number < 0 ? -1 : steps.start + number;
    steps.since = time;
}

static void keep_least(void)
{
    for (int32_t i = 0; i < mcc_runner_card.step_count; i++) {
        int64_t took = steps.current[i], *least = &steps.least[i];
        *least = took < 0 || (*least >= 0 && *least < took) ? *least : took;
        steps.current[i] = -1;
    }
}

/* What reading the clock adds to the time of each step. */
static uint64_t clock_cost(void)
{
    uint64_t least = UINT64_MAX;
    for (int32_t i = 0; i < 1000; i++) {
        uint64_t start = now(), took = now() - start;
        least = took < least ? took : least;
    }
    return least;
}

static void start_steps(void)
{
    uint64_t bytes = (uint64_t)mcc_runner_card.step_count * sizeof(int64_t);
    steps.current = allocate(bytes);
    steps.least = allocate(bytes);
    memset(steps.current, 0xff, bytes);
    memset(steps.least, 0xff, bytes);
    steps.last = -1;
    steps.on = true;
}

/* ---- runs ---- */

static void keep(uint64_t time)
{
    measured.least = time < measured.least ? time : measured.least;
    measured.most = time > measured.most ? time : measured.most;
    measured.sum += time;
    if (measured.runs++ % measured.every)
        return;
    if (measured.count == MAX_TIMES) {
        for (uint64_t i = 0; i < MAX_TIMES / 2; i++)
            measured.times[i] = measured.times[2 * i];
        measured.count = MAX_TIMES / 2;
        measured.every *= 2;
    }
    measured.times[measured.count++] = time;
}

static void sift(uint64_t *heap, uint64_t root, uint64_t count)
{
    for (uint64_t child; (child = 2 * root + 1) < count; root = child) {
        child += child + 1 < count && heap[child] < heap[child + 1];
        if (heap[root] >= heap[child])
            return;
        uint64_t other = heap[root];
        heap[root] = heap[child];
        heap[child] = other;
    }
}

/* The times from `first` on, in ascending order. */
static const uint64_t *sorted(uint64_t first, uint64_t count)
{
    uint64_t *heap = measured.sorted;
    memcpy(heap, measured.times + first, count * sizeof *heap);
    for (uint64_t i = count / 2; i--;)
        sift(heap, i, count);
    for (uint64_t end = count; end-- > 1;) {
        uint64_t greatest = heap[0];
        heap[0] = heap[end];
        heap[end] = greatest;
        sift(heap, 0, end);
    }
    return heap;
}

static void measure(session *s, double seconds)
{
    memset(&measured.count, 0, sizeof measured - offsetof(__typeof__(measured), count));
    measured.every = 1;
    measured.least = UINT64_MAX;
    /* The first run pages in weights and code. */
    run(s);
    if (steps.on)
        keep_least();
    for (int32_t i = 0; i < mcc_runner_card.step_count && steps.on; i++)
        steps.least[i] = -1;
    uint64_t start = now();
    while (measured.runs < MIN_RUNS || (double)(now() - start) < seconds * 1e9) {
        uint64_t before = now();
        run(s);
        keep(now() - before);
        if (steps.on)
            keep_least();
    }
    measured.span = now() - start;
}

/* ---- reports ---- */

/* Medians of the parts of the measurement, in order; drift is the last one over the first. */
static void medians(uint64_t medians[PARTS])
{
    for (uint64_t part = 0; part < PARTS; part++) {
        uint64_t first = measured.count * part / PARTS, end = measured.count * (part + 1) / PARTS;
        first = end > first ? first : end - 1;
        if (!end)
            first = 0, end = 1;
        medians[part] = sorted(first, end - first)[(end - first - 1) / 2];
    }
}

typedef struct setting {
    cpu_set cpus;
    int64_t khz_before, khz_after;
    double f32, int8;
} setting;

static void field(const char *name)
{
    put(", \"");
    put(name);
    put("\": ");
}

static void json_steps(const setting *at)
{
    uint64_t cost = clock_cost();
    field("level");
    put_integer(steps.level);
    field("peak_gflops");
    put_decimals(at->f32, 0, 3);
    field("peak_int8_gops");
    put_decimals(at->int8, 0, 3);
    field("step_ms");
    put("[");
    for (int32_t i = 0; i < mcc_runner_card.step_count; i++) {
        int64_t took = steps.least[i];
        put(i ? ", " : "");
        if (took < 0)
            put("null");
        else
            put_ms((uint64_t)took > cost ? (uint64_t)took - cost : 0);
    }
    put("]");
}

static void json_measurement(const session *s, const options *o, const setting *at)
{
    static const struct {
        const char *name;
        uint64_t of_thousand;
    } PERCENTILES[] = {{"p10_ms", 100}, {"median_ms", 500}, {"p90_ms", 900}, {"p99_ms", 990}};
    put("\n  {\"cpus\": \"");
    put_set(&at->cpus);
    put("\"");
    field("threads");
    put_integer(o->threads);
    field("runs");
    put_integer((int64_t)measured.runs);
    field("seconds");
    put_decimals((double)measured.span / 1e9, 0, 3);
    field("arena_bytes");
    put_integer(s->arena_bytes);
    field("min_ms");
    put_ms(measured.least);
    const uint64_t *times = sorted(0, measured.count);
    for (size_t i = 0; i < sizeof PERCENTILES / sizeof *PERCENTILES; i++) {
        field(PERCENTILES[i].name);
        put_ms(times[(measured.count - 1) * PERCENTILES[i].of_thousand / 1000]);
    }
    field("max_ms");
    put_ms(measured.most);
    field("mean_ms");
    put_ms(measured.sum / measured.runs);
    uint64_t parts[PARTS];
    medians(parts);
    field("drift");
    put_decimals(parts[0] ? (double)parts[PARTS - 1] / (double)parts[0] : 1, 0, 4);
    field("part_medians_ms");
    for (int32_t i = 0; i < PARTS; i++) {
        put(i ? ", " : "[");
        put_ms(parts[i]);
    }
    put("]");
    field("khz_before");
    put_integer(at->khz_before);
    field("khz_after");
    put_integer(at->khz_after);
    if (o->profile)
        json_steps(at);
    put("}");
}

static void json_head(const session *s)
{
    const cpu_group *groups;
    int32_t count = cpu_groups(&groups);
    put("{\"mcc_runner\": 1");
    field("system");
    put_quoted(system_name());
    field("cpu_groups");
    for (int32_t i = 0; i < count; i++) {
        put(i ? ", {\"cpus\": \"" : "[{\"cpus\": \"");
        put_set(&groups[i].cpus);
        put("\"");
        field("capacity");
        put_integer(groups[i].capacity);
        field("max_khz");
        put_integer(groups[i].max_khz);
        field("midr");
        put_quoted(groups[i].midr);
        put("}");
    }
    put(count ? "]" : "[]");
    field("inputs");
    put("[");
    for (int32_t i = 0; i < own_inputs(s->model); i++) {
        const tensor *t = &s->inputs[i];
        put(i ? ", {\"name\": " : "{\"name\": ");
        put_quoted(s->model->inputs[i].name);
        field("dims");
        put_dims(t->dims, t->rank);
        /* Those that may decide dimensions. */
        uint64_t elements = element_count(t->dims, t->rank);
        if (!is_float(t->dtype) && elements <= 64) {
            field("values");
            for (uint64_t n = 0; n < elements; n++) {
                put(n ? ", " : "[");
                put_integer(integer_element(t, n));
            }
            put(elements ? "]" : "[]");
        }
        put("}");
    }
    put("]");
    field("model");
    put(mcc_runner_card.manifest);
    field("measurements");
    put("[");
}

static void text_steps(const setting *at)
{
    uint64_t cost = clock_cost();
    int64_t total = 0;
    for (int32_t i = 0; i < mcc_runner_card.step_count; i++)
        total += steps.least[i] > (int64_t)cost ? steps.least[i] - (int64_t)cost : 0;
    put("least time of each step; peak f32 ");
    put_decimals(at->f32, 0, 1);
    put(" GFLOP/s, 8-bit ");
    put_decimals(at->int8, 0, 1);
    put(" GOP/s; mcc report prints more from --json\n        ms    share  kernel, node\n");
    /* The longest first; those printed become -1. */
    for (;;) {
        int32_t longest = -1;
        for (int32_t i = 0; i < mcc_runner_card.step_count; i++)
            if (steps.least[i] >= 0 && (longest < 0 || steps.least[i] > steps.least[longest]))
                longest = i;
        if (longest < 0)
            return;
        double took = steps.least[longest] > (int64_t)cost ? (double)(steps.least[longest] - (int64_t)cost) : 0;
        put_decimals(took / 1e6, 10, 4);
        put_decimals(total ? 100 * took / (double)total : 0, 7, 1);
        put(" %  ");
        put(mcc_runner_card.steps[longest]);
        put("\n");
        steps.least[longest] = -1;
    }
}

static void text_measurement(const options *o, const setting *at)
{
    const uint64_t *times = sorted(0, measured.count);
    put("cpus ");
    put_set(&at->cpus);
    put(", threads ");
    put_integer(o->threads);
    put(": ");
    put_decimals((double)measured.least / 1e6, 0, 4);
    put(" ms minimum, ");
    put_decimals((double)times[(measured.count - 1) / 2] / 1e6, 0, 4);
    put(" median, ");
    put_decimals((double)times[(measured.count - 1) * 9 / 10] / 1e6, 0, 4);
    put(" 90th and ");
    put_decimals((double)times[(measured.count - 1) * 99 / 100] / 1e6, 0, 4);
    put(" 99th percentile of ");
    put_integer((int64_t)measured.runs);
    put(" runs\n");
    uint64_t parts[PARTS];
    medians(parts);
    put("drift: the last tenth of the runs took ");
    put_decimals(parts[0] ? (double)parts[PARTS - 1] / (double)parts[0] : 1, 0, 3);
    put(" times the first");
    if (at->khz_before && at->khz_after) {
        put("; frequency ");
        put_integer(at->khz_before / 1000);
        put(" MHz before, ");
        put_integer(at->khz_after / 1000);
        put(" after");
    }
    put("\n");
    if (o->profile)
        text_steps(at);
}

static void measure_on(session *s, const options *o, setting *at)
{
    if (o->profile) {
        at->f32 = peak_f32();
        at->int8 = peak_int8();
        start_steps();
    }
    at->khz_before = current_khz(&at->cpus);
    measure(s, o->seconds);
    at->khz_after = current_khz(&at->cpus);
    steps.on = false;
}

/* Threads cannot be moved to other CPUs from here: a pool is made after its CPUs are chosen, for one choice only. */
void time_model(const options *o)
{
    static session s;
    const cpu_group *groups;
    int32_t count = cpu_groups(&groups);
    bool each = o->cpus && equal(o->cpus, "each");
    if (each && o->threads > 1)
        fail(USAGE, "--cpus each is for one thread; give --cpus big, then --cpus little", NULL);
    s.model = mcc_runner_card.model;
    read_inputs(&s, o);
    prepare(&s, o);
    measured.times = allocate(MAX_TIMES * sizeof(uint64_t));
    measured.sorted = allocate(MAX_TIMES * sizeof(uint64_t));
    if (o->cpus && !each)
        use_cpus(parse_cpus(o->cpus), o->cpus);
    s.pool = o->threads > 1 ? make_pool(o->threads) : NULL;
    /* Whatever is refused is refused before anything is written. */
    run(&s);
    int32_t file = o->json && !equal(o->json, "-") ? create_file(o->json) : 1;
    set_output(file);
    if (o->json)
        json_head(&s);
    for (int32_t i = 0; i < (each ? count : 1); i++) {
        if (each)
            use_cpus(groups[i].cpus, o->cpus);
        setting at = {.cpus = get_cpus()};
        measure_on(&s, o, &at);
        put(o->json && i ? "," : "");
        if (o->json)
            json_measurement(&s, o, &at);
        else
            text_measurement(o, &at);
    }
    put(o->json ? "\n]}\n" : "");
    set_output(1);
    if (file > 2)
        close_file(file);
}
