//! Start times of the steps of a traced object (`mcc_kernel::program::Program::traced`).

use std::cell::RefCell;
use std::time::{Duration, Instant};

thread_local! {
    /// Start times of the steps of this thread's current run, and its end.
    static STAMPS: RefCell<Vec<Instant>> = const { RefCell::new(Vec::new()) };
}

/// `mcc_step`, which traced objects import.
pub extern "C" fn step() {
    STAMPS.with_borrow_mut(|stamps| stamps.push(Instant::now()));
}

/// Runs a function and returns the times between the stamps that it makes on this thread.
pub fn during<T>(run: impl FnOnce() -> T) -> (T, Vec<Duration>) {
    STAMPS.with_borrow_mut(Vec::clear);
    let result = run();
    let times = STAMPS.with_borrow(|stamps| stamps.windows(2).map(|pair| pair[1] - pair[0]).collect());
    (result, times)
}

/// The cost of a stamp, which is part of every time.
pub fn overhead() -> Duration {
    let (_, times) = during(|| (0..1000).for_each(|_| step()));
    times.into_iter().min().unwrap_or_default()
}
