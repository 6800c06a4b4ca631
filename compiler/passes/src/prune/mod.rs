//! Structured pruning: channels that are one number whatever the inputs, and channels that nothing reads, leave the graph.
//!
//! A result channel of a layer whose weights are zero is its bias everywhere; through element-wise operations, pools,
//! resizes, concatenations and so on it stays one number, and where a layer reads it, it is a part of that layer's bias
//! (one number an element where zero padding meets it). A channel that meets only weights of zero is read by nothing.
//! Channels that element-wise operations, grouped convolutions and the like tie together go together or stay.
//!
//! Zero times anything is taken for zero: activations are finite. A model whose activations become infinite or NaN in a
//! channel with weights of zero has NaN in its results by IEEE arithmetic, and none after this pass.
//!
//! [`flow`] follows channels, [`needs`] finds out which of them matter, [`rewrite`] builds the narrower graph.

mod axes;
mod flow;
mod layer;
mod needs;
mod rewrite;
mod slots;

use mcc_targets::Config;

use mcc_ir::Graph;
use mcc_ir::Result;

/// Removes channels that say nothing.
pub(super) fn run(graph: &mut Graph, _config: &Config) -> Result<bool> {
    let snapshot = graph.clone();
    let mut flow = flow::Flow::of(&snapshot)?;
    needs::spread(&mut flow);
    rewrite::narrow(graph, &mut flow)
}
