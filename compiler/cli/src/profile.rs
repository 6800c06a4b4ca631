//! `mcc bench --profile`: the time of each step and kernel, and its share of the core's peak.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use mcc::Result;
use mcc::driver::Compiled;
use mcc::ir::{Dim, Tensor};
use mcc::kernel::program::{Call, Work};
use mcc::loader::{Model, peak, timing, trace};
use mcc_runtime::Pool;
use mcc_targets::Target;
use serde_json::{Value, json};

/// The measurement.
pub struct Profile {
    /// Calls in execution order, and sums per kernel name, the longest first.
    steps: Vec<Row>,
    kernels: Vec<Row>,
    context: Context,
}

/// What rows are compared with.
pub struct Context {
    /// The core's peak for `f32`.
    pub f32_gflops: Option<f64>,
    /// That for 8-bit integers.
    pub int8_gops: Option<f64>,
    /// The number of runs.
    pub runs: usize,
    /// Bytes of machine code.
    pub text_bytes: usize,
}

/// One call or the sum of several.
#[derive(Clone, Default)]
pub struct Row {
    /// The node that it computes.
    pub node: String,
    /// The kernel.
    pub kernel: String,
    /// Shapes of operands and result.
    pub shapes: String,
    /// Calls.
    pub calls: usize,
    /// The least time.
    pub ms: f64,
    /// Multiply-adds of `f32` and of 8-bit integers.
    pub multiply_adds: [f64; 2],
    /// Bytes read and written.
    pub bytes: f64,
}

/// Runs a traced model for some time; each step's time is the minimum over all runs.
pub fn measure(
    compiled: &Compiled,
    target: &Target,
    inputs: &[Tensor],
    pool: Option<&Pool>,
    time: Duration,
) -> Result<Profile> {
    let model = Model::load(&compiled.code.object)?;
    let mut session = [model.session(inputs, pool)?];
    let (mut least, mut runs) = (trace::Times::new(), 0);
    timing::in_turns(&mut session, time, &mut |run| {
        trace::keep_least(&mut least, run.calls);
        runs += 1;
    })?;
    let program = &compiled.program;
    let overhead = trace::overhead();
    // Those of a branch that was not taken have no time.
    let happened = program.calls().zip(&least).filter_map(|(call, time)| Some((call, (*time)?)));
    let steps = happened.map(|(Call { kernel, label, work }, time)| {
        let value = |dim: &Dim| program.value(dim, inputs).unwrap_or(0) as f64;
        let Work { multiply_adds, integers, bytes, shapes, elements: _ } = work;
        let mut row = Row { node: label.to_string(), kernel: kernel.name.clone(), calls: 1, ..Row::default() };
        row.shapes.clone_from(shapes);
        row.ms = time.saturating_sub(overhead).as_secs_f64() * 1e3;
        row.multiply_adds[usize::from(*integers)] = value(multiply_adds);
        row.bytes = value(bytes);
        row
    });
    let (f32_gflops, int8_gops) = (peak::f32_gflops(target), peak::int8_gops(target));
    let context = Context { f32_gflops, int8_gops, runs, text_bytes: compiled.code.text_bytes };
    Ok(Profile::new(steps.collect(), context))
}

fn by_kernel(steps: &[Row]) -> Vec<Row> {
    let mut sums: BTreeMap<&str, Row> = BTreeMap::new();
    for step in steps {
        sums.entry(&step.kernel).or_default().add(step);
    }
    let mut rows: Vec<Row> = sums.into_iter().map(|(kernel, row)| Row { kernel: kernel.to_string(), ..row }).collect();
    rows.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    rows
}

impl Row {
    fn add(&mut self, other: &Row) {
        self.calls += other.calls;
        self.ms += other.ms;
        self.bytes += other.bytes;
        self.multiply_adds.iter_mut().zip(other.multiply_adds).for_each(|(n, m)| *n += m);
    }

    /// GFLOP/s.
    fn gflops(&self) -> Option<f64> {
        let operations = 2.0 * self.multiply_adds.iter().sum::<f64>();
        (operations > 0.0 && self.ms > 0.0).then(|| operations / self.ms / 1e6)
    }

    fn gb_per_second(&self) -> Option<f64> {
        (self.bytes > 0.0 && self.ms > 0.0).then(|| self.bytes / self.ms / 1e6)
    }
}

impl Profile {
    /// A profile of the calls in execution order.
    pub fn new(steps: Vec<Row>, context: Context) -> Profile {
        Profile { kernels: by_kernel(&steps), steps, context }
    }

    fn total(&self) -> Row {
        let mut total = Row::default();
        self.steps.iter().for_each(|step| total.add(step));
        total
    }

    /// The share of the core's peak: the time of the multiply-adds at peak speed over the measured time.
    fn peak_share(&self, row: &Row) -> Option<f64> {
        let mut ms = 0.0;
        for (n, peak) in row.multiply_adds.iter().zip([self.context.f32_gflops, self.context.int8_gops]) {
            if *n > 0.0 {
                ms += 2.0 * n / peak? / 1e6;
            }
        }
        (ms > 0.0 && row.ms > 0.0).then(|| ms / row.ms)
    }

    fn row(&self, row: &Row, total: f64) -> Value {
        json!({
            "node": row.node, "kernel": row.kernel, "shapes": row.shapes, "calls": row.calls, "ms": row.ms, "share": row.ms / total.max(1e-12),
            "multiply_adds": row.multiply_adds.iter().sum::<f64>(), "gflops": row.gflops(), "peak_share": self.peak_share(row),
            "bytes": row.bytes, "gb_per_second": row.gb_per_second(),
        })
    }

    /// Everything, steps in execution order.
    pub fn json(&self) -> Value {
        let total = self.total();
        let rows = |rows: &[Row]| rows.iter().map(|r| self.row(r, total.ms)).collect::<Vec<_>>();
        json!({
            "total_ms": total.ms, "runs": self.context.runs, "peak_gflops": self.context.f32_gflops, "peak_int8_gops": self.context.int8_gops,
            "gflops": total.gflops(), "peak_share": self.peak_share(&total), "text_bytes": self.context.text_bytes,
            "kernels": rows(&self.kernels), "steps": rows(&self.steps),
        })
    }

    /// Tables for people, the longest times first.
    pub fn text(&self) -> String {
        let total = self.total();
        let number = |n: Option<f64>| n.map_or_else(String::new, |n| format!("{n:.1}"));
        let line = |row: &Row, name: &str| {
            let share = format!("{:.1} %", 100.0 * row.ms / total.ms.max(1e-12));
            let of_peak = self.peak_share(row).map_or_else(String::new, |s| format!("{:.0} %", 100.0 * s));
            let (gflops, gb) = (number(row.gflops()), number(row.gb_per_second()));
            format!("{:>10.4} {share:>8} {gflops:>9} {of_peak:>8} {gb:>7}  {name}\n", row.ms)
        };
        let head = |name: &str| {
            format!("\n{:>10} {:>8} {:>9} {:>8} {:>7}  {name}\n", "ms", "share", "GFLOP/s", "of peak", "GB/s")
        };
        let peak =
            |name: &str, peak: Option<f64>| peak.map_or_else(String::new, |p| format!(", {name} {p:.0} GFLOP/s"));
        let mut out = format!(
            "minimum times of {} runs; this core's peak{}{}\n",
            self.context.runs,
            peak("f32", self.context.f32_gflops),
            peak("8-bit", self.context.int8_gops)
        );
        out += &head("kernel (calls)");
        for row in &self.kernels {
            out += &line(row, &format!("{} ({})", row.kernel, row.calls));
        }
        out += &line(&total, &format!("all ({})", total.calls));
        out += &head("kernel, node, shapes of operands and result");
        let mut steps: Vec<&Row> = self.steps.iter().collect();
        steps.sort_by_key(|row| Reverse((row.ms * 1e6) as u64));
        for row in steps {
            out += &line(row, &format!("{:<24} {}  {}", row.kernel, row.node, row.shapes));
        }
        out
    }
}
