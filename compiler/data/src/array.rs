//! Arrays in files, of which the type and the shape are known and the elements are read on demand, whole or one row of
//! the first axis.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use mcc_ir::{DType, Error, Result, Tensor};
use mcc_onnx::file::open_regular;
use zip::{CompressionMethod, ZipArchive};

use crate::npy::{self, Header};
use crate::pb;

/// An array and where it is.
#[derive(Debug)]
pub struct Array {
    /// File, and name in it, for messages.
    pub what: String,
    elements: Elements,
    place: Place,
}

/// How elements are stored.
#[derive(Debug)]
enum Elements {
    Npy(Header),
    Tensor { dtype: DType, shape: Vec<usize> },
}

#[derive(Debug)]
enum Place {
    /// Elements as they are, in a file from an offset.
    Plain { file: PathBuf, start: u64 },
    /// The compressed contents of a `.npy` file in an archive.
    Packed { archive: PathBuf, entry: usize },
    /// The elements of a compressed array in a temporary file.
    Spooled(Mutex<File>),
    /// A serialized tensor.
    Pb(PathBuf),
}

/// Element types that are converted without a word, since every Python script makes them by default.
const CONVERTED: &[(DType, DType)] = &[(DType::F64, DType::F32), (DType::I32, DType::I64)];

impl Array {
    /// The array in a `.npy` file.
    ///
    /// # Errors
    /// When the file cannot be read, or is not as long as its header says.
    pub fn npy(path: &Path) -> Result<Array> {
        let what = path.display().to_string();
        let mut file = open_regular(path)?;
        plain(&mut file, path, &what).map_err(|e| e.within(what))
    }

    /// The arrays in a `.npz` file, with their names.
    ///
    /// # Errors
    /// When the file cannot be read, or a name in it does not hold an array.
    pub fn npz(path: &Path) -> Result<Vec<(String, Array)>> {
        let broken = |e: zip::result::ZipError| {
            Error::invalid(format!("not a readable .npz file: {e}")).within(path.display().to_string())
        };
        let mut archive = ZipArchive::new(BufReader::new(open_regular(path)?)).map_err(broken)?;
        let mut found = Vec::new();
        for n in 0..archive.len() {
            let mut entry = archive.by_index(n).map_err(broken)?;
            let name = entry.name().map_err(broken)?.into_owned();
            let Some(name) = name.strip_suffix(".npy").map(str::to_string) else { continue };
            let what = format!("{}: {name}", path.display());
            let array = match (entry.compression(), entry.data_start()) {
                (CompressionMethod::Stored, Some(start)) => {
                    let mut file = open_regular(path)?;
                    file.seek(SeekFrom::Start(start)).map_err(|e| Error::io(path.display(), &e))?;
                    let end = start + entry.size();
                    let header = Header::read(&mut file).map_err(|e| e.within(&what))?;
                    let start = file.stream_position().map_err(|e| Error::io(path.display(), &e))?;
                    let array = Array {
                        what: what.clone(),
                        elements: Elements::Npy(header),
                        place: Place::Plain { file: path.to_path_buf(), start },
                    };
                    array.check_bytes(end.saturating_sub(start)).map_err(|e| e.within(&what))?;
                    array
                }
                _ => {
                    let header = Header::read(&mut entry).map_err(|e| e.within(&what))?;
                    let place = Place::Packed { archive: path.to_path_buf(), entry: n };
                    Array { what, elements: Elements::Npy(header), place }
                }
            };
            found.push((name, array));
        }
        Ok(found)
    }

    /// A serialized tensor, which was read from `file`.
    pub fn pb(file: &Path, tensor: &Tensor) -> Array {
        let elements = Elements::Tensor { dtype: tensor.dtype(), shape: tensor.shape().to_vec() };
        Array { what: file.display().to_string(), elements, place: Place::Pb(file.to_path_buf()) }
    }

    /// The extents.
    pub fn shape(&self) -> &[usize] {
        match &self.elements {
            Elements::Npy(header) => &header.shape,
            Elements::Tensor { shape, .. } => shape,
        }
    }

    /// The element type to read, for an input of `wanted` elements.
    ///
    /// # Errors
    /// When the elements are of another type that is not converted.
    pub fn element_for(&self, wanted: DType) -> Result<DType> {
        let holds = |dtype: DType| match &self.elements {
            Elements::Npy(header) => header.holds(dtype),
            Elements::Tensor { dtype: own, .. } => *own == dtype,
        };
        let converted = CONVERTED.iter().filter(|(_, to)| *to == wanted).map(|(from, _)| *from);
        if let Some(found) = std::iter::once(wanted).chain(converted).find(|&dtype| holds(dtype)) {
            return Ok(found);
        }
        let found = match &self.elements {
            Elements::Npy(header) => header.own_dtype().map_or(header.descr.clone(), |dtype| dtype.to_string()),
            Elements::Tensor { dtype, .. } => dtype.to_string(),
        };
        Err(Error::invalid(format!("{}: elements are {found}, the input takes {wanted}", self.what))
            .help(format!("in NumPy: a.astype('{}')", npy::name(wanted))))
    }

    /// Prepares for rows to be read one at a time: a compressed array is written to a temporary file.
    ///
    /// # Errors
    /// When rows are not contiguous, or the array cannot be decompressed.
    pub fn by_rows(self) -> Result<Array> {
        let Elements::Npy(header) = &self.elements else { return Ok(self) };
        if header.column_major {
            let text = "the array is in column-major order, in which samples cannot be read one at a time";
            return Err(Error::invalid(text).within(self.what).help("in NumPy: np.ascontiguousarray(a)"));
        }
        let Place::Packed { archive, entry } = &self.place else { return Ok(self) };
        let failed = |e: std::io::Error| Error::io(&self.what, &e);
        let mut file = tempfile::tempfile().map_err(failed)?;
        let size = unpack(archive, *entry, |source| {
            Header::read(source)?;
            std::io::copy(source, &mut file).map_err(failed)
        })?;
        self.check_bytes(size).map_err(|e| e.within(&self.what))?;
        Ok(Array { place: Place::Spooled(Mutex::new(file)), ..self })
    }

    /// Reads the elements as `dtype` (see [`Array::element_for`]), all or those of a row, whose shape lacks the first
    /// axis.
    ///
    /// # Errors
    /// When the file has changed, or cannot be read.
    pub fn read(&self, dtype: DType, row: Option<usize>) -> Result<Tensor> {
        self.read_elements(dtype, row).map_err(|e| e.within(&self.what))
    }

    /// Reads all elements as the type that they have.
    ///
    /// # Errors
    /// When mcc has no such type, or the file cannot be read.
    pub fn read_own(&self) -> Result<Tensor> {
        let own = match &self.elements {
            Elements::Npy(header) => header.own_dtype().map_err(|e| e.within(&self.what))?,
            Elements::Tensor { dtype, .. } => *dtype,
        };
        self.read(own, None)
    }

    fn read_elements(&self, dtype: DType, row: Option<usize>) -> Result<Tensor> {
        let header = match &self.elements {
            Elements::Npy(header) => header,
            Elements::Tensor { .. } => {
                let Place::Pb(file) = &self.place else { return Err(Error::internal("a tensor without a file")) };
                let tensor = pb::read_tensor(file)?.1;
                return row.map_or(Ok(tensor.clone()), |row| nth(&tensor, row));
            }
        };
        let shape = header.shape[usize::from(row.is_some())..].to_vec();
        let elements = shape.iter().try_fold(dtype.size(), |n, &d| n.checked_mul(d));
        let bytes = elements.ok_or_else(|| Error::invalid("the array is larger than the address space"))?;
        let offset = (row.unwrap_or(0) as u64).saturating_mul(bytes as u64);
        let failed = |e: std::io::Error| Error::io(&self.what, &e);
        let data = match &self.place {
            Place::Plain { file, start } => from(&mut open_regular(file)?, start + offset, bytes).map_err(failed)?,
            Place::Spooled(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                from(&mut file, offset, bytes).map_err(failed)?
            }
            Place::Packed { archive, entry } => {
                let whole = unpack(archive, *entry, |source| Header::read(source)?.tensor(dtype, source))?;
                return row.map_or(Ok(whole.clone()), |row| nth(&whole, row));
            }
            Place::Pb(_) => return Err(Error::internal("a serialized tensor with a header of NumPy")),
        };
        header.of_bytes(dtype, shape, data)
    }

    /// Checks that the elements take `bytes`.
    fn check_bytes(&self, bytes: u64) -> Result<()> {
        let Elements::Npy(header) = &self.elements else { return Ok(()) };
        let Some(want) = header.bytes().filter(|&want| want != bytes) else { return Ok(()) };
        let (shape, descr) = (&header.shape, &header.descr);
        Err(Error::invalid(format!("{descr}{shape:?} needs {want} bytes of elements, but there are {bytes}"))
            .help("the file is cut off or damaged: write it again"))
    }
}

/// The array whose file is `file`, at its beginning.
fn plain(file: &mut File, path: &Path, what: &str) -> Result<Array> {
    let failed = |e: std::io::Error| Error::io(path.display(), &e);
    let header = Header::read(file)?;
    let start = file.stream_position().map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let place = Place::Plain { file: path.to_path_buf(), start };
    let array = Array { what: what.to_string(), elements: Elements::Npy(header), place };
    array.check_bytes(size.saturating_sub(start))?;
    Ok(array)
}

/// `bytes` bytes from an offset. What is not there is not allocated either.
fn from(file: &mut File, offset: u64, bytes: usize) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut data = Vec::new();
    file.take(bytes as u64).read_to_end(&mut data)?;
    if data.len() < bytes {
        return Err(std::io::Error::other("the file has become shorter"));
    }
    Ok(data)
}

fn unpack<T>(archive: &Path, entry: usize, read: impl FnOnce(&mut dyn Read) -> Result<T>) -> Result<T> {
    let broken = |e: zip::result::ZipError| Error::invalid(format!("not a readable .npz file: {e}"));
    let mut archive = ZipArchive::new(BufReader::new(open_regular(archive)?)).map_err(broken)?;
    let mut entry = archive.by_index(entry).map_err(broken)?;
    read(&mut entry)
}

/// Row `n` of the first axis.
fn nth(tensor: &Tensor, n: usize) -> Result<Tensor> {
    let shape = tensor.shape().get(1..).unwrap_or_default().to_vec();
    let bytes = shape.iter().product::<usize>() * tensor.dtype().size();
    let data = tensor.data();
    if (n + 1) * bytes > data.len() {
        return Err(Error::invalid("the file has become shorter"));
    }
    Tensor::new(tensor.dtype(), shape, data.slice(n * bytes..(n + 1) * bytes))
}
