//! Whether arrays fit a model's inputs, and how: as one sample, or as several stacked along the first axis.

use std::collections::BTreeMap;
use std::sync::Arc;

use mcc_ir::{DType, Dim, Error, Result, Sym, Tensor, TensorType};

use crate::Port;
use crate::array::Array;

/// An input's part of a sample: an array, or a row of it.
#[derive(Debug, Clone)]
pub struct Part {
    of: Arc<Fitted>,
    row: Option<usize>,
}

/// An array that fits an input.
#[derive(Debug)]
struct Fitted {
    array: Array,
    /// The element type to read.
    stored: DType,
    /// The input's element type.
    dtype: DType,
    /// The shape of a sample.
    shape: Vec<usize>,
}

impl Part {
    /// Reads the tensor.
    ///
    /// # Errors
    /// When the file cannot be read any more.
    pub fn read(&self) -> Result<Tensor> {
        let Fitted { array, stored, dtype, shape } = &*self.of;
        let tensor = array.read(*stored, self.row)?.reshaped(shape.clone())?;
        if stored == dtype {
            return Ok(tensor);
        }
        match dtype.is_float() {
            true => Tensor::from_f64s(*dtype, shape.clone(), &tensor.to_f64s()),
            false => Tensor::from_i64s(*dtype, shape.clone(), &tensor.to_i64s()),
        }
    }

    /// Bytes of the tensor.
    pub fn bytes(&self) -> usize {
        self.of.shape.iter().product::<usize>() * self.of.dtype.size()
    }
}

/// Which readings of an array are preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefer {
    /// As several samples, stacked along the first axis.
    Stacked,
    /// As one sample.
    Whole,
}

/// The ways to read an array as an input.
#[derive(Debug, Default)]
struct Readings {
    /// The shape as one sample.
    whole: Option<Vec<usize>>,
    /// The number of samples stacked along the first axis, and the shape of one.
    stacked: Option<(usize, Vec<usize>)>,
    /// Whether an axis that may be the samples' may as well be the sample's own.
    doubtful: bool,
}

/// Readings of an array of `shape` as an input of type `ty`. The batch axis, an input's first of extent 1 or of no
/// fixed extent, may be missing, or hold several samples.
fn readings(shape: &[usize], ty: &TensorType) -> Readings {
    let fits = |shape: &[usize], dims: &[Dim]| {
        shape.len() == dims.len()
            && shape.iter().zip(dims).all(|(&d, dim)| dim.as_const().is_none_or(|c| c == d as i64))
    };
    let batch = ty.shape.first().filter(|dim| dim.as_const().is_none_or(|c| c == 1));
    let inner = ty.shape.get(1..).unwrap_or_default();
    let with_batch = |inner: &[usize]| [&[1], inner].concat();
    let mut found = Readings::default();
    if fits(shape, &ty.shape) {
        found.whole = Some(shape.to_vec());
    } else if batch.is_some() && fits(shape, inner) {
        found.whole = Some(with_batch(shape));
    }
    let Some((&n, row)) = shape.split_first() else { return found };
    if batch.is_some() && fits(row, inner) {
        found.stacked = Some((n, with_batch(row)));
        // An input of one axis of any extent more probably holds one signal than a batch of numbers.
        found.doubtful = inner.is_empty() && batch.is_some_and(|dim| dim.as_const().is_none());
    } else if fits(row, &ty.shape) {
        found.stacked = Some((n, row.to_vec()));
    }
    found
}

/// The samples in a set of arrays, one per input.
///
/// # Errors
/// When an array does not fit its input; the error lists every one.
pub fn samples(arrays: Vec<Array>, inputs: &[Port], prefer: Prefer) -> Result<Vec<Vec<Part>>> {
    let mut faults = Vec::new();
    let (mut stored, mut found) = (Vec::new(), Vec::new());
    for (array, port) in arrays.iter().zip(inputs) {
        let within = |e: Error| e.within(format!("input {:?}: {}", port.name, port.ty));
        match array.element_for(port.ty.dtype) {
            Ok(dtype) => stored.push(dtype),
            Err(e) => faults.push(within(e)),
        }
        let readings = readings(array.shape(), &port.ty);
        if readings.whole.is_none() && readings.stacked.is_none() {
            faults.push(within(unfit(array, &port.ty)));
        }
        found.push(readings);
    }
    if let Some(error) = Error::all(faults) {
        return Err(error);
    }
    let counts: Vec<Option<usize>> = found.iter().map(|r| r.stacked.as_ref().map(|(n, _)| *n)).collect();
    let stacked = counts.first().copied().flatten().filter(|n| counts.iter().all(|c| *c == Some(*n)));
    let whole = found.iter().all(|r| r.whole.is_some());
    let doubtful = found.iter().all(|r| r.doubtful);
    let count = match stacked {
        Some(_) if whole && (prefer == Prefer::Whole || doubtful) => None,
        None if !whole => return Err(unequal(&arrays, inputs)),
        count => count,
    };
    let shapes: Vec<Vec<usize>> = found
        .into_iter()
        .filter_map(|r| if count.is_some() { r.stacked.map(|(_, shape)| shape) } else { r.whole })
        .collect();
    agree(&shapes, &arrays, inputs)?;
    let mut fitted = Vec::new();
    for (((array, port), stored), shape) in arrays.into_iter().zip(inputs).zip(stored).zip(shapes) {
        let array = if count.is_some() { array.by_rows()? } else { array };
        fitted.push(Arc::new(Fitted { array, stored, dtype: port.ty.dtype, shape }));
    }
    let sample = |row: Option<usize>| fitted.iter().map(|of| Part { of: of.clone(), row }).collect();
    Ok(match count {
        None => vec![sample(None)],
        Some(n) => (0..n).map(|row| sample(Some(row))).collect(),
    })
}

/// Checks a tensor that was made for an input.
///
/// # Errors
/// When its type or shape is another one.
pub fn check(tensor: &Tensor, port: &Port) -> Result<()> {
    let shape = tensor.shape();
    let fits = tensor.dtype() == port.ty.dtype && readings(shape, &port.ty).whole.is_some_and(|whole| whole == shape);
    match fits {
        true => Ok(()),
        false => Err(Error::invalid(format!("the result is {}, the input takes {}", tensor.ty(), port.ty))),
    }
}

fn unfit(array: &Array, ty: &TensorType) -> Error {
    let shape = array.shape();
    let error = Error::invalid(format!("{}: the shape is {shape:?}", array.what));
    let elements = shape.iter().try_fold(1i64, |n, &d| n.checked_mul(i64::try_from(d).ok()?));
    let wanted = ty.shape.iter().try_fold(1i64, |n, d| n.checked_mul(d.as_const().unwrap_or(1)));
    let same = wanted.is_some() && elements == wanted;
    match (same, shape) {
        (true, _) => error.help("the number of elements fits: in NumPy a.reshape(...), or a.transpose(...) if axes are in another order"),
        (false, [.., height, width, channels]) if ty.rank() == 4 && ty.shape[1].is(*channels as i64) => error.help(format!(
            "channels ({channels}) are the last axis here, and axis 1 of the input, whose image is {height}x{width}: in NumPy a.transpose(..., -1, -3, -2)"
        )),
        _ => error.help("a sample has the input's shape, with or without the batch axis; several may be stacked along the first axis"),
    }
}

fn unequal(arrays: &[Array], inputs: &[Port]) -> Error {
    let each =
        arrays.iter().zip(inputs).map(|(a, p)| format!("{} is {:?} for {:?}: {}", a.what, a.shape(), p.name, p.ty));
    let each: Vec<String> = each.collect();
    Error::invalid(format!("the inputs have different numbers of samples: {}", each.join("; ")))
        .help("stack the same number of samples along the first axis of each, or write each sample to files of its own")
}

/// Checks that dimensions of one name have one extent.
fn agree(shapes: &[Vec<usize>], arrays: &[Array], inputs: &[Port]) -> Result<()> {
    let mut known: BTreeMap<Sym, (usize, usize)> = BTreeMap::new();
    let mut faults = Vec::new();
    for (n, (shape, port)) in shapes.iter().zip(inputs).enumerate() {
        for (&extent, dim) in shape.iter().zip(&port.ty.shape) {
            let Some(name) = dim.as_sym() else { continue };
            let &mut (first, at) = known.entry(name.clone()).or_insert((extent, n));
            if first != extent {
                let (a, b) = (&arrays[at].what, &arrays[n].what);
                faults.push(Error::invalid(format!("dimension {name} is {first} in {a}, but {extent} in {b}")));
            }
        }
    }
    Error::all(faults).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(shape: &[usize], dims: &str) -> String {
        let dim = |text: &str| text.parse::<i64>().map_or_else(|_| Dim::sym(text), Dim::from);
        let ty = TensorType::new(DType::F32, dims.split_whitespace().map(dim).collect());
        let r = readings(shape, &ty);
        let whole = r.whole.map(|s| format!("{s:?}"));
        let stacked = r.stacked.map(|(n, s)| format!("{n} of {s:?}"));
        [whole, stacked, r.doubtful.then(|| "doubtful".to_string())]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("; ")
    }

    #[test]
    fn a_batch_axis_may_be_missing_or_hold_samples() {
        assert_eq!(found(&[1, 3, 8, 8], "1 3 8 8"), "[1, 3, 8, 8]; 1 of [1, 3, 8, 8]");
        assert_eq!(found(&[3, 8, 8], "1 3 8 8"), "[1, 3, 8, 8]");
        assert_eq!(found(&[5, 3, 8, 8], "1 3 8 8"), "5 of [1, 3, 8, 8]");
        assert_eq!(found(&[5, 1, 3, 8, 8], "1 3 8 8"), "5 of [1, 3, 8, 8]");
        assert_eq!(found(&[5, 3, 8, 8], "batch 3 h w"), "[5, 3, 8, 8]; 5 of [1, 3, 8, 8]");
        assert_eq!(found(&[5, 7], "batch seq"), "[5, 7]; 5 of [1, 7]");
        assert_eq!(found(&[7], "batch seq"), "[1, 7]");
        assert_eq!(found(&[7], "n"), "[7]; 7 of [1]; doubtful");
        assert_eq!(found(&[7, 4], "n"), "7 of [4]");
        assert_eq!(found(&[7], "1"), "7 of [1]");
        assert_eq!(found(&[], "1"), "[1]");
        assert_eq!(found(&[], ""), "[]");
        assert_eq!(found(&[6], ""), "6 of []");
        assert_eq!(found(&[6, 2, 1, 128], "2 batch 128"), "6 of [2, 1, 128]");
        assert_eq!(found(&[4, 8], "2 8"), "");
        assert_eq!(found(&[2, 8], "2 8"), "[2, 8]");
        assert_eq!(found(&[3, 2, 8], "2 8"), "3 of [2, 8]");
        assert_eq!(found(&[8, 8, 3], "1 3 8 8"), "");
        assert_eq!(found(&[0, 8], "batch 8"), "[0, 8]; 0 of [1, 8]");
    }
}
