//! Minimal filtering with weights that are transformed at run time, compared with the evaluator: codes with blocks,
//! zero points and tables, plain and 16-bit floats, ragged panels, slices of channels.

use super::lowbit::weights;
use super::{check_objects, check_with, noise};
use mcc_ir::{ConvSpec, DType, Dim, Filtering, Filters, Layout, LowBit, Op, Packed, Tensor, WeightFormat};

/// A convolution: `[batch, height, width, channels, out]`, the tile, the window and the dilations.
struct Case {
    shape: [usize; 5],
    tile: [i64; 2],
    kernel: [i64; 2],
    dilations: [i64; 2],
}

const fn case(shape: [usize; 5], tile: [i64; 2], kernel: [i64; 2], dilations: [i64; 2]) -> Case {
    Case { shape, tile, kernel, dilations }
}

/// All tiles of images, a single axis, dilation, and channels that fill neither vectors nor panels.
const CASES: &[Case] = &[
    case([1, 3, 4, 16, 24], [2, 2], [3, 3], [1, 1]),
    case([2, 4, 5, 8, 20], [4, 4], [3, 3], [1, 1]),
    case([1, 7, 2, 8, 12], [6, 6], [3, 3], [1, 1]),
    case([1, 9, 2, 8, 36], [4, 1], [5, 1], [1, 1]),
    case([2, 1, 9, 16, 16], [1, 6], [1, 3], [1, 2]),
];

impl Case {
    fn op(&self, filters: Filters) -> Op {
        let [_, height, width, _, out] = self.shape;
        let spec = ConvSpec {
            strides: vec![1; 2],
            dilations: self.dilations.to_vec(),
            pads: vec![(0, 0); 2],
            group: 1,
            layout: Layout::ChannelsLast,
        };
        let (size, tile) = ([height, width].map(Dim::from).to_vec(), self.tile.to_vec());
        let weights = WeightFormat::Filtered { tile, size, filters };
        Packed { spec, kernel: self.kernel.to_vec(), out, weights }.into()
    }

    /// The tolerance for rounding: the largest tiles have the largest factors.
    fn tolerance(&self) -> f64 {
        if self.tile.contains(&6) { 1e-3 } else { 1e-4 }
    }

    fn taps(&self) -> usize {
        self.kernel.iter().product::<i64>() as usize
    }

    fn data(&self) -> Tensor {
        let [batch, height, width, channels, _] = self.shape;
        let f = Filtering::of_axes(&self.tile, &self.kernel).unwrap();
        let [down, across] =
            [(0, height), (1, width)].map(|(axis, size)| f[axis].extent(size, self.dilations[axis] as usize));
        noise(DType::F32, &[batch, down, across, channels], 5)
    }

    fn coded(&self, coded: LowBit, zeros: bool) -> (Op, Vec<Tensor>) {
        let [.., channels, out] = self.shape;
        let codes = weights(coded.bits, coded.block, [self.taps() * channels, out], zeros);
        (self.op(Filters::LowBit(coded)), [vec![self.data()], codes].concat())
    }
}

#[test]
fn codes() {
    for (n, case) in CASES.iter().enumerate() {
        let forms = [(4, 1024, false), (8, 16, true), (4, 32, true), (8, 1024, false)];
        for &(bits, block, zeros) in &forms[n % 2 * 2..][..2] {
            let (op, operands) = case.coded(LowBit { bits, block }, zeros);
            check_with(&op, &operands, case.tolerance());
        }
    }
}

#[test]
fn tables() {
    for bits in [2, 4, 8] {
        let coded = LowBit { bits, block: 1024 };
        let (op, mut operands) = CASES[0].coded(coded, false);
        operands.push(noise(DType::F32, &[coded.table_size()], 8));
        check_with(&op, &operands, 1e-4);
    }
}

#[test]
fn floats() {
    for (case, dtype) in CASES.iter().zip([DType::F32, DType::F16, DType::BF16].into_iter().cycle()) {
        let [.., channels, out] = case.shape;
        let filters = noise(DType::F32, &[case.taps(), out.div_ceil(8), channels, 8], 6);
        let filters = Tensor::from_f64s(dtype, filters.shape().to_vec(), &filters.to_f64s()).unwrap();
        check_with(&case.op(Filters::Plain), &[case.data(), filters], case.tolerance());
    }
}

/// Weights that are transformed some columns and a slice of the channels at a time.
#[test]
fn slices() {
    let case = case([1, 6, 5, 192, 80], [4, 4], [3, 3], [1, 1]);
    let (op, mut operands) = case.coded(LowBit { bits: 4, block: 64 }, true);
    // Sums of so many products are larger than these.
    let small: Vec<f64> = operands[0].to_f64s().iter().map(|v| v / 64.0).collect();
    operands[0] = Tensor::from_f64s(DType::F32, operands[0].shape().to_vec(), &small).unwrap();
    check_objects(&op, &operands);
}
