//! Times of runs. Models that are compared run in turns, so that whatever slows the machine slows all of them.

use std::time::{Duration, Instant};

use mcc_ir::Result;

use crate::{Session, trace};

/// Minimum number of runs, even if they take longer than the time given.
pub const MIN_RUNS: usize = 5;

/// The times of one run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Which session ran.
    pub session: usize,
    /// From call to return.
    pub whole: Duration,
    /// Those of its calls, if the object is traced.
    pub calls: trace::Times,
}

/// Runs sessions in turns until the time is over, each at least [`MIN_RUNS`] times, and shows every run but the first,
/// which pages in weights and code.
///
/// # Errors
/// When a model refuses its inputs.
pub fn in_turns(sessions: &mut [Session<'_>], time: Duration, each: &mut dyn FnMut(Run)) -> Result<()> {
    sessions.iter_mut().try_for_each(Session::run)?;
    let (end, mut rounds) = (Instant::now() + time, 0);
    while rounds < MIN_RUNS || Instant::now() < end {
        for (n, session) in sessions.iter_mut().enumerate() {
            let start = Instant::now();
            let (result, calls) = trace::during(|| session.run());
            let whole = start.elapsed();
            result?;
            each(Run { session: n, whole, calls });
        }
        rounds += 1;
    }
    Ok(())
}

/// The least time of each session, in milliseconds.
///
/// # Errors
/// As [`in_turns`].
pub fn least_ms(sessions: &mut [Session<'_>], time: Duration) -> Result<Vec<f64>> {
    let mut least = vec![Duration::MAX; sessions.len()];
    in_turns(sessions, time, &mut |run| least[run.session] = least[run.session].min(run.whole))?;
    Ok(least.into_iter().map(|time| time.as_secs_f64() * 1e3).collect())
}

/// The least time of each call of each traced session.
///
/// # Errors
/// As [`in_turns`].
pub fn least_calls(sessions: &mut [Session<'_>], time: Duration) -> Result<Vec<trace::Times>> {
    let mut least = vec![trace::Times::new(); sessions.len()];
    in_turns(sessions, time, &mut |run| trace::keep_least(&mut least[run.session], run.calls))?;
    Ok(least)
}
