/* The machine's CPUs: groups of equal ones, frequencies, and peak speed. */
#include "runner.h"

/* A file of a CPU, such as /sys/devices/system/cpu/cpu3/cpu_capacity. */
static int64_t read_of(int32_t cpu, const char *name, char *text, uint64_t room)
{
    static const char folder[] = "/sys/devices/system/cpu/cpu";
    char path[128], digits[8];
    int32_t n = 0, end = 0;
    do
        digits[n++] = (char)('0' + cpu % 10);
    while (cpu /= 10);
    for (const char *p = folder; *p; p++)
        path[end++] = *p;
    while (n)
        path[end++] = digits[--n];
    path[end++] = '/';
    while (*name)
        path[end++] = *name++;
    path[end] = 0;
    return read_text(path, text, room);
}

static int64_t number_of(int32_t cpu, const char *name)
{
    char text[32];
    int64_t value = 0;
    return read_of(cpu, name, text, sizeof text) > 0 && parse_integer(text, &value) ? value : 0;
}

/* "0-3,5" as a set; fails on anything else. */
static cpu_set parse_list(const char *list)
{
    cpu_set set = {{0}};
    int64_t first, last;
    const char *text = list;
    for (;;) {
        text = parse_integer(text, &first);
        last = first;
        if (text && *text == '-')
            text = parse_integer(text + 1, &last);
        if (!text || first > last || last >= MAX_CPUS)
            fail(USAGE, "--cpus ", list, ": expected big, little, all, each, or a list such as 0-3,6", NULL);
        for (int64_t i = first; i <= last; i++)
            set.words[i / 64] |= (uint64_t)1 << i % 64;
        if (*text != ',')
            break;
        text++;
    }
    if (*text && *text != '\n')
        fail(USAGE, "--cpus ", list, ": expected big, little, all, each, or a list such as 0-3,6", NULL);
    return set;
}

static int32_t first_of(const cpu_set *set)
{
    for (int32_t i = 0; i < MAX_CPUS; i++)
        if (set->words[i / 64] >> i % 64 & 1)
            return i;
    return -1;
}

static bool slower(const cpu_group *a, const cpu_group *b)
{
    return a->capacity != b->capacity ? a->capacity < b->capacity : a->max_khz < b->max_khz;
}

int32_t cpu_groups(const cpu_group **groups)
{
    static cpu_group found[MAX_CPUS];
    static int32_t count;
    static cpu_set usable;
    *groups = found;
    if (count)
        return count;
    usable = get_cpus();
    for (int32_t i = 0; i < MAX_CPUS; i++) {
        if (!(usable.words[i / 64] >> i % 64 & 1))
            continue;
        cpu_group own = {.capacity = number_of(i, "cpu_capacity"), .max_khz = number_of(i, "cpufreq/cpuinfo_max_freq")};
        int64_t n = read_of(i, "regs/identification/midr_el1", own.midr, sizeof own.midr);
        while (n > 0 && own.midr[n - 1] <= ' ')
            n--;
        own.midr[n < 0 ? 0 : n] = 0;
        int32_t g = 0;
        while (g < count && (slower(&found[g], &own) || slower(&own, &found[g]) || !equal(found[g].midr, own.midr)))
            g++;
        if (g == count)
            found[count++] = own;
        found[g].cpus.words[i / 64] |= (uint64_t)1 << i % 64;
    }
    for (int32_t i = 1; i < count; i++)
        for (int32_t j = i; j && slower(&found[j], &found[j - 1]); j--) {
            cpu_group other = found[j];
            found[j] = found[j - 1];
            found[j - 1] = other;
        }
    return count;
}

cpu_set parse_cpus(const char *text)
{
    const cpu_group *groups;
    int32_t count = cpu_groups(&groups);
    if (equal(text, "big") || equal(text, "little"))
        return groups[equal(text, "big") ? count - 1 : 0].cpus;
    if (!equal(text, "all"))
        return parse_list(text);
    cpu_set all = {{0}};
    for (int32_t i = 0; i < count; i++)
        for (int32_t w = 0; w < MAX_CPUS / 64; w++)
            all.words[w] |= groups[i].cpus.words[w];
    return all;
}

void use_cpus(cpu_set set, const char *name)
{
    if (!set_cpus(&set))
        fail(FAULT, "the system does not let this program use the CPUs ", name, NULL);
}

int64_t current_khz(const cpu_set *set)
{
    int32_t cpu = first_of(set);
    return cpu < 0 ? 0 : number_of(cpu, "cpufreq/scaling_cur_freq");
}

/* ---- peak speed: loops that only multiply and add in registers, in independent chains ---- */

enum { ROUNDS = 20000, MEASUREMENTS = 50, CHAINS = 20 };

/* A loop, and the operations in one of its rounds. */
typedef struct peak_loop {
    void (*run)(int64_t rounds);
    double operations;
} peak_loop;

#define TWENTY(step) \
    step(0) step(1) step(2) step(3) step(4) step(5) step(6) step(7) step(8) step(9) step(10) step(11) step(12) step(13) \
    step(14) step(15) step(16) step(17) step(18) step(19)

#ifdef __aarch64__
enum { HWCAP = 16, HWCAP2 = 26, HAS_DOTPROD = 1 << 20, HAS_I8MM = 1 << 13 };

#define CLOBBERED \
    "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", \
    "v18", "v19", "v30", "v31", "cc"
#define ZERO(n) "movi v" #n ".4s, 0\n\t"
/* Some assemblers lack these instructions: an opcode, its operands v30 and v31, and the chain's register. */
#define FMLA(n) ".inst 0x4e20cc00 + (31 << 16) + (30 << 5) + " #n "\n\t"
#define SDOT(n) ".inst 0x4e809400 + (31 << 16) + (30 << 5) + " #n "\n\t"
#define SMMLA(n) ".inst 0x4e80a400 + (31 << 16) + (30 << 5) + " #n "\n\t"
#define LOOP(name, step) \
    static void name(int64_t rounds) \
    { \
        __asm__ volatile(TWENTY(ZERO) "movi v30.4s, 0\n\tmovi v31.4s, 0\n" \
                         "1:\n\t" TWENTY(step) "subs %0, %0, 1\n\tb.ne 1b\n" \
                         : "+r"(rounds)::CLOBBERED); \
    }
LOOP(fmla_loop, FMLA)
LOOP(sdot_loop, SDOT)
LOOP(smmla_loop, SMMLA)

static peak_loop f32_loop(void)
{
    return (peak_loop){fmla_loop, 2 * 4};
}

static peak_loop int8_loop(void)
{
    if (getauxval(HWCAP2) & HAS_I8MM)
        return (peak_loop){smmla_loop, 2 * 32};
    return getauxval(HWCAP) & HAS_DOTPROD ? (peak_loop){sdot_loop, 2 * 16} : (peak_loop){NULL, 0};
}
#else
#define CLOBBERED \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", \
    "cc"
#define TWELVE(step) \
    step(0) step(1) step(2) step(3) step(4) step(5) step(6) step(7) step(8) step(9) step(10) step(11)
#define ZERO(n) "pxor %%xmm" #n ", %%xmm" #n "\n\t"
#define ADD_128(n) "mulps %%xmm12, %%xmm13\n\taddps %%xmm12, %%xmm" #n "\n\t"
#define FMA_256(n) "vfmadd231ps %%ymm12, %%ymm13, %%ymm" #n "\n\t"
#define FMA_512(n) "vfmadd231ps %%zmm12, %%zmm13, %%zmm" #n "\n\t"
#define DOT_AVX2(n) \
    "vpmaddubsw %%ymm" #n ", %%ymm12, %%ymm13\n\tvpmaddwd %%ymm12, %%ymm13, %%ymm13\n\tvpaddd %%ymm13, %%ymm" #n \
    ", %%ymm" #n "\n\t"
#define DOT_256(n) "%{vex%} vpdpbusd %%ymm12, %%ymm13, %%ymm" #n "\n\t"
#define DOT_512(n) "vpdpbusd %%zmm12, %%zmm13, %%zmm" #n "\n\t"
#define LOOP(name, step, end) \
    static void name(int64_t rounds) \
    { \
        __asm__ volatile(TWELVE(ZERO) "pxor %%xmm12, %%xmm12\n\tpxor %%xmm13, %%xmm13\n" \
                         "1:\n\t" TWELVE(step) "sub $1, %0\n\tjnz 1b\n\t" end \
                         : "+r"(rounds)::CLOBBERED); \
    }
LOOP(f32_128, ADD_128, "")
LOOP(f32_256, FMA_256, "vzeroupper")
LOOP(f32_512, FMA_512, "vzeroupper")
LOOP(int8_avx2, DOT_AVX2, "vzeroupper")
LOOP(int8_256, DOT_256, "vzeroupper")
LOOP(int8_512, DOT_512, "vzeroupper")

typedef struct features {
    bool avx2, avx512, vnni512, vnni256;
} features;

static void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    __asm__ volatile("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3]) : "a"(leaf), "c"(subleaf));
}

static features features_here(void)
{
    uint32_t one[4], seven[4] = {0}, more[4] = {0}, most[4], saved = 0;
    cpuid(0, 0, most);
    cpuid(1, 0, one);
    if (most[0] >= 7) {
        cpuid(7, 0, seven);
        cpuid(7, 1, more);
    }
    /* The registers that the system saves. */
    if (one[2] >> 27 & 1)
        __asm__ volatile("xgetbv" : "=a"(saved) : "c"(0) : "edx");
    bool avx2 = (saved & 6) == 6 && (one[2] >> 12 & 1) && (seven[1] >> 5 & 1);
    bool avx512 = avx2 && (saved & 0xe6) == 0xe6 && (seven[1] >> 16 & 1);
    return (features){avx2, avx512, avx512 && (seven[2] >> 11 & 1), avx2 && (more[0] >> 4 & 1)};
}

static peak_loop f32_loop(void)
{
    features f = features_here();
    if (f.avx512)
        return (peak_loop){f32_512, 2 * 16};
    return f.avx2 ? (peak_loop){f32_256, 2 * 8} : (peak_loop){f32_128, 2 * 4};
}

static peak_loop int8_loop(void)
{
    features f = features_here();
    if (f.vnni512)
        return (peak_loop){int8_512, 2 * 64};
    if (f.vnni256)
        return (peak_loop){int8_256, 2 * 32};
    return f.avx2 ? (peak_loop){int8_avx2, 2 * 32} : (peak_loop){NULL, 0};
}
#endif

static double best(peak_loop loop)
{
#ifdef __aarch64__
    double chains = CHAINS;
#else
    double chains = 12;
#endif
    uint64_t least = UINT64_MAX;
    for (int32_t i = 0; loop.run && i < MEASUREMENTS; i++) {
        uint64_t start = now();
        loop.run(ROUNDS);
        uint64_t took = now() - start;
        least = took < least ? took : least;
    }
    return loop.run && least ? loop.operations * chains * ROUNDS / (double)least : 0;
}

double peak_f32(void)
{
    return best(f32_loop());
}

double peak_int8(void)
{
    return best(int8_loop());
}
