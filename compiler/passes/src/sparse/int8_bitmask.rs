//! Stores weights of byte products with enough zeros as a bitmask and their non-zero bytes ([`mask_bytes`]), which the
//! kernel expands one panel at a time.
//!
//! Unless small objects are requested, this is done only where it costs no time: not with too few rows to hide the
//! expansion, or if the target expands byte by byte.

use mcc_targets::{Config, schedule};

use mcc_ir::Result;
use mcc_ir::{Decision, Dim, Graph, Packed, Subject, WeightFormat, mask_bytes};

/// Converts bytes of which most are zero.
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
            graph.decide(Decision::new(&layer, Subject::Weights, "int8_conv", form, reason).zeros(zeros));
        };
        let Some([masks, values, heads]) = (if spec.group == 1 { mask_bytes(&packed)? } else { None }) else {
            decide(graph, "dense bytes", "too few columns to fill words of bits, or a grouped convolution".to_string());
            continue;
        };
        let rows: Dim = graph.types(node)[0].shape.split_last().map_or(Dim::ONE, |(_, rows)| rows.iter().product());
        let bytes = masks.data().len() + values.data().len() + heads.data().len();
        let sizes = format!("{bytes} bytes instead of {dense}");
        if bytes >= dense {
            decide(graph, "dense bytes", format!("{sizes}: the bitmask takes more than the zeros save"));
            continue;
        }
        if !config.compact && !schedule::int8::bitmask_is_free(&config.target, rows.as_const()) {
            let why = if config.target.spreads_bytes() {
                "the rows are too few to hide the expansion"
            } else {
                "the target expands byte by byte"
            };
            decide(graph, "dense bytes", format!("{sizes} would be possible, but {why}"));
            continue;
        }
        decide(graph, "bits and non-zero bytes", sizes);
        let weights = [masks, values, heads].map(|t| graph.constant(t));
        let operands = [&[x], &weights[..]].concat();
        let masked = product.with(WeightFormat::Int8 { bitmask: true });
        let result = graph.add_labelled(masked.into(), &operands, &layer)?;
        graph.replace(node.into(), result.into());
        changed = true;
    }
    Ok(changed)
}
