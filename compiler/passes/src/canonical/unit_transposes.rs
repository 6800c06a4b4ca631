//! Turns transposes that only move axes of extent 1, and thus no data, into reshapes, which cost nothing.

use mcc_targets::Config;

use super::transposes::moves_nothing;
use crate::support::edit::rewrite;
use mcc_ir::Result;
use mcc_ir::{Graph, Op};

/// Replaces transposes that move no data by reshapes.
pub(crate) fn run(graph: &mut Graph, _config: &Config) -> Result<bool> {
    rewrite(graph, |edit, node| {
        let Op::Transpose { perm } = edit.graph.op(node) else { return Ok(None) };
        let x = edit.graph.operands(node)[0];
        if !moves_nothing(perm, &edit.graph.ty(x).shape) {
            return Ok(None);
        }
        let shape = edit.shape(node.into());
        edit.reshape(x, shape).map(Some)
    })
}
