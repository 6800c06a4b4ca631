//! Pools: every call is made exactly once, with any number of threads, from several callers at once and from within
//! calls.

use core::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};

use mcc_runtime::{Pool, RawPool, Task};

fn parallel_for(pool: *const RawPool, task: Task, argument: *const AtomicU64, count: i64) {
    // SAFETY: the pool lives, and tasks take counters.
    unsafe { ((*pool).parallel_for)((*pool).context, task, argument.cast_mut().cast::<c_void>(), count) }
}

unsafe extern "C" fn count(counters: *mut c_void, index: i64) {
    // SAFETY: there is a counter for every index.
    unsafe { (*counters.cast::<AtomicU64>().offset(index as isize)).fetch_add(1, Ordering::Relaxed) };
}

fn counters(n: usize) -> Vec<AtomicU64> {
    (0..n).map(|_| AtomicU64::new(0)).collect()
}

fn all(counters: &[AtomicU64], n: u64) -> bool {
    counters.iter().all(|c| c.load(Ordering::Relaxed) == n)
}

#[test]
fn every_call_is_made_once() {
    for threads in [1, 2, 3, 5] {
        let pool = Pool::new(threads);
        assert_eq!(pool.threads(), threads);
        let c = counters(40);
        for n in 0..=40 {
            parallel_for(pool.raw(), count, c.as_ptr(), n);
        }
        for (index, c) in c.iter().enumerate() {
            assert_eq!(c.load(Ordering::Relaxed), 40 - index as u64);
        }
    }
}

#[test]
fn callers_share_a_pool_and_threads_sleep() {
    let pool = Pool::new(3);
    std::thread::scope(|scope| {
        for caller in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                let c = counters(3);
                for n in 0..2000 {
                    if n % 500 == caller {
                        // Long enough for the pool's threads to fall asleep.
                        std::thread::sleep(std::time::Duration::from_millis(3));
                    }
                    parallel_for(pool.raw(), count, c.as_ptr(), 3);
                }
                assert!(all(&c, 2000));
            });
        }
    });
}

struct Nested {
    pool: *const RawPool,
    counters: Vec<AtomicU64>,
}

unsafe extern "C" fn nested(argument: *mut c_void, _: i64) {
    // SAFETY: the argument is a `Nested` that outlives the calls.
    let n = unsafe { &*argument.cast::<Nested>() };
    parallel_for(n.pool, count, n.counters.as_ptr(), 5);
}

#[test]
fn calls_may_share_work_themselves() {
    let pool = Pool::new(2);
    let n = Nested { pool: pool.raw(), counters: counters(5) };
    for _ in 0..100 {
        parallel_for(pool.raw(), nested, (&raw const n).cast(), 2);
    }
    assert!(all(&n.counters, 200));
}
