//! What a model is worth on given data: its accuracy or its distance from another model, its time, and its size.
//!
//! Contract: models are measured by running the very object that the compiler writes. The results are plain data, which
//! print as a table, as JSON and as a page.

pub mod evaluate;
pub mod metrics;
pub mod report;
mod run;
mod table;

pub use evaluate::{
    Evaluation, Interval, Measure, Options, Outcome, Subject, Worst, Worth, common_inputs, default_metrics, evaluate,
};
pub use metrics::{METRICS, Metric, decode};
pub use report::{LayerRow, Point, Report, Sweep};
pub use table::table;
