//! Chooses the layout of all operations with spatial axes: channels-last, so that vectors run along channels, except
//! for layers whose kernels prefer planes, and operations between them, where that is cheaper in total ([`choice`]).
//!
//! An operation that becomes channels-last gets a transpose of its operand and one of its result; `transposes` cancels
//! most of them. Channels-first operations are unchanged. Transposed convolutions are first replaced by operations with
//! fast kernels, see [`transposed`].

pub mod channels_last_norm;
mod choice;
pub mod conv_phases;
mod cut;
mod transposed;

use mcc_targets::Config;

use crate::support::layouts::{to_first, to_last};
use mcc_ir::Result;
use mcc_ir::{ConvSpec, Graph, Layout, NodeId, Op, PoolSpec, Value};

/// Gives every operation with spatial axes the layout that is best for the whole graph.
///
/// # Errors
/// When the graph contradicts itself.
pub(super) fn run(graph: &mut Graph, config: &Config) -> Result<bool> {
    let first = choice::channels_first(graph, config);
    let mut changed = false;
    for node in graph.topological() {
        if !first.contains(&node) {
            changed |= one(graph, node)?;
        }
    }
    Ok(changed)
}

/// Makes a node channels-last.
fn one(graph: &mut Graph, node: NodeId) -> Result<bool> {
    let op = graph.op(node).clone();
    let Some(x) = graph.operand(node, 0) else { return Ok(false) };
    let rank = graph.ty(x).rank();
    let last = match op {
        Op::Conv(spec) if spec.layout == Layout::ChannelsFirst => {
            Op::Conv(ConvSpec { layout: Layout::ChannelsLast, ..spec })
        }
        Op::Pool(spec) if spec.layout == Layout::ChannelsFirst => {
            Op::Pool(PoolSpec { layout: Layout::ChannelsLast, ..spec })
        }
        Op::Resize { sizes, mut rule } if rank > 2 && !is_last(graph, x) => {
            if sizes[..2] != graph.ty(x).shape[..2] {
                return Ok(false);
            }
            let order = to_last(rank);
            let scales = order.iter().map(|&a| rule.scales[a]).collect();
            let roi = if rule.roi.is_empty() { Vec::new() } else { order.iter().map(|&a| rule.roi[a]).collect() };
            (rule.scales, rule.roi) = (scales, roi);
            Op::Resize { sizes: order.iter().map(|&a| sizes[a].clone()).collect(), rule }
        }
        Op::ConvTranspose { spec, output_pads } if spec.layout == Layout::ChannelsFirst => {
            transposed::replace(graph, node, &spec, &output_pads)?;
            return Ok(true);
        }
        _ => return Ok(false),
    };
    if rank < 3 {
        return Ok(false);
    }
    let label = graph.label(node).to_string();
    let mut operands = graph.operands(node);
    operands[0] = graph.add(Op::Transpose { perm: to_last(rank) }, &[x])?;
    let inner = graph.add_labelled(last, &operands, &label)?;
    let result = graph.add(Op::Transpose { perm: to_first(rank) }, &[inner.into()])?;
    graph.replace(node.into(), result);
    Ok(true)
}

/// Whether a resize already follows a transpose to channels last.
fn is_last(graph: &Graph, x: Value) -> bool {
    matches!(graph.op(x.node), Op::Transpose { perm } if *perm == to_last(perm.len()))
}
