//! What a model is worth on given data: its accuracy or its distance from another model, its time, and its size.
//!
//! Contract: models are measured by running the very object that the compiler writes. The results are plain data, which
//! print as a table, as JSON and as a page.

mod evaluate;
mod evaluation;
pub mod metrics;
pub mod report;
mod rows;
mod run;
mod score;
mod table;

pub use evaluate::{common_inputs, default_metrics, evaluate};
pub use evaluation::{Evaluation, Interval, Measure, Outcome, Worst, Worth};
pub use metrics::{METRICS, Metric};
pub use report::{LayerRow, Point, Report, Sweep};
pub use run::{Options, Subject};
pub use score::decode;
pub use table::{bytes, table};
