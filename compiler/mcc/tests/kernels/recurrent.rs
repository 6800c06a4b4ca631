//! Recurrent layers.

use super::{check, ints, noise};
use mcc_ir::{Activation, Cell, CellSpec, Column, DType, LowBit, Op, Tensor};

fn spec(cell: Cell, reverse: bool, activations: [Activation; 3]) -> CellSpec {
    CellSpec {
        cell,
        reverse,
        activations,
        clip: None,
        peephole: false,
        coupled: false,
        lengths: false,
        quantized: false,
        coded: None,
    }
}

fn operands(cell: Cell, batch: usize, hidden: usize, dtype: DType) -> Vec<Tensor> {
    let width = cell.gates() * hidden;
    let mut operands =
        vec![noise(dtype, &[3, batch, width], 1), noise(dtype, &[hidden, width], 2), noise(dtype, &[batch, hidden], 3)];
    match cell {
        Cell::Lstm => operands.push(noise(dtype, &[batch, hidden], 4)),
        Cell::Gru { linear_before_reset: true } => operands.push(noise(dtype, &[hidden], 4)),
        Cell::Gru { linear_before_reset: false } | Cell::Rnn => {}
    }
    operands
}

/// Recurrence weights in panels of 16 columns.
fn panels(r: &Tensor) -> Tensor {
    let (hidden, width) = (r.shape()[0], r.shape()[1]);
    let (count, data) = (width.div_ceil(16), r.to_f64s());
    let mut packed = vec![0.0; count * hidden * 16];
    for (i, v) in data.into_iter().enumerate() {
        let (row, column) = (i / width, i % width);
        packed[(column / 16 * hidden + row) * 16 + column % 16] = v;
    }
    Tensor::from_f64s(r.dtype(), vec![count, hidden, 16], &packed).unwrap()
}

#[test]
fn cells() {
    use Activation::{Sigmoid, Tanh};
    let cells =
        [Cell::Rnn, Cell::Gru { linear_before_reset: false }, Cell::Gru { linear_before_reset: true }, Cell::Lstm];
    let cells = cells.into_iter().flat_map(|cell| [(cell, false), (cell, true)]);
    for (cell, packed) in cells {
        let first = if cell == Cell::Rnn { Tanh } else { Sigmoid };
        for (reverse, batch, hidden, dtype) in
            [(false, 1, 5, DType::F32), (true, 2, 8, DType::F32), (false, 2, 19, DType::F32), (false, 1, 3, DType::F64)]
        {
            let mut spec = spec(cell, reverse, [first, Tanh, Tanh]);
            let mut x = operands(cell, batch, hidden, dtype);
            if packed {
                x[1] = panels(&x[1]);
            }
            check(&Op::Recurrent(spec.clone()), &x);
            if cell == Cell::Lstm {
                spec.peephole = true;
                spec.coupled = reverse;
                x.push(noise(dtype, &[3 * hidden], 5));
                check(&Op::Recurrent(spec.clone()), &x);
            }
            spec.lengths = true;
            spec.clip = Some(0.5.into());
            x.push(ints(&[batch], &[2, 3][..batch]));
            check(&Op::Recurrent(spec), &x);
        }
    }
}

#[test]
fn rounded_states() {
    use Activation::{Sigmoid, Tanh};
    for (batch, hidden) in [(1, 5), (2, 19)] {
        let spec = CellSpec { quantized: true, ..spec(Cell::Lstm, false, [Sigmoid, Tanh, Tanh]) };
        let mut x = operands(Cell::Lstm, batch, hidden, DType::F32);
        x.push(noise(DType::F32, &[4 * hidden], 5));
        check(&Op::Recurrent(spec.clone()), &x);
        x[1] = panels(&x[1]);
        check(&Op::Recurrent(spec.clone()), &x);
        // Bytes, in steps of four and panels of 16 columns.
        let shape = [(4 * hidden).div_ceil(16), hidden.div_ceil(4), 16, 4];
        let bytes: Vec<i64> =
            noise(DType::F32, &shape, 6).to_f64s().iter().map(|v| (v * 64.0).floor() as i64).collect();
        x[1] = Tensor::from_i64s(DType::I8, shape.to_vec(), &bytes).unwrap();
        x[4] = noise(DType::F32, &[4 * hidden], 7);
        let scales: Vec<f64> = x[4].to_f64s().iter().map(|v| v / 64.0).collect();
        x[4] = Tensor::from_f64s(DType::F32, vec![4 * hidden], &scales).unwrap();
        check(&Op::Recurrent(spec), &x);
    }
}

/// Codes of recurrence weights and their parameters: scales, and zero points or a table if `rest` says so.
fn coded(format: LowBit, hidden: usize, width: usize, rest: Rest) -> Vec<Tensor> {
    let blocks = hidden.div_ceil(format.block);
    let column = |c: usize| Column {
        codes: (0..hidden).map(|i| ((i * 37 + c * 11) % (1 << format.bits)) as u8).collect(),
        scales: (0..blocks).map(|b| (0.5 + 0.1 * (b + c) as f32) / f32::from(format.middle()) / 9.0).collect(),
        zeros: if rest == Rest::Zeros { (0..blocks).map(|b| (b + c) as i32 % 5 - 2).collect() } else { Vec::new() },
    };
    let columns: Vec<Column> = (0..width).map(column).collect();
    let mut packed = format.pack(&columns, 16).unwrap();
    if rest == Rest::Table {
        let entries: Vec<f64> =
            (0..format.table_size()).map(|n| (n as f64 * 0.7).sin() * f64::from(format.middle())).collect();
        packed.push(Tensor::from_f64s(DType::F32, vec![entries.len()], &entries).unwrap());
    }
    packed
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Nothing,
    Zeros,
    Table,
}

#[test]
fn coded_weights() {
    use Activation::{Sigmoid, Tanh};
    let cells =
        [Cell::Rnn, Cell::Gru { linear_before_reset: false }, Cell::Gru { linear_before_reset: true }, Cell::Lstm];
    let forms = [
        (8, 48, Rest::Nothing),
        (8, 16, Rest::Zeros),
        (4, 16, Rest::Nothing),
        (4, 48, Rest::Table),
        (2, 48, Rest::Zeros),
    ];
    for (n, cell) in cells.into_iter().enumerate() {
        // An odd number of panels, batches of whole and of incomplete groups of sequences, and none.
        for (m, (batch, hidden)) in [(1, 19), (6, 8), (2, 33), (4, 5)].into_iter().enumerate() {
            let (bits, block, rest) = forms[(n + m) % forms.len()];
            let (format, width) = (LowBit { bits, block }, cell.gates() * hidden);
            let mut x = operands(cell, batch, hidden, DType::F32);
            let packed = coded(format, hidden, width, rest);
            x[1] = packed[0].clone();
            let first = if cell == Cell::Rnn { Tanh } else { Sigmoid };
            let spec =
                CellSpec { coded: Some(format), lengths: batch == 2, ..spec(cell, m % 2 == 1, [first, Tanh, Tanh]) };
            if spec.lengths {
                x.push(ints(&[batch], &[2, 3]));
            }
            x.extend_from_slice(&packed[1..]);
            check(&Op::Recurrent(spec), &x);
        }
    }
}

#[test]
fn half_weights() {
    use Activation::{Sigmoid, Tanh};
    for dtype in [DType::F16, DType::BF16] {
        let mut x = operands(Cell::Lstm, 2, 19, DType::F32);
        let rounded = Tensor::from_f64s(dtype, x[1].shape().to_vec(), &x[1].to_f64s()).unwrap();
        for r in [panels(&rounded), rounded] {
            x[1] = r;
            check(&Op::Recurrent(spec(Cell::Lstm, false, [Sigmoid, Tanh, Tanh])), &x);
        }
    }
}

#[test]
fn activations() {
    use Activation::*;
    let (alpha, beta) = (0.3.into(), 0.4.into());
    let all = [
        Relu,
        LeakyRelu { alpha },
        ThresholdedRelu { alpha },
        ScaledTanh { alpha, beta },
        HardSigmoid { alpha, beta },
        Elu { alpha },
        Affine { alpha, beta },
        Softsign,
        Softplus,
    ];
    for f in all {
        check(&Op::Recurrent(spec(Cell::Rnn, false, [f, f, f])), &operands(Cell::Rnn, 1, 4, DType::F32));
    }
}
