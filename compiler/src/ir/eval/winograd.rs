//! Minimal filtering F(2x2, 3x3), as it is written down.

use super::matmul::unpack;
use crate::Result;
use crate::ir::Tensor;

/// What elements become in transformed space, one axis at a time.
const INPUT: [[f64; 4]; 4] =
    [[1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, -1.0, 1.0, 0.0], [0.0, 1.0, 0.0, -1.0]];
/// What sums in transformed space give, one axis at a time.
const OUTPUT: [[f64; 4]; 2] = [[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, -1.0, -1.0]];

pub(super) fn winograd_conv(x: &Tensor, packed: &Tensor, result: &[usize]) -> Result<Tensor> {
    let (width, channels) = (x.shape()[2], x.shape()[3]);
    let (oh, ow, out) = (result[1], result[2], result[3]);
    let (data, weights) = (x.to_f64s(), unpack(packed, out)?.to_f64s());
    let mut values = vec![0.0; result.iter().product()];
    for (n, ty, tx) in (0..result[0])
        .flat_map(|n| (0..oh.div_ceil(2)).flat_map(move |ty| (0..ow.div_ceil(2)).map(move |tx| (n, ty, tx))))
    {
        let mut sums = vec![0.0; 16 * out];
        for c in 0..channels {
            let at = |y: usize, z: usize| data[((n * x.shape()[1] + 2 * ty + y) * width + 2 * tx + z) * channels + c];
            for plane in 0..16 {
                let (rows, columns) = (INPUT[plane / 4], INPUT[plane % 4]);
                let v: f64 = (0..16).map(|i| rows[i / 4] * columns[i % 4] * at(i / 4, i % 4)).sum();
                let row = &weights[(plane * channels + c) * out..][..out];
                sums[plane * out..][..out].iter_mut().zip(row).for_each(|(s, w)| *s += v * w);
            }
        }
        for corner in 0..4 {
            let (y, z) = (2 * ty + corner / 2, 2 * tx + corner % 2);
            if y < oh && z < ow {
                let factor = |plane: usize| OUTPUT[corner / 2][plane / 4] * OUTPUT[corner % 2][plane % 4];
                let at = ((n * oh + y) * ow + z) * out;
                let sum = |o: usize| (0..16).map(|plane| factor(plane) * sums[plane * out + o]).sum();
                values[at..at + out].iter_mut().enumerate().for_each(|(o, v)| *v = sum(o));
            }
        }
    }
    Tensor::from_f64s(x.dtype(), result.to_vec(), &values)
}
