//! The amount of work of a step, for profiles: as its operation defines it, not as a kernel computes it.

use super::program::Work;
use mcc_ir::{DType, Dim, Op, TensorType, WeightFormat};

/// The work of an operation. Convolutions by minimal filtering count in full, so that the times of different methods
/// compare.
pub fn of(op: &Op, operands: &[TensorType], results: &[TensorType]) -> Work {
    let bytes = operands.iter().chain(results).fold(Dim::ZERO, |sum, ty| &sum + &ty.bytes());
    let integers = operands.first().is_some_and(|x| matches!(x.dtype, DType::I8 | DType::U8));
    let [ins, outs] = [operands, &results[..results.len().min(1)]].map(|types| {
        let shapes: Vec<String> = types.iter().map(shape).collect();
        shapes.join(" ")
    });
    let elements = match op {
        // It always stores its count.
        Op::NonZero { .. } => Dim::ZERO,
        _ => results.iter().map(TensorType::numel).sum(),
    };
    let elements = if elements.is_too_large() { Dim::ZERO } else { elements };
    let multiply_adds = multiply_adds(op, operands, results);
    Work { multiply_adds, integers, bytes, elements, shapes: format!("{ins} -> {outs}") }
}

/// Subtracts the bytes of operands that are already stored in the result: padding writes only its border,
/// concatenation only the other operands.
pub fn leave_out(work: &mut Work, op: &Op, operands: &[TensorType], inside: &[bool]) {
    if !matches!(op, Op::Concat { .. } | Op::Pad { .. }) {
        return;
    }
    for (ty, _) in operands.iter().zip(inside).filter(|(_, inside)| **inside) {
        work.bytes = &work.bytes - &(&ty.bytes() * &Dim::from(2i64));
    }
}

/// Adds the work of an operation in the same kernel, whose result, `between`, only this one reads.
pub fn chain(work: &mut Work, feeding: Work, between: &TensorType) {
    let kept = &between.bytes() * &Dim::from(2i64);
    work.multiply_adds = &work.multiply_adds + &feeding.multiply_adds;
    work.bytes = &(&work.bytes + &feeding.bytes) - &kept;
    work.shapes = format!("{} | {}", feeding.shapes, work.shapes);
}

fn shape(ty: &TensorType) -> String {
    let dims: Vec<String> = ty.shape.iter().map(Dim::to_string).collect();
    format!("[{}]", dims.join(","))
}

fn multiply_adds(op: &Op, operands: &[TensorType], results: &[TensorType]) -> Dim {
    let ([x, rest @ ..], Some(result)) = (operands, results.first()) else { return Dim::ZERO };
    let product = |dims: &[Dim]| dims.iter().fold(Dim::ONE, |n, d| &n * d);
    // Product of the second operand's extents from one axis on.
    let weights = |from: usize| {
        let shape = rest.first().map_or(&[][..], |w| &w.shape);
        product(shape.get(from..).unwrap_or_default())
    };
    let channels = x.shape.last().cloned().unwrap_or(Dim::ONE);
    match op {
        Op::MatMul | Op::PackedMatMul { .. } => &result.numel() * &channels,
        Op::Attention { .. } => {
            let count = rest.first().and_then(|k| k.shape.get(1)).unwrap_or(&Dim::ONE);
            &(&x.numel() + &result.numel()) * count
        }
        Op::Conv(_) => &result.numel() * &weights(1),
        Op::Packed(p) => match &p.weights {
            WeightFormat::Depthwise | WeightFormat::Int8Depthwise => &result.numel() * &Dim::from(p.taps()),
            WeightFormat::Dense
            | WeightFormat::Int8 { .. }
            | WeightFormat::LowBit(_)
            | WeightFormat::Filtered { .. } => {
                &(&result.numel() * &Dim::from(p.taps())) * &channels.floor_div(&Dim::from(p.spec.group))
            }
            // Zero blocks take no work.
            WeightFormat::Blocks => {
                let values = rest.get(2).map_or(Dim::ZERO, TensorType::numel);
                &product(&result.shape[..result.rank().saturating_sub(1)]) * &values
            }
            WeightFormat::NonZeros { .. } => {
                let values = operands.get(4).map_or(Dim::ZERO, TensorType::numel);
                &result.numel().floor_div(&Dim::from(p.out.max(1))) * &values
            }
        },
        Op::ConvTranspose { .. } => &x.numel() * &weights(1),
        Op::Recurrent(_) => &result.numel() * &channels,
        _ => Dim::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcc_ir::{ConvSpec, Filters, Layout, Packed};

    fn count(op: &Op, operands: &[&[usize]], result: &[usize]) -> Option<i64> {
        let operands: Vec<TensorType> = operands.iter().map(|s| TensorType::fixed(DType::F32, s)).collect();
        of(op, &operands, &[TensorType::fixed(DType::F32, result)]).multiply_adds.as_const()
    }

    #[test]
    fn borders_alone_count() {
        let types = [TensorType::fixed(DType::F32, &[3, 5]), TensorType::fixed(DType::F32, &[])];
        let op = Op::Pad { before: vec![Dim::ONE; 2], after: vec![Dim::ONE; 2], mode: mcc_ir::PadMode::Constant };
        let result = [TensorType::fixed(DType::F32, &[5, 7])];
        let mut work = of(&op, &types, &result);
        leave_out(&mut work, &op, &types, &[true, false]);
        assert_eq!(work.bytes.as_const(), Some(4 * (35 - 15 + 1)));
    }

    #[test]
    fn counts() {
        let spec = |group| ConvSpec {
            strides: vec![1, 1],
            dilations: vec![1, 1],
            pads: vec![(0, 0); 2],
            group,
            layout: Layout::ChannelsLast,
        };
        assert_eq!(count(&Op::MatMul, &[&[2, 3, 5], &[5, 7]], &[2, 3, 7]), Some(2 * 3 * 7 * 5));
        assert_eq!(count(&Op::PackedMatMul { n: Dim::from(7usize) }, &[&[3, 5], &[1, 5, 8]], &[3, 7]), Some(3 * 7 * 5));
        assert_eq!(count(&Op::Conv(spec(2)), &[&[1, 6, 6, 8], &[4, 4, 3, 3]], &[1, 4, 4, 4]), Some(16 * 4 * 4 * 9));
        let packed =
            |group, out, weights| -> Op { Packed { spec: spec(group), kernel: vec![3, 3], out, weights }.into() };
        let dense = packed(2, 4, WeightFormat::Dense);
        assert_eq!(count(&dense, &[&[1, 6, 6, 8], &[2, 1, 3, 3, 4, 8]], &[1, 4, 4, 4]), Some(16 * 4 * 4 * 9));
        let (tile, size) = (vec![2; 2], vec![Dim::from(4usize); 2]);
        let winograd = packed(1, 4, WeightFormat::Filtered { tile, size, filters: Filters::Transformed });
        assert_eq!(count(&winograd, &[&[1, 6, 6, 8], &[16, 1, 8, 8]], &[1, 4, 4, 4]), Some(16 * 4 * 8 * 9));
        let dot = packed(2, 4, WeightFormat::Int8 { bitmask: false });
        assert_eq!(count(&dot, &[&[1, 6, 6, 8], &[2, 1, 3, 3, 16, 4]], &[1, 4, 4, 4]), Some(16 * 4 * 4 * 9));
        let depthwise = packed(8, 8, WeightFormat::Depthwise);
        assert_eq!(count(&depthwise, &[&[1, 6, 6, 8], &[3, 3, 8]], &[1, 4, 4, 8]), Some(128 * 9));
    }
}
