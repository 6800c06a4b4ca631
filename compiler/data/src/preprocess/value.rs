//! What steps work on, from a sample to a tensor.

use mcc_ir::{DType, DTypeClass, Error, Result, Tensor};

use super::array::Array;
use super::image::Picture;
use super::schema::{Layout, Length, Log, Normalise};
use super::sound::Sound;
use super::text::Tokens;
use crate::{Port, fit};

/// A sample on its way to a tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A picture.
    Picture(Picture),
    /// Sound.
    Sound(Sound),
    /// Text.
    Text(String),
    /// A file's bytes.
    Bytes(Vec<u8>),
    /// Tokens.
    Tokens(Tokens),
    /// Numbers with axes.
    Array(Array),
}

impl Value {
    /// Applies a function to each number.
    pub fn map(self, f: impl Fn(f32) -> f32) -> Value {
        match self {
            Value::Picture(picture) => Value::Picture(picture.map(|v, _| f(v))),
            Value::Sound(sound) => Value::Sound(sound.map(f)),
            Value::Array(mut array) => {
                array.data.iter_mut().for_each(|v| *v = f(*v));
                Value::Array(array)
            }
            Value::Tokens(tokens) => {
                let ids = tokens.ids.iter().map(|&id| f(id as f32) as i64).collect();
                Value::Tokens(Tokens { ids, ..tokens })
            }
            other => other,
        }
    }

    /// `(x - mean) / std`, with one mean for all, or one for each channel of a picture or row of an array.
    ///
    /// # Errors
    /// When there are neither one nor as many as channels.
    pub fn normalised(self, how: &Normalise) -> Result<Value> {
        let of = |values: &[f32], channel: usize| values[channel % values.len()];
        let by = |v: f32, channel: usize| (v - of(&how.mean, channel)) / of(&how.std, channel);
        let channels = match &self {
            Value::Picture(picture) => picture.channels,
            Value::Array(array) => array.shape.first().copied().unwrap_or(1),
            _ => 1,
        };
        if let Some(count) = [&how.mean, &how.std].iter().map(|v| v.len()).find(|&n| n != 1 && n != channels) {
            return Err(Error::invalid(format!("there are {count} numbers for {channels} channels")));
        }
        Ok(match self {
            Value::Picture(picture) => Value::Picture(picture.map(by)),
            Value::Array(mut array) => {
                let row = (array.data.len() / channels.max(1)).max(1);
                array.data.iter_mut().enumerate().for_each(|(i, v)| *v = by(*v, i / row));
                Value::Array(array)
            }
            other => other.map(|v| by(v, 0)),
        })
    }

    /// Subtracts the mean of all numbers and divides by their deviation (plus 1e-7).
    pub fn standardised(self) -> Value {
        let numbers: Vec<f64> = match &self {
            Value::Picture(picture) => picture.data.iter().map(|&v| f64::from(v)).collect(),
            Value::Sound(sound) => sound.channels.iter().flatten().map(|&v| f64::from(v)).collect(),
            Value::Array(array) => array.data.iter().map(|&v| f64::from(v)).collect(),
            _ => Vec::new(),
        };
        let count = numbers.len().max(1) as f64;
        let mean = numbers.iter().sum::<f64>() / count;
        let deviation = (numbers.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt() + 1e-7;
        self.map(|v| ((f64::from(v) - mean) / deviation) as f32)
    }

    /// Cuts and pads sound or tokens.
    ///
    /// # Errors
    /// As [`Tokens::length`].
    pub fn length(self, how: &Length) -> Result<Value> {
        match self {
            Value::Tokens(tokens) => Ok(Value::Tokens(tokens.length(how)?)),
            Value::Sound(mut sound) => {
                let size = how.size.or(how.first).unwrap_or(0);
                for channel in &mut sound.channels {
                    match how.shorter {
                        true => channel.truncate(size),
                        false => channel.resize(size, how.pad),
                    }
                }
                Ok(Value::Sound(sound))
            }
            other => Ok(other),
        }
    }

    /// The logarithm of each number.
    pub fn log(self, how: &Log) -> Value {
        let log = |v: f32| if how.decimal { v.log10() } else { v.ln() };
        self.map(|v| log((v + how.offset).max(how.floor)))
    }

    /// Rounds each number and limits it to a type.
    pub fn rounded(self, dtype: DType) -> Value {
        let (low, high) = limits(dtype);
        self.map(|v| if dtype.is_float() { v } else { v.round_ties_even().clamp(low as f32, high as f32) })
    }

    /// Exchanges the two axes.
    ///
    /// # Errors
    /// When there are not two.
    pub fn transposed(self) -> Result<Value> {
        match self {
            Value::Array(Array { shape, data }) => {
                let [rows, columns] = shape[..] else {
                    return Err(Error::invalid(format!("the array has {} axes, not two", shape.len())));
                };
                let column = |c: usize| data.iter().skip(c).step_by(columns).copied();
                let data = (0..columns).flat_map(column).collect();
                Ok(Value::Array(Array { shape: vec![columns, rows], data }))
            }
            other => Ok(other),
        }
    }

    /// The tensor for an input. Axes of extent 1 are added in front where the input has more axes.
    ///
    /// # Errors
    /// When type or shape are not the input's.
    pub fn tensor(self, port: &Port) -> Result<Tensor> {
        let array = match self {
            Value::Picture(picture) => picture.layout(Layout::Chw),
            Value::Sound(sound) => sound.array(),
            Value::Array(array) => array,
            Value::Tokens(tokens) => return integers(&tokens.ids, port),
            Value::Text(_) | Value::Bytes(_) => {
                return Err(Error::invalid("text is not a tensor")
                    .help("end with a step bytes, characters or wordpiece, and length"));
            }
        };
        let (low, high) = limits(port.ty.dtype);
        let whole = |v: f32| v.fract() == 0.0 && low as f32 <= v && v <= high as f32;
        if let Some(value) = array.data.iter().find(|&&v| !port.ty.dtype.is_float() && !whole(v)) {
            return Err(Error::invalid(format!("the values are not of type {}: {value}", port.ty.dtype))
                .help(format!("round them by a step dtype = \"{}\" at the end", port.ty.dtype)));
        }
        let values: Vec<f64> = array.data.iter().map(|&v| f64::from(v)).collect();
        let tensor = Tensor::from_f64s(port.ty.dtype, with_axes(array.shape, port), &values)?;
        fit::check(&tensor, port).map(|()| tensor)
    }
}

/// The tensor of integers for an input.
///
/// # Errors
/// When the shape is not the input's.
pub fn integers(values: &[i64], port: &Port) -> Result<Tensor> {
    let (low, high) = limits(port.ty.dtype);
    if let Some(value) = values.iter().find(|&&v| !port.ty.dtype.is_float() && !(low..=high).contains(&v)) {
        return Err(Error::invalid(format!("{value} is not of type {}", port.ty.dtype)));
    }
    let tensor = Tensor::from_i64s(port.ty.dtype, with_axes(vec![values.len()], port), values)?;
    fit::check(&tensor, port).map(|()| tensor)
}

fn with_axes(shape: Vec<usize>, port: &Port) -> Vec<usize> {
    let missing = port.ty.rank().saturating_sub(shape.len());
    [vec![1; missing], shape].concat()
}

/// The smallest and the largest value of an integer type.
fn limits(dtype: DType) -> (i64, i64) {
    let bits = dtype.bits();
    match dtype.class() {
        DTypeClass::Signed => (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits)),
        DTypeClass::Unsigned | DTypeClass::Bool => (0, i64::MAX >> (63 - bits.min(63))),
        DTypeClass::Float => (i64::MIN, i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_of_the_type() {
        assert_eq!(limits(DType::I8), (-128, 127));
        assert_eq!(limits(DType::U8), (0, 255));
        assert_eq!(limits(DType::Bool), (0, 1));
        assert_eq!(limits(DType::I64), (i64::MIN, i64::MAX));
        assert_eq!(limits(DType::U64), (0, i64::MAX));
    }

    #[test]
    fn statistics() {
        let array = Value::Array(Array { shape: vec![2, 2], data: vec![1.0, 3.0, 5.0, 7.0] });
        let how = Normalise { mean: vec![1.0, 5.0], std: vec![2.0] };
        let Value::Array(a) = array.clone().normalised(&how).unwrap() else { panic!() };
        assert_eq!(a.data, [0.0, 1.0, 0.0, 1.0]);
        let Value::Array(a) = array.clone().standardised() else { panic!() };
        assert!(a.data.iter().sum::<f32>().abs() < 1e-6 && (a.data[3] - 3.0 / 5f32.sqrt()).abs() < 1e-5);
        let Value::Array(a) = array.clone().transposed().unwrap() else { panic!() };
        assert_eq!(a.data, [1.0, 5.0, 3.0, 7.0]);
        let wrong = Normalise { mean: vec![0.0; 3], std: vec![1.0] };
        assert!(array.normalised(&wrong).unwrap_err().to_string().contains("3 numbers for 2 channels"));
    }
}
