//! Products with matrices of blocks.

use super::matmul;
use crate::ir::Tensor;
use crate::{Error, Result};

/// The product with the matrix that the blocks make.
pub(super) fn block_matmul(x: &[Tensor], result: &[usize]) -> Result<Tensor> {
    let [a, heads, rows, values] = x else { return Err(Error::internal("a product of blocks has four operands")) };
    let (Some(&k), Some(&n)) = (a.shape().last(), result.last()) else {
        return Err(Error::internal("a matrix has two axes"));
    };
    let (tile, blocks) = (values.shape()[1], values.shape()[0]);
    let mut matrix = vec![0.0; k * n];
    for (panel, ends) in heads.to_i64s().windows(2).enumerate() {
        for block in ends[0]..ends[1] {
            let block = usize::try_from(block).ok().filter(|&b| b < blocks);
            let block =
                block.ok_or_else(|| Error::invalid(format!("panel {panel} has a block of {blocks} that is none")))?;
            let row = usize::try_from(rows.i64_at(block)).ok().filter(|&r| r < k);
            let row = row.ok_or_else(|| Error::invalid(format!("block {block} is none of {k} rows")))?;
            for column in (panel * tile..n).take(tile) {
                matrix[row * n + column] += values.f64_at(block * tile + column - panel * tile);
            }
        }
    }
    matmul::matmul(a, &Tensor::from_f64s(values.dtype(), vec![k, n], &matrix)?)
}
