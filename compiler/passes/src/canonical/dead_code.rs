//! Removes nodes that no output depends on. Model inputs are kept, since they are the interface.

use mcc_targets::Config;

use mcc_ir::Graph;
use mcc_ir::Result;

/// Removes unused nodes.
pub(crate) fn run(graph: &mut Graph, _config: &Config) -> Result<bool> {
    Ok(graph.remove_dead() > 0)
}
