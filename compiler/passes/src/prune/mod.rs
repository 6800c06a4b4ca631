//! Structured pruning: removes channels that are constant for all inputs, and channels that nothing reads.
//!
//! A result channel of a layer whose weights are zero equals its bias everywhere; it stays constant through
//! element-wise operations, pools, resizes, concatenations and so on, and where a layer reads it, it becomes part of
//! that layer's bias (one number per element with zero padding). A channel that is multiplied only by zero weights is
//! not read. Channels that element-wise operations, grouped convolutions and the like couple are kept or removed
//! together.
//!
//! Zero times anything counts as zero, since activations are assumed to be finite. If activations become infinite or
//! NaN in a channel with zero weights, IEEE arithmetic gives NaN; after this pass the result has none.
//!
//! [`flow`] follows channels, [`needs`] finds those that matter, [`rewrite`] builds the narrower graph.

pub mod axes;
mod flow;
mod layer;
mod needs;
mod rewrite;
mod slots;

use mcc_targets::Config;

use mcc_ir::Graph;
use mcc_ir::Result;

/// Removes constant and unread channels.
pub(super) fn run(graph: &mut Graph, _config: &Config) -> Result<bool> {
    let snapshot = graph.clone();
    let mut flow = flow::Flow::of(&snapshot)?;
    needs::spread(&mut flow);
    rewrite::narrow(graph, &mut flow)
}
