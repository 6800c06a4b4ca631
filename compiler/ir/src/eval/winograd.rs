//! Convolution with minimal filtering, directly as defined.

use super::matmul::unpack;
use crate::{Error, Result};
use crate::{Filtering, Filters, Tensor};

/// `tile`, `kernel` and `dilations` along all axes.
pub(super) fn winograd_conv(
    operands: &[Tensor],
    filters: Filters,
    [tile, kernel, dilations]: [&[i64]; 3],
    result: &[usize],
) -> Result<Tensor> {
    let [x, w, rest @ ..] = operands else { return Err(Error::internal("a convolution without weights")) };
    let unknown = || Error::internal(format!("minimal filtering by {tile:?} of {kernel:?}"));
    let f = Filtering::of_axes(tile, kernel).ok_or_else(unknown)?;
    let apart = [dilations[0] as usize, dilations.get(1).map_or(1, |&d| d as usize)];
    let (n, m) = (f.map(|f| f.elements()), f.map(|f| f.results));
    let planes = n[0] * n[1];
    // A single axis is treated as images with one column.
    let image = |shape: &[usize]| [shape[1], if shape.len() == 3 { 1 } else { shape[2] }, shape[shape.len() - 1]];
    let ([height, width, channels], [oh, ow, out]) = (image(x.shape()), image(result));
    let size = [oh, ow];
    let (data, weights) = (x.to_f64s(), transformed(filters, f, w, rest, [channels, out])?);
    let mut values = vec![0.0; result.iter().product()];
    // The start of a tile along an axis.
    let start = |axis: usize, tile: usize| tile / apart[axis] * m[axis] * apart[axis] + tile % apart[axis];
    let tiles = |axis: usize| 0..f[axis].tiles(size[axis], apart[axis]);
    let all = (0..result[0]).flat_map(|i| tiles(0).flat_map(move |ty| tiles(1).map(move |tx| (i, ty, tx))));
    for (image, ty, tx) in all {
        let (top, left) = (start(0, ty), start(1, tx));
        let mut sums = vec![0.0; planes * out];
        for c in 0..channels {
            let at = |y: usize, z: usize| {
                data[((image * height + top + y * apart[0]) * width + left + z * apart[1]) * channels + c]
            };
            for plane in 0..planes {
                let (rows, columns) = (f[0].input()[plane / n[1]], f[1].input()[plane % n[1]]);
                let v: f64 = (0..planes).map(|i| rows[i / n[1]] * columns[i % n[1]] * at(i / n[1], i % n[1])).sum();
                let row = &weights[(plane * channels + c) * out..][..out];
                sums[plane * out..][..out].iter_mut().zip(row).for_each(|(s, w)| *s += v * w);
            }
        }
        for corner in 0..m[0] * m[1] {
            let (down, right) = (corner / m[1], corner % m[1]);
            let (y, z) = (top + down * apart[0], left + right * apart[1]);
            if y < size[0] && z < size[1] {
                let factor = |plane: usize| f[0].output(down, plane / n[1]) * f[1].output(right, plane % n[1]);
                let at = ((image * size[0] + y) * size[1] + z) * out;
                let sum = |o: usize| (0..planes).map(|plane| factor(plane) * sums[plane * out + o]).sum();
                values[at..at + out].iter_mut().enumerate().for_each(|(o, v)| *v = sum(o));
            }
        }
    }
    Tensor::from_f64s(x.dtype(), result.to_vec(), &values)
}

/// The weights in transformed space: `[planes, channels, out]`.
fn transformed(
    filters: Filters,
    f: [Filtering; 2],
    w: &Tensor,
    rest: &[Tensor],
    [channels, out]: [usize; 2],
) -> Result<Vec<f64>> {
    let plain = match (filters, rest) {
        (Filters::Transformed, _) => return Ok(unpack(w, out)?.to_f64s()),
        (Filters::Plain, _) => unpack(w, out)?,
        (Filters::LowBit(coded), [scales, rest @ ..]) => {
            coded.decode(w, scales, rest.first(), [f[0].taps * f[1].taps * channels, out])?
        }
        (Filters::LowBit(_), []) => return Err(Error::internal("codes without scales")),
    };
    let plain = plain.to_f64s();
    Ok(Filtering::transformed(f, [channels, out], &|place, c, o| plain[(place * channels + c) * out + o]))
}
