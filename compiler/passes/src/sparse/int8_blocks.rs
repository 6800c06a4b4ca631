//! Stores only the non-zero blocks of byte products whose weights are zero in whole blocks, of four contracted bytes by
//! the columns of a panel ([`WeightFormat::Blocks`]), where a cost model predicts that this is faster.

use mcc_targets::schedule::blocks::Blocks;
use mcc_targets::{Config, Sparsity, schedule};

use super::blocks::MAX_IMAGE_BYTES;
use mcc_ir::Result;
use mcc_ir::{ConvSpec, DType, Decision, Dim, Graph, Packed, Subject, Tensor, WeightFormat};

/// Contracted bytes of a block.
const BLOCK_BYTES: usize = 4;

/// Converts products with zero blocks.
///
/// # Errors
/// When the graph contradicts itself.
pub(crate) fn run(graph: &mut Graph, config: &Config) -> Result<bool> {
    let mut changed = false;
    if config.sparsity == Sparsity::Off {
        return Ok(false);
    }
    for node in graph.topological() {
        let Some(product) =
            graph.op(node).packed().filter(|p| p.weights == WeightFormat::Int8 { bitmask: false }).cloned()
        else {
            continue;
        };
        let Packed { spec, kernel, out, .. } = &product;
        let &[x, w] = graph.operands(node).as_slice() else { continue };
        let Some(packed) = graph.as_constant(w).cloned() else { continue };
        let (Some(offsets), &[_, panels, taps, steps, tile, _]) =
            (offsets(&graph.ty(x).shape, spec, kernel), packed.shape())
        else {
            continue;
        };
        let (mut heads, mut met, mut values) = (vec![0i64], Vec::new(), Vec::new());
        for panel in packed.data().chunks_exact(taps * steps * tile * BLOCK_BYTES) {
            let blocks =
                panel.chunks_exact(tile * BLOCK_BYTES).zip(&offsets).filter(|(b, _)| b.iter().any(|b| *b != 0));
            for (block, &offset) in blocks {
                met.push(offset);
                values.extend_from_slice(block);
            }
            heads.push(met.len() as i64);
        }
        let problem = Blocks {
            depth: (taps * steps) as u64,
            columns: *out as u64,
            width: tile as u64,
            blocks: met.len() as u64,
            values: None,
            filtered: None,
        };
        let costs = schedule::blocks::costs(&config.target, &problem);
        if !costs.pays() {
            continue;
        }
        let zeros = packed.data().iter().filter(|b| **b == 0).count() as f64 / packed.data().len() as f64;
        let share = met.len() as f64 / (taps * steps * panels) as f64;
        let reason = format!("{:.1} % of the blocks are not zero", 100.0 * share);
        let form = format!("{BLOCK_BYTES}x{tile} blocks of bytes");
        let label = graph.label(node).to_string();
        let decision = Decision::new(&label, Subject::Weights, "int8_conv", form, reason);
        graph.decide(decision.zeros(zeros).gain(costs.dense / costs.blocks));
        let heads = graph.constant(Tensor::from_i64s(DType::I32, vec![heads.len()], &heads)?);
        let values = graph.constant(Tensor::new(DType::I8, vec![met.len(), tile, BLOCK_BYTES], values.into())?);
        let met = graph.constant(Tensor::from_i64s(DType::I32, vec![met.len()], &met)?);
        let blocks = product.with(WeightFormat::Blocks);
        let result = graph.add_labelled(blocks.into(), &[x, heads, met, values], &label)?;
        graph.replace(node.into(), result.into());
        changed = true;
    }
    Ok(changed)
}

/// Bytes from the start of a window, in an operand of these extents, to each step's data, if steps are whole and the
/// distances are the same for all windows.
fn offsets(x: &[Dim], spec: &ConvSpec, kernel: &[i64]) -> Option<Vec<i64>> {
    let known: Option<Vec<i64>> =
        x[if kernel.is_empty() { x.len() - 1 } else { 1 }..].iter().map(Dim::as_const).collect();
    let known = known.filter(|k| spec.group == 1 && k.iter().product::<i64>() <= MAX_IMAGE_BYTES)?;
    let (&channels, extents) = known.split_last()?;
    let run = spec.runs(kernel, &Dim::from(channels)).1.as_const().filter(|run| run % BLOCK_BYTES as i64 == 0)?;
    let outer = kernel.len() - usize::from(!kernel.is_empty() && spec.joins_last());
    let mut taps = vec![0];
    for axis in 0..outer {
        let apart = spec.dilations[axis] * channels * extents[axis + 1..].iter().product::<i64>();
        taps = taps.iter().flat_map(|tap| (0..kernel[axis]).map(move |i| tap + i * apart)).collect();
    }
    Some(taps.iter().flat_map(|tap| (0..run).step_by(BLOCK_BYTES).map(move |step| tap + step)).collect())
}
