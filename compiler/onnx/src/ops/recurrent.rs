//! Recurrent layers: LSTM, GRU, RNN.

use super::super::builder::Builder;
use super::super::node::{Node, Results};
use super::parameters::{self, named};
use mcc_ir::{Activation, Cell, CellSpec, DType, Dim, Error, F64, Op, Result, Value};

pub fn lstm(b: &mut Builder, n: &Node) -> Result<Results> {
    let operands = Operands::listed(n)?;
    let operands = Operands { cell_state: n.optional(6), peephole: n.optional(7), ..operands };
    layer(b, n, Cell::Lstm, operands)
}

pub fn gru(b: &mut Builder, n: &Node) -> Result<Results> {
    let operands = Operands::listed(n)?;
    layer(b, n, Cell::Gru { linear_before_reset: n.flag("linear_before_reset", false)? }, operands)
}

pub fn rnn(b: &mut Builder, n: &Node) -> Result<Results> {
    let operands = Operands::listed(n)?;
    layer(b, n, Cell::Rnn, operands)
}

/// com.microsoft: weights are transposed and quantized, with scales and zero points per direction or per column. They
/// are represented as integers in floats, so that sums are exact; input and hidden state are quantized at run time.
pub fn dynamic_quantize_lstm(b: &mut Builder, n: &Node) -> Result<Results> {
    for (weights, scale, zero) in
        [(1, named(8, "W_scale"), named(9, "W_zero_point")), (2, named(10, "R_scale"), named(11, "R_zero_point"))]
    {
        let codes = b.dtype(n.input(weights)?);
        parameters::factor(b, n, scale)?;
        parameters::zero_point(b, n, scale, zero, Some(codes))?;
        let (shape, w) = (b.shape(n.input(scale.input)?), b.shape(n.input(weights)?));
        if w.len() != 3 || shape != w[..1] && shape != [w[0].clone(), w[2].clone()] {
            let (scales, w) = (b.ty(n.input(scale.input)?), b.ty(n.input(weights)?));
            return Err(Error::invalid(format!("input {} is {scales} for weights {w}", scale.name))
                .help("there must be one scale per direction, or one per direction and column"));
        }
    }
    let centred = |b: &mut Builder, q: Value, zero: Option<Value>| -> Result<Value> {
        let per_column = |b: &mut Builder, v: Value| match b.rank(v) {
            1 => b.unsqueeze(v, &[1, 2]),
            _ => b.unsqueeze(v, &[1]),
        };
        let mut w = b.cast(q, DType::F32)?;
        if let Some(zero) = zero {
            let zero = b.cast(zero, DType::F32)?;
            let zero = per_column(b, zero)?;
            w = b.minus(w, zero)?;
        }
        b.transpose(w, &[0, 2, 1])
    };
    let w = centred(b, n.input(1)?, n.optional(9))?;
    let r = centred(b, n.input(2)?, n.optional(11))?;
    // One scale per gate column, [directions, gates * hidden].
    let [directions, columns, _] =
        <[Dim; 3]>::try_from(b.shape(r)).map_err(|s| Error::invalid(format!("weights of shape {s:?}")))?;
    let per_column = |b: &mut Builder, v: Value| -> Result<Value> {
        let v = if b.rank(v) == 1 { b.unsqueeze(v, &[1])? } else { v };
        b.broadcast(v, vec![directions.clone(), columns.clone()])
    };
    let [q, x_scale, zero] = super::quantize::dynamically_quantized(b, n.input(0)?)?;
    let (q, zero) = (b.cast(q, DType::F32)?, b.cast(zero, DType::F32)?);
    let x = b.minus(q, zero)?;
    let w_scales = per_column(b, n.input(8)?)?;
    let scales = [b.times(w_scales, x_scale)?, per_column(b, n.input(10)?)?];
    let operands = Operands {
        x,
        w,
        r,
        bias: n.optional(3),
        lengths: n.optional(4),
        state: n.optional(5),
        cell_state: n.optional(6),
        peephole: n.optional(7),
        scales: Some(scales),
    };
    layer(b, n, Cell::Lstm, operands)
}

struct Operands {
    x: Value,
    w: Value,
    r: Value,
    bias: Option<Value>,
    lengths: Option<Value>,
    state: Option<Value>,
    cell_state: Option<Value>,
    peephole: Option<Value>,
    /// Whether `x`, `w` and `r` are integers: scales of both products' columns, `[directions, gates * hidden]`.
    scales: Option<[Value; 2]>,
}

impl Operands {
    fn listed(n: &Node) -> Result<Operands> {
        Ok(Operands {
            x: n.input(0)?,
            w: n.input(1)?,
            r: n.input(2)?,
            bias: n.optional(3),
            lengths: n.optional(4),
            state: n.optional(5),
            cell_state: None,
            peephole: None,
            scales: None,
        })
    }
}

/// Results `Y [time, directions, batch, hidden]`, `Y_h [directions, batch, hidden]`, and `Y_c` like it; with `layout` 1
/// the batch comes first.
fn layer(b: &mut Builder, n: &Node, cell: Cell, mut o: Operands) -> Result<Results> {
    let batch_first = n.flag("layout", false)?;
    if batch_first {
        for state in [Some(&mut o.x), o.state.as_mut(), o.cell_state.as_mut()].into_iter().flatten() {
            *state = b.transpose(*state, &[1, 0, 2])?;
        }
    }
    let x = o.x;
    let (w_shape, r_shape) = (b.shape(o.w), b.shape(o.r));
    let ([directions, ..], [_, _, hidden]) = (w_shape.as_slice(), r_shape.as_slice()) else {
        return Err(Error::invalid(format!("weights {} and {}", b.ty(o.w), b.ty(o.r))));
    };
    let (directions, hidden) = match (directions.as_const(), hidden.as_const()) {
        (Some(d @ 1..=2), Some(h)) => (d, h),
        _ => return Err(Error::invalid(format!("weights {} and {}", b.ty(o.w), b.ty(o.r)))),
    };
    let reverse_only = n.text("direction", "forward")? == "reverse";
    let lengths = o.lengths.map(|l| b.cast(l, DType::I64)).transpose()?;
    let [_, batch, _] =
        <[Dim; 3]>::try_from(b.shape(x)).map_err(|s| Error::invalid(format!("input of shape {s:?}")))?;
    let (mut steps, mut last, mut last_cell) = (Vec::new(), Vec::new(), Vec::new());
    for d in 0..directions {
        let spec = CellSpec {
            cell,
            reverse: reverse_only || d == 1,
            activations: activations(n, cell, d as usize, directions as usize)?,
            clip: n.try_float("clip")?.map(|c| F64::from(f64::from(c))),
            peephole: o.peephole.is_some(),
            coupled: cell == Cell::Lstm && n.flag("input_forget", false)?,
            lengths: lengths.is_some(),
            quantized: o.scales.is_some(),
            coded: None,
        };
        let one = Direction { b, d, batch: &batch, hidden };
        let results = one.run(x, &o, lengths, spec)?;
        // [time, batch, hidden] to [time, 1, batch, hidden], and the states to [1, batch, hidden].
        steps.push(b.unsqueeze(results[0], &[1])?);
        last.push(b.unsqueeze(results[1], &[0])?);
        if let Some(&c) = results.get(2) {
            last_cell.push(b.unsqueeze(c, &[0])?);
        }
    }
    let mut results = vec![b.concat(&steps, 1)?, b.concat(&last, 0)?];
    if !last_cell.is_empty() {
        results.push(b.concat(&last_cell, 0)?);
    }
    if batch_first {
        results[0] = b.transpose(results[0], &[2, 0, 1, 3])?;
        for state in &mut results[1..] {
            *state = b.transpose(*state, &[1, 0, 2])?;
        }
    }
    Ok(results.into())
}

struct Direction<'a> {
    b: &'a mut Builder,
    d: i64,
    batch: &'a Dim,
    hidden: i64,
}

impl Direction<'_> {
    fn run(self, x: Value, o: &Operands, lengths: Option<Value>, spec: CellSpec) -> Result<Vec<Value>> {
        let Direction { b, d, batch, hidden } = self;
        let of_direction = |b: &mut Builder, v: Value| -> Result<Value> {
            let v = b.slice(v, 0, Dim::from(d), Dim::ONE)?;
            b.squeeze(v, &[0])
        };
        let width = spec.cell.gates() as i64 * hidden;
        let w = of_direction(b, o.w)?;
        let w = b.transpose(w, &[1, 0])?;
        let r = of_direction(b, o.r)?;
        let r = b.transpose(r, &[1, 0])?;
        let mut xw = b.matmul(x, w)?;
        if let Some([scales, _]) = o.scales {
            let scales = of_direction(b, scales)?;
            xw = b.times(xw, scales)?;
        }
        let mut hidden_bias = None;
        if let Some(bias) = o.bias {
            let bias = of_direction(b, bias)?;
            let wb = b.slice(bias, 0, Dim::ZERO, Dim::from(width))?;
            let mut rb = b.slice(bias, 0, Dim::from(width), Dim::from(width))?;
            if let Cell::Gru { linear_before_reset: true } = spec.cell {
                // The reset gate is multiplied with the hidden gate's recurrent bias, so that bias is kept separate.
                hidden_bias = Some(b.slice(rb, 0, Dim::from(2 * hidden), Dim::from(hidden))?);
                rb = b.slice(rb, 0, Dim::ZERO, Dim::from(2 * hidden))?;
                rb = b.pad_zeros(rb, vec![Dim::ZERO], vec![Dim::from(hidden)])?;
            }
            let sum = b.plus(wb, rb)?;
            xw = b.plus(xw, sum)?;
        }
        let dtype = b.dtype(x);
        let state = |b: &mut Builder, given: Option<Value>| match given {
            Some(v) => of_direction(b, v),
            None => b.splat(dtype, 0.0, vec![batch.clone(), Dim::from(hidden)]),
        };
        let mut operands = vec![xw, r, state(b, o.state)?];
        match spec.cell {
            Cell::Lstm => operands.push(state(b, o.cell_state)?),
            Cell::Gru { linear_before_reset: true } => operands.push(match hidden_bias {
                Some(rb) => rb,
                None => b.splat(dtype, 0.0, vec![Dim::from(hidden)])?,
            }),
            Cell::Gru { .. } | Cell::Rnn => {}
        }
        if let Some(p) = o.peephole {
            operands.push(of_direction(b, p)?);
        }
        operands.extend(lengths);
        if let Some([_, scales]) = o.scales {
            operands.push(of_direction(b, scales)?);
        }
        b.add_many(Op::Recurrent(spec), &operands)
    }
}

/// The gates' activations for one direction; the lists of names and parameters cover all directions.
fn activations(n: &Node, cell: Cell, direction: usize, directions: usize) -> Result<[Activation; 3]> {
    let count = match cell {
        Cell::Rnn => 1,
        Cell::Gru { .. } => 2,
        Cell::Lstm => 3,
    };
    let names = n.texts("activations")?;
    let (mut alphas, mut betas) = (n.floats("activation_alpha")?.into_iter(), n.floats("activation_beta")?.into_iter());
    let mut all = Vec::new();
    for i in 0..count * directions {
        let default = match (cell, i % count) {
            (Cell::Rnn, _) | (_, 1..) => "Tanh",
            _ => "Sigmoid",
        };
        let name = if names.is_empty() { default } else { names.get(i).map_or(default, String::as_str) };
        all.push(activation(name, &mut alphas, &mut betas)?);
    }
    let mine = &all[direction * count..(direction + 1) * count];
    let at = |i: usize| mine[i.min(count - 1)];
    Ok([at(0), at(1), at(2)])
}

fn activation(
    name: &str,
    alphas: &mut impl Iterator<Item = f32>,
    betas: &mut impl Iterator<Item = f32>,
) -> Result<Activation> {
    let mut alpha = |default: f64| F64::from(alphas.next().map_or(default, f64::from));
    let mut beta = |default: f64| F64::from(betas.next().map_or(default, f64::from));
    Ok(match name.to_ascii_lowercase().as_str() {
        "sigmoid" => Activation::Sigmoid,
        "tanh" => Activation::Tanh,
        "relu" => Activation::Relu,
        "softsign" => Activation::Softsign,
        "softplus" => Activation::Softplus,
        "leakyrelu" => Activation::LeakyRelu { alpha: alpha(0.01) },
        "thresholdedrelu" => Activation::ThresholdedRelu { alpha: alpha(1.0) },
        "elu" => Activation::Elu { alpha: alpha(1.0) },
        "scaledtanh" => Activation::ScaledTanh { alpha: alpha(1.0), beta: beta(1.0) },
        "hardsigmoid" => Activation::HardSigmoid { alpha: alpha(0.2), beta: beta(0.5) },
        "affine" => Activation::Affine { alpha: alpha(1.0), beta: beta(0.0) },
        other => return Err(Error::unsupported(format!("activation \"{other}\""))),
    })
}
