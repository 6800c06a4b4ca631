//! Weights of byte products of which enough are zero are stored as a mask of bits and their non-zero bytes
//! ([`mask_bytes`]), which the kernel writes out a panel at a time.
//!
//! That is left undone where it takes time, unless small objects are asked for: with too few rows to hide it, or where the
//! target goes byte by byte.

use mcc_targets::{Config, schedule};

use mcc_ir::Result;
use mcc_ir::{Decision, Dim, Graph, Packed, Subject, WeightFormat, mask_bytes};

/// Finds bytes of which most are zero.
///
/// # Errors
/// When the graph contradicts itself.
pub(crate) fn run(graph: &mut Graph, config: &Config) -> Result<bool> {
    let mut changed = false;
    for node in graph.topological() {
        let Some(product) =
            graph.op(node).packed().filter(|p| p.weights == WeightFormat::Int8 { bitmask: false }).cloned()
        else {
            continue;
        };
        let Packed { spec, out, .. } = &product;
        let &[x, w] = graph.operands(node).as_slice() else { continue };
        let Some(packed) = graph.as_constant(w).cloned() else { continue };
        let depth = graph.ty(x).shape.last().and_then(Dim::as_const).unwrap_or(0) * product.taps();
        let values = packed.data().iter().filter(|b| **b != 0).count();
        let zeros = 1.0 - values as f64 / (depth / spec.group.max(1) as i64 * *out as i64).max(1) as f64;
        if zeros < schedule::sparse::MIN_ZEROS_SHARE {
            continue;
        }
        let (layer, dense) = (graph.label(node).to_string(), packed.data().len());
        let decide = |graph: &mut Graph, form: &str, reason: String| {
            graph.decide(Decision::new(&layer, Subject::Weights, "dot_conv", form, reason).zeros(zeros));
        };
        let Some([masks, values, heads]) = (if spec.group == 1 { mask_bytes(&packed)? } else { None }) else {
            decide(graph, "dense bytes", "too few columns to fill words of bits, or groups".to_string());
            continue;
        };
        let rows: Dim = graph.types(node)[0].shape.split_last().map_or(Dim::ONE, |(_, rows)| rows.iter().product());
        let bytes = masks.data().len() + values.data().len() + heads.data().len();
        let told = format!("{bytes} bytes instead of {dense}");
        if bytes >= dense {
            decide(graph, "dense bytes", format!("{told}: bits take more than zeros save"));
            continue;
        }
        if !config.compact && !schedule::int8::bitmask_is_free(&config.target, rows.as_const()) {
            let why = if config.target.spreads_bytes() {
                "rows would wait for them"
            } else {
                "the config.target spreads no bytes"
            };
            decide(graph, "dense bytes", format!("{told} could be had, but {why}"));
            continue;
        }
        decide(graph, "bits and non-zero bytes", told);
        let weights = [masks, values, heads].map(|t| graph.constant(t));
        let operands = [&[x], &weights[..]].concat();
        let masked = product.with(WeightFormat::Int8 { bitmask: true });
        let result = graph.add_labelled(masked.into(), &operands, &layer)?;
        graph.replace(node.into(), result.into());
        changed = true;
    }
    Ok(changed)
}
