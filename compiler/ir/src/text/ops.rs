//! Prints operations as a name and attributes, and parses them.

use std::cell::RefCell;

use super::attr::{Attr, find, inside, pieces};
use crate::{
    BinaryOp, CellSpec, ConvSpec, Dim, LowBit, Op, Packed, PoolSpec, ResizeRule, Staging, Sym, TreeEnsemble, UnaryOp,
    WeightFormat,
};
use crate::{Error, Result};

/// `name=value` pairs.
type Attrs = Vec<(&'static str, String)>;

/// Pairs from variables of the attributes' names.
macro_rules! attrs {
    ($($name:ident),* $(,)?) => { vec![$((stringify!($name), $name.show())),*] };
}

/// An operation's name in the text form; for element-wise functions, the function's name.
pub(super) fn name(op: &Op) -> String {
    match op {
        Op::Unary(f) => f.show(),
        Op::Binary(f) => f.show(),
        other => other.name().to_string(),
    }
}

/// The pairs that are not yet read.
struct Reader<'a>(RefCell<Vec<(&'a str, &'a str)>>);

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Result<Reader<'a>> {
        let pair = |piece: &'a str| match find(piece, "=") {
            Some(at) => Ok((piece[..at].trim(), piece[at + 1..].trim())),
            None => Err(Error::invalid(format!("`{piece}` is not an attribute `name=value`"))),
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

/// Attributes that are the fields of a structure, printed among those of the operation that contains it.
trait Fields: Sized {
    fn show(&self) -> Attrs;
    fn read(r: &Reader) -> Result<Self>;
}

macro_rules! fields {
    ($($ty:ident { $($field:ident),* $(,)? })*) => {$(
        impl Fields for $ty {
            fn show(&self) -> Attrs {
                let $ty { $($field),* } = self;
                attrs![$($field),*]
            }

            fn read(r: &Reader) -> Result<$ty> {
                Ok($ty { $($field: r.get(stringify!($field))?),* })
            }
        }
    )*};
}

fields! {
    ConvSpec { strides, dilations, pads, group, layout }
    PoolSpec { kind, kernel, strides, dilations, pads, ceil, layout }
    ResizeRule { mode, coordinates, nearest, scales, cubic_a, exclude_outside, antialias, extrapolation, roi }
    CellSpec { cell, reverse, activations, clip, peephole, coupled, lengths, quantized, coded }
    Staging { lines, pitch, span, phase, aligned, abreast, shared, block, depth }
    LowBit { bits, block }
    TreeEnsemble { roots, nodes, votes, aggregate, targets }
}

impl<T: Fields> Fields for Box<T> {
    fn show(&self) -> Attrs {
        (**self).show()
    }

    fn read(r: &Reader) -> Result<Box<T>> {
        T::read(r).map(Box::new)
    }
}

/// Printer and parser of the variants of an enum, from one row per variant: its name in the text form, and its fields;
/// fields after `@` are structures, whose [`Fields`] take their place. `others` are arms for further variants.
macro_rules! variants {
    (
        $enum:ident, $attributes:ident, $read:ident,
        { $($name:literal $variant:ident $({ $($(@ $flat:ident)? $($field:ident)?),* })? $(( $(@ $inner:ident)? $($one:ident)? ))?;)* }
        { $($other:pat => $shown:expr,)* }
    ) => {
        fn $attributes(value: &$enum) -> Attrs {
            match value {
                $($enum::$variant $({ $($($flat)? $($field)?),* })? $(( $($inner)? $($one)? ))? => [
                    $($($(Fields::show($flat))? $(attrs![$field])?,)*)?
                    $($(Fields::show($inner))? $(attrs![$one])?,)?
                    Attrs::new(),
                ].concat(),)*
                $($other => $shown,)*
            }
        }

        #[cfg(test)]
        impl $enum {
            /// Names of the variants with a row.
            pub(crate) const NAMES: &[&str] = &[$($name),*];
        }

        /// The variant with a name, if there is one.
        fn $read(name: &str, r: &Reader) -> Result<Option<$enum>> {
            Ok(Some(match name {
                $($name => $enum::$variant
                    $({ $($($flat: Fields::read(r)?)? $($field: r.get(stringify!($field))?)?),* })?
                    $(( $({ stringify!($inner); Fields::read(r)? })? $(r.get(stringify!($one))?)? ))?,)*
                _ => return Ok(None),
            }))
        }
    };
}

variants! {
    Op, attributes_of, read_operation,
    {
        "dims" Dims(dims);
        "iota" Iota { dtype, shape, axis };
        "select" Select;
        "cast" Cast { to, saturate };
        "bitcast" Bitcast { to };
        "reshape" Reshape { shape };
        "transpose" Transpose { perm };
        "broadcast" Broadcast { shape };
        "slice" Slice { ranges };
        "concat" Concat { axis };
        "pad" Pad { before, after, mode };
        "gather" Gather { axis };
        "gather_elements" GatherElements { axis };
        "gather_nd" GatherNd { batch_dims };
        "scatter_elements" ScatterElements { axis, reduction };
        "scatter_nd" ScatterNd { reduction };
        "reverse_sequence" ReverseSequence { batch_axis, time_axis };
        "resize" Resize { sizes, @rule };
        "grid_sample" GridSample { mode, padding, align_corners };
        "matmul" MatMul;
        "packed_matmul" PackedMatMul { n };
        "conv" Conv(@spec);
        "conv_transpose" ConvTranspose { @spec, output_pads };
        "col2im" Col2Im { @spec, kernel, size };
        "pool" Pool(@spec);
        "max_pool_with_indices" MaxPoolWithIndices { @spec, column_major };
        "reduce" Reduce { kind, axes, keep };
        "arg_reduce" ArgReduce { largest, axis, keep, last };
        "cumulative" Cumulative { kind, axis, exclusive, reverse };
        "attention" Attention { scale, guarded };
        "softmax" Softmax { axis, log };
        "normalize" Normalize { axis, epsilon, center };
        "top_k" TopK { k, axis, largest };
        "recurrent" Recurrent(@spec);
        "non_zero" NonZero { count };
        "non_max_suppression" NonMaxSuppression;
        "tree_ensemble" TreeEnsemble(@trees);
    }
    {
        // Written in another way, or by the names of their functions.
        Op::Input(..) | Op::Constant(_) | Op::Unary(_) | Op::Binary(_) => Attrs::new(),
        Op::Packed(packed) => {
            let Packed { spec, kernel, out, weights } = &**packed;
            [spec.show(), attrs![kernel, out], attributes_of_weights(weights)].concat()
        },
        Op::If(branches) => {
            let binds: Vec<Dim> = branches.binds.iter().map(|s| Dim::sym(s.0.clone())).collect();
            attrs![binds]
        },
    }
}

variants! {
    WeightFormat, attributes_of_weights, read_weights,
    {
        "packed_conv" Dense;
        "depthwise_conv" Depthwise;
        "int8_conv" Int8 { bitmask };
        "int8_depthwise" Int8Depthwise;
        "block_conv" Blocks;
        "sparse_conv" NonZeros { @staging, stored };
        "lowbit_conv" LowBit(@format);
        "winograd_conv" Filtered { tile, size, filters };
    }
    {}
}

/// An operation's attributes; [`Op::Input`] and [`Op::Constant`] are written in another way.
pub(super) fn attributes(op: &Op) -> Attrs {
    attributes_of(op)
}

/// The symbols that an operation with regions binds, from its attributes in braces.
pub(super) fn binds(text: &str) -> Result<Vec<Sym>> {
    let r = Reader::new(text)?;
    let binds: Vec<Dim> = r.get("binds")?;
    let symbol = |d: &Dim| d.as_sym().cloned().ok_or_else(|| Error::invalid(format!("{d} is not a symbol")));
    binds.iter().map(symbol).collect()
}

/// The operation with a name and attributes in braces (or without attributes).
pub(crate) fn operation(name: &str, text: &str) -> Result<Op> {
    let r = Reader::new(text)?;
    let op = if let Some(op) = read_operation(name, &r)? {
        op
    } else if let Some(weights) = read_weights(name, &r)? {
        Packed { spec: Fields::read(&r)?, kernel: r.get("kernel")?, out: r.get("out")?, weights }.into()
    } else {
        match (UnaryOp::read(name), BinaryOp::read(name)) {
            (Ok(f), _) => Op::Unary(f),
            (_, Ok(f)) => Op::Binary(f),
            _ => return Err(Error::invalid(format!("there is no operation `{name}`"))),
        }
    };
    match r.0.into_inner().first() {
        Some((left, _)) => Err(Error::invalid(format!("`{name}` has no attribute `{left}`"))),
        None => Ok(op),
    }
}
