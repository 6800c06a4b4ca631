//! Depthwise convolutions of bytes, compared with the evaluator: windows with every number of rows modulo four,
//! strides, dilations, few channels and ragged ones, results with remaining rows and columns.

use super::check;
use super::int8::{bytes, narrow};
use mcc_ir::{ConvSpec, DType, Layout, Op, Packed, WeightFormat};

#[test]
fn windows() {
    for (dtype, kernel, strides, dilations, shape) in [
        (DType::U8, [3, 3], [1, 1], [1, 1], [2, 6, 13, 17]),
        (DType::U8, [3, 3], [2, 2], [1, 1], [1, 7, 9, 33]),
        (DType::I8, [5, 5], [1, 1], [1, 1], [1, 8, 14, 20]),
        (DType::U8, [5, 3], [2, 1], [1, 2], [1, 11, 9, 8]),
        (DType::U8, [2, 4], [1, 3], [2, 1], [1, 5, 16, 5]),
        (DType::I8, [4, 1], [1, 1], [1, 1], [1, 6, 3, 40]),
        (DType::U8, [9, 2], [3, 1], [1, 1], [1, 13, 4, 16]),
    ] {
        let channels: usize = shape[3];
        let quads = usize::div_ceil(kernel[0] as usize, 4);
        let lanes = channels.next_multiple_of(16);
        let packed = bytes(DType::I8, &[1, quads, kernel[1] as usize, lanes, 4], 11);
        let spec = ConvSpec {
            strides: strides.to_vec(),
            dilations: dilations.to_vec(),
            pads: vec![(0, 0); 2],
            group: channels,
            layout: Layout::ChannelsLast,
        };
        let packed = without_padding(packed, kernel[0] as usize);
        let op = depthwise(spec, kernel.to_vec());
        if dtype == DType::I8 {
            check(&op, &[bytes(dtype, &shape, 5), narrow(&packed)]);
        }
        check(&op, &[bytes(dtype, &shape, 5), packed]);
    }
}

fn depthwise(spec: ConvSpec, kernel: Vec<i64>) -> Op {
    let out = spec.group;
    Packed { spec, kernel, out, weights: WeightFormat::Int8Depthwise }.into()
}

/// Windows of three axes are computed one line at a time.
#[test]
fn volumes() {
    let spec = ConvSpec {
        strides: vec![1, 1, 2],
        dilations: vec![2, 1, 1],
        pads: vec![(0, 0); 3],
        group: 18,
        layout: Layout::ChannelsLast,
    };
    let packed = without_padding(bytes(DType::I8, &[2, 1, 2, 32, 4], 7), 3);
    let x = bytes(DType::U8, &[1, 4, 5, 7, 18], 3);
    check(&depthwise(spec, vec![2, 3, 2]), &[x, packed]);
}

/// Windows of one axis.
#[test]
fn lines() {
    for (dtype, rows, stride, dilation, shape) in
        [(DType::U8, 5, 1, 1, [2, 30, 40]), (DType::I8, 31, 1, 1, [1, 44, 18]), (DType::U8, 3, 2, 3, [1, 17, 7])]
    {
        let (channels, quads): (usize, usize) = (shape[2], usize::div_ceil(rows, 4));
        let packed = bytes(DType::I8, &[1, quads, 1, channels.next_multiple_of(16), 4], 13);
        let spec = ConvSpec {
            strides: vec![stride],
            dilations: vec![dilation],
            pads: vec![(0, 0)],
            group: channels,
            layout: Layout::ChannelsLast,
        };
        let packed = without_padding(packed, rows);
        check(&depthwise(spec, vec![rows as i64]), &[bytes(dtype, &shape, 5), packed]);
    }
}

/// Weights with zeros for the superfluous rows of the last four.
fn without_padding(packed: mcc_ir::Tensor, rows: usize) -> mcc_ir::Tensor {
    let shape = packed.shape().to_vec();
    let quads = shape[1];
    let per_quad: usize = shape[2..].iter().product();
    let mut data = packed.data().to_vec();
    for (i, byte) in data.iter_mut().enumerate() {
        if 4 * (i / per_quad % quads) + i % 4 >= rows {
            *byte = 0;
        }
    }
    mcc_ir::Tensor::new(packed.dtype(), shape, data.into()).unwrap()
}
