//! Rounds weights to 16-bit floats on request ([`Config::weights`]), which halves their size.
//!
//! Weights of products and convolutions are rounded here and stay `f32` in the graph: [`super::dense`] stores values
//! that are 16-bit floats as such, also where minimal filtering transforms them at run time. Weights stored as codes,
//! bytes or non-zeros belong to other operations by now; the scales of codes are rounded to `f16` in [`super::lowbit`].

use mcc_targets::schedule::products::MIN_HALF_WEIGHTS;
use mcc_targets::{Config, WeightFloats};

use super::dense;
use crate::support::edit::{Edit, rewrite};
use mcc_ir::Result;
use mcc_ir::{DType, Decision, Graph, NodeId, Op, Subject, Tensor, Value};

/// Rounds the weights of products and convolutions, and tables whose rows are gathered.
///
/// # Errors
/// When the graph contradicts itself.
pub(crate) fn run(graph: &mut Graph, config: &Config) -> Result<bool> {
    let to = match config.weights {
        WeightFloats::AsGiven => return Ok(false),
        WeightFloats::F16 => DType::F16,
        WeightFloats::Bf16 => DType::BF16,
    };
    if !dense::keeps(to, &config.target) {
        return Ok(false);
    }
    rewrite(graph, |edit, node| {
        let operands = edit.graph.operands(node);
        let weights = match edit.graph.op(node) {
            Op::Gather { axis: 0 } => 0,
            Op::MatMul => 1,
            // Depthwise filters are stored unchanged.
            Op::Conv(spec) if spec.group == 1 || !edit.shape(operands[1])[1].is(1) => 1,
            _ => return Ok(None),
        };
        let Some(w) = edit.graph.as_constant(operands[weights]) else { return Ok(None) };
        let Some(rounded) = Rounded::of(w, to)? else { return Ok(None) };
        rounded.apply(edit, node, weights).map(Some)
    })
}

/// Weights rounded to 16-bit floats.
struct Rounded {
    short: Tensor,
    /// The norm of the differences divided by the norm of the weights.
    error: f64,
}

impl Rounded {
    /// `None` if the type is too imprecise for some weights, so that the error exceeds its own precision, or if nothing
    /// needs rounding.
    fn of(w: &Tensor, to: DType) -> Result<Option<Rounded>> {
        if w.dtype() != DType::F32 || w.numel() < MIN_HALF_WEIGHTS {
            return Ok(None);
        }
        let given = w.to_f64s();
        // Kernels do not support subnormal numbers.
        let (precision, least) =
            if to == DType::F16 { (11, 2f64.powi(-14)) } else { (8, f64::from(f32::MIN_POSITIVE)) };
        let normal = |v: f64| if v.abs() < least { least.copysign(v) * (v.abs() / least).round() } else { v };
        let short = Tensor::from_f64s(to, w.shape().to_vec(), &given.iter().map(|&v| normal(v)).collect::<Vec<_>>())?;
        let (mut off, mut all) = (0.0, 0.0);
        for (a, b) in given.iter().zip(short.to_f64s()) {
            (off, all) = (off + (a - b) * (a - b), all + a * a);
        }
        let error = (off / all).sqrt();
        // For weights that are not finite, or all zero, this is not a number.
        Ok((error > 0.0 && error < 2f64.powi(-precision)).then_some(Rounded { short, error }))
    }

    fn apply(self, edit: &mut Edit, node: NodeId, operand: usize) -> Result<Value> {
        let (op, mut operands) = (edit.graph.op(node).clone(), edit.graph.operands(node));
        let (count, form) = (self.short.numel(), self.short.dtype().to_string());
        let reason =
            format!("{} bytes instead of {}; rounding changes them by {:.1e}", 2 * count, 4 * count, self.error);
        let label = edit.graph.label(node).to_string();
        edit.graph.decide(Decision::new(label, Subject::Weights, op.name(), form, reason));
        operands[operand] = edit.graph.constant(self.short);
        let widen = Op::Cast { to: DType::F32, saturate: true };
        if operand == 0 {
            // Rows are widened when they are gathered.
            let rows = edit.add(op, &operands)?;
            return edit.add(widen, &[rows]);
        }
        operands[operand] = edit.add(widen, &operands[operand..=operand])?;
        edit.add(op, &operands)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcc_ir::eval::eval_graph;
    use mcc_ir::text;

    /// The decision for a product of `f32[2, 64]` with weights `[64, 48]`, and the difference of its results.
    fn product(weights: WeightFloats, value: impl Fn(usize) -> f64) -> (Option<String>, f64) {
        let mut graph = text::parse(
            "%0 = input \"x\" : f32[2, 64]\n%1 = input \"w\" : f32[64, 48]\n\
             %2 = matmul(%0, %1) : f32[2, 48]  // layer\noutput \"y\" = %2\n",
        )
        .unwrap();
        let product = graph.topological()[2];
        let w = Tensor::from_f64s(DType::F32, vec![64, 48], &(0..64 * 48).map(value).collect::<Vec<_>>()).unwrap();
        let w = graph.constant(w);
        graph.set_operand(product, 1, w);
        let ones = Tensor::from_f64s(DType::F32, vec![2, 64], &[1.0; 128]).unwrap();
        let inputs = [ones, Tensor::zeros(DType::F32, vec![64, 48])];
        let before = eval_graph(&graph, &inputs).unwrap()[0].to_f64s();
        let config = Config { weights, ..Config::new("x86_64-unknown-linux-gnu", Some("x86-64-v3")).unwrap() };
        let changed = run(&mut graph, &config).unwrap();
        assert!(!run(&mut graph, &config).unwrap(), "a second run changes something");
        let after = eval_graph(&graph, &inputs).unwrap()[0].to_f64s();
        let moved = before.iter().zip(&after).map(|(a, b)| (a - b).abs() / a.abs()).fold(0.0, f64::max);
        let form = graph.decisions().first().map(|d| d.form.clone());
        assert_eq!(form.is_some(), changed);
        (form, moved)
    }

    #[test]
    fn weights_are_rounded_where_that_is_asked_for() {
        let thirds = |scale: f64| move |i: usize| scale * (1.0 + (i % 7) as f64 / 3.0);
        assert_eq!(product(WeightFloats::AsGiven, thirds(1.0)), (None, 0.0));
        let (form, moved) = product(WeightFloats::F16, thirds(1.0));
        assert!(form.as_deref() == Some("f16") && moved > 0.0 && moved < 2f64.powi(-11), "{moved}");
        let (form, moved) = product(WeightFloats::Bf16, thirds(1e-20));
        assert!(form.as_deref() == Some("bf16") && moved > 0.0 && moved < 2f64.powi(-8), "{moved}");
        // Too small, too large, and 16-bit floats already.
        assert_eq!(product(WeightFloats::F16, thirds(1e-6)), (None, 0.0));
        assert_eq!(product(WeightFloats::F16, thirds(1e5)), (None, 0.0));
        assert_eq!(product(WeightFloats::F16, |i| (i % 7) as f64), (None, 0.0));
    }

    #[test]
    fn rows_are_widened_when_they_are_taken() {
        let mut graph = text::parse(
            "%0 = input \"i\" : i64[3]\n%1 = input \"w\" : f32[64, 48]\n\
             %2 = gather(%1, %0) {axis=0} : f32[3, 48]\noutput \"y\" = %2\n",
        )
        .unwrap();
        let gather = graph.topological()[2];
        let w = (0..64 * 48).map(|i| f64::from(i) / 3.0).collect::<Vec<_>>();
        let w = graph.constant(Tensor::from_f64s(DType::F32, vec![64, 48], &w).unwrap());
        graph.set_operand(gather, 0, w);
        let config = Config::new("x86_64-unknown-linux-gnu", Some("x86-64-v3")).unwrap();
        assert!(run(&mut graph, &Config { weights: WeightFloats::F16, ..config }).unwrap());
        let result = graph.outputs[0].value;
        let rows = graph.operand(result.node, 0).unwrap();
        assert_eq!((graph.ty(result).dtype, graph.ty(rows).dtype), (DType::F32, DType::F16));
        assert!(matches!(graph.op(rows.node), Op::Gather { axis: 0 }));
    }
}
