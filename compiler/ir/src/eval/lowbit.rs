//! Correlation with low-bit weights, which are decoded first.

use super::{conv, matmul, movement};
use crate::{Error, Result};
use crate::{LowBit, Packed, Tensor};

pub(super) fn lowbit_conv(p: &Packed, coded: LowBit, operands: &[Tensor], result: &[usize]) -> Result<Tensor> {
    let (Packed { spec, kernel, out, .. }, [x, codes, scales, rest @ ..]) = (p, operands) else {
        return Err(Error::internal("a coded convolution has three operands"));
    };
    let channels = *x.shape().last().unwrap_or(&0);
    let kernel: Vec<usize> = kernel.iter().map(|&k| k as usize).collect();
    let depth = channels * kernel.iter().product::<usize>();
    let w = coded.decode(codes, scales, rest.first(), [depth, *out])?;
    if kernel.is_empty() {
        let rows = x.numel() / channels.max(1);
        return matmul::matmul(&x.reshaped(vec![rows, channels])?, &w)?.reshaped(result.to_vec());
    }
    let axes = kernel.len();
    let w = w.reshaped([&kernel[..], &[channels, *out]].concat())?;
    let perm: Vec<usize> = [axes + 1, axes].into_iter().chain(0..axes).collect();
    conv::conv(x, &movement::transpose(&w, &perm)?, None, spec, result)
}
