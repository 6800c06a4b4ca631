//! Start times of the calls of a traced object (`mcc_kernel::program::Program::traced`).

use std::cell::RefCell;
use std::time::{Duration, Instant};

thread_local! {
    /// Start times of the calls of this thread's current run, each with its number, and the run's end.
    static STAMPS: RefCell<Vec<(i32, Instant)>> = const { RefCell::new(Vec::new()) };
}

/// `mcc_step`, which traced objects import.
pub extern "C" fn step(number: i32) {
    STAMPS.with_borrow_mut(|stamps| stamps.push((number, Instant::now())));
}

/// Times by the number of a call; `None` for calls that were not executed.
pub type Times = Vec<Option<Duration>>;

/// Runs a function and returns the time of each call on this thread.
pub fn during<T>(run: impl FnOnce() -> T) -> (T, Times) {
    STAMPS.with_borrow_mut(Vec::clear);
    let result = run();
    let mut times = Times::new();
    STAMPS.with_borrow(|stamps| {
        for pair in stamps.windows(2) {
            let Ok(number) = usize::try_from(pair[0].0) else { continue };
            times.resize(times.len().max(number + 1), None);
            let time = times[number].get_or_insert_default();
            *time += pair[1].1 - pair[0].1;
        }
    });
    (result, times)
}

/// Keeps the shorter time of each call.
pub fn keep_least(least: &mut Times, times: Times) {
    least.resize(least.len().max(times.len()), None);
    for (least, time) in least.iter_mut().zip(times) {
        *least = (*least).into_iter().chain(time).min();
    }
}

/// The cost of a stamp, which is part of every time.
pub fn overhead() -> Duration {
    let (_, times) = during(|| (0..1000).for_each(|n| step(n)));
    times.into_iter().flatten().min().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_the_calls_that_happened() {
        let (_, times) = during(|| [0, 2, 2, -1].into_iter().for_each(|n| step(n)));
        assert!(matches!(times[..], [Some(_), None, Some(_)]), "{times:?}");
        let mut least = vec![Some(Duration::ZERO)];
        keep_least(&mut least, times.clone());
        assert_eq!(least, [Some(Duration::ZERO), None, times[2]]);
    }
}
