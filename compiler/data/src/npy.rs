//! Tensors as NumPy's `.npy` files.
//!
//! NumPy has no name for bfloat16 and the smaller floats: they are written, and read, as raw bytes (`V2`, `V1`).
//! Types of less than a byte are `int8` or `uint8` there. Nothing is converted here: what the elements may become is
//! said in [`crate::fit`].

use std::io::{BufReader, Read, Write};
use std::path::Path;

use mcc_ir::{DType, DTypeClass, Error, Result, Tensor};
use mcc_onnx::file::open_regular;
use npyz::{Endianness, NpyHeader, Order, WriterBuilder};

/// Reads a tensor and checks that its elements have type `dtype`.
///
/// # Errors
/// When the file cannot be read, or its elements are of another type.
pub fn read(path: &Path, dtype: DType) -> Result<Tensor> {
    let file = open_regular(path)?;
    read_from(BufReader::new(file), dtype).map_err(|e| e.within(path.display().to_string()))
}

/// Reads a tensor with the file's own element type.
///
/// # Errors
/// When the file cannot be read, or mcc has no such elements.
pub fn read_any(path: &Path) -> Result<Tensor> {
    let named = |e: Error| e.within(path.display().to_string());
    let mut source = BufReader::new(open_regular(path)?);
    let header = Header::read(&mut source).map_err(named)?;
    header.own_dtype().and_then(|dtype| header.tensor(dtype, source)).map_err(named)
}

/// Reads a tensor from the contents of a file, as [`read`].
///
/// # Errors
/// As [`read`].
pub fn read_from(mut source: impl Read, dtype: DType) -> Result<Tensor> {
    let header = Header::read(&mut source)?;
    if !header.holds(dtype) {
        let help = format!("in NumPy: a.astype('{}')", names(dtype)[0]);
        let found = &header.descr;
        return Err(Error::invalid(format!("elements are {found}, the model takes {dtype}")).help(help));
    }
    header.tensor(dtype, source)
}

/// Writes a tensor as the contents of a file.
///
/// # Errors
/// When `sink` fails.
pub fn write_to(sink: impl Write, tensor: &Tensor) -> std::io::Result<()> {
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

/// What precedes the elements in a file.
#[derive(Debug, Clone)]
pub struct Header {
    /// The element type as the file states it, such as `'<f4'`.
    pub descr: String,
    /// Its name without the byte order, such as `f4`.
    element: String,
    big_endian: bool,
    /// Whether the first axis varies fastest.
    pub column_major: bool,
    /// The extents.
    pub shape: Vec<usize>,
}

impl Header {
    /// Reads exactly the header: the elements follow.
    ///
    /// # Errors
    /// When it is not the header of plain numbers.
    pub fn read(source: &mut (impl Read + ?Sized)) -> Result<Header> {
        let text = header_text(source).map_err(broken)?;
        let npy = NpyHeader::from_reader(text.as_slice()).map_err(broken)?;
        let npyz::DType::Plain(element) = npy.dtype() else {
            return Err(Error::invalid(format!("elements are {}; mcc takes plain numbers", npy.dtype().descr())));
        };
        let dims = npy.shape().iter().map(|&d| usize::try_from(d));
        let shape = dims.collect::<Result<Vec<_>, _>>().map_err(|_| Error::invalid("a dimension is too large"))?;
        Ok(Header {
            descr: npy.dtype().descr(),
            // The first character is the byte order; the rest says the type.
            element: element.to_string().trim_start_matches(['<', '>', '|', '=']).to_string(),
            big_endian: element.endianness() == Endianness::Big,
            column_major: npy.order() == Order::Fortran && shape.len() > 1,
            shape,
        })
    }

    /// Whether the elements can be read as `dtype`.
    pub fn holds(&self, dtype: DType) -> bool {
        names(dtype).contains(&self.element.as_str())
    }

    /// The type that the file itself names.
    ///
    /// # Errors
    /// When mcc has no such elements.
    pub fn own_dtype(&self) -> Result<DType> {
        let named = DType::all().find(|&d| names(d)[0] == self.element);
        named.ok_or_else(|| Error::invalid(format!("elements are {}; mcc takes plain numbers", self.descr)))
    }

    /// Bytes of the elements in the file, as many as a number can hold; `None` for types that mcc does not have.
    pub fn bytes(&self) -> Option<u64> {
        let size = DType::all().find(|&dtype| self.holds(dtype))?.size() as u64;
        Some(self.shape.iter().fold(size, |n, &d| n.saturating_mul(d as u64)))
    }

    /// The tensor whose elements `source` holds, and nothing else.
    ///
    /// # Errors
    /// When there are more or fewer elements.
    pub fn tensor(&self, dtype: DType, mut source: impl Read) -> Result<Tensor> {
        let mut data = Vec::new();
        source.read_to_end(&mut data).map_err(broken)?;
        self.of_bytes(dtype, self.shape.clone(), data)
    }

    /// A tensor of `shape` from elements as the file stores them.
    ///
    /// # Errors
    /// When there are more or fewer elements.
    pub fn of_bytes(&self, dtype: DType, shape: Vec<usize>, mut data: Vec<u8>) -> Result<Tensor> {
        if self.big_endian {
            data.chunks_exact_mut(dtype.size()).for_each(<[u8]>::reverse);
        }
        let stored = Tensor::new(dtype, shape, data.into())?;
        if self.column_major { from_column_major(&stored) } else { Ok(stored) }
    }
}

/// The bytes of the header. Those that would make npyz overflow or allocate without bounds are refused.
fn header_text(source: &mut (impl Read + ?Sized)) -> std::io::Result<Vec<u8>> {
    const MAX_HEADER: usize = 1 << 20;
    let refuse = |text: &str| Err(std::io::Error::other(text.to_string()));
    let mut head = vec![0; 10];
    source.read_exact(&mut head)?;
    let mut size = usize::from(u16::from_le_bytes([head[8], head[9]]));
    // Versions from 2 on have four bytes for the size.
    if head[6] >= 2 {
        head.resize(12, 0);
        source.read_exact(&mut head[10..])?;
        size |= usize::from(u16::from_le_bytes([head[10], head[11]])) << 16;
    }
    if size > MAX_HEADER {
        return refuse("its header is longer than that of any array");
    }
    let start = head.len();
    head.resize(start + size, 0);
    source.read_exact(&mut head[start..])?;
    let text = String::from_utf8_lossy(&head[start..]);
    let shape = text.split("'shape'").nth(1).unwrap_or_default();
    let mut extents = shape.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let elements = extents.try_fold(1u64, |n, digits| n.checked_mul(digits.parse::<u64>().ok()?.max(1)));
    if elements.is_none() {
        return refuse("its shape is larger than the address space");
    }
    Ok(head)
}

fn broken(e: std::io::Error) -> Error {
    Error::invalid(format!("not a readable .npy file: {e}"))
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

/// NumPy's name of the type.
pub fn name(dtype: DType) -> &'static str {
    names(dtype)[0]
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
