/* A plugin for qemu-user: how often each block of guest code is executed, with the classes of its instructions (A64).
   Built without qemu's header: -DAPI=1 for qemu 7 and 8, -DAPI=4 for 10 on. At exit it writes, a line a block:
   address, bytes, executions, then how many of its instructions are loads and stores, simd, branches, others.
   Argument: out=FILE. */
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

struct qemu_plugin_tb;
struct qemu_plugin_insn;
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*callback)(uint64_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, void (*callback)(unsigned, void *), int flags, void *data);
void qemu_plugin_register_atexit_cb(uint64_t id, void (*callback)(uint64_t, void *), void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t n);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
#if API >= 3
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *to, size_t bytes);
#else
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
#endif

EXPORT int qemu_plugin_version = API;

enum { MEMORY, SIMD, BRANCH, OTHER, CLASSES };

struct block {
    struct block *next;
    uint64_t address, bytes, executions;
    unsigned classes[CLASSES];
};

static struct block *blocks;
static const char *file;

/* A64's main encoding groups: bits 28 to 25 are x1x0 for loads and stores, x111 for simd and floating point, 101x for
   branches and system instructions. */
static int class_of(uint32_t word)
{
    unsigned group = word >> 25 & 15;
    if ((group & 5) == 4) return MEMORY;
    if ((group & 7) == 7) return SIMD;
    return (group & 14) == 10 ? BRANCH : OTHER;
}

static void executed(unsigned cpu, void *block)
{
    (void)cpu;
    __atomic_fetch_add(&((struct block *)block)->executions, 1, __ATOMIC_RELAXED);
}

static void translated(uint64_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    struct block *b = calloc(1, sizeof *b);
    size_t count = qemu_plugin_tb_n_insns(tb);
    if (!b || !count) return;
    for (size_t n = 0; n < count; n++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, n);
        uint32_t word = 0;
#if API >= 3
        qemu_plugin_insn_data(insn, &word, sizeof word);
#else
        memcpy(&word, qemu_plugin_insn_data(insn), sizeof word);
#endif
        if (n == 0) b->address = qemu_plugin_insn_vaddr(insn);
        b->classes[class_of(word)]++;
    }
    b->bytes = 4 * count;
    do b->next = __atomic_load_n(&blocks, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&blocks, &b->next, b, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
    qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, 0, b);
}

static void at_exit(uint64_t id, void *data)
{
    (void)id, (void)data;
    FILE *f = fopen(file, "w");
    if (!f) return;
    for (struct block *b = blocks; b; b = b->next)
        if (b->executions)
            fprintf(f, "%" PRIx64 " %" PRIu64 " %" PRIu64 " %u %u %u %u\n", b->address, b->bytes, b->executions, b->classes[MEMORY],
                    b->classes[SIMD], b->classes[BRANCH], b->classes[OTHER]);
    fclose(f);
}

EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int n = 0; n < argc; n++)
        if (!strncmp(argv[n], "out=", 4)) file = strdup(argv[n] + 4);
    if (!file) return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, at_exit, NULL);
    return 0;
}
