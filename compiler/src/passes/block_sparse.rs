//! Matrix products and 1x1 convolutions whose weights are zero in whole runs of output channels keep only the other runs
//! ([`Op::BlockMatMul`]), where a cost model says that this is faster than the zeros are.
//!
//! Zeros are found in the constants, whatever the model says of them, and take no part in sums: infinities that they
//! would meet do not become NaN.

use mcc_targets::block_schedule::{self, Blocks, Costs};
use mcc_targets::{Sparsity, Target};

use crate::Result;
use crate::ir::{BinaryOp, DType, Decision, Dim, Graph, Layout, NodeId, Op, Subject, Tensor, Value};

/// Turns products with weights of few blocks into products of blocks.
///
/// # Errors
/// When the graph contradicts itself.
pub(super) fn run(graph: &mut Graph, target: &Target) -> Result<bool> {
    if target.sparsity == Sparsity::Off {
        return Ok(false);
    }
    let mut changed = false;
    for node in graph.topological() {
        let Some(matrix) = Matrix::of(graph, node).filter(|_| !is_channels_first(graph.op(node))) else { continue };
        let Some((width, costs)) = best(target, &matrix) else { continue };
        let result = rewritten(graph, node, &matrix, width)?;
        let zeros = 1.0 - matrix.values.iter().filter(|v| **v != 0.0).count() as f64 / matrix.values.len() as f64;
        let reason = format!("{:.1} % of the blocks are not zero", 100.0 * matrix.share(width));
        let form = format!("1x{width} blocks");
        let decision = Decision::new(graph.label(node), Subject::Weights, graph.op(node).name(), form, reason);
        graph.decide(decision.zeros(zeros).gain(costs.dense / costs.blocks));
        graph.replace(node.into(), result);
        changed = true;
    }
    Ok(changed)
}

fn is_channels_first(op: &Op) -> bool {
    matches!(op, Op::Conv(spec) if spec.layout == Layout::ChannelsFirst)
}

/// Whether a product goes by blocks if it is channels-last.
pub(super) fn takes(graph: &Graph, node: NodeId, target: &Target) -> bool {
    target.sparsity != Sparsity::Off && Matrix::of(graph, node).is_some_and(|m| best(target, &m).is_some())
}

/// The width of blocks that gives the fastest product, if any pays.
fn best(target: &Target, matrix: &Matrix) -> Option<(usize, Costs)> {
    let values = matrix.values.iter().filter(|v| **v != 0.0).count() as u64;
    let of = |width: usize| {
        let (blocks, [depth, columns]) = (matrix.blocks(width), [matrix.depth, matrix.columns].map(|n| n as u64));
        let problem = Blocks { depth, columns, width: width as u64, blocks, values };
        (width, block_schedule::costs(target, &problem))
    };
    let paying = block_schedule::WIDTHS.into_iter().map(of).filter(|(_, costs)| costs.pays());
    paying.min_by(|a, b| a.1.blocks.total_cmp(&b.1.blocks))
}

/// Constant weights as a matrix.
struct Matrix {
    depth: usize,
    columns: usize,
    /// Row-major `[depth, columns]`.
    values: Vec<f32>,
}

impl Matrix {
    /// The weights of a node that is a product with a matrix, or a convolution that is one.
    fn of(graph: &Graph, node: NodeId) -> Option<Matrix> {
        let operands = graph.operands(node);
        let (x, w) = (graph.ty(*operands.first()?), graph.as_constant(*operands.get(1)?)?);
        if w.dtype() != DType::F32 || w.numel() == 0 || x.rank() < 2 {
            return None;
        }
        let floats = || w.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        match (graph.op(node), w.shape()) {
            (Op::MatMul, &[depth, columns]) => Some(Matrix { depth, columns, values: floats().collect() }),
            (Op::Conv(spec), &[columns, depth, ref kernel @ ..]) => {
                let point = kernel.iter().all(|&k| k == 1) && spec.strides.iter().all(|&s| s == 1);
                let fits = point && spec.group == 1 && spec.pads.iter().all(|&p| p == (0, 0));
                if !fits {
                    return None;
                }
                let filters: Vec<f32> = floats().collect();
                let values = (0..depth).flat_map(|i| filters.iter().skip(i).step_by(depth).copied()).collect();
                Some(Matrix { depth, columns, values })
            }
            _ => None,
        }
    }

    /// The rows of a panel that are not zero.
    fn rows(&self, panel: usize, width: usize) -> impl Iterator<Item = (usize, &[f32])> {
        let columns = panel * width..((panel + 1) * width).min(self.columns);
        let rows = self.values.chunks_exact(self.columns).enumerate();
        rows.map(move |(row, values)| (row, &values[columns.clone()])).filter(|(_, v)| v.iter().any(|v| *v != 0.0))
    }

    fn blocks(&self, width: usize) -> u64 {
        (0..self.columns.div_ceil(width)).map(|panel| self.rows(panel, width).count() as u64).sum()
    }

    fn share(&self, width: usize) -> f64 {
        self.blocks(width) as f64 / (self.depth * self.columns.div_ceil(width)) as f64
    }
}

fn rewritten(graph: &mut Graph, node: NodeId, matrix: &Matrix, width: usize) -> Result<Value> {
    let (mut heads, mut rows, mut values) = (vec![0i64], Vec::new(), Vec::new());
    for panel in 0..matrix.columns.div_ceil(width) {
        for (row, block) in matrix.rows(panel, width) {
            rows.push(row as i64);
            values.extend(block.iter().flat_map(|v| v.to_le_bytes()));
            values.resize(rows.len() * width * 4, 0);
        }
        heads.push(rows.len() as i64);
    }
    let operands = graph.operands(node);
    let label = graph.label(node).to_string();
    let heads = graph.constant(Tensor::from_i64s(DType::I32, vec![heads.len()], &heads)?);
    let values = graph.constant(Tensor::new(DType::F32, vec![rows.len(), width], values.into())?);
    let rows = graph.constant(Tensor::from_i64s(DType::I32, vec![rows.len()], &rows)?);
    let op = Op::BlockMatMul { n: Dim::from(matrix.columns) };
    let product = graph.add_labelled(op, &[operands[0], heads, rows, values], &label)?.into();
    match operands.get(2) {
        Some(&bias) => graph.add(Op::Binary(BinaryOp::Add), &[product, bias]),
        None => Ok(product),
    }
}
