//! Every operation has a sample, which is inferred, verified and evaluated.

use super::*;
use crate::text::Words;
use crate::{BinaryOp, Dim, Error, Op, TensorType, UnaryOp, WeightFormat, infer};

/// A name for each variant, and the list of all names. The match is exhaustive: a new primitive must be added here, and
/// then the table needs a sample of it.
macro_rules! variants {
    ($($pattern:pat => $name:literal,)*) => {
        fn variant(op: &Op) -> &'static str {
            match op { $($pattern => $name,)* }
        }
        const VARIANTS: &[&str] = &[$($name),*];
    };
}

variants! {
    Op::Input(..) => "input",
    Op::Constant(_) => "constant",
    Op::Dims(_) => "dims",
    Op::Iota { .. } => "iota",
    Op::Unary(_) => "unary",
    Op::Binary(_) => "binary",
    Op::Select => "select",
    Op::Cast { .. } => "cast",
    Op::Bitcast { .. } => "bitcast",
    Op::Reshape { .. } => "reshape",
    Op::Transpose { .. } => "transpose",
    Op::Broadcast { .. } => "broadcast",
    Op::Slice { .. } => "slice",
    Op::Concat { .. } => "concat",
    Op::Pad { .. } => "pad",
    Op::Gather { .. } => "gather",
    Op::GatherElements { .. } => "gather_elements",
    Op::GatherNd { .. } => "gather_nd",
    Op::ScatterElements { .. } => "scatter_elements",
    Op::ScatterNd { .. } => "scatter_nd",
    Op::ReverseSequence { .. } => "reverse_sequence",
    Op::Resize { .. } => "resize",
    Op::GridSample { .. } => "grid_sample",
    Op::MatMul => "matmul",
    Op::PackedMatMul { .. } => "packed_matmul",
    Op::Conv(_) => "conv",
    Op::Packed(_) => "packed",
    Op::ConvTranspose { .. } => "conv_transpose",
    Op::Col2Im { .. } => "col2im",
    Op::Pool(_) => "pool",
    Op::MaxPoolWithIndices { .. } => "max_pool_with_indices",
    Op::Reduce { .. } => "reduce",
    Op::ArgReduce { .. } => "arg_reduce",
    Op::Cumulative { .. } => "cumulative",
    Op::Attention { .. } => "attention",
    Op::Softmax { .. } => "softmax",
    Op::Normalize { .. } => "normalize",
    Op::TopK { .. } => "top_k",
    Op::Recurrent(_) => "recurrent",
    Op::NonZero { .. } => "non_zero",
    Op::NonMaxSuppression => "non_max_suppression",
    Op::TreeEnsemble(_) => "tree_ensemble",
    Op::If(_) => "if",
}

#[test]
fn every_operation_has_a_sample() {
    let mut missing = VARIANTS.to_vec();
    for sample in samples() {
        let graph = sample.graph();
        missing.retain(|name| graph.nodes().all(|n| variant(graph.op(n)) != *name));
    }
    assert!(missing.is_empty(), "no sample of {missing:?}");
}

#[test]
fn every_function_and_weight_format_has_a_sample() {
    let names = [UnaryOp::WORDS, BinaryOp::WORDS, WeightFormat::NAMES, Op::NAMES].concat();
    let has_sample = |name: &&str| samples().iter().any(|s| s.op.split(' ').next() == Some(*name));
    let missing: Vec<&str> = names.into_iter().filter(|name| !has_sample(name)).collect();
    assert!(missing.is_empty(), "no sample of {missing:?}");
}

#[test]
fn samples_are_in_normal_form() {
    for sample in samples() {
        assert_eq!(text::print(&sample.graph()), sample.text());
    }
}

#[test]
fn every_sample_is_sound_and_evaluates() {
    for sample in samples() {
        let graph = sample.graph();
        crate::verify(&graph).unwrap();
        let inputs = inputs(&graph);
        let outputs = crate::eval::eval_graph(&graph, &inputs).unwrap_or_else(|e| panic!("{e}\n{}", sample.text()));
        for (output, tensor) in graph.outputs.iter().zip(&outputs) {
            let ty = graph.ty(output.value);
            assert_eq!(ty.dtype, tensor.dtype());
            for (dim, extent) in ty.shape.iter().zip(tensor.shape()) {
                assert!(dim.as_const().is_none_or(|c| c == *extent as i64), "{ty} {tensor:?}");
            }
            let defined = |v: &f64| v.is_finite();
            let odd = ["log", "acosh", "mod", "atanh", "reciprocal"].contains(&sample.op);
            assert!(tensor.dtype() == DType::Bool || odd || tensor.to_f64s().iter().all(defined), "{}", sample.text());
        }
    }
}

/// Any single dimension of an operand may be a symbol: the results are the same once it is bound.
#[test]
fn symbolic_types_agree_with_constant_ones() {
    for sample in samples() {
        let graph = sample.graph();
        let node = graph.outputs[0].value.node;
        let types: Vec<TensorType> = graph.operands(node).iter().map(|&v| graph.ty(v).clone()).collect();
        for (operand, axis) in types.iter().enumerate().flat_map(|(i, t)| (0..t.rank()).map(move |a| (i, a))) {
            let mut symbolic = types.clone();
            let extent = std::mem::replace(&mut symbolic[operand].shape[axis], Dim::sym("s"));
            // An extent of 1 broadcasts, but a symbol is assumed not to be 1.
            if extent.is(1) {
                continue;
            }
            let inferred = match infer(graph.op(node), &symbolic.iter().collect::<Vec<_>>()) {
                Ok(inferred) => inferred,
                // Only here does a dimension decide the result's rank.
                Err(Error::Unsupported(_)) if sample.op.contains("_nd ") => continue,
                Err(e) => panic!("{e}\n{}", sample.text()),
            };
            let bind = |d: &Dim| d.substitute(&|s| (&*s.0 == "s").then(|| extent.clone()));
            for (have, want) in inferred.types.iter().zip(graph.types(node)) {
                let have: Vec<Dim> = have.shape.iter().map(bind).collect();
                assert_eq!(have, want.shape, "operand {operand}, axis {axis} of\n{}", sample.text());
            }
            for requirement in &inferred.requires {
                let holds = requirement.condition.map(&bind).holds();
                assert_eq!(
                    holds,
                    Some(true),
                    "{}: operand {operand}, axis {axis} of\n{}",
                    requirement.condition,
                    sample.text()
                );
            }
        }
    }
}
