//! Stores only the non-zero words, of four input channels for an output channel, of byte products with enough zero
//! words ([`WeightFormat::NonZeros`]), where a cost model predicts that this is faster.

use mcc_targets::{Config, Sparsity, schedule};

use super::csr::{Candidate, Geometry, predicted_times, rewritten};
use mcc_ir::Result;
use mcc_ir::{ConvSpec, Decision, Graph, Layout, NodeId, Packed, Staging, Subject, WeightFormat};

/// Turns byte products with sparse weights into sparse ones.
///
/// # Errors
/// When the graph contradicts itself.
pub(crate) fn run(graph: &mut Graph, config: &Config) -> Result<bool> {
    // A bitmask is smaller.
    if config.sparsity == Sparsity::Off || config.compact {
        return Ok(false);
    }
    let mut changed = false;
    for node in graph.topological() {
        let Some(candidate) = candidate(graph, node, config) else { continue };
        let label = graph.label(node).to_string();
        let costs = schedule::sparse::costs(config, &candidate.plan.layer);
        let pays = candidate.chosen(&label, config).is_some_and(|chosen| chosen.pays());
        if config.sparsity != Sparsity::Force && !pays {
            continue;
        }
        let decision = Decision::new(
            &label,
            Subject::Weights,
            "int8_conv",
            "words that are not zero",
            predicted_times(&costs, candidate.plan.shared.shared),
        );
        graph.decide(decision.zeros(candidate.zeros).gain(costs.dense / costs.sparse));
        let result = rewritten(graph, node, candidate)?;
        graph.replace(node.into(), result);
        changed = true;
    }
    Ok(changed)
}

/// The layer of a byte product, if enough of its words are zero.
fn candidate(graph: &Graph, node: NodeId, config: &Config) -> Option<Candidate> {
    let Some(Packed { spec, kernel, out, weights: WeightFormat::Int8 { bitmask: false } }) = graph.op(node).packed()
    else {
        return None;
    };
    let &[x, w] = graph.operands(node).as_slice() else { return None };
    let (packed, shape) = (graph.as_constant(w)?, &graph.ty(x).shape);
    let channels = usize::try_from(shape.last()?.as_const()?).ok()?;
    let &[1, _, taps, steps, tile, four] = packed.shape() else { return None };
    if channels % four != 0 || !Staging::fits(spec) {
        return None;
    }
    let words = channels / four;
    // Steps go through the channels, then along the last axis of the window if that is part of a run.
    let joined = steps / words.max(1);
    let mut weights = vec![0u32; out * steps * taps];
    for (n, word) in packed.data().chunks_exact(four).enumerate() {
        let (place, column) = (n / tile, n / (tile * steps * taps) * tile + n % tile);
        let (step, tap) = (place % steps, place / steps % taps);
        if column < *out {
            let tap = tap * joined + step / words;
            weights[(column * words + step % words) * taps * joined + tap] =
                u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        }
    }
    let non_zero = weights.iter().filter(|word| **word != 0).count();
    if (non_zero as f64) > (1.0 - schedule::sparse::MIN_ZEROS_SHARE) * weights.len() as f64 {
        return None;
    }
    let point = kernel.iter().all(|&k| k == 1) && spec.strides.iter().all(|&s| s == 1);
    let (spec, kernel) = if point { (ConvSpec::matrix(), Vec::new()) } else { (spec.clone(), kernel.clone()) };
    let y = &graph.types(node)[0].shape;
    let stored = Layout::ChannelsLast;
    let geometry =
        Geometry { spec: &spec, stored, kernel: &kernel, x: shape, y, channels: words, words: true, filtered: None };
    let plan = geometry.plan(config, graph.label(node), &weights)?;
    let zeros = packed.data().iter().filter(|b| **b == 0).count() as f64 / packed.data().len() as f64;
    Some(Candidate { x, spec, stored, kernel, plan, zeros, weights })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcc_ir::eval::eval_graph;
    use mcc_ir::{DType, Dim, Output, Tensor};

    /// Runs the pass on a product with packed weights of which one word in four is left, and compares with the
    /// original.
    fn check(spec: ConvSpec, kernel: &[i64], shape: &[usize], out: usize) {
        let mut config = Config::new("x86_64-unknown-linux-gnu", Some("icelake-server")).unwrap();
        config.sparsity = Sparsity::Force;
        let (taps, length) = spec.runs(kernel, &Dim::from(shape[shape.len() - 1]));
        let (panels, steps) = (out.div_ceil(16), length.as_const().unwrap() as usize / 4);
        let packed = vec![1, panels, taps as usize, steps, 16, 4];
        let byte = |n: usize| if n / 4 * 7 % 4 == 1 && n / 4 % 16 < 13 { (n * 11 % 7) as i64 - 3 } else { 0 };
        let values: Vec<i64> = (0..packed.iter().product()).map(byte).collect();
        let mut graph = Graph::new();
        let data: Vec<i64> = (0..shape.iter().product::<usize>()).map(|n| (n * n % 251) as i64).collect();
        let data = Tensor::from_i64s(DType::U8, shape.to_vec(), &data).unwrap();
        let x = graph.add_input("x", data.ty());
        let w = graph.constant(Tensor::from_i64s(DType::I8, packed, &values).unwrap());
        let op = Packed { spec, kernel: kernel.to_vec(), out, weights: WeightFormat::Int8 { bitmask: false } };
        let value = graph.add(op.into(), &[x, w]).unwrap();
        graph.outputs.push(Output { name: "y".to_string(), value });
        let before = eval_graph(&graph, std::slice::from_ref(&data)).unwrap();
        assert!(run(&mut graph, &config).unwrap());
        assert!(eval_graph(&graph, &[data]).unwrap() == before, "{kernel:?} over {shape:?}");
    }

    #[test]
    fn words_come_back() {
        check(ConvSpec::matrix(), &[], &[2, 19, 24], 21);
        let spec = |strides: [i64; 2], dilations: [i64; 2]| {
            let (strides, dilations, pads) = (strides.to_vec(), dilations.to_vec(), vec![(0, 0); 2]);
            ConvSpec { strides, dilations, pads, group: 1, layout: Layout::ChannelsLast }
        };
        check(spec([1, 1], [1, 1]), &[1, 1], &[1, 5, 6, 8], 16);
        check(spec([2, 1], [1, 1]), &[2, 3], &[2, 9, 7, 8], 35);
        check(spec([1, 1], [2, 3]), &[3, 2], &[1, 9, 8, 12], 16);
    }
}
