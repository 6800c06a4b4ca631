//! Converts tensors of the file format to tensors of the IR.

use bytes::Bytes;
use mcc_proto::tensor_proto::{DataLocation, DataType};
use mcc_proto::{SparseTensorProto, TensorProto};

use super::file::ExternalData;
use mcc_ir::{DType, Error, Result, Tensor};

/// The IR's type for an element type's number.
///
/// # Errors
/// When the number is not an element type, or the type is not supported.
pub fn dtype(number: impl Into<i64>) -> Result<DType> {
    let number: i64 = number.into();
    let named = i32::try_from(number).ok().and_then(|n| DataType::try_from(n).ok());
    let named =
        named.ok_or_else(|| Error::invalid(format!("{number} is not an element type of ONNX 1.23 or earlier")))?;
    match DType::from_code(named as i32) {
        Some(dtype) => Ok(dtype),
        None if named == DataType::Undefined => Err(Error::invalid("a tensor has no element type")),
        None => Err(Error::unsupported(format!("tensors of {named:?}"))),
    }
}

/// The number of a type in files and test data.
pub fn data_type(dtype: DType) -> DataType {
    // The IR's numbers are ONNX's, which `types_are_complete` checks.
    DataType::try_from(dtype.code()).unwrap_or(DataType::Undefined)
}

/// The tensor of a message without external data, as in test data sets.
///
/// # Errors
/// As [`tensor`].
pub fn tensor_of(proto: &TensorProto) -> Result<Tensor> {
    tensor(proto, &mut ExternalData::new(None))
}

/// The tensor of a message.
///
/// # Errors
/// When the element type is not supported, or data and shape disagree.
pub fn tensor(proto: &TensorProto, external: &mut ExternalData) -> Result<Tensor> {
    decode(proto, external).map_err(|e| e.within(format!("tensor \"{}\"", proto.name)))
}

fn decode(proto: &TensorProto, external: &mut ExternalData) -> Result<Tensor> {
    let dtype = dtype(proto.data_type)?;
    let shape = shape(&proto.dims)?;
    let numel = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let numel = numel.ok_or_else(|| Error::invalid(format!("shape {shape:?} overflows")))?;
    let data = if proto.data_location == DataLocation::External as i32 {
        let mut raw = external_bytes(proto, external)?;
        // Some writers align every tensor and declare the aligned length.
        let want = stored_bytes(dtype, numel);
        if want.is_some_and(|n| n < raw.len()) && !proto.external_data.iter().any(|e| e.key == "length") {
            raw.truncate(want.unwrap_or(0));
        }
        from_raw(dtype, numel, raw)?
    } else if !proto.raw_data.is_empty() {
        from_raw(dtype, numel, small_copy(&proto.raw_data))?
    } else {
        from_fields(dtype, numel, proto)?
    };
    Tensor::new(dtype, shape, data)
}

/// The message of a tensor, with its elements inside; types of less than a byte are packed.
pub fn proto(name: &str, tensor: &Tensor) -> TensorProto {
    let dtype = tensor.dtype();
    let raw_data = match packed_bits(dtype) {
        None => tensor.data().clone(),
        Some(bits) => {
            let mask = (1u8 << bits) - 1;
            let pack = |c: &[u8]| c.iter().rev().fold(0u8, |byte, &e| byte << bits | (e & mask));
            tensor.data().chunks(8 / bits).map(pack).collect::<Vec<u8>>().into()
        }
    };
    TensorProto {
        name: name.to_string(),
        dims: tensor.shape().iter().map(|&d| d as i64).collect(),
        data_type: data_type(dtype) as i32,
        raw_data,
        ..Default::default()
    }
}

/// A shape of constant extents.
///
/// # Errors
/// When one is negative.
pub fn shape(dims: &[i64]) -> Result<Vec<usize>> {
    dims.iter()
        .map(|&d| usize::try_from(d).map_err(|_| Error::invalid(format!("negative extent in shape {dims:?}"))))
        .collect()
}

/// Maximum bytes of the dense form of a sparse tensor; no weights are larger.
const MAX_DENSE_BYTES: usize = 1 << 36;

/// The dense form of a sparse tensor.
///
/// # Errors
/// When a part is missing, the numbers of values and indices differ, an index is out of range, or indices do not
/// ascend.
pub fn sparse(proto: &SparseTensorProto, external: &mut ExternalData) -> Result<Tensor> {
    let (Some(values), Some(indices)) = (&proto.values, &proto.indices) else {
        return Err(Error::invalid("a sparse tensor without values or indices"));
    };
    let (values, indices) = (tensor(values, external)?, tensor(indices, external)?);
    let shape = shape(&proto.dims)?;
    let size = values.dtype().size();
    let bytes = shape.iter().try_fold(size, |n, &d| n.checked_mul(d)).filter(|&n| n <= MAX_DENSE_BYTES);
    let bytes = bytes.ok_or_else(|| Error::invalid(format!("a sparse tensor of shape {shape:?} is too large")))?;
    let &[count] = values.shape() else {
        return Err(Error::invalid(format!("a sparse tensor's values have shape {:?}, not one axis", values.shape())));
    };
    let width = match *indices.shape() {
        [n] if n == count => 1,
        [n, rank] if n == count && rank == shape.len() => rank,
        ref other => {
            let want = format!("[{count}] or [{count}, {}]", shape.len());
            return Err(Error::invalid(format!("a sparse tensor's indices have shape {other:?}, not {want}")));
        }
    };
    if indices.dtype() != DType::I64 {
        return Err(Error::invalid(format!("a sparse tensor's indices are {}, not i64", indices.dtype())));
    }
    let extents = if indices.shape().len() == 1 { &[bytes / size][..] } else { &shape[..] };
    let mut data = vec![0; bytes];
    let flat = indices.to_i64s();
    let mut next = 0;
    for (i, element) in values.data().chunks_exact(size).enumerate() {
        let index = &flat[i * width..(i + 1) * width];
        let at = index.iter().zip(extents).try_fold(0usize, |at, (&p, &extent)| {
            usize::try_from(p).ok().filter(|&p| p < extent).map(|p| at * extent + p)
        });
        let Some(at) = at else {
            return Err(Error::invalid(format!("index {i} of a sparse tensor, {index:?}, lies outside {shape:?}")));
        };
        if at < next {
            return Err(Error::invalid(format!(
                "index {i} of a sparse tensor, {index:?}, is not after the one before"
            )));
        }
        next = at + 1;
        data[at * size..next * size].copy_from_slice(element);
    }
    Tensor::new(values.dtype(), shape, data.into())
}

fn external_bytes(proto: &TensorProto, external: &mut ExternalData) -> Result<Bytes> {
    let entry = |key: &str| proto.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
    let number = |key: &str| match entry(key) {
        None => Ok(None),
        Some(text) => text
            .trim()
            .parse::<usize>()
            .map(Some)
            .map_err(|_| Error::invalid(format!("external data: {key} is \"{text}\", not a number"))),
    };
    let location = entry("location").ok_or_else(|| Error::invalid("external data without a location"))?;
    external.read(location, number("offset")?.unwrap_or(0), number("length")?)
}

/// The size of `numel` elements in a file in bytes.
fn stored_bytes(dtype: DType, numel: usize) -> Option<usize> {
    match packed_bits(dtype) {
        Some(bits) => Some(numel.div_ceil(8 / bits)),
        None => numel.checked_mul(dtype.size()),
    }
}

/// Bits per element, for types that files pack into bytes.
fn packed_bits(dtype: DType) -> Option<usize> {
    match dtype.bits() {
        bits @ (2 | 4) => Some(bits as usize),
        _ => None,
    }
}

/// Small data as a copy: a few bytes of a memory-mapped file would keep all of it in memory after the weights that
/// they came with are packed. Large data stays a window of the file.
fn small_copy(data: &Bytes) -> Bytes {
    const MAX_COPIED_BYTES: usize = 64 << 10;
    if data.len() <= MAX_COPIED_BYTES { Bytes::copy_from_slice(data) } else { data.clone() }
}

fn from_raw(dtype: DType, numel: usize, raw: Bytes) -> Result<Bytes> {
    if stored_bytes(dtype, numel) != Some(raw.len()) {
        return Err(Error::invalid(format!("{numel} elements of {dtype} do not take {} bytes", raw.len())));
    }
    match packed_bits(dtype) {
        Some(bits) => Ok((0..numel).map(|i| unpack(dtype, bits, raw[i * bits / 8], i)).collect::<Vec<u8>>().into()),
        None => Ok(raw),
    }
}

/// Element `i` of those packed into `byte`, from the low bits up, as a byte.
fn unpack(dtype: DType, bits: usize, byte: u8, i: usize) -> u8 {
    let unused = 8 - bits;
    let high = byte >> (i * bits % 8) << unused;
    if dtype.class() == mcc_ir::DTypeClass::Signed { (high as i8 >> unused) as u8 } else { high >> unused }
}

/// The elements from the typed field that is used for `dtype`. A number that does not fit the shape is reported by
/// [`Tensor::new`].
fn from_fields(dtype: DType, numel: usize, proto: &TensorProto) -> Result<Bytes> {
    let mut out = Vec::new();
    if let Some(limits) = field_limits(dtype)
        && let Some(at) = proto.int32_data.iter().position(|v| !limits.contains(v))
    {
        let (value, (low, high)) = (proto.int32_data[at], (limits.start(), limits.end()));
        return Err(Error::invalid(format!("field int32_data holds {value} at element {at} of a tensor of {dtype}"))
            .help(format!("its elements are from {low} to {high}: write the tensor again")));
    }
    match dtype {
        DType::F32 => proto.float_data.iter().for_each(|v| out.extend(v.to_le_bytes())),
        DType::F64 => proto.double_data.iter().for_each(|v| out.extend(v.to_le_bytes())),
        DType::I64 => proto.int64_data.iter().for_each(|v| out.extend(v.to_le_bytes())),
        DType::U64 => proto.uint64_data.iter().for_each(|v| out.extend(v.to_le_bytes())),
        DType::U32 => proto.uint64_data.iter().for_each(|v| out.extend((*v as u32).to_le_bytes())),
        _ => match packed_bits(dtype) {
            Some(bits) => {
                let bytes = &proto.int32_data;
                out.extend((0..numel).map_while(|i| Some(unpack(dtype, bits, *bytes.get(i * bits / 8)? as u8, i))));
            }
            None => proto.int32_data.iter().for_each(|v| out.extend(&v.to_le_bytes()[..dtype.size()])),
        },
    }
    Ok(out.into())
}

/// The valid range of the field for small integers: that of the type, or of a byte with several elements.
fn field_limits(dtype: DType) -> Option<std::ops::RangeInclusive<i32>> {
    match dtype {
        _ if packed_bits(dtype).is_some() => Some(-128..=255),
        DType::U8 => Some(0..=255),
        DType::I8 => Some(-128..=127),
        DType::U16 => Some(0..=65535),
        DType::I16 => Some(-32768..=32767),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_complete() {
        for dtype in DType::all() {
            let number = data_type(dtype) as i32;
            assert_eq!(super::dtype(number).ok(), Some(dtype));
        }
    }

    #[test]
    fn small_types_unpack_from_the_low_bits_up() {
        let proto = |data_type: DataType, raw: &'static [u8], n| TensorProto {
            dims: vec![n],
            data_type: data_type as i32,
            raw_data: Bytes::from_static(raw),
            ..Default::default()
        };
        let int4 = tensor_of(&proto(DataType::Int4, &[0xf1, 0x08], 3)).expect("valid");
        assert_eq!(int4.to_i64s(), [1, -1, -8]);
        let uint2 = tensor_of(&proto(DataType::Uint2, &[0b11_10_01_00], 4)).expect("valid");
        assert_eq!(uint2.to_i64s(), [0, 1, 2, 3]);
        assert!(tensor_of(&proto(DataType::Float, &[0, 0], 1)).is_err());
    }

    #[test]
    fn tensors_are_written_as_they_are_read() {
        for dtype in DType::all() {
            let values: &[f64] = &[1.0, 0.0, 1.0, 1.0, 0.0];
            let tensor = Tensor::from_f64s(dtype, vec![5, 1], values).expect("valid");
            assert_eq!(tensor_of(&proto("t", &tensor)).expect("valid"), tensor, "{dtype}");
        }
    }

    #[test]
    fn small_integers_are_of_their_type() {
        let of = |data_type: DataType, v: i32| {
            let proto =
                TensorProto { dims: vec![1], data_type: data_type as i32, int32_data: vec![v], ..Default::default() };
            tensor_of(&proto).map(|t| t.to_i64s()).map_err(|e| e.report().to_string())
        };
        assert_eq!(of(DataType::Uint8, 255), Ok(vec![255]));
        assert_eq!(of(DataType::Int8, -128), Ok(vec![-128]));
        assert_eq!(of(DataType::Uint4, 0x0f), Ok(vec![15]));
        for (data_type, v) in [(DataType::Uint8, 256), (DataType::Int8, 128), (DataType::Uint16, -1)] {
            let error = of(data_type, v).unwrap_err();
            assert!(error.contains(&v.to_string()) && error.contains("int32_data"), "{error}");
        }
    }

    #[test]
    fn sparse_tensors() {
        let floats = |values: &[f32]| TensorProto {
            data_type: DataType::Float as i32,
            dims: vec![values.len() as i64],
            float_data: values.to_vec(),
            ..TensorProto::default()
        };
        let places = |dims: &[i64], indices: &[i64]| TensorProto {
            data_type: DataType::Int64 as i32,
            dims: dims.to_vec(),
            int64_data: indices.to_vec(),
            ..TensorProto::default()
        };
        let of = |dims: &[i64], values: &[f32], indices: TensorProto| {
            let proto = SparseTensorProto { dims: dims.to_vec(), values: Some(floats(values)), indices: Some(indices) };
            sparse(&proto, &mut ExternalData::new(None)).map(|t| t.to_f64s()).map_err(|e| e.report().to_string())
        };
        let want = Ok(vec![0.0, 5.0, 0.0, 0.0, 0.0, 6.0]);
        assert_eq!(of(&[2, 3], &[5.0, 6.0], places(&[2], &[1, 5])), want);
        assert_eq!(of(&[2, 3], &[5.0, 6.0], places(&[2, 2], &[0, 1, 1, 2])), want);
        assert_eq!(of(&[2], &[], places(&[0], &[])), Ok(vec![0.0, 0.0]));
        for (indices, message) in [
            (places(&[2], &[1, 6]), "outside"),
            (places(&[2], &[-1, 5]), "outside"),
            (places(&[2, 2], &[0, 3, 1, 0]), "outside"),
            (places(&[2], &[5, 5]), "not after"),
            (places(&[3], &[1, 2, 3]), "not [2] or [2, 2]"),
            (places(&[2, 3], &[0, 0, 0, 1, 1, 1]), "not [2] or [2, 2]"),
        ] {
            let error = of(&[2, 3], &[5.0, 6.0], indices).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
        assert!(of(&[1 << 40, 1 << 40], &[5.0], places(&[1], &[0])).unwrap_err().contains("too large"));
    }
}
