/* Threads for a model: that of mcc's runtime (../../../runtime/src/pool.rs) without a library. One job at a time; threads
 * take its calls through one word, spin for a while when they have none, then sleep. */
#include "runner.h"

enum { MAX_THREADS = 64, SPIN_NS = 200000, SPINS_PER_CLOCK_READ = 64, SPINS_BEFORE_YIELD = 4096 };

/* Each word that threads change is in cache lines of its own. */
static struct {
    /* The number of calls in the upper half, the next one in the lower. */
    _Alignas(128) uint64_t calls;
    _Alignas(128) int64_t unfinished;
    _Alignas(128) void (*task)(void *argument, int64_t index);
    void *argument;
    /* 1 while a worker sleeps or is about to. */
    struct {
        _Alignas(128) int32_t asleep;
    } workers[MAX_THREADS];
    int32_t worker_count;
} pool;

static void relax(void)
{
#ifdef __aarch64__
    __asm__ volatile("isb" ::: "memory");
#else
    __asm__ volatile("pause" ::: "memory");
#endif
}

/* Takes a call and executes it, if one is left. */
static bool call_next(void)
{
    uint64_t calls = __atomic_load_n(&pool.calls, __ATOMIC_RELAXED);
    do {
        if ((uint32_t)calls >= calls >> 32)
            return false;
    } while (!__atomic_compare_exchange_n(&pool.calls, &calls, calls + 1, true, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED));
    pool.task(pool.argument, (int64_t)(uint32_t)calls);
    __atomic_fetch_sub(&pool.unfinished, 1, __ATOMIC_RELEASE);
    return true;
}

static bool has_call(void)
{
    uint64_t calls = __atomic_load_n(&pool.calls, __ATOMIC_SEQ_CST);
    return (uint32_t)calls < calls >> 32;
}

static void work(void *argument)
{
    int32_t *asleep = argument;
    uint64_t idle = 0;
    for (;;) {
        if (call_next()) {
            idle = 0;
            continue;
        }
        int32_t spins = 0;
        while (spins < SPINS_PER_CLOCK_READ && !has_call()) {
            relax();
            spins++;
        }
        if (spins < SPINS_PER_CLOCK_READ)
            continue;
        uint64_t time = now();
        idle = idle ? idle : time;
        if (time - idle < SPIN_NS)
            continue;
        /* Set before the last look for work: either this thread sees a new job, or the caller that it sleeps. */
        __atomic_store_n(asleep, 1, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(asleep, __ATOMIC_SEQ_CST) && !has_call())
            sleep_while(asleep, 1);
        __atomic_store_n(asleep, 0, __ATOMIC_SEQ_CST);
        idle = 0;
    }
}

static void parallel_for(void *context, void (*task)(void *argument, int64_t index), void *argument, int64_t count)
{
    (void)context;
    if (count < 2 || count > INT32_MAX) {
        for (int64_t i = 0; i < count; i++)
            task(argument, i);
        return;
    }
    pool.task = task;
    pool.argument = argument;
    __atomic_store_n(&pool.unfinished, count, __ATOMIC_RELAXED);
    __atomic_store_n(&pool.calls, (uint64_t)count << 32, __ATOMIC_SEQ_CST);
    for (int32_t i = 0; i < pool.worker_count && i < count - 1; i++) {
        int32_t *asleep = &pool.workers[i].asleep;
        if (__atomic_load_n(asleep, __ATOMIC_SEQ_CST) && __atomic_exchange_n(asleep, 0, __ATOMIC_SEQ_CST))
            wake_one(asleep);
    }
    while (call_next())
        ;
    for (int32_t turns = 0; __atomic_load_n(&pool.unfinished, __ATOMIC_ACQUIRE) > 0; turns++) {
        if (turns < SPINS_BEFORE_YIELD)
            relax();
        else
            yield();
    }
}

const mcc_pool *make_pool(int32_t threads)
{
    static mcc_pool made;
    if (threads < 1 || threads > MAX_THREADS)
        fail(USAGE, "--threads: expected 1 to 64", NULL);
    while (pool.worker_count < threads - 1 && start_thread(work, &pool.workers[pool.worker_count].asleep))
        pool.worker_count++;
    if (pool.worker_count < threads - 1)
        fail(FAULT, "the system does not start that many threads", NULL);
    made = (mcc_pool){NULL, parallel_for, threads};
    return &made;
}
