//! `com.microsoft` operators with low-bit weights, several per byte, and one scale and zero point per block.

use super::super::builder::{self, Builder};
use super::super::node::{Node, Results};
use super::indexing::within;
use super::parameters::{self, named};
use super::quantize::per_block;
use super::reduce::product;
use mcc_ir::{DType, Dim, Error, Result, Tensor, Value};

/// Splits the bytes of a constant into fields of a few bits, low ones first.
fn unpacked(b: &Builder, packed: Value, bits: usize, what: &str) -> Result<Vec<u8>> {
    let t = b.graph.as_constant(packed);
    let t =
        t.ok_or_else(|| Error::unsupported(format!("{what} in an input of the model")).help("make it an initializer"))?;
    let mask = ((1u16 << bits) - 1) as u8;
    Ok(t.data().iter().flat_map(|&byte| (0..8 / bits).map(move |i| byte >> (i * bits) & mask)).collect())
}

/// The unsigned type with this number of bits.
fn unsigned(bits: i64) -> Result<(DType, usize)> {
    match bits {
        2 => Ok((DType::U2, 2)),
        4 => Ok((DType::U4, 4)),
        8 => Ok((DType::U8, 8)),
        _ => Err(Error::unsupported(format!("attribute bits is {bits}")).help("weights must have 2, 4 or 8 bits")),
    }
}

/// The weights of [`matmul_nbits`].
struct Packed {
    k: usize,
    columns: usize,
    block: usize,
    bits: usize,
    /// Blocks per column.
    blocks: usize,
}

impl Packed {
    fn of(n: &Node, bits: usize) -> Result<Packed> {
        let positive = |name: &str| -> Result<usize> {
            let v = n.need(name, n.try_int(name)?)?;
            usize::try_from(v)
                .ok()
                .filter(|&v| v > 0)
                .ok_or_else(|| Error::invalid(format!("attribute {name} is {v}")).help("it must be positive"))
        };
        let (k, columns, block) = (positive("K")?, positive("N")?, positive("block_size")?);
        Ok(Packed { k, columns, block, bits, blocks: k.div_ceil(block) })
    }

    /// Checks that the number of elements of an input is a product.
    fn counted(&self, have: usize, want: &[usize], what: &str) -> Result<()> {
        let count = want.iter().try_fold(1usize, |n, &f| n.checked_mul(f));
        if count == Some(have) {
            return Ok(());
        }
        let Packed { k, columns, block, bits, .. } = self;
        let want = count.map_or("more than can be counted".to_string(), |n| n.to_string());
        Err(Error::invalid(format!(
            "input {what} has {have} elements; attributes K {k}, N {columns}, block_size {block} and bits {bits} make it {want}"
        ))
        .help("blocks run along K; the last one of a column is padded"))
    }

    /// Checks that an input has one element per column and block.
    fn one_a_block(&self, b: &Builder, v: Value, what: &str) -> Result<()> {
        match b.ty(v).numel().as_const().and_then(|have| usize::try_from(have).ok()) {
            Some(have) => self.counted(have, &[self.columns, self.blocks], what),
            None => Ok(()),
        }
    }

    /// Zero points, `[columns, blocks]`.
    fn zeros(&self, b: &mut Builder, zero: Option<Value>, dtype: DType) -> Result<Value> {
        let shape = vec![self.columns, self.blocks];
        match zero {
            Some(zero) if b.dtype(zero) == DType::U8 => {
                let codes = unpacked(b, zero, self.bits, "input zero_points")?;
                // Every column's codes start at a byte.
                let run = (self.blocks * self.bits).div_ceil(8) * 8 / self.bits;
                self.counted(codes.len(), &[self.columns, run], "zero_points")?;
                let kept: Vec<u8> = codes.chunks(run).flat_map(|c| c.iter().take(self.blocks).copied()).collect();
                Ok(b.constant(Tensor::new(dtype, shape, kept.into())?))
            }
            Some(zero) if b.dtype(zero).is_float() => {
                self.one_a_block(b, zero, "zero_points")?;
                b.reshape(zero, shape.into_iter().map(Dim::from).collect())
            }
            Some(zero) => Err(Error::invalid(format!("input zero_points is {}", b.ty(zero)))
                .help("zero points must be u8, packed like the weights, or floats")),
            None => {
                let middle = Tensor::scalar_i64(dtype, 1 << (self.bits - 1));
                let middle = b.constant(middle);
                b.broadcast(middle, shape.into_iter().map(Dim::from).collect())
            }
        }
    }
}

/// A product with weights of 2, 4 or 8 bits. With `g_idx`, the elements of a column name the block whose scale they
/// use.
pub fn matmul_nbits(b: &mut Builder, n: &Node) -> Result<Results> {
    let (dtype, bits) = unsigned(n.int("bits", 4)?)?;
    let packed = Packed::of(n, bits)?;
    let Packed { k, columns, block, blocks, .. } = packed;
    let codes = unpacked(b, n.input(1)?, bits, "input B")?;
    packed.counted(codes.len(), &[columns, blocks, block], "B")?;
    parameters::factor(b, n, named(2, "scales"))?;
    packed.one_a_block(b, n.input(2)?, "scales")?;
    let x = n.input(0)?;
    if let Some(inner) = b.shape(x).last().and_then(Dim::as_const).filter(|&inner| inner != k as i64) {
        return Err(Error::invalid(format!("input A is {} for attribute K {k}", b.ty(x)))
            .help(format!("K must equal its last axis, {inner}, which is summed")));
    }
    let to = b.dtype(x);
    let weights = b.constant(Tensor::new(dtype, vec![columns, blocks, block], codes.into())?);
    let scale = b.cast(n.input(2)?, DType::F32)?;
    let scale = b.reshape(scale, vec![Dim::from(columns), Dim::from(blocks)])?;
    let zero = packed.zeros(b, n.optional(3), dtype)?;
    let parameters = [scale, zero];
    let (w, [scale, zero]) = match n.optional(4) {
        None => (weights, [b.unsqueeze(parameters[0], &[2])?, b.unsqueeze(parameters[1], &[2])?]),
        Some(order) => {
            block_numbers(b, order, &packed)?;
            let w = b.reshape(weights, vec![Dim::from(columns), Dim::from(blocks * block)])?;
            let w = b.slice(w, 1, Dim::ZERO, Dim::from(k))?;
            (w, [b.gather(parameters[0], order, 1)?, b.gather(parameters[1], order, 1)?])
        }
    };
    let w = b.cast(w, DType::F32)?;
    let zero = b.cast(zero, DType::F32)?;
    let w = b.minus(w, zero)?;
    let mut w = b.times(w, scale)?;
    if b.rank(w) == 3 {
        w = b.reshape(w, vec![Dim::from(columns), Dim::from(blocks * block)])?;
        w = b.slice(w, 1, Dim::ZERO, Dim::from(k))?;
    }
    let w = b.transpose(w, &[1, 0])?;
    let w = b.cast(w, to)?;
    let y = product(b, x, w)?;
    let Some(bias) = n.optional(5) else { return Ok(y.into()) };
    if let Some(have) = b.ty(bias).numel().as_const().filter(|&have| have != columns as i64) {
        return Err(Error::invalid(format!("input bias has {have} elements for attribute N {columns}"))
            .help("there must be one per column"));
    }
    Ok(b.plus(y, bias)?.into())
}

/// Checks the blocks that the elements of a column belong to.
fn block_numbers(b: &mut Builder, order: Value, packed: &Packed) -> Result<()> {
    if b.shape(order) != [Dim::from(packed.k)] {
        return Err(Error::invalid(format!("input g_idx is {} for attribute K {}", b.ty(order), packed.k))
            .help("it must have the block number of each of the K elements of a column"));
    }
    let known = b.known_floats(order).unwrap_or_default();
    match known.iter().find(|&&v| v < 0.0 || v >= packed.blocks as f64) {
        Some(v) => Err(Error::invalid(format!("input g_idx holds {v} for {} blocks", packed.blocks))
            .help("block numbers start at 0")),
        None => Ok(()),
    }
}

/// Rows of a quantized table, dequantized, with one scale per block along an axis.
pub fn gather_block_quantized(b: &mut Builder, n: &Node) -> Result<Results> {
    let (mut data, scales) = (n.input(0)?, n.input(2)?);
    let rank = b.rank(data);
    let axis = builder::axis(n.int("gather_axis", 0)?, rank).map_err(|e| e.within("attribute gather_axis"))?;
    let along = builder::axis(n.int("quantize_axis", 1)?, rank).map_err(|e| e.within("attribute quantize_axis"))?;
    if axis == along {
        return Err(Error::unsupported(format!("attributes gather_axis and quantize_axis are both {axis}"))
            .help("blocks must run along an axis other than the gathered one"));
    }
    let (dtype, bits) = unsigned(n.int("bits", 4)?)?;
    let mut zero = n.optional(3);
    let bytes = b.dtype(data) == DType::U8;
    let block = n.int("block_size", 128)?;
    if block < 1 {
        return Err(
            Error::invalid(format!("attribute block_size is {block}")).help("it must be a positive number of elements")
        );
    }
    if bytes && along + 1 == rank {
        data = spread(b, data, dtype, bits, None, "input data")?;
        let blocks = b.shape(scales).last().and_then(Dim::as_const);
        zero = zero.map(|z| spread(b, z, dtype, bits, blocks, "input zero_points")).transpose()?;
    } else if bytes && bits < 8 {
        return Err(Error::unsupported(format!("attribute quantize_axis is {along} for {}", b.ty(data)))
            .help("packed elements need blocks along the last axis"));
    }
    parameters::factor(b, n, named(2, "scales"))?;
    parameters::blocks(b, data, scales, "scales", along as i64, block)?;
    if let Some(zero) = zero {
        parameters::blocks(b, data, zero, "zero_points", along as i64, block)?;
        if b.dtype(zero) != b.dtype(data) {
            return Err(Error::invalid(format!("input zero_points is {} for {}", b.ty(zero), b.ty(data)))
                .help("a zero point must have the type of the quantized tensor"));
        }
    }
    let indices = n.input(1)?;
    within(b, indices, &b.shape(data)[axis].clone(), "input indices")?;
    let (extent, place) =
        (b.shape(data)[along].clone(), if along < axis { along } else { along + b.rank(indices) - 1 });
    let wide = b.dtype(scales);
    let rows = b.gather(data, indices, axis)?;
    let mut y = b.cast(rows, wide)?;
    let chosen = |b: &mut Builder, p: Value| -> Result<Value> {
        let p = b.gather(p, indices, axis)?;
        per_block(b, p, place, block, &extent)
    };
    let zero = match zero {
        Some(zero) => Some(chosen(b, zero)?),
        // Codes packed into bytes have their zero point in the middle.
        None if bytes => Some(b.constant(Tensor::scalar_i64(dtype, 1 << (bits - 1)))),
        None => None,
    };
    if let Some(zero) = zero {
        let zero = b.cast(zero, wide)?;
        y = b.minus(y, zero)?;
    }
    let scale = chosen(b, scales)?;
    Ok(b.times(y, scale)?.into())
}

/// The fields in the bytes along the last axis, `kept` of them.
fn spread(b: &mut Builder, v: Value, dtype: DType, bits: usize, kept: Option<i64>, what: &str) -> Result<Value> {
    if bits == 8 || b.dtype(v) != DType::U8 {
        return Ok(v);
    }
    let codes = unpacked(b, v, bits, what)?;
    let extents = b.shape(v).iter().map(|d| d.as_const().and_then(|d| usize::try_from(d).ok())).collect();
    let extents: Option<Vec<usize>> = extents;
    let mut shape = extents.ok_or_else(|| Error::internal("a constant of unknown extents"))?;
    let last = shape.len().checked_sub(1);
    let last = last.ok_or_else(|| Error::invalid(format!("{what} is {}, not one element per block", b.ty(v))))?;
    shape[last] *= 8 / bits;
    let all = shape[last] as i64;
    let fields = b.constant(Tensor::new(dtype, shape, codes.into())?);
    match kept {
        Some(kept) if kept < all => b.slice(fields, last, Dim::ZERO, Dim::from(kept)),
        _ => Ok(fields),
    }
}
