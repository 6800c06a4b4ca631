//! Tensors as NumPy's `.npy` files.
//!
//! NumPy has no name for bfloat16 and the smaller floats: they are written, and read, as raw bytes (`V2`, `V1`).
//! Types of less than a byte are `int8` or `uint8` there. Anything else must match exactly: nothing is converted.

use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use mcc::ir::{DType, DTypeClass, Tensor};
use mcc::onnx::file::open_regular;
use mcc::{Error, Result};
use npyz::{Endianness, NpyFile, Order, WriterBuilder};

/// Reads a tensor and checks that its elements have type `dtype`.
pub fn read(path: &Path, dtype: DType) -> Result<Tensor> {
    let file = open_regular(path)?;
    read_from(BufReader::new(file), dtype).map_err(|e| e.within(path.display().to_string()))
}

/// Reads a tensor with the file's own element type.
pub fn read_any(path: &Path) -> Result<Tensor> {
    let file = open_regular(path)?;
    let header = npyz::NpyHeader::from_reader(BufReader::new(file));
    let header = header.map_err(|e| Error::invalid(format!("{}: not a readable .npy file: {e}", path.display())))?;
    let descr = header.dtype().descr();
    let dtype = DType::all().find(|&d| names(d)[0] == descr.trim_matches(['\'', '<', '>', '|', '=']));
    let dtype = dtype.ok_or_else(|| Error::invalid(format!("{}: elements are {descr}", path.display())))?;
    read(path, dtype)
}

/// Writes a tensor.
pub fn write(path: &Path, tensor: &Tensor) -> Result<()> {
    super::output::write_with(path, |file| write_to(BufWriter::new(file), tensor))
}

fn read_from(source: impl Read, dtype: DType) -> Result<Tensor> {
    let broken = |e: std::io::Error| Error::invalid(format!("not a readable .npy file: {e}"));
    let npy = NpyFile::new(source).map_err(broken)?;
    let (found, order) = (npy.dtype(), npy.order());
    let npyz::DType::Plain(element) = &found else {
        return Err(Error::invalid(format!("elements are {}; mcc takes plain numbers", found.descr())));
    };
    // The first character is the byte order; the rest says the type.
    let name = element.to_string();
    let name = name.trim_start_matches(['<', '>', '|', '=']);
    if !names(dtype).contains(&name) {
        let help = format!("in NumPy: a.astype('{}')", names(dtype)[0]);
        return Err(
            Error::invalid(format!("elements are {found}, the model takes {dtype}", found = found.descr())).help(help)
        );
    }
    let big = element.endianness() == Endianness::Big;
    let dims = npy.shape().iter().map(|&d| usize::try_from(d));
    let shape = dims.collect::<Result<Vec<_>, _>>().map_err(|_| Error::invalid("a dimension is too large"))?;
    let mut data = Vec::new();
    npy.into_inner().read_to_end(&mut data).map_err(broken)?;
    if big {
        data.chunks_exact_mut(dtype.size()).for_each(<[u8]>::reverse);
    }
    let stored = Tensor::new(dtype, shape.clone(), data.into())?;
    if order == Order::Fortran && shape.len() > 1 { from_column_major(&stored) } else { Ok(stored) }
}

fn from_column_major(stored: &Tensor) -> Result<Tensor> {
    let (shape, size) = (stored.shape(), stored.dtype().size());
    let mut data = Vec::with_capacity(stored.data().len());
    let mut index = vec![0usize; shape.len()];
    for _ in 0..stored.numel() {
        let at = index.iter().zip(shape).rev().fold(0, |at, (i, d)| at * d + i);
        data.extend_from_slice(&stored.data()[at * size..(at + 1) * size]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    Tensor::new(stored.dtype(), shape.to_vec(), data.into())
}

fn write_to(sink: impl Write, tensor: &Tensor) -> std::io::Result<()> {
    let size = tensor.dtype().size();
    let order = if size > 1 && !names(tensor.dtype())[0].starts_with('V') { "<" } else { "|" };
    let element = format!("{order}{}", names(tensor.dtype())[0]);
    let element = element.parse().map_err(|e| std::io::Error::other(format!("{element}: {e}")))?;
    let shape: Vec<u64> = tensor.shape().iter().map(|&d| d as u64).collect();
    let mut sink = npyz::WriteOptions::new_header_only()
        .dtype(npyz::DType::new_scalar(element))
        .shape(&shape)
        .writer(sink)
        .write_header_only()?;
    sink.write_all(tensor.data())?;
    sink.flush()
}

/// NumPy's names of the type, without the byte order; the first one is written, all are read.
fn names(dtype: DType) -> &'static [&'static str] {
    match dtype {
        DType::F32 => &["f4"],
        DType::F64 => &["f8"],
        DType::F16 => &["f2"],
        DType::I16 => &["i2"],
        DType::I32 => &["i4"],
        DType::I64 => &["i8"],
        DType::U16 => &["u2"],
        DType::U32 => &["u4"],
        DType::U64 => &["u8"],
        DType::Bool => &["b1"],
        DType::BF16 => &["V2", "u2"],
        _ => match dtype.class() {
            DTypeClass::Float => &["V1", "u1"],
            DTypeClass::Signed => &["i1"],
            DTypeClass::Unsigned | DTypeClass::Bool => &["u1"],
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for dtype in DType::all() {
            for shape in [vec![], vec![3], vec![2, 3], vec![0, 4]] {
                let data: Vec<u8> = (0..shape.iter().product::<usize>() * dtype.size()).map(|i| i as u8 & 1).collect();
                let tensor = Tensor::new(dtype, shape, data.into()).unwrap();
                let mut file = Vec::new();
                write_to(&mut file, &tensor).unwrap();
                assert_eq!(read_from(file.as_slice(), dtype).unwrap(), tensor);
            }
        }
    }

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.as_bytes());
        file.extend(data);
        file
    }

    #[test]
    fn other_byte_and_axis_orders() {
        let f =
            file("{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }\n", &[0, 1, 0, 4, 0, 2, 0, 5, 0, 3, 0, 6]);
        let t = read_from(f.as_slice(), DType::I16).unwrap();
        assert_eq!((t.shape(), t.to_i64s()), ([2, 3].as_slice(), vec![1, 2, 3, 4, 5, 6]));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let f = file("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }\n", &[0; 8]);
        let e = read_from(f.as_slice(), DType::F32).unwrap_err().to_string();
        assert!(e.contains("the model takes f32") && e.contains("astype('f4')"), "{e}");
        let short = file("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n", &[0; 4]);
        assert!(read_from(short.as_slice(), DType::F32).is_err());
        assert!(read_from(b"no".as_slice(), DType::F32).is_err());
    }
}
