//! A thread pool for models.
//!
//! A job is a task and the number of its calls. The pool holds one job at a time; threads take its calls through one
//! word that holds their number and the next one. Nothing is allocated and no lock is taken: a caller that finds the
//! pool busy (several inferences at once, or a job inside a job) makes all calls itself. Threads without work spin for
//! a while, since a model's next step follows within microseconds, then sleep until they are woken.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::hint;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::boxed::Box;
use std::sync::Arc;
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};
use std::vec::Vec;

use crate::{RawPool, Task};

/// How long a thread without work spins before it sleeps.
const SPIN_TIME: Duration = Duration::from_micros(200);

/// Attempts of a spinning thread to find work between two looks at the clock.
const SPINS_PER_CLOCK_READ: u32 = 64;

/// Spins of a caller that waits for the last calls before it yields to other threads.
const SPINS_BEFORE_YIELD: u32 = 4096;

/// A pool of threads; the caller's thread is one of them.
#[repr(C)]
pub struct Pool {
    raw: RawPool,
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

// SAFETY: the pointer in `raw` is to `shared`, which is `Send` and `Sync`.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    /// A pool of `threads` threads, the caller's included; fewer if the system cannot start that many.
    pub fn new(threads: usize) -> Pool {
        let sleepers = (1..threads).map(|_| AtomicBool::new(false)).collect();
        let shared = Arc::new(Shared {
            calls: Line(AtomicU64::new(0)),
            unfinished: Line(AtomicU64::new(0)),
            busy: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            sleepers,
            handles: UnsafeCell::new(Vec::new()),
            job: UnsafeCell::new(None),
        });
        let mut workers = Vec::new();
        for n in 1..threads {
            let shared = Arc::clone(&shared);
            let name = std::format!("mcc {n}");
            match thread::Builder::new().name(name).spawn(move || shared.work(n - 1)) {
                Ok(worker) => workers.push(worker),
                Err(_) => break,
            }
        }
        // SAFETY: workers never read the handles, and callers only after this function has returned.
        unsafe { *shared.handles.get() = workers.iter().map(|w| w.thread().clone()).collect() };
        let context = Arc::as_ptr(&shared).cast_mut().cast();
        let threads = i32::try_from(workers.len() + 1).unwrap_or(i32::MAX);
        Pool { raw: RawPool { context, parallel_for, threads }, shared, workers }
    }

    /// The number of threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// The pool as models take it; valid as long as `self`.
    pub fn raw(&self) -> *const RawPool {
        &raw const self.raw
    }
}

/// `mcc_pool_new`: a pool for C.
#[unsafe(no_mangle)]
pub extern "C" fn mcc_pool_new(threads: i32) -> *const RawPool {
    let pool = Pool::new(usize::try_from(threads).unwrap_or(1));
    // The C structure is the first field of `Pool`.
    Box::into_raw(Box::new(pool)).cast_const().cast()
}

/// `mcc_pool_free`.
///
/// # Safety
/// `pool` is null or comes from [`mcc_pool_new`], and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mcc_pool_free(pool: *const RawPool) {
    if !pool.is_null() {
        // SAFETY: guaranteed by the caller.
        drop(unsafe { Box::from_raw(pool.cast_mut().cast::<Pool>()) });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // Workers do not panic.
            let _ = worker.join();
        }
    }
}

/// `mcc_pool.parallel_for` of [`Pool`]s.
///
/// # Safety
/// `context` belongs to a live pool, and `task` may be called with `argument` on any thread.
unsafe extern "C" fn parallel_for(context: *mut c_void, task: Task, argument: *mut c_void, count: i64) {
    // SAFETY: guaranteed by the caller.
    let shared = unsafe { &*context.cast::<Shared>() };
    let count = u32::try_from(count).unwrap_or(0);
    if count < 2 || shared.sleepers.is_empty() || shared.busy.swap(true, Ordering::Acquire) {
        // SAFETY: guaranteed by the caller.
        (0..i64::from(count)).for_each(|index| unsafe { task(argument, index) });
        return;
    }
    // SAFETY: only the thread that set `busy` writes the job, and all calls of the last job have returned.
    unsafe { *shared.job.get() = Some(Job { task, argument }) };
    shared.unfinished.0.store(u64::from(count), Ordering::Relaxed);
    shared.calls.0.store(u64::from(count) << 32, Ordering::SeqCst);
    shared.wake(count as usize - 1);
    while shared.call_next() {}
    let mut turns = 0u32;
    while shared.unfinished.0.load(Ordering::Acquire) > 0 {
        turns = turns.saturating_add(1);
        if turns < SPINS_BEFORE_YIELD { hint::spin_loop() } else { thread::yield_now() }
    }
    shared.busy.store(false, Ordering::Release);
}

/// State shared by a pool's threads.
struct Shared {
    /// Calls of the job: their number in the upper half, the next one in the lower.
    calls: Line<AtomicU64>,
    /// Calls that have not returned.
    unfinished: Line<AtomicU64>,
    /// Whether a caller owns the pool.
    busy: AtomicBool,
    stopping: AtomicBool,
    /// Which workers sleep or are about to.
    sleepers: Box<[AtomicBool]>,
    /// The workers.
    handles: UnsafeCell<Vec<Thread>>,
    job: UnsafeCell<Option<Job>>,
}

// SAFETY: only the owner of `busy` writes `job`, while no call is left, and only threads that took a call read it;
// `handles` is written before the pool is handed out.
unsafe impl Sync for Shared {}
// SAFETY: as above; the caller vouches for what a job points to.
unsafe impl Send for Shared {}

#[derive(Clone, Copy)]
struct Job {
    task: Task,
    argument: *mut c_void,
}

/// A value in its own cache line.
#[repr(align(128))]
struct Line<T>(T);

impl Shared {
    /// Takes a call of the job, if one is left, and executes it.
    fn call_next(&self) -> bool {
        let mut calls = self.calls.0.load(Ordering::Relaxed);
        loop {
            let (count, next) = (calls >> 32, calls & u64::from(u32::MAX));
            if next >= count {
                return false;
            }
            match self.calls.0.compare_exchange_weak(calls, calls + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => {
                    // SAFETY: the job stays until the call just taken has returned; taking it synchronises with the
                    // caller, who guarantees that the task may be called.
                    unsafe {
                        if let Some(job) = *self.job.get() {
                            (job.task)(job.argument, next as i64);
                        }
                    }
                    self.unfinished.0.fetch_sub(1, Ordering::Release);
                    return true;
                }
                Err(now) => calls = now,
            }
        }
    }

    /// Wakes up to `wanted` sleeping workers.
    fn wake(&self, wanted: usize) {
        // SAFETY: written before the pool was handed out.
        let handles = unsafe { &*self.handles.get() };
        for (handle, asleep) in handles.iter().zip(&self.sleepers).take(wanted) {
            if asleep.load(Ordering::SeqCst) && asleep.swap(false, Ordering::SeqCst) {
                handle.unpark();
            }
        }
    }

    fn has_call(&self) -> bool {
        // Sequentially consistent with `sleepers`.
        let calls = self.calls.0.load(Ordering::SeqCst);
        calls & u64::from(u32::MAX) < calls >> 32
    }

    /// The loop of worker `n`.
    fn work(&self, n: usize) {
        let mut idle: Option<Instant> = None;
        while !self.stopping.load(Ordering::Relaxed) {
            if self.call_next() {
                idle = None;
                continue;
            }
            if (0..SPINS_PER_CLOCK_READ).any(|_| {
                hint::spin_loop();
                self.has_call()
            }) {
                continue;
            }
            if idle.get_or_insert_with(Instant::now).elapsed() < SPIN_TIME {
                continue;
            }
            // Set before the last look for work, so that either this thread sees a new job or the caller sees that it
            // sleeps.
            self.sleepers[n].store(true, Ordering::SeqCst);
            while self.sleepers[n].load(Ordering::SeqCst) && !self.has_call() && !self.stopping.load(Ordering::SeqCst) {
                thread::park();
            }
            self.sleepers[n].store(false, Ordering::SeqCst);
            idle = None;
        }
    }
}
