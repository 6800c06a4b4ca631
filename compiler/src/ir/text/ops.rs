//! Operations as a name and attributes, and back.

use std::cell::RefCell;

use super::attr::{Attr, find, inside, pieces};
use crate::ir::{
    BinaryOp, CellSpec, ConvSpec, LowBit, Op, Packed, PoolSpec, ResizeRule, Staging, TreeEnsemble, UnaryOp,
    WeightFormat,
};
use crate::{Error, Result};

/// `name=value` pairs.
type Attrs = Vec<(&'static str, String)>;

/// Pairs from variables of the attributes' names.
macro_rules! attrs {
    ($($name:ident),* $(,)?) => { vec![$((stringify!($name), $name.show())),*] };
}

/// An operation's name in the text form: element-wise functions go by their own.
pub(super) fn name(op: &Op) -> String {
    match op {
        Op::Unary(f) => f.show(),
        Op::Binary(f) => f.show(),
        other => other.name().to_string(),
    }
}

/// An operation's attributes; [`Op::Input`] and [`Op::Constant`] are written in another way.
pub(super) fn attributes(op: &Op) -> Attrs {
    match op {
        Op::Input(..) | Op::Constant(_) => Vec::new(),
        Op::Dims(dims) => attrs![dims],
        Op::Iota { dtype, shape, axis } => attrs![dtype, shape, axis],
        Op::Unary(_) | Op::Binary(_) | Op::Select => Vec::new(),
        Op::Cast { to, saturate } => attrs![to, saturate],
        Op::Bitcast { to } => attrs![to],
        Op::Reshape { shape } => attrs![shape],
        Op::Transpose { perm } => attrs![perm],
        Op::Broadcast { shape } => attrs![shape],
        Op::Slice { ranges } => attrs![ranges],
        Op::Concat { axis } => attrs![axis],
        Op::Pad { before, after, mode } => attrs![before, after, mode],
        Op::Gather { axis } => attrs![axis],
        Op::GatherElements { axis } => attrs![axis],
        Op::GatherNd { batch_dims } => attrs![batch_dims],
        Op::ScatterElements { axis, reduction } => attrs![axis, reduction],
        Op::ScatterNd { reduction } => attrs![reduction],
        Op::ReverseSequence { batch_axis, time_axis } => attrs![batch_axis, time_axis],
        Op::Resize { sizes, rule } => {
            let ResizeRule {
                mode,
                coordinates,
                nearest,
                scales,
                cubic_a,
                exclude_outside,
                antialias,
                extrapolation,
                roi,
            } = rule;
            attrs![sizes, mode, coordinates, nearest, scales, cubic_a, exclude_outside, antialias, extrapolation, roi]
        }
        Op::GridSample { mode, padding, align_corners } => attrs![mode, padding, align_corners],
        Op::MatMul => Vec::new(),
        Op::PackedMatMul { n } => attrs![n],
        Op::Conv(spec) => conv(spec),
        Op::Packed(packed) => weights(packed),
        Op::ConvTranspose { spec, output_pads } => [conv(spec), attrs![output_pads]].concat(),
        Op::Col2Im { spec, kernel, size } => [conv(spec), attrs![kernel, size]].concat(),
        Op::Pool(spec) => pool(spec),
        Op::MaxPoolWithIndices { spec, column_major } => [pool(spec), attrs![column_major]].concat(),
        Op::Reduce { kind, axes, keep } => attrs![kind, axes, keep],
        Op::ArgReduce { largest, axis, keep, last } => attrs![largest, axis, keep, last],
        Op::Cumulative { kind, axis, exclusive, reverse } => attrs![kind, axis, exclusive, reverse],
        Op::Attention { scale, guarded } => attrs![scale, guarded],
        Op::Softmax { axis, log } => attrs![axis, log],
        Op::Normalize { axis, epsilon, center } => attrs![axis, epsilon, center],
        Op::TopK { k, axis, largest } => attrs![k, axis, largest],
        Op::Recurrent(spec) => {
            let CellSpec { cell, reverse, activations, clip, peephole, coupled, lengths, quantized } = spec;
            attrs![cell, reverse, activations, clip, peephole, coupled, lengths, quantized]
        }
        Op::NonZero { count } => attrs![count],
        Op::NonMaxSuppression => Vec::new(),
        Op::TreeEnsemble(trees) => {
            let TreeEnsemble { roots, nodes, votes, aggregate, targets } = &**trees;
            attrs![roots, nodes, votes, aggregate, targets]
        }
    }
}

fn conv(spec: &ConvSpec) -> Attrs {
    let ConvSpec { strides, dilations, pads, group, layout } = spec;
    attrs![strides, dilations, pads, group, layout]
}

fn weights(packed: &Packed) -> Attrs {
    let Packed { spec, kernel, out, weights } = packed;
    let format = match weights {
        WeightFormat::Dense | WeightFormat::Depthwise | WeightFormat::Int8Depthwise | WeightFormat::Blocks => {
            Vec::new()
        }
        WeightFormat::Int8 { bitmask } => attrs![bitmask],
        WeightFormat::NonZeros { staging, stored } => {
            let Staging { lines, pitch, span, phase, aligned, abreast, shared, block, depth } = staging;
            attrs![lines, pitch, span, phase, aligned, abreast, shared, block, depth, stored]
        }
        WeightFormat::LowBit(LowBit { bits, block }) => attrs![bits, block],
        WeightFormat::Filtered { tile, size, filters } => attrs![tile, size, filters],
    };
    [conv(spec), attrs![kernel, out], format].concat()
}

fn pool(spec: &PoolSpec) -> Attrs {
    let PoolSpec { kind, kernel, strides, dilations, pads, ceil, layout } = spec;
    attrs![kind, kernel, strides, dilations, pads, ceil, layout]
}

/// The pairs that are yet to be read.
struct Reader<'a>(RefCell<Vec<(&'a str, &'a str)>>);

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Result<Reader<'a>> {
        let pair = |piece: &'a str| match find(piece, "=") {
            Some(at) => Ok((piece[..at].trim(), piece[at + 1..].trim())),
            None => Err(Error::invalid(format!("`{piece}` is no attribute `name=value`"))),
        };
        let body = if text.is_empty() { "" } else { inside(text, '{', '}')? };
        Ok(Reader(RefCell::new(pieces(body).into_iter().map(pair).collect::<Result<_>>()?)))
    }

    /// Takes the attribute `name`.
    fn get<T: Attr>(&self, name: &str) -> Result<T> {
        let mut pairs = self.0.borrow_mut();
        let Some(at) = pairs.iter().position(|p| p.0 == name) else {
            return Err(Error::invalid(format!("attribute `{name}` is missing")));
        };
        T::read(pairs.remove(at).1).map_err(|e| e.within(format!("attribute `{name}`")))
    }
}

/// Fields of the attributes' names.
macro_rules! build {
    ($r:ident, $($path:ident)::+ { $($name:ident),* $(,)? }) => {
        $($path)::+ { $($name: $r.get(stringify!($name))?),* }
    };
}

/// The operation of a name and its attributes in braces (or nothing).
pub(in crate::ir) fn operation(name: &str, text: &str) -> Result<Op> {
    let r = Reader::new(text)?;
    let op = match name {
        "dims" => Op::Dims(r.get("dims")?),
        "iota" => build!(r, Op::Iota { dtype, shape, axis }),
        "select" => Op::Select,
        "cast" => build!(r, Op::Cast { to, saturate }),
        "bitcast" => build!(r, Op::Bitcast { to }),
        "reshape" => build!(r, Op::Reshape { shape }),
        "transpose" => build!(r, Op::Transpose { perm }),
        "broadcast" => build!(r, Op::Broadcast { shape }),
        "slice" => build!(r, Op::Slice { ranges }),
        "concat" => build!(r, Op::Concat { axis }),
        "pad" => build!(r, Op::Pad { before, after, mode }),
        "gather" => build!(r, Op::Gather { axis }),
        "gather_elements" => build!(r, Op::GatherElements { axis }),
        "gather_nd" => build!(r, Op::GatherNd { batch_dims }),
        "scatter_elements" => build!(r, Op::ScatterElements { axis, reduction }),
        "scatter_nd" => build!(r, Op::ScatterNd { reduction }),
        "reverse_sequence" => build!(r, Op::ReverseSequence { batch_axis, time_axis }),
        "resize" => Op::Resize {
            sizes: r.get("sizes")?,
            rule: build!(
                r,
                ResizeRule {
                    mode,
                    coordinates,
                    nearest,
                    scales,
                    cubic_a,
                    exclude_outside,
                    antialias,
                    extrapolation,
                    roi
                }
            ),
        },
        "grid_sample" => build!(r, Op::GridSample { mode, padding, align_corners }),
        "matmul" => Op::MatMul,
        "packed_matmul" => build!(r, Op::PackedMatMul { n }),
        "conv" => Op::Conv(conv_spec(&r)?),
        "packed_conv" => packed(&r, WeightFormat::Dense)?,
        "depthwise_conv" => packed(&r, WeightFormat::Depthwise)?,
        "dot_conv" => packed(&r, build!(r, WeightFormat::Int8 { bitmask }))?,
        "dot_depthwise" => packed(&r, WeightFormat::Int8Depthwise)?,
        "block_conv" => packed(&r, WeightFormat::Blocks)?,
        "sparse_conv" => {
            let staging = build!(r, Staging { lines, pitch, span, phase, aligned, abreast, shared, block, depth });
            packed(&r, WeightFormat::NonZeros { staging, stored: r.get("stored")? })?
        }
        "coded_conv" => packed(&r, WeightFormat::LowBit(build!(r, LowBit { bits, block })))?,
        "winograd_conv" => packed(&r, build!(r, WeightFormat::Filtered { tile, size, filters }))?,
        "conv_transpose" => Op::ConvTranspose { spec: conv_spec(&r)?, output_pads: r.get("output_pads")? },
        "col2im" => Op::Col2Im { spec: conv_spec(&r)?, kernel: r.get("kernel")?, size: r.get("size")? },
        "pool" => Op::Pool(pool_spec(&r)?),
        "max_pool_with_indices" => {
            Op::MaxPoolWithIndices { spec: pool_spec(&r)?, column_major: r.get("column_major")? }
        }
        "reduce" => build!(r, Op::Reduce { kind, axes, keep }),
        "arg_reduce" => build!(r, Op::ArgReduce { largest, axis, keep, last }),
        "cumulative" => build!(r, Op::Cumulative { kind, axis, exclusive, reverse }),
        "attention" => build!(r, Op::Attention { scale, guarded }),
        "softmax" => build!(r, Op::Softmax { axis, log }),
        "normalize" => build!(r, Op::Normalize { axis, epsilon, center }),
        "top_k" => build!(r, Op::TopK { k, axis, largest }),
        "recurrent" => Op::Recurrent(build!(
            r,
            CellSpec { cell, reverse, activations, clip, peephole, coupled, lengths, quantized }
        )),
        "non_zero" => build!(r, Op::NonZero { count }),
        "non_max_suppression" => Op::NonMaxSuppression,
        "tree_ensemble" => {
            Op::TreeEnsemble(Box::new(build!(r, TreeEnsemble { roots, nodes, votes, aggregate, targets })))
        }
        function => match (UnaryOp::read(function), BinaryOp::read(function)) {
            (Ok(f), _) => Op::Unary(f),
            (_, Ok(f)) => Op::Binary(f),
            _ => return Err(Error::invalid(format!("there is no operation `{name}`"))),
        },
    };
    match r.0.into_inner().first() {
        Some((left, _)) => Err(Error::invalid(format!("`{name}` has no attribute `{left}`"))),
        None => Ok(op),
    }
}

fn packed(r: &Reader, weights: WeightFormat) -> Result<Op> {
    let (spec, kernel, out) = (conv_spec(r)?, r.get("kernel")?, r.get("out")?);
    Ok(Packed { spec, kernel, out, weights }.into())
}

fn conv_spec(r: &Reader) -> Result<ConvSpec> {
    Ok(build!(r, ConvSpec { strides, dilations, pads, group, layout }))
}

fn pool_spec(r: &Reader) -> Result<PoolSpec> {
    Ok(build!(r, PoolSpec { kind, kernel, strides, dilations, pads, ceil, layout }))
}
