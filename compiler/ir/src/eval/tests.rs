//! Cases that are easy to get wrong: each is a graph's text without inputs, and the values of its outputs.

use super::*;
use crate::{DType, Graph, text};

fn outputs(lines: &str) -> Result<Vec<Tensor>> {
    let graph: Graph = text::parse(lines)?;
    crate::verify(&graph)?;
    eval_graph(&graph, &[])
}

/// Evaluates the node in the last line and compares each result's values; NaN equals NaN.
fn check(lines: &str, want: &[&[f64]]) {
    let last = lines.trim_end().lines().last().unwrap();
    let names = last.split('=').next().unwrap().split(',').map(str::trim);
    let outs: String = names.enumerate().map(|(i, name)| format!("\noutput \"y{i}\" = {name}")).collect();
    let lines = lines.trim_end().to_string() + &outs;
    let got = outputs(&lines).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(got.len(), want.len());
    for (tensor, want) in got.iter().zip(want) {
        let got = tensor.to_f64s();
        let close =
            |(a, b): (&f64, &f64)| a == b || (a - b).abs() < 1e-6 * b.abs().max(1.0) || a.is_nan() && b.is_nan();
        assert!(got.len() == want.len() && got.iter().zip(*want).all(close), "{got:?}, not {want:?} of\n{lines}");
    }
}

/// One operation on constants: `body` with the data and types of its operands.
fn node(body: &str, operands: &[&str], results: &str, want: &[&[f64]]) {
    let mut lines = String::new();
    for (i, data) in operands.iter().enumerate() {
        lines += &format!("%{i} = constant {data}\n");
    }
    let n = operands.len();
    let names: Vec<String> = (0..want.len()).map(|i| format!("%{}", n + i)).collect();
    let list: Vec<String> = (0..n).map(|i| format!("%{i}")).collect();
    let (name, attributes) = body.split_once(' ').unwrap_or((body, ""));
    lines += &format!("{} = {name}({}) {attributes} : {results}", names.join(", "), list.join(", "));
    check(&lines, want);
}

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

#[test]
fn remainders_and_division() {
    let (a, b) = ("[7, -7, 7, -7, 5] : i32[5]", "[3, 3, -3, -3, 0] : i32[5]");
    node("mod", &[a, b], "i32[5]", &[&[1.0, 2.0, -2.0, -1.0, 0.0]]);
    node("rem", &[a, b], "i32[5]", &[&[1.0, -1.0, 1.0, -1.0, 0.0]]);
    node("div", &[a, b], "i32[5]", &[&[2.0, -2.0, -2.0, 2.0, 0.0]]);
    let (a, b) = ("[5.3, -5.3, 5.3, -5.3, 1.0] : f64[5]", "[2.0, 2.0, -2.0, -2.0, 0.0] : f64[5]");
    node("mod", &[a, b], "f64[5]", &[&[1.3, 0.7, -0.7, -1.3, NAN]]);
    node("rem", &[a, b], "f64[5]", &[&[1.3, -1.3, 1.3, -1.3, NAN]]);
    node("div", &["[-128, -128] : i8[2]", "[-1, 0] : i8[2]"], "i8[2]", &[&[-128.0, 0.0]]);
    node("div", &["[1.0, -1.0, 0.0] : f32[3]", "splat 0.0 : f32[3]"], "f32[3]", &[&[INF, -INF, NAN]]);
    let (a, b) = ("[18446744073709551615, 9] : u64[2]", "[9223372036854775808, 2] : u64[2]");
    node("div", &[a, b], "u64[2]", &[&[1.0, 4.0]]);
    node("less", &[a, b], "bool[2]", &[&[0.0, 0.0]]);
    node("max", &[a, b], "u64[2]", &[&[u64::MAX as f64, 9.0]]);
}

#[test]
fn integers_wrap() {
    node("add", &["[250, 5] : u8[2]", "[10, 5] : u8[2]"], "u8[2]", &[&[4.0, 10.0]]);
    node("sub", &["[-128] : i8[1]", "[1] : i8[1]"], "i8[1]", &[&[127.0]]);
    node("add", &["[7, -8] : i4[2]", "[1, -1] : i4[2]"], "i4[2]", &[&[-8.0, 7.0]]);
    node(
        "pow",
        &["[2, -3, 5, -1, 0] : i32[5]", "[10, 3, -1, -3, 0] : i32[5]"],
        "i32[5]",
        &[&[1024.0, -27.0, 0.0, -1.0, 1.0]],
    );
    node("shift_right", &["[-8, 16, 1] : i32[3]", "[1, 2, 32] : i32[3]"], "i32[3]", &[&[2147483644.0, 4.0, 0.0]]);
    node("shift_left", &["[129, 1] : u8[2]", "[1, 8] : u8[2]"], "u8[2]", &[&[2.0, 0.0]]);
    node("bit_not", &["[0, 1] : u8[2]"], "u8[2]", &[&[255.0, 254.0]]);
    node("matmul", &["[200, 100] : u8[1, 2]", "[2, 1] : u8[2, 1]"], "u8[1, 1]", &[&[244.0]]);
    node("reduce {kind=sum, axes=[0], keep=false}", &["[30000, 30000] : i16[2]"], "i16[]", &[&[-5536.0]]);
    node("reduce {kind=sum, axes=[0], keep=false}", &["[100, 100] : i8[2]"], "i32[]", &[&[200.0]]);
}

#[test]
fn nan_wins() {
    let (a, b) = ("[NaN, 1.0, 1.0] : f32[3]", "[1.0, NaN, 2.0] : f32[3]");
    node("min", &[a, b], "f32[3]", &[&[NAN, NAN, 1.0]]);
    node("max", &[a, b], "f32[3]", &[&[NAN, NAN, 2.0]]);
    node("reduce {kind=max, axes=[0], keep=false}", &[a], "f32[]", &[&[NAN]]);
    node("reduce {kind=min, axes=[0], keep=false}", &[b], "f32[]", &[&[NAN]]);
    node("equal", &[a, a], "bool[3]", &[&[0.0, 1.0, 1.0]]);
    node("less_or_equal", &[a, b], "bool[3]", &[&[0.0, 0.0, 1.0]]);
}

#[test]
fn rounding_and_functions() {
    node("round", &["[0.5, 1.5, -0.5, 2.5, 0.49999997] : f32[5]"], "f32[5]", &[&[0.0, 2.0, 0.0, 2.0, 0.0]]);
    node("sign", &["[-2.0, 0.0, NaN] : f32[3]"], "f32[3]", &[&[-1.0, 0.0, NAN]]);
    node("softplus", &["[-1000.0, 0.0, 1000.0] : f64[3]"], "f64[3]", &[&[0.0, 2f64.ln(), 1000.0]]);
    node("sigmoid", &["[-1000.0, 0.0, 1000.0] : f64[3]"], "f64[3]", &[&[0.0, 0.5, 1.0]]);
    node(
        "erf",
        &["[0.0, 0.5, -1.0, 3.0, 7.0, inf] : f64[6]"],
        "f64[6]",
        &[&[0.0, 0.5204998778130465, -0.8427007929497149, 0.9999779095030014, 1.0, 1.0]],
    );
}

#[test]
fn casts() {
    let floats = "[300.7, -300.7, NaN, inf, -1.9] : f32[5]";
    node("cast {to=i8, saturate=true}", &[floats], "i8[5]", &[&[127.0, -128.0, 0.0, 127.0, -1.0]]);
    node("cast {to=u8, saturate=true}", &[floats], "u8[5]", &[&[255.0, 0.0, 0.0, 255.0, 0.0]]);
    node("cast {to=bool, saturate=true}", &[floats], "bool[5]", &[&[1.0; 5]]);
    node("cast {to=i4, saturate=true}", &["[8.0, -9.0, 15.0] : f32[3]"], "i4[3]", &[&[-8.0, 7.0, -1.0]]);
    node("cast {to=i8, saturate=true}", &["[300, -129] : i32[2]"], "i8[2]", &[&[44.0, 127.0]]);
    node("cast {to=f8e4m3fn, saturate=true}", &["[500.0, 0.48033] : f32[2]"], "f8e4m3fn[2]", &[&[448.0, 0.46875]]);
    node("cast {to=f8e4m3fn, saturate=false}", &["[500.0, -inf] : f32[2]"], "f8e4m3fn[2]", &[&[NAN, NAN]]);
    // Halfway between two f32 after rounding to f64: must round once.
    node("cast {to=f32, saturate=true}", &["[9007199791611905] : i64[1]"], "f32[1]", &[&[9007200328482816.0]]);
    node("cast {to=f64, saturate=true}", &["[18446744073709551615] : u64[1]"], "f64[1]", &[&[u64::MAX as f64]]);
    node("cast {to=i64, saturate=true}", &["[4294967295] : u32[1]"], "i64[1]", &[&[4294967295.0]]);
}

#[test]
fn slices_and_pads() {
    let x = "[0, 1, 2, 3, 4] : i8[5]";
    node("slice {ranges=[4:3:-2]}", &[x], "i8[3]", &[&[4.0, 2.0, 0.0]]);
    node("slice {ranges=[1:2:3]}", &[x], "i8[2]", &[&[1.0, 4.0]]);
    node("slice {ranges=[9:0]}", &[x], "i8[0]", &[&[]]);
    let pad = |mode: &str, want: &[f64]| {
        let body = format!("pad {{before=[3], after=[2], mode={mode}}}");
        node(&body, &["[1, 2, 3] : i8[3]", "[9] : i8[]"], "i8[8]", &[want]);
    };
    pad("constant", &[9.0, 9.0, 9.0, 1.0, 2.0, 3.0, 9.0, 9.0]);
    pad("edge", &[1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 3.0, 3.0]);
    pad("reflect", &[2.0, 3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0]);
    pad("wrap", &[1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 1.0, 2.0]);
    node(
        "pad {before=[1, 0], after=[0, 1], mode=constant}",
        &["[1, 2] : i8[1, 2]", "[0] : i8[]"],
        "i8[2, 3]",
        &[&[0.0, 0.0, 0.0, 1.0, 2.0, 0.0]],
    );
}

#[test]
fn transposes_of_every_size() {
    for dtype in ["u8", "i16", "f32", "i64"] {
        node(
            "transpose {perm=[2, 0, 1]}",
            &[&format!("[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11] : {dtype}[2, 3, 2]")],
            &format!("{dtype}[2, 2, 3]"),
            &[&[0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 1.0, 3.0, 5.0, 7.0, 9.0, 11.0]],
        );
    }
    node(
        "broadcast {shape=[2, 2, 3]}",
        &["[1, 2] : i8[2, 1]"],
        "i8[2, 2, 3]",
        &[&[1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0]],
    );
    node(
        "concat {axis=1}",
        &["[1, 2] : i8[2, 1]", "[3, 4, 5, 6] : i8[2, 2]"],
        "i8[2, 3]",
        &[&[1.0, 3.0, 4.0, 2.0, 5.0, 6.0]],
    );
}

#[test]
fn gathers_and_scatters() {
    let x = "[0, 1, 2, 3, 4, 5] : f32[2, 3]";
    node("gather {axis=1}", &[x, "[-1, 0] : i64[2]"], "f32[2, 2]", &[&[2.0, 0.0, 5.0, 3.0]]);
    node("gather_elements {axis=0}", &[x, "[1, 0, -1] : i64[1, 3]"], "f32[1, 3]", &[&[3.0, 1.0, 5.0]]);
    node("gather_nd {batch_dims=0}", &[x, "[1, -1, 0, 1] : i64[2, 2]"], "f32[2]", &[&[5.0, 1.0]]);
    node("gather_nd {batch_dims=1}", &[x, "[2, 0] : i64[2, 1]"], "f32[2]", &[&[2.0, 3.0]]);
    let scatter = "scatter_elements {axis=1, reduction=add}";
    node(scatter, &[x, "[0, 0] : i64[1, 2]", "[10, 20] : f32[1, 2]"], "f32[2, 3]", &[&[30.0, 1.0, 2.0, 3.0, 4.0, 5.0]]);
    node(
        "scatter_nd {reduction=max}",
        &[x, "[0, 0] : i64[2, 1]", "[0, 9, 0, 8, 0, 8] : f32[2, 3]"],
        "f32[2, 3]",
        &[&[8.0, 9.0, 8.0, 3.0, 4.0, 5.0]],
    );
    let lines = format!(
        "%0 = constant {x}\n%1 = constant [3] : i64[1]\n%2 = gather(%0, %1) {{axis=1}} : f32[2, 1]\noutput \"y\" = %2"
    );
    let message = outputs(&lines).unwrap_err().to_string();
    assert!(message.contains("index 3 is out of range for an axis of 3 elements"), "{message}");
    node(
        "reverse_sequence {batch_axis=0, time_axis=1}",
        &[x, "[2, 3] : i64[2]"],
        "f32[2, 3]",
        &[&[1.0, 0.0, 2.0, 5.0, 4.0, 3.0]],
    );
}

#[test]
fn reductions() {
    let x = "[1.0, 2.0, 3.0, 4.0, 5.0, 6.0] : f32[2, 3]";
    node("reduce {kind=sum, axes=[0], keep=false}", &[x], "f32[3]", &[&[5.0, 7.0, 9.0]]);
    node("reduce {kind=mean, axes=[1], keep=true}", &[x], "f32[2, 1]", &[&[2.0, 5.0]]);
    node("reduce {kind=max, axes=[0], keep=false}", &["[] : f32[0, 2]"], "f32[2]", &[&[-INF, -INF]]);
    node("reduce {kind=min, axes=[0], keep=false}", &["[] : i8[0]"], "i8[]", &[&[127.0]]);
    node("reduce {kind=prod, axes=[], keep=false}", &[x], "f32[2, 3]", &[&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]);
    let ties = "[2.0, 5.0, 5.0, 2.0] : f32[4]";
    node("arg_reduce {largest=true, axis=0, keep=false, last=false}", &[ties], "i64[]", &[&[1.0]]);
    node("arg_reduce {largest=false, axis=0, keep=true, last=true}", &[ties], "i64[1]", &[&[3.0]]);
    node("top_k {k=3, axis=0, largest=true}", &[ties], "f32[3], i64[3]", &[&[5.0, 5.0, 2.0], &[1.0, 2.0, 0.0]]);
    node("top_k {k=1, axis=0, largest=false}", &[x], "f32[1, 3], i64[1, 3]", &[&[1.0, 2.0, 3.0], &[0.0; 3]]);
    node(
        "cumulative {kind=sum, axis=1, exclusive=true, reverse=false}",
        &[x],
        "f32[2, 3]",
        &[&[0.0, 1.0, 3.0, 0.0, 4.0, 9.0]],
    );
    node(
        "cumulative {kind=prod, axis=0, exclusive=false, reverse=true}",
        &[x],
        "f32[2, 3]",
        &[&[4.0, 10.0, 18.0, 4.0, 5.0, 6.0]],
    );
    node("non_zero {count=n}", &["[1, 0, 0, 2] : i32[2, 2]"], "i64[2, n]", &[&[0.0, 1.0, 0.0, 1.0]]);
    node("softmax {axis=0, log=false}", &["[1000.0, 1000.0] : f32[2]"], "f32[2]", &[&[0.5, 0.5]]);
    node("normalize {axis=0, epsilon=0.0, center=true}", &["[1.0, 3.0] : f32[2]"], "f32[2]", &[&[-1.0, 1.0]]);
    node(
        "normalize {axis=0, epsilon=0.0, center=false}",
        &["[3.0, 4.0] : f64[2]"],
        "f64[2]",
        &[&[3.0 / 12.5f64.sqrt(), 4.0 / 12.5f64.sqrt()]],
    );
}

#[test]
fn pools() {
    let pool = |kind: &str, pads: &str, ceil: bool, n: usize, want: &[f64]| {
        let body = format!(
            "pool {{kind={kind}, kernel=[3], strides=[2], dilations=[1], pads=[{pads}], ceil={ceil}, \
             layout=channels_first}}"
        );
        node(&body, &["[1.0, -2.0, 3.0, 4.0] : f32[1, 1, 4]"], &format!("f32[1, 1, {n}]"), &[want]);
    };
    pool("max", "(0, 0)", false, 1, &[3.0]);
    pool("max", "(0, 0)", true, 2, &[3.0, 4.0]);
    pool("average", "(0, 0)", true, 2, &[2.0 / 3.0, 3.5]);
    // Padding counts if requested; what ceil mode adds beyond it never does.
    pool("average", "(1, 1)", false, 2, &[-0.5, 5.0 / 3.0]);
    pool("average_with_padding", "(1, 1)", false, 2, &[-1.0 / 3.0, 5.0 / 3.0]);
    pool("average_with_padding", "(0, 0)", true, 2, &[2.0 / 3.0, 3.5]);
    pool("lp(2)", "(0, 0)", true, 2, &[14f64.sqrt(), 5.0]);
    let x = "[1.0, 5.0, 5.0, 2.0, 0.0, 7.0] : f32[1, 1, 2, 3]";
    let indices = |column_major: bool, want: &[f64]| {
        let body = format!(
            "max_pool_with_indices {{kind=max, kernel=[2, 2], strides=[1, 1], dilations=[1, 1], \
             pads=[(0, 0), (0, 0)], ceil=false, layout=channels_first, column_major={column_major}}}"
        );
        node(&body, &[x], "f32[1, 1, 1, 2], i64[1, 1, 1, 2]", &[&[5.0, 7.0], want]);
    };
    indices(false, &[1.0, 5.0]);
    indices(true, &[2.0, 5.0]);
}

#[test]
fn convolutions_agree() {
    let spec = "strides=[2], dilations=[1], pads=[(1, 1)], group=1, layout=channels_first";
    let x = "[1.0, 2.0, 3.0, 4.0] : f32[1, 1, 4]";
    node(
        &format!("conv {{{spec}}}"),
        &[x, "[1.0, 10.0, 100.0] : f32[1, 1, 3]", "[0.5] : f32[1]"],
        "f32[1, 1, 2]",
        &[&[210.5, 432.5]],
    );
    // ONNX's example of a transposed convolution, one axis.
    let spec = "strides=[2], dilations=[1], pads=[(0, 0)], group=1, layout=channels_first, output_pads=[1]";
    node(
        &format!("conv_transpose {{{spec}}}"),
        &["[1.0, 2.0] : f32[1, 1, 2]", "[1.0, 10.0, 100.0] : f32[1, 1, 3]"],
        "f32[1, 1, 6]",
        &[&[1.0, 10.0, 102.0, 20.0, 200.0, 0.0]],
    );
    // Two groups of one channel, channels last, three forms of the same weights.
    let spec = "strides=[1], dilations=[1], pads=[(0, 0)], group=2, layout=channels_last";
    let x = "[1.0, 2.0, 3.0, 4.0, 5.0, 6.0] : f32[1, 3, 2]";
    let want: &[f64] = &[31.0, 402.0, 53.0, 604.0];
    node(&format!("conv {{{spec}}}"), &[x, "[1.0, 10.0, 1.0, 100.0] : f32[2, 1, 2]"], "f32[1, 2, 2]", &[want]);
    node(
        &format!("depthwise_conv {{{spec}, kernel=[2], out=2}}"),
        &[x, "[1.0, 1.0, 10.0, 100.0] : f32[2, 2]"],
        "f32[1, 2, 2]",
        &[want],
    );
    let packed = "[1.0, 0.0, 10.0, 0.0, 1.0, 0.0, 100.0, 0.0] : f32[2, 1, 2, 1, 2]";
    node(&format!("packed_conv {{{spec}, kernel=[2], out=2}}"), &[x, packed], "f32[1, 2, 2]", &[want]);
    // [[1, 2, 3], [4, 5, 6]] in panels of two columns.
    let packed = "[1.0, 2.0, 4.0, 5.0, 3.0, 0.0, 6.0, 0.0] : f32[2, 2, 2]";
    node("packed_matmul {n=3}", &["[1.0, 10.0] : f32[1, 2]", packed], "f32[1, 3]", &[&[41.0, 52.0, 63.0]]);
    let spec = "strides=[1], dilations=[1], pads=[(1, 0)], group=1, layout=channels_first";
    node(
        &format!("col2im {{{spec}, kernel=[2], size=[2]}}"),
        &["[1.0, 2.0, 3.0, 4.0] : f32[1, 2, 2]"],
        "f32[1, 1, 2]",
        &[&[5.0, 4.0]],
    );
}

fn resize(rule: &str, data: &str, n: usize, size: usize, scale: f64, want: &[f64]) {
    let mut fields = [
        ("mode", "linear"),
        ("coordinates", "half_pixel"),
        ("nearest", "round_prefer_floor"),
        ("cubic_a", "-0.75"),
        ("exclude_outside", "false"),
        ("antialias", "false"),
        ("extrapolation", "0.0"),
        ("roi", "[]"),
    ];
    for pair in rule.split_whitespace() {
        let (name, value) = pair.split_once('=').unwrap();
        fields.iter_mut().filter(|f| f.0 == name).for_each(|f| f.1 = value);
    }
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let body = format!("resize {{sizes=[{size}], scales=[{scale:?}], {}}}", fields.join(", "));
    node(&body, &[&format!("{data} : f32[{n}]")], &format!("f32[{size}]"), &[want]);
}

#[test]
fn resizes() {
    let x = "[1.0, 2.0, 3.0, 4.0]";
    resize("", x, 4, 8, 2.0, &[1.0, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4.0]);
    resize("coordinates=align_corners", x, 4, 7, 1.75, &[1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]);
    resize("coordinates=asymmetric", x, 4, 8, 2.0, &[1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.0]);
    // test_resize_downsample_scales_linear_align_corners: uses the exact width, not the rounded one.
    resize("coordinates=align_corners", x, 4, 2, 0.6, &[1.0, 1.0 + 3.0 / 1.4]);
    resize("coordinates=pytorch_half_pixel", x, 4, 1, 0.25, &[1.0]);
    let nearest = |rule: &str, want: &[f64]| resize(&format!("mode=nearest {rule}"), x, 4, 8, 2.0, want);
    nearest("", &[1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0]);
    nearest("coordinates=asymmetric", &[1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0]);
    nearest("coordinates=asymmetric nearest=round_prefer_ceil", &[1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 4.0]);
    nearest("coordinates=asymmetric nearest=floor", &[1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0]);
    nearest("coordinates=asymmetric nearest=ceil", &[1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 4.0]);
    // The differences are those of one row of test_resize_upsample_scales_cubic.
    resize(
        "mode=cubic",
        x,
        4,
        8,
        2.0,
        &[0.89453125, 1.19140625, 1.66796875, 2.296875, 2.703125, 3.33203125, 3.80859375, 4.10546875],
    );
    resize("mode=cubic exclude_outside=true cubic_a=-0.5", "[1.0, 1.0, 1.0, 1.0]", 4, 8, 2.0, &[1.0; 8]);
    resize("antialias=true", x, 4, 2, 0.5, &[1.625, 3.375]);
    resize("antialias=true exclude_outside=true", x, 4, 2, 0.5, &[1.0 + 5.0 / 7.0, 4.0 - 5.0 / 7.0]);
    resize(
        "coordinates=tf_crop_and_resize roi=[(0.5,1.5)] extrapolation=9.0",
        "[1.0, 2.0, 3.0]",
        3,
        3,
        1.0,
        &[2.0, 3.0, 9.0],
    );
}

#[test]
fn grid_samples() {
    let sample = |mode: &str, padding: &str, align: bool, grid: &str, want: &[f64]| {
        let body = format!("grid_sample {{mode={mode}, padding={padding}, align_corners={align}}}");
        let grid = format!("{grid} : f32[1, 4, 1]");
        node(&body, &["[1.0, 2.0, 3.0] : f32[1, 1, 3]", &grid], "f32[1, 1, 4]", &[want]);
    };
    let grid = "[-1.0, 0.5, 1.0, 2.0]";
    sample("linear", "zeros", true, grid, &[1.0, 2.5, 3.0, 0.0]);
    sample("linear", "zeros", false, grid, &[0.5, 2.75, 1.5, 0.0]);
    sample("linear", "border", false, grid, &[1.0, 2.75, 3.0, 3.0]);
    sample("linear", "reflection", true, grid, &[1.0, 2.5, 3.0, 2.0]);
    sample("nearest", "zeros", true, grid, &[1.0, 3.0, 3.0, 0.0]);
    sample("cubic", "border", true, "[-1.0, 0.0, 1.0, 2.0]", &[1.0, 2.0, 3.0, 3.0]);
}

#[test]
fn recurrent_layers() {
    let layer = |attributes: &str, operands: &[&str], want: &[&[f64]]| {
        let types = vec!["f32[2, 1, 1]", "f32[1, 1]", "f32[1, 1]"][..want.len()].join(", ");
        let body =
            format!("recurrent {{{attributes}, activations=[affine(1.0, 0.0), affine(1.0, 0.0), affine(1.0, 0.0)]}}");
        node(&body, operands, &types, want);
    };
    let plain = "clip=none, peephole=false, coupled=false, lengths=false, quantized=false, coded=none";
    let (x, r, h) = ("[1.0, 2.0] : f32[2, 1, 1]", "[10.0] : f32[1, 1]", "[3.0] : f32[1, 1]");
    layer(&format!("cell=rnn, reverse=false, {plain}"), &[x, r, h], &[&[31.0, 312.0], &[312.0]]);
    layer(&format!("cell=rnn, reverse=true, {plain}"), &[x, r, h], &[&[321.0, 32.0], &[321.0]]);
    layer(
        "cell=rnn, reverse=true, clip=none, peephole=false, coupled=false, lengths=true, quantized=false, coded=none",
        &[x, r, h, "[1] : i64[1]"],
        &[&[31.0, 0.0], &[31.0]],
    );
    layer(
        "cell=rnn, reverse=false, clip=5.0, peephole=false, coupled=false, lengths=false, quantized=false, coded=none",
        &[x, r, h],
        &[&[5.0, 5.0], &[5.0]],
    );
    // z = 0.5, r = 2: candidates x + r * h * R, or x + r * (h * R + b).
    let (x, r) = ("[0.5, 2.0, 1.0, 1.0, 2.0, 1.0] : f32[2, 1, 3]", "[0.0, 0.0, 10.0] : f32[1, 3]");
    layer(&format!("cell=gru, reverse=false, {plain}"), &[x, r, h], &[&[32.0, 32.0], &[32.0]]);
    layer(
        &format!("cell=gru_linear_before_reset, reverse=false, {plain}"),
        &[x, r, h, "[1.0] : f32[1]"],
        &[&[33.0, 33.0], &[33.0]],
    );
    // i = 2 + p_i c, o = 3 + p_o c', f = 0.5 + p_f c, candidate 5.
    let x = "[2.0, 3.0, 0.5, 5.0, 2.0, 3.0, 0.5, 5.0] : f32[2, 1, 4]";
    let (r, c) = ("splat 0.0 : f32[1, 4]", "[4.0] : f32[1, 1]");
    layer(&format!("cell=lstm, reverse=false, {plain}"), &[x, r, h, c], &[&[36.0, 48.0], &[48.0], &[16.0]]);
    layer(
        "cell=lstm, reverse=false, clip=none, peephole=true, coupled=false, lengths=false, quantized=false, coded=none",
        &[x, r, h, c, "[0.0, 1.0, 0.0] : f32[3]"],
        &[&[180.0, 304.0], &[304.0], &[16.0]],
    );
    layer(
        "cell=lstm, reverse=false, clip=none, peephole=false, coupled=true, lengths=false, quantized=false, coded=none",
        &[x, r, h, c],
        &[&[18.0, 12.0], &[12.0], &[4.0]],
    );
}

#[test]
fn trees() {
    let trees = "roots=[0], nodes=[(0, less_or_equal, 0.1, true, leaf(0, 1), leaf(1, 1))], votes=[(0, 1.0), (1, 2.0)], \
                 aggregate=sum, targets=2";
    node(
        &format!("tree_ensemble {{{trees}}}"),
        &["[0.1, 0.2, NaN] : f32[3, 1]"],
        "f32[3, 2]",
        &[&[1.0, 0.0, 0.0, 2.0, 1.0, 0.0]],
    );
}

#[test]
fn symbols_are_bound_from_inputs() {
    let graph = text::parse(
        r#"%0 = input "x" : f32[n, 2]
%1 = input "shape" : i64[2]
%2 = reshape(%0) {shape=[shape[0], shape[1]]} : f32[shape[0], shape[1]]
%3 = dims() {dims=[n, 3*n-1]} : i64[2]
output "y" = %2
output "z" = %3
requires 2*n == shape[0]*shape[1]"#,
    )
    .unwrap();
    let x = Tensor::from_f64s(DType::F32, vec![3, 2], &[0.0; 6]).unwrap();
    let shape = |a, b| Tensor::from_i64s(DType::I64, vec![2], &[a, b]).unwrap();
    let results = eval_graph(&graph, &[x.clone(), shape(1, 6)]).unwrap();
    assert_eq!(results[0].shape(), [1, 6]);
    assert_eq!(results[1].to_i64s(), [3, 8]);
    assert!(eval_graph(&graph, &[x.clone(), shape(2, 4)]).is_err());
    assert!(eval_graph(&graph, std::slice::from_ref(&x)).is_err());
    assert!(Bindings::of_inputs(&graph, &[shape(1, 6), x]).is_err());
}

/// In an optimised build, a hundred megabytes of weights are folded in about a second; here four, with a margin for
/// slow machines and unoptimised builds.
#[test]
fn moving_and_mapping_is_fast() {
    let n = 1000;
    let x = Tensor::from_f64s(DType::F32, vec![n, n], &(0..n * n).map(|i| i as f64).collect::<Vec<_>>()).unwrap();
    let ops =
        "transpose {perm=[1, 0]}|pad {before=[0, 3], after=[0, 5], mode=constant}|exp|add|cast {to=f16, saturate=true}";
    for op in ops.split('|') {
        let start = std::time::Instant::now();
        let (name, attributes) = op.split_once(' ').unwrap_or((op, ""));
        let op = text::operation(name, attributes).unwrap();
        let operands = match name {
            "pad" => vec![x.clone(), Tensor::scalar_f64(DType::F32, 0.0)],
            "add" => vec![x.clone(), x.clone()],
            _ => vec![x.clone()],
        };
        let types: Vec<TensorType> = operands.iter().map(Tensor::ty).collect();
        let types = infer(&op, &types.iter().collect::<Vec<_>>()).unwrap().types;
        eval_op(&op, &operands, &types).unwrap();
        let elapsed = start.elapsed();
        assert!(elapsed.as_secs_f64() < 2.0, "{name} takes {elapsed:?}");
    }
}
