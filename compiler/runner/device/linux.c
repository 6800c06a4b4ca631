/* Linux and Android by system calls: no C library. */
#include "runner.h"

#if defined __x86_64__
enum {
    SYS_READ = 0, SYS_WRITE = 1, SYS_CLOSE = 3, SYS_LSEEK = 8, SYS_MMAP = 9, SYS_PROTECT = 10,
    SYS_MUNMAP = 11, SYS_YIELD = 24,
    SYS_CLONE = 56, SYS_UNAME = 63, SYS_FUTEX = 202, SYS_SET_AFFINITY = 203, SYS_GET_AFFINITY = 204, SYS_LIST = 217,
    SYS_CLOCK = 228, SYS_EXIT_GROUP = 231, SYS_OPENAT = 257, OPEN_FOLDER = 0x10000
};
static const char *const VDSO_CLOCK = "__vdso_clock_gettime";

static long call(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

/* The new thread takes its argument and its function from its stack. */
static long clone_thread(long flags, void *stack)
{
    long result;
    __asm__ volatile("syscall\n\t"
                     "test %%eax, %%eax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "pop %%rdi\n\t"
                     "pop %%rax\n\t"
                     "call *%%rax\n\t"
                     "xor %%edi, %%edi\n\t"
                     "mov $60, %%eax\n\t"
                     "syscall\n"
                     "1:"
                     : "=a"(result)
                     : "a"((long)SYS_CLONE), "D"(flags), "S"(stack), "d"(0L)
                     : "rcx", "r11", "memory");
    return result;
}

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall runner_start\n");
#elif defined __aarch64__
enum {
    SYS_OPENAT = 56, SYS_CLOSE = 57, SYS_LIST = 61, SYS_LSEEK = 62, SYS_READ = 63, SYS_WRITE = 64, SYS_EXIT_GROUP = 94,
    SYS_FUTEX = 98, SYS_CLOCK = 113, SYS_SET_AFFINITY = 122, SYS_GET_AFFINITY = 123, SYS_YIELD = 124, SYS_UNAME = 160,
    SYS_MUNMAP = 215, SYS_CLONE = 220, SYS_MMAP = 222, SYS_PROTECT = 226, OPEN_FOLDER = 0x4000
};
static const char *const VDSO_CLOCK = "__kernel_clock_gettime";

static long call(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}

/* The new thread takes its argument and its function from its stack. */
static long clone_thread(long flags, void *stack)
{
    register long x8 __asm__("x8") = SYS_CLONE, x0 __asm__("x0") = flags, x1 __asm__("x1") = (long)stack;
    register long x2 __asm__("x2") = 0, x3 __asm__("x3") = 0, x4 __asm__("x4") = 0;
    __asm__ volatile("svc 0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x29, 0\n\t"
                     "ldp x0, x1, [sp], 16\n\t"
                     "blr x1\n\t"
                     "mov x0, 0\n\t"
                     "mov x8, 93\n\t"
                     "svc 0\n"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
                     : "memory", "x30");
    return x0;
}

__asm__(".globl _start\n_start:\n\tmov x29, 0\n\tmov x30, 0\n\tmov x0, sp\n\tbl runner_start\n");
#else
#error "the runner is for x86-64 and 64-bit Arm"
#endif

enum { AT_FOLDER = -100, NOT_FOUND = -2, CREATE = 01 | 0100 | 01000, PRIVATE_ANONYMOUS = 0x22, MAX_PAGES = 4096 };

/* Numbers of the auxiliary vector, of dynamic sections, and of the clock. */
enum { AUX_VDSO = 33, DYN_HASH = 4, DYN_NAMES = 5, DYN_SYMBOLS = 6, CLOCK_STEADY = 1 };

typedef struct timespec {
    int64_t seconds, nanoseconds;
} timespec;

static const unsigned long *auxiliary;
static int (*fast_clock)(long, timespec *);
static struct {
    void *start;
    uint64_t bytes;
} mapped[MAX_PAGES];
static int32_t mapped_count;

unsigned long getauxval(unsigned long key)
{
    for (const unsigned long *entry = auxiliary; entry[0]; entry += 2)
        if (entry[0] == key)
            return entry[1];
    return 0;
}

/* ---- memory and files ---- */

static void *map(uint64_t bytes, int32_t file)
{
    if (mapped_count == MAX_PAGES || bytes > INT64_MAX)
        return NULL;
    /* Anonymous pages can be written; pages of files only read. */
    long protection = file < 0 ? 3 : 1, flags = file < 0 ? PRIVATE_ANONYMOUS : 2;
    long start = call(SYS_MMAP, 0, (long)bytes, protection, flags, file, 0);
    if (start < 0 && start > -4096)
        return NULL;
    mapped[mapped_count].start = (void *)start;
    mapped[mapped_count++].bytes = bytes;
    return (void *)start;
}

void *allocate(uint64_t bytes)
{
    void *start = map(bytes ? bytes : 1, -1);
    if (!start)
        fail(FAULT, "not enough memory", NULL);
    return start;
}

int32_t pages(void)
{
    return mapped_count;
}

void release(int32_t from)
{
    while (mapped_count > from) {
        mapped_count--;
        call(SYS_MUNMAP, (long)mapped[mapped_count].start, (long)mapped[mapped_count].bytes, 0, 0, 0, 0);
    }
}

const uint8_t *map_file(const char *path, uint64_t *bytes)
{
    long file = call(SYS_OPENAT, AT_FOLDER, (long)path, 0, 0, 0, 0);
    if (file == NOT_FOUND)
        return NULL;
    long end = file < 0 ? -1 : call(SYS_LSEEK, file, 0, 2, 0, 0, 0);
    if (end < 0)
        fail(FAULT, "cannot read ", path, NULL);
    *bytes = (uint64_t)end;
    const uint8_t *start = end ? map(*bytes, (int32_t)file) : (const uint8_t *)"";
    if (!start)
        fail(FAULT, "cannot map ", path, NULL);
    call(SYS_CLOSE, file, 0, 0, 0, 0, 0);
    return start;
}

int64_t read_text(const char *path, char *text, uint64_t room)
{
    long file = call(SYS_OPENAT, AT_FOLDER, (long)path, 0, 0, 0, 0);
    if (file < 0)
        return -1;
    long count = call(SYS_READ, file, (long)text, (long)room - 1, 0, 0, 0);
    call(SYS_CLOSE, file, 0, 0, 0, 0, 0);
    text[count < 0 ? 0 : count] = 0;
    return count < 0 ? -1 : count;
}

bool list_folder(const char *path, void (*each)(void *context, const char *name), void *context)
{
    static _Alignas(8) char entries[1 << 14];
    long file = call(SYS_OPENAT, AT_FOLDER, (long)path, OPEN_FOLDER, 0, 0, 0), count;
    if (file < 0)
        return false;
    while ((count = call(SYS_LIST, file, (long)entries, sizeof entries, 0, 0, 0)) > 0)
        for (long at = 0; at < count;) {
            /* An entry is two 64-bit words, its length in 16 bits, a byte, and the name. */
            uint16_t size;
            memcpy(&size, entries + at + 16, sizeof size);
            each(context, entries + at + 19);
            at += size;
        }
    call(SYS_CLOSE, file, 0, 0, 0, 0, 0);
    if (count < 0)
        fail(FAULT, "cannot list ", path, NULL);
    return true;
}

int32_t create_file(const char *path)
{
    long file = call(SYS_OPENAT, AT_FOLDER, (long)path, CREATE, 0666, 0, 0);
    if (file < 0)
        fail(FAULT, "cannot write ", path, NULL);
    return (int32_t)file;
}

void write_all(int32_t file, const char *bytes, uint64_t count)
{
    while (count) {
        long written = call(SYS_WRITE, file, (long)bytes, (long)count, 0, 0, 0);
        if (written <= 0)
            leave(FAULT);
        bytes += written;
        count -= (uint64_t)written;
    }
}

void close_file(int32_t file)
{
    call(SYS_CLOSE, file, 0, 0, 0, 0, 0);
}

/* ---- time ---- */

/* The function of the kernel's own library that reads the clock without a system call. Its address is that of its
 * symbol, counted from where the library's first segment lies. */
static void find_fast_clock(void)
{
    const uint8_t *start = (const uint8_t *)getauxval(AUX_VDSO);
    if (!start)
        return;
    uint64_t headers, bias = 0;
    uint16_t header_bytes, header_count;
    const int64_t *dynamic = NULL;
    memcpy(&headers, start + 32, 8);
    memcpy(&header_bytes, start + 54, 2);
    memcpy(&header_count, start + 56, 2);
    for (uint16_t i = 0; i < header_count; i++) {
        const uint8_t *header = start + headers + (uint64_t)i * header_bytes;
        uint32_t type;
        uint64_t offset, address;
        memcpy(&type, header, 4);
        memcpy(&offset, header + 8, 8);
        memcpy(&address, header + 16, 8);
        if (type == 1 && !bias)
            bias = (uint64_t)start + offset - address;
        if (type == 2)
            dynamic = (const int64_t *)(start + offset);
    }
    const uint8_t *symbols = NULL;
    const char *names = NULL;
    const uint32_t *hash = NULL;
    for (; dynamic && dynamic[0]; dynamic += 2) {
        const uint8_t *at = (const uint8_t *)(bias + (uint64_t)dynamic[1]);
        if (dynamic[0] == DYN_SYMBOLS)
            symbols = at;
        if (dynamic[0] == DYN_NAMES)
            names = (const char *)at;
        if (dynamic[0] == DYN_HASH)
            hash = (const uint32_t *)at;
    }
    if (!symbols || !names)
        return;
    /* Without a table of hashes, the names follow the symbols. */
    uint64_t count = hash ? hash[1] : ((uint64_t)names - (uint64_t)symbols) / 24;
    for (uint64_t i = 0; i < count && i < 256; i++) {
        const uint8_t *symbol = symbols + 24 * i;
        uint32_t name;
        uint16_t section;
        uint64_t address;
        memcpy(&name, symbol, 4);
        memcpy(&section, symbol + 6, 2);
        memcpy(&address, symbol + 8, 8);
        if (section && equal(names + name, VDSO_CLOCK))
            fast_clock = (int (*)(long, timespec *))(bias + address);
    }
}

uint64_t now(void)
{
    timespec time = {0, 0};
    if (!fast_clock || fast_clock(CLOCK_STEADY, &time))
        call(SYS_CLOCK, CLOCK_STEADY, (long)&time, 0, 0, 0, 0);
    return (uint64_t)time.seconds * 1000000000u + (uint64_t)time.nanoseconds;
}

/* ---- threads ---- */

bool start_thread(void (*run)(void *argument), void *argument)
{
    /* The lowest pages of a stack are not accessible. */
    enum { STACK = 2 << 20, GUARD = 1 << 16, SHARED = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000 };
    char *stack = map(STACK, -1);
    if (!stack)
        return false;
    call(SYS_PROTECT, (long)stack, GUARD, 0, 0, 0, 0);
    void **top = (void **)(stack + STACK - 16);
    top[0] = argument;
    top[1] = (void *)run;
    return clone_thread(SHARED, top) > 0;
}

void yield(void)
{
    call(SYS_YIELD, 0, 0, 0, 0, 0, 0);
}

void sleep_while(const int32_t *word, int32_t value)
{
    call(SYS_FUTEX, (long)word, 128, value, 0, 0, 0);
}

void wake_one(const int32_t *word)
{
    call(SYS_FUTEX, (long)word, 129, 1, 0, 0, 0);
}

bool set_cpus(const cpu_set *set)
{
    return call(SYS_SET_AFFINITY, 0, sizeof *set, (long)set, 0, 0, 0) >= 0;
}

cpu_set get_cpus(void)
{
    cpu_set set = {{0}};
    call(SYS_GET_AFFINITY, 0, sizeof set, (long)&set, 0, 0, 0);
    return set;
}

/* ---- the program ---- */

const char *system_name(void)
{
    /* Six fields of 65 characters: system, host, release, version, machine, domain. */
    static char fields[6 * 65], name[3 * 65];
    if (call(SYS_UNAME, (long)fields, 0, 0, 0, 0, 0) < 0)
        return "";
    size_t end = 0;
    for (int32_t i = 0; i <= 4; i += 2) {
        size_t count = length(fields + 65 * i);
        memcpy(name + end, fields + 65 * i, count);
        end += count;
        name[end++] = i == 4 ? 0 : ' ';
    }
    return name;
}

_Noreturn void leave(int32_t status)
{
    for (;;)
        call(SYS_EXIT_GROUP, status, 0, 0, 0, 0, 0);
}

int32_t main_of(int32_t count, char **arguments);

/* `stack` holds the number of arguments, their pointers up to null, those of the environment up to null, and the
 * auxiliary vector. */
_Noreturn void runner_start(unsigned long *stack)
{
    char **arguments = (char **)(stack + 1), **environment = arguments + stack[0] + 1;
    while (*environment)
        environment++;
    auxiliary = (const unsigned long *)(environment + 1);
    find_fast_clock();
    leave(main_of((int32_t)stack[0], arguments));
}

/* ---- what models import, and the C compiler calls ---- */

typedef uint8_t chunk __attribute__((vector_size(16), aligned(1), may_alias));

void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    for (; bytes >= 64; bytes -= 64, t += 64, f += 64) {
        chunk a = *(const chunk *)f, b = *(const chunk *)(f + 16), c = *(const chunk *)(f + 32);
        chunk d = *(const chunk *)(f + 48);
        *(chunk *)t = a, *(chunk *)(t + 16) = b, *(chunk *)(t + 32) = c, *(chunk *)(t + 48) = d;
    }
    for (; bytes >= 16; bytes -= 16, t += 16, f += 16)
        *(chunk *)t = *(const chunk *)f;
    while (bytes--)
        *t++ = *f++;
    return to;
}

void *memset(void *to, int byte, size_t bytes)
{
    uint8_t *t = to;
    chunk value = (chunk){0} + (uint8_t)byte;
    for (; bytes >= 64; bytes -= 64, t += 64)
        *(chunk *)t = value, *(chunk *)(t + 16) = value, *(chunk *)(t + 32) = value, *(chunk *)(t + 48) = value;
    for (; bytes >= 16; bytes -= 16, t += 16)
        *(chunk *)t = value;
    while (bytes--)
        *t++ = (uint8_t)byte;
    return to;
}

int memcmp(const void *a, const void *b, size_t bytes)
{
    const uint8_t *x = a, *y = b;
    for (; bytes; bytes--, x++, y++)
        if (*x != *y)
            return *x < *y ? -1 : 1;
    return 0;
}
