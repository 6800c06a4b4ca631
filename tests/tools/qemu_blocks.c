/* A plugin for qemu-user (A64): how often each block of guest code is executed, after which block, and which of its accesses
   miss the caches of a model. The guest says what to count: close(COUNT) starts, close(STOP) ends (both fail in the guest).
   Until then nothing is instrumented, and only the thread that said it is counted. Built without qemu's header: -DAPI=1 for qemu 7 and 8, -DAPI=4 for 10 on.

   Arguments: out=FILE, caches=BYTES:WAYS:BYTES:WAYS... from the first level on: lines of 64 bytes, the least recently used one
   is replaced, loads and stores alike, no prefetching; none: no caches.
   At exit FILE has the lines
       others N                                          instructions of other threads meanwhile
       accesses N                                        loads and stores of 16 bytes at most
       block NUMBER ADDRESS EXECUTIONS WORDS MISSES...   WORDS: the instructions, 8 hexadecimal digits each; MISSES by level
       edge FROM TO EXECUTIONS                           TO followed FROM, numbers of blocks */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef API
#define API 1
#endif
#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void on_syscall(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
void qemu_plugin_reset(plugin_id id, void (*callback)(plugin_id));
void qemu_plugin_register_vcpu_syscall_cb(plugin_id id, on_syscall *callback);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*callback)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, void (*callback)(unsigned, void *), int flags, void *data);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn, void (*callback)(unsigned, uint32_t, uint64_t, void *), int flags,
                                      int access, void *data);
void qemu_plugin_register_atexit_cb(plugin_id id, void (*callback)(plugin_id, void *), void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t n);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
unsigned qemu_plugin_mem_size_shift(uint32_t info);
#if API >= 3
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *to, size_t bytes);
#else
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
#endif

EXPORT int qemu_plugin_version = API;

enum { CLOSE = 57, COUNT = -7310001, STOP = -7310002, READ_AND_WRITE = 3, LEVELS = 3 };
static const unsigned LINE = 6;

struct edge {
    struct edge *next;
    struct block *from;
    uint64_t executions;
};

struct block {
    struct block *next;
    struct edge *edges;
    uint64_t number, address, executions, misses[LEVELS];
    uint32_t count, words[];
};

/* Tags of a set stand together, the last used one first. */
struct cache {
    uint64_t *tags, sets;
    unsigned ways;
};

static struct block *blocks, *last;
static bool counting;
static unsigned counted;
static struct cache caches[LEVELS];
static unsigned levels;
static uint64_t accesses, others;
static const char *file;

/* Whether a line is in the cache; afterwards it is. */
static bool hit(struct cache *c, uint64_t line)
{
    uint64_t *set = c->tags + line % c->sets * c->ways, tag = line + 1;
    unsigned way = 0;
    while (way < c->ways && set[way] != tag) way++;
    bool found = way < c->ways;
    memmove(set + 1, set, (found ? way : c->ways - 1) * sizeof *set);
    set[0] = tag;
    return found;
}

static void accessed(unsigned cpu, uint32_t info, uint64_t address, void *data)
{
    static uint64_t newest;
    if (!counting || cpu != counted) return;
    accesses++;
    uint64_t line = address >> LINE, end = (address + (1u << qemu_plugin_mem_size_shift(info)) - 1) >> LINE;
    for (; line <= end; line++) {
        if (line == newest) continue;
        newest = line;
        for (unsigned level = 0; level < levels && !hit(&caches[level], line); level++) ((struct block *)data)->misses[level]++;
    }
}

static void executed(unsigned cpu, void *data)
{
    if (!counting) return;
    struct block *b = data, *from = last;
    if (cpu != counted) {
        __atomic_fetch_add(&others, b->count, __ATOMIC_RELAXED);
        return;
    }
    last = b;
    b->executions++;
    if (!from) return;
    for (struct edge **at = &b->edges, *e; (e = *at); at = &e->next)
        if (e->from == from) {
            e->executions++;
            *at = e->next, e->next = b->edges, b->edges = e;
            return;
        }
    struct edge *e = malloc(sizeof *e);
    if (!e) abort();
    *e = (struct edge){b->edges, from, 1};
    b->edges = e;
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
    (void)id;
    static uint64_t made;
    size_t count = qemu_plugin_tb_n_insns(tb);
    struct block *b = calloc(1, sizeof *b + count * sizeof *b->words);
    if (!b) abort();
    if (!count) return;
    b->count = count;
    b->address = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, 0));
    for (size_t n = 0; n < count; n++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, n);
#if API >= 3
        qemu_plugin_insn_data(insn, &b->words[n], 4);
#else
        memcpy(&b->words[n], qemu_plugin_insn_data(insn), 4);
#endif
        if (levels) qemu_plugin_register_vcpu_mem_cb(insn, accessed, 0, READ_AND_WRITE, b);
    }
    b->number = __atomic_fetch_add(&made, 1, __ATOMIC_RELAXED);
    do b->next = __atomic_load_n(&blocks, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&blocks, &b->next, b, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
    qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, 0, b);
}

static void at_exit(plugin_id id, void *data)
{
    (void)id, (void)data;
    FILE *f = fopen(file, "w");
    if (!f) return;
    fprintf(f, "others %" PRIu64 "\naccesses %" PRIu64 "\n", others, accesses);
    for (struct block *b = blocks; b; b = b->next) {
        if (!b->executions) continue;
        fprintf(f, "block %" PRIu64 " %" PRIx64 " %" PRIu64 " ", b->number, b->address, b->executions);
        for (uint32_t n = 0; n < b->count; n++) fprintf(f, "%08" PRIx32, b->words[n]);
        for (unsigned n = 0; n < levels; n++) fprintf(f, " %" PRIu64, b->misses[n]);
        fputc('\n', f);
        for (struct edge *e = b->edges; e; e = e->next)
            fprintf(f, "edge %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", e->from->number, b->number, e->executions);
    }
    fclose(f);
}

static void count_from_here(plugin_id id);

static void called(plugin_id id, unsigned cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5,
                   uint64_t a6, uint64_t a7, uint64_t a8)
{
    (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != CLOSE) return;
    if ((int32_t)a1 == COUNT && !counting) {
        counted = cpu;
        qemu_plugin_reset(id, count_from_here);
    }
    if ((int32_t)a1 == STOP) counting = false;
}

static void count_from_here(plugin_id id)
{
    counting = true;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    qemu_plugin_register_atexit_cb(id, at_exit, NULL);
}

static bool make_caches(char *text)
{
    for (char *at = strtok(text, ":"); at; at = strtok(NULL, ":")) {
        if (levels == LEVELS) return false;
        uint64_t bytes = strtoull(at, NULL, 10);
        at = strtok(NULL, ":");
        unsigned ways = at ? strtoul(at, NULL, 10) : 0;
        if (!ways || bytes % (ways << LINE)) return false;
        caches[levels++] = (struct cache){calloc(bytes >> LINE, sizeof(uint64_t)), bytes / (ways << LINE), ways};
    }
    return true;
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int n = 0; n < argc; n++) {
        if (!strncmp(argv[n], "out=", 4)) file = strdup(argv[n] + 4);
        if (!strncmp(argv[n], "caches=", 7) && !make_caches(argv[n] + 7)) return -1;
    }
    if (!file) return -1;
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
