//! Minimal filtering of 3x3 filters, as it is written down.

use super::matmul::unpack;
use crate::ir::{Filtering, Tensor};
use crate::{Error, Result};

pub(super) fn winograd_conv(x: &Tensor, packed: &Tensor, result: &[usize]) -> Result<Tensor> {
    let planes = packed.shape()[0];
    let f =
        Filtering::of_planes(planes).ok_or_else(|| Error::internal(format!("minimal filtering in {planes} planes")))?;
    let (m, n) = (f.results, f.elements());
    let (width, channels) = (x.shape()[2], x.shape()[3]);
    let (oh, ow, out) = (result[1], result[2], result[3]);
    let (data, weights) = (x.to_f64s(), unpack(packed, out)?.to_f64s());
    let mut values = vec![0.0; result.iter().product()];
    for (image, ty, tx) in (0..result[0])
        .flat_map(|i| (0..oh.div_ceil(m)).flat_map(move |ty| (0..ow.div_ceil(m)).map(move |tx| (i, ty, tx))))
    {
        let mut sums = vec![0.0; planes * out];
        for c in 0..channels {
            let at =
                |y: usize, z: usize| data[((image * x.shape()[1] + m * ty + y) * width + m * tx + z) * channels + c];
            for plane in 0..planes {
                let (rows, columns) = (f.input[plane / n], f.input[plane % n]);
                let v: f64 = (0..planes).map(|i| rows[i / n] * columns[i % n] * at(i / n, i % n)).sum();
                let row = &weights[(plane * channels + c) * out..][..out];
                sums[plane * out..][..out].iter_mut().zip(row).for_each(|(s, w)| *s += v * w);
            }
        }
        for corner in 0..m * m {
            let (y, z) = (m * ty + corner / m, m * tx + corner % m);
            if y < oh && z < ow {
                let factor = |plane: usize| f.output[corner / m][plane / n] * f.output[corner % m][plane % n];
                let at = ((image * oh + y) * ow + z) * out;
                let sum = |o: usize| (0..planes).map(|plane| factor(plane) * sums[plane * out + o]).sum();
                values[at..at + out].iter_mut().enumerate().for_each(|(o, v)| *v = sum(o));
            }
        }
    }
    Tensor::from_f64s(x.dtype(), result.to_vec(), &values)
}
