//! Writes compressed weights as nodes and initializers of standard ONNX, in the spellings that mcc's kernels for low-bit
//! weights recognise and other engines run with the same numbers.
//!
//! Contract: each function gives nodes and initializers that compute one value, under the name that is asked for, so that
//! what reads the weight need not change. All other names come from the caller's source of new names. Elements are in the
//! order of the tensor that is replaced.
//!
//! | form | nodes | standard operators since |
//! |---|---|---|
//! | [`steps`] | DequantizeLinear, per tensor or channel | 13 (8 bits), 21 (4 bits) |
//! | [`steps`] | DequantizeLinear, per block | 21 |
//! | [`matmul_nbits`] | `com.microsoft` MatMulNBits, which is the product as well | any |
//! | [`codebook`] | Cast, Gather, and Mul if rows have factors | 13 (bytes), 21 (4 bits) |
//! | [`half()`] | Cast of a 16-bit float tensor | 13 |

mod pack;
#[cfg(test)]
mod tests;

use mcc_ir::{DType, Error, Result, Tensor};
use mcc_proto::attribute_proto::AttributeType;
use mcc_proto::tensor_proto::DataType;
use mcc_proto::{AttributeProto, NodeProto, TensorProto};
use serde::{Deserialize, Serialize};

use pack::packed;

/// The first version of the standard operators with 4-bit integers and blocks.
pub const FOUR_BITS_SINCE: i64 = 21;

/// The domain of operators with codes that the standard does not have.
pub const MICROSOFT: &str = "com.microsoft";

/// Nodes and initializers that compute a weight or, for [`matmul_nbits`], a product.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightNodes {
    /// The nodes, in an order in which they can run.
    pub nodes: Vec<NodeProto>,
    /// Their constants.
    pub initializers: Vec<TensorProto>,
    /// The name of the result.
    pub output: String,
}

/// The integers that codes are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integer {
    /// 8 bits, signed.
    I8,
    /// 8 bits, unsigned.
    U8,
    /// 4 bits, signed.
    I4,
    /// 4 bits, unsigned.
    U4,
}

impl Integer {
    /// The bits of an element.
    pub fn bits(self) -> u32 {
        if matches!(self, Integer::I8 | Integer::U8) { 8 } else { 4 }
    }

    /// The smallest and the largest number.
    pub fn range(self) -> [i32; 2] {
        match self {
            Integer::I8 => [-128, 127],
            Integer::U8 => [0, 255],
            Integer::I4 => [-8, 7],
            Integer::U4 => [0, 15],
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Integer::I8 => DataType::Int8,
            Integer::U8 => DataType::Uint8,
            Integer::I4 => DataType::Int4,
            Integer::U4 => DataType::Uint4,
        }
    }
}

/// Which elements share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// All.
    Tensor,
    /// Those at one place of an axis.
    Axis(usize),
    /// Runs of `size` along an axis; the last may be shorter.
    Blocks {
        /// The axis.
        axis: usize,
        /// Elements of a run.
        size: usize,
    },
}

impl Sharing {
    /// The shape of one number for all elements that share one; along an axis, it either has that axis only or
    /// broadcasts.
    fn shape(self, of: &[usize], broadcasts: bool) -> Result<Vec<usize>> {
        if let Sharing::Axis(axis) | Sharing::Blocks { axis, .. } = self
            && axis >= of.len()
        {
            return Err(Error::internal(format!("scales along axis {axis} of shape {of:?}")));
        }
        let mut shape = if broadcasts { vec![1; of.len()] } else { Vec::new() };
        match self {
            Sharing::Tensor => shape.clear(),
            Sharing::Axis(axis) if broadcasts => shape[axis] = of[axis],
            Sharing::Axis(axis) => shape.push(of[axis]),
            Sharing::Blocks { axis, size } => {
                shape = of.to_vec();
                shape[axis] = shape[axis].div_ceil(size.max(1));
            }
        }
        Ok(shape)
    }
}

/// Codes of equal steps: `(code - zero) * scale`.
#[derive(Clone, Copy, Debug)]
pub struct Steps<'s> {
    /// The weight's shape.
    pub shape: &'s [usize],
    /// Its codes.
    pub codes: &'s [i32],
    /// What they are stored as.
    pub integer: Integer,
    /// Which share a scale.
    pub sharing: Sharing,
    /// The scales: one, one per place of the axis, or as many as the shape has with blocks for elements, in its order.
    pub scales: &'s [f32],
    /// As many zero points; none if all are 0.
    pub zeros: Option<&'s [i32]>,
}

/// A weight as DequantizeLinear of integers.
///
/// # Errors
/// When counts do not agree or a number does not fit.
pub fn steps(steps: &Steps<'_>, output: &str, fresh: &mut dyn FnMut(&str) -> String) -> Result<WeightNodes> {
    counted(steps.codes.len(), steps.shape, "codes")?;
    let (axis, block) = match steps.sharing {
        Sharing::Tensor => (None, 0),
        Sharing::Axis(axis) => (Some(axis), 0),
        Sharing::Blocks { axis, size } => (Some(axis), size),
    };
    let of_scales = steps.sharing.shape(steps.shape, false)?;
    counted(steps.scales.len(), &of_scales, "scales")?;
    let codes = fresh(&format!("{output}_codes"));
    let scales = fresh(&format!("{output}_scales"));
    let mut initializers =
        vec![integers(&codes, steps.shape, steps.codes, steps.integer)?, floats(&scales, &of_scales, steps.scales)?];
    let mut input = vec![codes, scales];
    if let Some(zeros) = steps.zeros {
        counted(zeros.len(), &of_scales, "zero points")?;
        let name = fresh(&format!("{output}_zeros"));
        initializers.push(integers(&name, &of_scales, zeros, steps.integer)?);
        input.push(name);
    }
    let mut attribute = Vec::new();
    attribute.extend(axis.map(|axis| int("axis", axis)));
    attribute.extend((block > 0).then(|| int("block_size", block)));
    let node = NodeProto { attribute, ..node("DequantizeLinear", input, output) };
    Ok(WeightNodes { nodes: vec![node], initializers, output: output.to_string() })
}

/// The weights of a product as unsigned codes of blocks: `(code - zero) * scale`.
#[derive(Clone, Copy, Debug)]
pub struct Blocks<'b> {
    /// Output channels.
    pub rows: usize,
    /// Inputs of each.
    pub columns: usize,
    /// Bits of a code: 4 or 8.
    pub bits: u32,
    /// Inputs that share a scale: a power of two from 16 on.
    pub size: usize,
    /// The codes, a row after the other, from 0 on.
    pub codes: &'b [i32],
    /// A scale per row and block, row-major.
    pub scales: &'b [f32],
    /// As many zero points; none if all are half of the range, 8 or 128.
    pub zeros: Option<&'b [i32]>,
}

/// The product of `input` with the transposed weights, as MatMulNBits of domain `com.microsoft`, version 1.
///
/// # Errors
/// When counts do not agree or a number does not fit.
pub fn matmul_nbits(
    blocks: &Blocks<'_>,
    input: &str,
    output: &str,
    fresh: &mut dyn FnMut(&str) -> String,
) -> Result<WeightNodes> {
    let &Blocks { rows, columns, bits, size, .. } = blocks;
    if !matches!(bits, 4 | 8) || size < 16 || !size.is_power_of_two() || columns == 0 {
        return Err(Error::unsupported(format!("MatMulNBits of {bits} bits in blocks of {size} of {columns} inputs"))
            .help("codes have 4 or 8 bits, and blocks a power of two of inputs, from 16 on"));
    }
    let runs = columns.div_ceil(size);
    counted(blocks.codes.len(), &[rows, columns], "codes")?;
    counted(blocks.scales.len(), &[rows, runs], "scales")?;
    let range = [0, (1 << bits) - 1];
    let middle = 1 << (bits - 1);
    // The last block of a row is padded; padding is not read.
    let padded = |row: &[i32], len: usize| row.iter().copied().chain(std::iter::repeat(middle)).take(len).collect();
    let mut bytes = Vec::new();
    for row in blocks.codes.chunks(columns) {
        let row: Vec<i32> = padded(row, runs * size);
        bytes.extend(packed(&row, bits, range)?);
    }
    let [name, scales] = ["weights", "scales"].map(|what| fresh(&format!("{output}_{what}")));
    let mut initializers = vec![
        raw(&name, &[rows, runs, size * bits as usize / 8], DataType::Uint8, bytes),
        floats(&scales, &[rows, runs], blocks.scales)?,
    ];
    let mut inputs = vec![input.to_string(), name, scales];
    if let Some(zeros) = blocks.zeros {
        counted(zeros.len(), &[rows, runs], "zero points")?;
        let mut bytes = Vec::new();
        for row in zeros.chunks(runs) {
            bytes.extend(packed(row, bits, range)?);
        }
        let name = fresh(&format!("{output}_zeros"));
        initializers.push(raw(&name, &[rows, (runs * bits as usize).div_ceil(8)], DataType::Uint8, bytes));
        inputs.push(name);
    }
    let attribute = vec![int("K", columns), int("N", rows), int("bits", bits as usize), int("block_size", size)];
    let product = NodeProto { domain: MICROSOFT.into(), attribute, ..node("MatMulNBits", inputs, output) };
    Ok(WeightNodes { nodes: vec![product], initializers, output: output.to_string() })
}

/// Numbers of entries of tables.
#[derive(Clone, Copy, Debug)]
pub struct Entries<'e> {
    /// The weight's shape.
    pub shape: &'e [usize],
    /// The entry of each element, in its own table.
    pub codes: &'e [u8],
    /// The tables, one after the other, of as many entries each.
    pub tables: &'e [f32],
    /// Entries of a table.
    pub entries: usize,
    /// The axis along which tables differ, and so many consecutive places that share one; none for a single table.
    pub sharing: Option<Places>,
    /// Factors, and which elements share one.
    pub factors: Option<Factors<'e>>,
    /// Whether 4-bit integers may be written, where a single table has at most 16 entries.
    pub four_bits: bool,
}

/// Consecutive places of an axis.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// The axis.
    pub axis: usize,
    /// Places that belong together.
    pub size: usize,
}

/// Factors of elements.
#[derive(Clone, Copy, Debug)]
pub struct Factors<'f> {
    /// Which elements share one.
    pub sharing: Sharing,
    /// The factors: one, one per place of the axis, or as many as the shape has with blocks for elements, in its order.
    pub values: &'f [f32],
}

/// A weight as entries of tables, times factors if there are any. mcc keeps the codes of a single table of at most 16
/// entries, with factors per output channel, per block of its inputs or without; it computes other forms when it compiles.
///
/// # Errors
/// When counts do not agree or a code has no entry.
pub fn codebook(entries: &Entries<'_>, output: &str, fresh: &mut dyn FnMut(&str) -> String) -> Result<WeightNodes> {
    counted(entries.codes.len(), entries.shape, "codes")?;
    let tables = entries.tables.len() / entries.entries.max(1);
    if tables * entries.entries != entries.tables.len() || tables == 0 {
        return Err(Error::internal(format!("{} numbers are no tables of {}", entries.tables.len(), entries.entries)));
    }
    let indices = indices(entries, tables)?;
    let narrow = entries.four_bits && entries.tables.len() <= 16;
    let [name, wide, table] = ["indices", "wide", "table"].map(|what| fresh(&format!("{output}_{what}")));
    let stored = match entries.tables.len() {
        _ if narrow => integers(&name, entries.shape, &indices, Integer::U4)?,
        ..=256 => integers(&name, entries.shape, &indices, Integer::U8)?,
        257..=0x10000 => {
            let bytes = indices.iter().flat_map(|&i| (i as u16).to_le_bytes()).collect();
            raw(&name, entries.shape, DataType::Uint16, bytes)
        }
        more => return Err(Error::unsupported(format!("codebooks of {more} entries")).help("at most 65536")),
    };
    let mut initializers = vec![stored, floats(&table, &[entries.tables.len()], entries.tables)?];
    let cast = NodeProto { attribute: vec![int("to", DataType::Int32 as usize)], ..node("Cast", vec![name], &wide) };
    let looked_up = if entries.factors.is_some() { fresh(&format!("{output}_entries")) } else { output.to_string() };
    let gather = NodeProto { attribute: vec![int("axis", 0)], ..node("Gather", vec![table, wide], &looked_up) };
    let mut nodes = vec![cast, gather];
    if let Some(Factors { sharing, values }) = entries.factors {
        let mut factors = fresh(&format!("{output}_factors"));
        let shape = sharing.shape(entries.shape, true)?;
        counted(values.len(), &shape, "factors")?;
        initializers.push(floats(&factors, &shape, values)?);
        if let Sharing::Blocks { axis, size } = sharing {
            // Each place takes its block's.
            let [blocks, spread] = ["blocks", "spread"].map(|what| fresh(&format!("{output}_{what}")));
            let extent = entries.shape[axis];
            let places = (0..extent).flat_map(|at| ((at / size.max(1)) as i32).to_le_bytes()).collect();
            initializers.push(raw(&blocks, &[extent], DataType::Int32, places));
            let input = vec![factors, blocks];
            nodes.push(NodeProto { attribute: vec![int("axis", axis)], ..node("Gather", input, &spread) });
            factors = spread;
        }
        nodes.push(node("Mul", vec![looked_up, factors], output));
    }
    Ok(WeightNodes { nodes, initializers, output: output.to_string() })
}

/// The entries' numbers in all tables.
fn indices(entries: &Entries<'_>, tables: usize) -> Result<Vec<i32>> {
    if let Some(code) = entries.codes.iter().find(|c| usize::from(**c) >= entries.entries) {
        return Err(Error::internal(format!("code {code} of a table of {} entries", entries.entries)));
    }
    let Some(Places { axis, size }) = entries.sharing else {
        return Ok(entries.codes.iter().map(|&c| i32::from(c)).collect());
    };
    let extent = entries.shape.get(axis).copied().unwrap_or(0);
    if tables != extent.div_ceil(size.max(1)) {
        return Err(Error::internal(format!(
            "{tables} tables for axis {axis} of {:?} in runs of {size}",
            entries.shape
        )));
    }
    let inner: usize = entries.shape[axis + 1..].iter().product();
    let table = |at: usize| at / inner % extent / size;
    let index = |(at, &code): (usize, &u8)| (table(at) * entries.entries) as i32 + i32::from(code);
    Ok(entries.codes.iter().enumerate().map(index).collect())
}

/// The 16-bit floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Half {
    /// IEEE binary16.
    F16,
    /// The upper half of `f32`.
    Bf16,
}

impl Half {
    /// The nearest number of the type.
    pub fn round(self, v: f32) -> f32 {
        match self {
            Half::F16 => half::f16::from_f32(v).to_f32(),
            Half::Bf16 => half::bf16::from_f32(v).to_f32(),
        }
    }
}

/// A weight rounded to 16-bit floats. Numbers that these cannot reach become infinite, which is an error.
///
/// # Errors
/// When counts do not agree or a number is out of range.
pub fn half(
    shape: &[usize],
    values: &[f32],
    kind: Half,
    output: &str,
    fresh: &mut dyn FnMut(&str) -> String,
) -> Result<WeightNodes> {
    counted(values.len(), shape, "weights")?;
    let (dtype, data_type) = match kind {
        Half::F16 => (DType::F16, DataType::Float16),
        Half::Bf16 => (DType::BF16, DataType::Bfloat16),
    };
    let wide: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
    let tensor = Tensor::from_f64s(dtype, shape.to_vec(), &wide)?;
    if let Some(at) = tensor.to_f64s().iter().position(|v| !v.is_finite()) {
        return Err(Error::unsupported(format!(
            "weight {} of \"{output}\" is not in the range of {dtype}",
            values[at]
        ))
        .help("bf16 has the range of f32"));
    }
    let name = fresh(&format!("{output}_{}", dtype.name()));
    let initializers = vec![raw(&name, shape, data_type, tensor.data().to_vec())];
    let to = int("to", DataType::Float as usize);
    let cast = NodeProto { attribute: vec![to], ..node("Cast", vec![name], output) };
    Ok(WeightNodes { nodes: vec![cast], initializers, output: output.to_string() })
}

fn counted(have: usize, shape: &[usize], what: &str) -> Result<()> {
    match shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) {
        Some(want) if want == have => Ok(()),
        _ => Err(Error::internal(format!("{have} {what} for shape {shape:?}"))),
    }
}

fn raw(name: &str, shape: &[usize], data_type: DataType, bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        name: name.to_string(),
        dims: shape.iter().map(|&d| d as i64).collect(),
        data_type: data_type as i32,
        raw_data: bytes.into(),
        ..Default::default()
    }
}

fn integers(name: &str, shape: &[usize], values: &[i32], integer: Integer) -> Result<TensorProto> {
    let bytes = packed(values, integer.bits(), integer.range())?;
    Ok(raw(name, shape, integer.data_type(), bytes))
}

fn floats(name: &str, shape: &[usize], values: &[f32]) -> Result<TensorProto> {
    if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
        return Err(Error::internal(format!("\"{name}\" holds {bad}")));
    }
    Ok(raw(name, shape, DataType::Float, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
}

fn node(operator: &str, input: Vec<String>, output: &str) -> NodeProto {
    NodeProto {
        op_type: operator.to_string(),
        name: output.to_string(),
        input,
        output: vec![output.to_string()],
        ..Default::default()
    }
}

fn int(name: &str, value: usize) -> AttributeProto {
    let (name, r#type) = (name.to_string(), AttributeType::Int as i32);
    AttributeProto { name, i: Some(value as i64), r#type, ..Default::default() }
}
