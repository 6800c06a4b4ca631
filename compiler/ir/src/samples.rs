//! Sample nodes, at least one per primitive, on which tests of all operations run.

#[cfg(test)]
mod tests;

use super::{DType, Graph, Tensor, text};

/// A node: its operands' types, its text without operands, its results' types.
#[derive(Debug)]
pub struct Sample {
    operands: &'static [&'static str],
    op: &'static str,
    results: &'static [&'static str],
}

/// One row per sample.
macro_rules! table {
    ($($op:literal ($($operand:literal),*) -> $($result:literal),+;)*) => {
        &[$(Sample { op: $op, operands: &[$($operand),*], results: &[$($result),+] }),*]
    };
}

const TABLE: &[Sample] = table! {
    "constant [1.0, -2.5]" () -> "f32[2]";
    "dims {dims=[3, 4]}" () -> "i64[2]";
    "iota {dtype=i32, shape=[2, 3], axis=1}" () -> "i32[2, 3]";
    "neg" ("f32[2]") -> "f32[2]";
    "abs" ("i64[2]") -> "i64[2]";
    "sign" ("f16[2]") -> "f16[2]";
    "floor" ("f32[2]") -> "f32[2]";
    "ceil" ("f32[2]") -> "f32[2]";
    "round" ("f32[2]") -> "f32[2]";
    "sqrt" ("f32[2]") -> "f32[2]";
    "reciprocal" ("f64[2]") -> "f64[2]";
    "exp" ("f32[2]") -> "f32[2]";
    "log" ("f32[2]") -> "f32[2]";
    "sin" ("f32[2]") -> "f32[2]";
    "cos" ("f32[2]") -> "f32[2]";
    "tan" ("f32[2]") -> "f32[2]";
    "asin" ("f32[2]") -> "f32[2]";
    "acos" ("f32[2]") -> "f32[2]";
    "atan" ("f32[2]") -> "f32[2]";
    "sinh" ("f32[2]") -> "f32[2]";
    "cosh" ("f32[2]") -> "f32[2]";
    "tanh" ("bf16[2]") -> "bf16[2]";
    "asinh" ("f32[2]") -> "f32[2]";
    "acosh" ("f32[2]") -> "f32[2]";
    "atanh" ("f32[2]") -> "f32[2]";
    "erf" ("f32[2]") -> "f32[2]";
    "gelu" ("f32[2]") -> "f32[2]";
    "sigmoid" ("f32[2]") -> "f32[2]";
    "softplus" ("f32[2]") -> "f32[2]";
    "not" ("bool[2]") -> "bool[2]";
    "bit_not" ("u8[2]") -> "u8[2]";
    "is_nan" ("f32[2]") -> "bool[2]";
    "is_inf" ("f32[2]") -> "bool[2]";
    "add" ("f32[2, 1]", "f32[3]") -> "f32[2, 3]";
    "sub" ("u8[2]", "u8[2]") -> "u8[2]";
    "mul" ("i32[2]", "i32[]") -> "i32[2]";
    "div" ("i64[2]", "i64[2]") -> "i64[2]";
    "pow" ("f32[2]", "f32[]") -> "f32[2]";
    "min" ("f32[2]", "f32[2]") -> "f32[2]";
    "max" ("f32[2]", "f32[2]") -> "f32[2]";
    "mod" ("f32[2]", "f32[2]") -> "f32[2]";
    "rem" ("i32[2]", "i32[2]") -> "i32[2]";
    "and" ("bool[2]", "bool[2]") -> "bool[2]";
    "or" ("i32[2]", "i32[2]") -> "i32[2]";
    "xor" ("bool[2]", "bool[2]") -> "bool[2]";
    "shift_left" ("u32[2]", "u32[2]") -> "u32[2]";
    "shift_right" ("u32[2]", "u32[2]") -> "u32[2]";
    "equal" ("bool[2]", "bool[2]") -> "bool[2]";
    "less" ("f32[2]", "f32[2]") -> "bool[2]";
    "less_or_equal" ("f32[2]", "f32[2]") -> "bool[2]";
    "greater" ("f32[2]", "f32[2]") -> "bool[2]";
    "greater_or_equal" ("u64[2]", "u64[2]") -> "bool[2]";
    "select" ("bool[2, 1]", "f32[3]", "f32[]") -> "f32[2, 3]";
    "cast {to=f8e4m3fn, saturate=true}" ("f32[2]") -> "f8e4m3fn[2]";
    "bitcast {to=i32}" ("f32[2]") -> "i32[2]";
    "reshape {shape=[3, 2]}" ("f32[2, 3]") -> "f32[3, 2]";
    "transpose {perm=[2, 0, 1]}" ("f32[2, 3, 4]") -> "f32[4, 2, 3]";
    "broadcast {shape=[2, 3]}" ("f32[2, 1]") -> "f32[2, 3]";
    "slice {ranges=[1:2, 3:2:-2]}" ("f32[3, 4]") -> "f32[2, 2]";
    "concat {axis=1}" ("f32[2, 1]", "f32[2, 2]") -> "f32[2, 3]";
    "pad {before=[1, 0], after=[0, 2], mode=reflect}" ("f32[2, 3]", "f32[]") -> "f32[3, 5]";
    "gather {axis=1}" ("f32[2, 3]", "i64[2, 2]") -> "f32[2, 2, 2]";
    "gather_elements {axis=1}" ("f32[2, 3]", "i32[2, 2]") -> "f32[2, 2]";
    "gather_nd {batch_dims=1}" ("f32[2, 3, 4]", "i64[2, 1]") -> "f32[2, 4]";
    "scatter_elements {axis=0, reduction=add}" ("f32[2, 3]", "i64[1, 3]", "f32[1, 3]") -> "f32[2, 3]";
    "scatter_nd {reduction=max}" ("f32[2, 3]", "i64[2, 1]", "f32[2, 3]") -> "f32[2, 3]";
    "reverse_sequence {batch_axis=1, time_axis=0}" ("f32[3, 2]", "i64[2]") -> "f32[3, 2]";
    "resize {sizes=[1, 4], mode=cubic, coordinates=tf_crop_and_resize, nearest=floor, scales=[1.0, 2.0], \
     cubic_a=-0.75, exclude_outside=true, antialias=true, extrapolation=-1.0, roi=[(0.0, 1.0), (0.25, 0.75)]}"
        ("f32[1, 2]") -> "f32[1, 4]";
    "grid_sample {mode=linear, padding=reflection, align_corners=true}"
        ("f32[1, 2, 3, 3]", "f32[1, 2, 2, 2]") -> "f32[1, 2, 2, 2]";
    "matmul" ("f32[2, 1, 2, 3]", "f32[3, 3, 4]") -> "f32[2, 3, 2, 4]";
    "packed_matmul {n=5}" ("f32[2, 3]", "f32[2, 3, 4]") -> "f32[2, 5]";
    "block_conv {strides=[], dilations=[], pads=[], group=1, layout=channels_last, kernel=[], out=5}"
        ("f32[2, 3]", "i32[3]", "i32[2]", "f32[2, 4]") -> "f32[2, 5]";
    "block_conv {strides=[2], dilations=[1], pads=[(0, 0)], group=1, layout=channels_last, kernel=[3], out=5}"
        ("u8[1, 9, 4]", "i32[3]", "i32[2]", "i8[2, 4, 4]") -> "i32[1, 4, 5]";
    "conv {strides=[2, 1], dilations=[1, 2], pads=[(1, 0), (0, 1)], group=2, layout=channels_first}"
        ("f32[1, 4, 5, 5]", "f32[6, 2, 2, 2]", "f32[6]") -> "f32[1, 6, 3, 4]";
    "packed_conv {strides=[1], dilations=[1], pads=[(0, 0)], group=2, layout=channels_last, kernel=[3], out=6}"
        ("f32[1, 5, 4]", "f32[2, 1, 3, 2, 4]") -> "f32[1, 3, 6]";
    "int8_conv {strides=[1], dilations=[2], pads=[(0, 0)], group=2, layout=channels_last, kernel=[2], out=6, \
     bitmask=false}"
        ("u8[1, 5, 10]", "i8[2, 1, 2, 2, 4, 4]") -> "i32[1, 3, 6]";
    "int8_conv {strides=[2, 1], dilations=[1, 1], pads=[(0, 0), (0, 0)], group=1, layout=channels_last, kernel=[2, \
     3], out=5, bitmask=false}" ("i8[1, 5, 6, 3]", "i8[1, 2, 2, 3, 4, 4]") -> "i32[1, 2, 4, 5]";
    "int8_depthwise {strides=[2, 1], dilations=[1, 1], pads=[(0, 0), (0, 0)], group=3, layout=channels_last, \
     kernel=[4, 2], out=3}"
        ("u8[1, 9, 4, 3]", "i8[1, 1, 2, 8, 4]") -> "i32[1, 3, 3, 3]";
    "int8_conv {strides=[], dilations=[], pads=[], group=1, layout=channels_last, kernel=[], out=5, bitmask=false}"
        ("u8[2, 3, 22]", "i8[1, 1, 1, 6, 8, 4]") -> "i32[2, 3, 5]";
    "int8_conv {strides=[], dilations=[], pads=[], group=1, layout=channels_last, kernel=[], out=5, bitmask=true}"
        ("u8[2, 3, 22]", "i64[1, 1, 1, 6, 1]", "i8[80]", "i32[1]") -> "i32[2, 3, 5]";
    "sparse_conv {strides=[], dilations=[], pads=[], group=1, layout=channels_last, kernel=[], out=2, lines=1, \
     pitch=1, span=1, phase=1, aligned=false, abreast=4, shared=1, block=4, depth=5, stored=channels_last}"
        ("f32[2, 5]", "i32[2]", "u8[4]", "u16[4]", "f32[4]") -> "f32[2, 2]";
    "sparse_conv {strides=[], dilations=[], pads=[], group=1, layout=channels_first, kernel=[], out=2, lines=1, \
     pitch=1, span=1, phase=1, aligned=false, abreast=4, shared=1, block=8, depth=3, stored=channels_last}"
        ("f32[2, 5, 3, 4]", "i32[3]", "u8[8]", "u16[4]", "f32[4]") -> "f32[2, 3, 4, 2]";
    "sparse_conv {strides=[1, 1], dilations=[1, 1], pads=[(1, 1), (0, 1)], group=1, layout=channels_last, \
     kernel=[3, 2], out=2, lines=4, pitch=6, span=32, phase=48, aligned=false, abreast=4, shared=2, block=4, depth=8, stored=channels_first}"
        ("f32[1, 4, 5, 2]", "i32[2]", "u8[4]", "i32[2]", "f32[4]") -> "f32[1, 2, 4, 5]";
    "lowbit_conv {strides=[2, 1], dilations=[1, 2], pads=[(0, 0), (0, 0)], group=1, layout=channels_last, kernel=[2, \
     3], out=5, bits=8, block=16}" ("f32[1, 5, 7, 3]", "i32[2, 5, 4]", "f32[2, 2, 4]") -> "f32[1, 2, 3, 5]";
    "lowbit_conv {strides=[], dilations=[], pads=[], group=1, layout=channels_last, kernel=[], out=5, bits=4, block=16}"
        ("f32[2, 3, 22]", "i32[1, 3, 8]", "f32[1, 2, 8]", "f32[16]") -> "f32[2, 3, 5]";
    "lowbit_conv {strides=[], dilations=[], pads=[], group=1, layout=channels_last, kernel=[], out=5, bits=4, block=16}"
        ("f32[2, 3, 22]", "i32[1, 3, 8]", "f16[1, 2, 8]", "i8[1, 2, 8]") -> "f32[2, 3, 5]";
    "winograd_conv {strides=[1, 1], dilations=[1, 1], pads=[(0, 0), (0, 0)], group=1, layout=channels_last, \
     kernel=[3, 3], out=8, tile=[2, 2], size=[3, 2], filters=transformed}"
        ("f32[1, 6, 4, 4]", "f32[16, 2, 4, 4]") -> "f32[1, 3, 2, 8]";
    "winograd_conv {strides=[1, 1], dilations=[1, 1], pads=[(0, 0), (0, 0)], group=1, layout=channels_last, \
     kernel=[3, 3], out=8, tile=[4, 4], size=[3, 6], filters=transformed}"
        ("f32[1, 6, 10, 4]", "f32[36, 2, 4, 4]") -> "f32[1, 3, 6, 8]";
    "winograd_conv {strides=[1], dilations=[1], pads=[(0, 0)], group=1, layout=channels_last, kernel=[5], out=8, \
     tile=[4], size=[9], filters=transformed}"
        ("f32[1, 16, 4]", "f32[8, 2, 4, 4]") -> "f32[1, 9, 8]";
    "winograd_conv {strides=[1, 1], dilations=[3, 1], pads=[(0, 0), (0, 0)], group=1, layout=channels_last, \
     kernel=[5, 1], out=8, tile=[2, 1], size=[9, 2], filters=transformed}"
        ("f32[1, 24, 2, 4]", "f32[6, 2, 4, 4]") -> "f32[1, 9, 2, 8]";
    "winograd_conv {strides=[1, 1], dilations=[1, 1], pads=[(0, 0), (0, 0)], group=1, layout=channels_last, \
     kernel=[3, 3], out=8, tile=[4, 4], size=[3, 6], filters=plain}"
        ("f32[1, 6, 10, 4]", "f16[9, 2, 4, 4]") -> "f32[1, 3, 6, 8]";
    "winograd_conv {strides=[1, 1], dilations=[1, 1], pads=[(0, 0), (0, 0)], group=1, layout=channels_last, \
     kernel=[3, 3], out=8, tile=[2, 2], size=[3, 2], filters=coded(4, 48)}"
        ("f32[1, 6, 4, 8]", "i32[2, 9, 4]", "f32[2, 2, 4]", "i8[2, 2, 4]") -> "f32[1, 3, 2, 8]";
    "depthwise_conv {strides=[1, 1], dilations=[1, 1], pads=[(0, 0), (0, 0)], group=3, layout=channels_last, \
     kernel=[2, 2], out=3}"
        ("f32[1, 4, 4, 3]", "f32[2, 2, 3]") -> "f32[1, 3, 3, 3]";
    "conv_transpose {strides=[2], dilations=[1], pads=[(1, 0)], group=2, layout=channels_first, output_pads=[1]}"
        ("f32[1, 4, 3]", "f32[4, 3, 2]") -> "f32[1, 6, 6]";
    "col2im {strides=[1, 1], dilations=[1, 1], pads=[(0, 0), (0, 0)], group=1, layout=channels_first, \
     kernel=[2, 2], size=[3, 3]}" ("f32[1, 8, 4]") -> "f32[1, 2, 3, 3]";
    "pool {kind=lp(2), kernel=[2], strides=[2], dilations=[1], pads=[(0, 1)], ceil=true, layout=channels_last}"
        ("f32[1, 5, 2]") -> "f32[1, 3, 2]";
    "max_pool_with_indices {kind=max, kernel=[2, 2], strides=[1, 1], dilations=[1, 1], pads=[(0, 0), (0, 0)], \
     ceil=false, layout=channels_first, column_major=true}"
        ("f32[1, 2, 3, 3]") -> "f32[1, 2, 2, 2]", "i64[1, 2, 2, 2]";
    "reduce {kind=mean, axes=[0, 2], keep=true}" ("f32[2, 3, 4]") -> "f32[1, 3, 1]";
    "arg_reduce {largest=true, axis=1, keep=false, last=true}" ("f32[2, 3]") -> "i64[2]";
    "cumulative {kind=sum, axis=1, exclusive=true, reverse=true}" ("i32[2, 3]") -> "i32[2, 3]";
    "attention {scale=0.5, guarded=true}" ("f32[2, 3, 4, 5]", "f32[2, 6, 2, 5]", "f32[2, 6, 2, 7]", "f32[1, 4, 1, 6]") -> "f32[2, 3, 4, 7]";
    "softmax {axis=0, log=true}" ("f32[2, 3]") -> "f32[2, 3]";
    "normalize {axis=1, epsilon=1e-5, center=true}" ("f16[2, 3]") -> "f16[2, 3]";
    "top_k {k=2, axis=0, largest=false}" ("f32[3, 2]") -> "f32[2, 2]", "i64[2, 2]";
    "recurrent {cell=rnn, reverse=false, activations=[relu, tanh, softsign], clip=none, peephole=false, \
     coupled=false, lengths=true, quantized=false, coded=none}"
        ("f32[3, 2, 4]", "f32[4, 4]", "f32[2, 4]", "i64[2]") -> "f32[3, 2, 4]", "f32[2, 4]";
    "recurrent {cell=gru_linear_before_reset, reverse=true, activations=[sigmoid, hard_sigmoid(0.2, 0.5), \
     leaky_relu(0.01)], clip=3.0, peephole=false, coupled=false, lengths=false, quantized=false, coded=none}"
        ("f32[3, 2, 12]", "f32[4, 12]", "f32[2, 4]", "f32[4]") -> "f32[3, 2, 4]", "f32[2, 4]";
    "recurrent {cell=lstm, reverse=false, activations=[scaled_tanh(1.5, 0.5), elu(1.0), affine(2.0, 0.0)], \
     clip=none, peephole=true, coupled=true, lengths=false, quantized=false, coded=none}"
        ("f32[3, 2, 4]", "f32[1, 4]", "f32[2, 1]", "f32[2, 1]", "f32[3]")
        -> "f32[3, 2, 1]", "f32[2, 1]", "f32[2, 1]";
    "recurrent {cell=gru, reverse=false, activations=[sigmoid, tanh, tanh], clip=none, peephole=false, coupled=false, \
     lengths=false, quantized=false, coded=coded(8, 16)}"
        ("f32[3, 2, 15]", "i32[1, 2, 16]", "f32[2, 5]", "f32[1, 1, 16]") -> "f32[3, 2, 5]", "f32[2, 5]";
    "non_zero {count=count}" ("f32[2, 3]") -> "i64[2, count]";
    "non_max_suppression" ("f32[2, 3, 4]", "bool[2, 3]", "f32[]") -> "i64[2, 3]";
    "if {binds=[taken]}\n  then\n    %0 = input \"0\" : f32[2, 3]\n    %1 = neg(%0) : f32[2, 3]\n    output \"0\" = %1\n    \
     output \"1\" = %0\n  else\n    %0 = input \"0\" : f32[2, 3]\n    %1 = slice(%0) {ranges=[1:1, 0:3]} : f32[1, 3]\n    \
     %2 = exp(%0) : f32[2, 3]\n    output \"0\" = %1\n    output \"1\" = %2\n  end"
        ("bool[]", "f32[2, 3]") -> "f32[taken, 3]", "f32[2, 3]";
    "tree_ensemble {roots=[0], nodes=[(1, less_or_equal, 0.5, true, node(1), leaf(0, 1)), \
     (0, equal, 2.0, false, leaf(1, 2), leaf(0, 3))], votes=[(0, 1.0), (1, -2.0), (0, 0.5)], aggregate=sum, \
     targets=2}" ("f32[3, 2]") -> "f32[3, 2]";
};

/// All samples.
pub fn samples() -> &'static [Sample] {
    TABLE
}

impl Sample {
    /// The text of a graph with only this node, exactly as printed.
    pub fn text(&self) -> String {
        let mut lines = String::new();
        for (i, ty) in self.operands.iter().enumerate() {
            lines += &format!("%{i} = input \"x{i}\" : {ty}\n");
        }
        let list = |range: std::ops::Range<usize>| range.map(|i| format!("%{i}")).collect::<Vec<_>>().join(", ");
        let n = self.operands.len();
        let results = n..n + self.results.len();
        // Regions follow the line.
        let (op, regions) = self.op.split_once('\n').map_or((self.op, None), |(op, regions)| (op, Some(regions)));
        let call = match op.split_once(' ') {
            _ if op.starts_with("constant") => op.to_string(),
            Some((name, attributes)) => format!("{name}({}) {attributes}", list(0..n)),
            None => format!("{op}({})", list(0..n)),
        };
        lines += &format!("{} = {call} : {}  // sample\n", list(results.clone()), self.results.join(", "));
        regions.iter().for_each(|regions| lines += &format!("{regions}\n"));
        results.enumerate().for_each(|(i, r)| lines += &format!("output \"y{i}\" = %{r}\n"));
        lines
    }

    /// The graph with only this node.
    pub fn graph(&self) -> Graph {
        text::parse(&self.text()).unwrap_or_else(|e| panic!("{e}\n{}", self.text()))
    }
}

/// Data for a graph's inputs: integers are 0 and 1, so that they are valid indices and lengths; bytes are 0 to 3, so
/// that they are valid slots, four of which differ.
pub fn inputs(graph: &Graph) -> Vec<Tensor> {
    let types = graph.inputs().iter().map(|&n| graph.ty(n.into()).clone());
    types
        .map(|ty| {
            let shape = ty.fixed_shape().unwrap();
            let n = shape.iter().product::<usize>();
            if ty.dtype.is_float() {
                let values: Vec<f64> = (0..n).map(|i| ((i * 7 + 3) % 11) as f64 / 10.0).collect();
                Tensor::from_f64s(ty.dtype, shape, &values).unwrap()
            } else {
                let kinds = if ty.dtype == DType::U8 { 4 } else { 2 };
                Tensor::from_i64s(ty.dtype, shape, &(0..n).map(|i| (i % kinds) as i64).collect::<Vec<_>>()).unwrap()
            }
        })
        .collect()
}
