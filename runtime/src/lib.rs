//! Safe calls of models that `mcc` compiled: a `no_std` wrapper around the descriptor `NAME_model` and `mcc.h`.
//!
//! ```ignore
//! unsafe extern "C" {
//!     static digits_model: mcc_runtime::RawModel;
//! }
//! // SAFETY: the linked object defines it.
//! let model = unsafe { Model::new(&digits_model) }?;
//! model.invoke(&[TensorRef::new(&pixels, &[1, 1, 28, 28])?], &mut [TensorMut::new(&mut scores, &mut dims)?], &mut arena)?;
//! ```
//!
//! Buffers are checked against their dimensions before a model sees them:
//!
//! ```
//! use mcc_runtime::{Error, TensorRef};
//!
//! let pixels = [0.0_f32; 64];
//! assert!(TensorRef::new(&pixels, &[1, 1, 8, 8]).is_ok());
//! assert_eq!(TensorRef::new(&pixels, &[1, 1, 8, 9]).err(), Some(Error::BufferSize));
//! ```
//!
//! Nothing here allocates: the caller owns inputs, outputs and the arena. The feature `threads` adds [`Pool`], a thread
//! pool for models compiled with `--threads`, and requires the standard library.
#![no_std]

#[cfg(feature = "threads")]
extern crate std;

pub mod abi;
#[cfg(feature = "threads")]
mod pool;
mod raw;

use core::ffi::{CStr, c_char};
use core::fmt;
use core::marker::PhantomData;

#[cfg(feature = "threads")]
pub use pool::Pool;
pub use raw::{RawModel, RawPool, RawPort, RawTensor, Task};

/// The version of the interface that this crate implements.
pub const ABI_VERSION: i32 = abi::VERSION;

pub use abi::ARENA_ALIGN;

/// Why a call was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The object implements another version of the interface.
    AbiVersion(i32),
    /// More or fewer tensors than the model has inputs or outputs.
    TensorCount,
    /// A buffer's length is not the product of its dimensions.
    BufferSize,
    /// The model refused the call.
    Refused(Refusal),
}

/// A code of `mcc.h` with the model's reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The code; its lower 8 bits are the kind.
    pub code: i32,
    /// The violated requirement, in terms of the model's inputs and nodes.
    pub requirement: &'static str,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::AbiVersion(v) => return write!(f, "the model has interface version {v}, not {ABI_VERSION}"),
            Error::TensorCount => "the number of tensors differs from the model's",
            Error::BufferSize => "a buffer's length is not the product of its dimensions",
            Error::Refused(refusal) => refusal.requirement,
        })
    }
}

impl core::error::Error for Error {}

/// An element type of tensors.
///
/// # Safety
/// `CODE` is the number of an ONNX type with this layout, and every bit pattern that the model writes is valid.
pub unsafe trait Element: Copy {
    /// The type's number.
    const CODE: i32;
}

macro_rules! elements {
    ($($ty:ty = $code:literal),*) => {
        $(
            // SAFETY: the type with this number in `mcc.h` has this layout, and any bit pattern is valid.
            unsafe impl Element for $ty {
                const CODE: i32 = $code;
            }
        )*
    };
}
elements!(f32 = 1, u8 = 2, i8 = 3, u16 = 4, i16 = 5, i32 = 6, i64 = 7, f64 = 11, u32 = 12, u64 = 13);

/// Elements whose type has no Rust counterpart, as bytes or words: half floats, booleans, 8-bit floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bits<T, const CODE: i32>(pub T);

/// Booleans, 0 or 1.
pub type Bool = Bits<u8, 9>;
/// IEEE half precision.
pub type F16 = Bits<u16, 10>;
/// The upper half of an `f32`.
pub type Bf16 = Bits<u16, 16>;

// SAFETY: a word of the type's size, in which any bit pattern is valid.
unsafe impl Element for Bool {
    const CODE: i32 = 9;
}
// SAFETY: as above.
unsafe impl Element for F16 {
    const CODE: i32 = 10;
}
// SAFETY: as above.
unsafe impl Element for Bf16 {
    const CODE: i32 = 16;
}

/// An input tensor.
#[repr(transparent)]
pub struct TensorRef<'a> {
    raw: RawTensor,
    life: PhantomData<&'a [u8]>,
}

/// An output tensor; after a run its dimensions are those of the result.
#[repr(transparent)]
pub struct TensorMut<'a> {
    raw: RawTensor,
    life: PhantomData<&'a mut [u8]>,
}

impl<'a> TensorRef<'a> {
    /// A tensor of `data`, row-major, with dimensions `dims`.
    ///
    /// # Errors
    /// When `data.len()` is not the product of `dims`.
    pub fn new<T: Element>(data: &'a [T], dims: &'a [i64]) -> Result<Self, Error> {
        check_size(data.len(), dims)?;
        // Models do not write to their inputs' data or dimensions.
        let (data, rank) = (data.as_ptr().cast_mut().cast(), dims.len() as i32);
        let raw = RawTensor { data, dims: dims.as_ptr().cast_mut(), rank, dtype: T::CODE };
        Ok(TensorRef { raw, life: PhantomData })
    }
}

impl<'a> TensorMut<'a> {
    /// A tensor of `data`, row-major, with dimensions `dims`.
    ///
    /// # Errors
    /// When `data.len()` is not the product of `dims`.
    pub fn new<T: Element>(data: &'a mut [T], dims: &'a mut [i64]) -> Result<Self, Error> {
        check_size(data.len(), dims)?;
        let (data, rank) = (data.as_mut_ptr().cast(), dims.len() as i32);
        Ok(TensorMut { raw: RawTensor { data, dims: dims.as_mut_ptr(), rank, dtype: T::CODE }, life: PhantomData })
    }

    /// A tensor without data, for [`Model::shapes`] to fill in its dimensions.
    pub fn unallocated(dims: &'a mut [i64]) -> Self {
        let raw = RawTensor { data: core::ptr::null_mut(), dims: dims.as_mut_ptr(), rank: dims.len() as i32, dtype: 0 };
        TensorMut { raw, life: PhantomData }
    }
}

fn check_size(elements: usize, dims: &[i64]) -> Result<(), Error> {
    let wanted = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
    if wanted == Some(elements) { Ok(()) } else { Err(Error::BufferSize) }
}

/// A linked model.
#[derive(Clone, Copy)]
pub struct Model {
    raw: &'static RawModel,
}

impl Model {
    /// Wraps a model's descriptor.
    ///
    /// # Safety
    /// `raw` is a descriptor that mcc generated, linked into this program.
    ///
    /// # Errors
    /// When the object implements another version of the interface.
    pub unsafe fn new(raw: &'static RawModel) -> Result<Model, Error> {
        if raw.abi_version == ABI_VERSION { Ok(Model { raw }) } else { Err(Error::AbiVersion(raw.abi_version)) }
    }

    /// The prefix of its symbols.
    pub fn name(&self) -> &'static str {
        text(self.raw.name)
    }

    /// The CPU extensions that its code uses, separated by spaces.
    pub fn cpu_features(&self) -> &'static str {
        text(self.raw.cpu_features)
    }

    /// The largest number of threads that a run uses.
    pub fn threads(&self) -> usize {
        usize::try_from(self.raw.threads).unwrap_or(1)
    }

    /// Its inputs.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = Port> + use<> {
        ports(self.raw.inputs, self.raw.input_count)
    }

    /// Its outputs.
    pub fn outputs(&self) -> impl ExactSizeIterator<Item = Port> + use<> {
        ports(self.raw.outputs, self.raw.output_count)
    }

    /// Fills in the outputs' dimensions (upper bounds, where they depend on data) and returns the arena's size in
    /// bytes. `outputs` may be empty.
    ///
    /// # Errors
    /// When the inputs do not fit the model, or the length of an output's `dims` is not its rank.
    pub fn shapes(&self, inputs: &[TensorRef<'_>], outputs: &mut [TensorMut<'_>]) -> Result<usize, Error> {
        let wanted = if outputs.is_empty() { 0 } else { self.raw.output_count as usize };
        self.check_counts(inputs, outputs, wanted)?;
        let fits = |(t, p): (&TensorMut<'_>, Port)| t.raw.rank as usize == p.rank();
        if !outputs.iter().zip(self.outputs()).all(fits) {
            return Err(Error::TensorCount);
        }
        let mut bytes = 0;
        let out = if outputs.is_empty() { core::ptr::null_mut() } else { outputs.as_mut_ptr().cast() };
        // SAFETY: counts and ranks match the model's; `TensorRef` and `TensorMut` are transparent over `RawTensor`.
        let code = unsafe { (self.raw.shapes)(inputs.as_ptr().cast(), out, &raw mut bytes) };
        if code == 0 { Ok(usize::try_from(bytes).unwrap_or(0)) } else { Err(self.refusal(code)) }
    }

    /// Runs the model. `arena` must be aligned to [`ARENA_ALIGN`] and have at least the size that [`Model::shapes`]
    /// returns.
    ///
    /// # Errors
    /// When a tensor or the arena does not fit; nothing has been written in that case.
    pub fn invoke(
        &self,
        inputs: &[TensorRef<'_>],
        outputs: &mut [TensorMut<'_>],
        arena: &mut [u8],
    ) -> Result<(), Error> {
        // SAFETY: without a pool everything runs on this thread.
        unsafe { self.invoke_on(inputs, outputs, arena, core::ptr::null()) }
    }

    /// Runs the model on the threads of a pool; results do not depend on their number.
    ///
    /// # Errors
    /// As [`Model::invoke`].
    #[cfg(feature = "threads")]
    pub fn invoke_with(
        &self,
        pool: &Pool,
        inputs: &[TensorRef<'_>],
        outputs: &mut [TensorMut<'_>],
        arena: &mut [u8],
    ) -> Result<(), Error> {
        // SAFETY: `Pool` satisfies the contract of `mcc.h`.
        unsafe { self.invoke_on(inputs, outputs, arena, pool.raw()) }
    }

    /// Runs the model on the threads of the application's own pool, or on this thread only if it is null.
    ///
    /// # Safety
    /// `pool` is null or a pool that satisfies the contract of `mcc.h`.
    ///
    /// # Errors
    /// As [`Model::invoke`].
    pub unsafe fn invoke_on(
        &self,
        inputs: &[TensorRef<'_>],
        outputs: &mut [TensorMut<'_>],
        arena: &mut [u8],
        pool: *const RawPool,
    ) -> Result<(), Error> {
        self.check_counts(inputs, outputs, self.raw.output_count as usize)?;
        // SAFETY: counts match the model's, and every buffer's length is the product of its dimensions; the model
        // checks the dimensions themselves.
        let code = unsafe {
            (self.raw.invoke)(
                inputs.as_ptr().cast(),
                outputs.as_mut_ptr().cast(),
                arena.as_mut_ptr().cast(),
                arena.len(),
                pool,
            )
        };
        if code == 0 { Ok(()) } else { Err(self.refusal(code)) }
    }

    fn refusal(&self, code: i32) -> Error {
        let number = usize::try_from(code >> 8).unwrap_or(0);
        let requirement = match number.checked_sub(1) {
            // SAFETY: the descriptor has `requirement_count` texts.
            Some(n) if n < self.raw.requirement_count as usize => text(unsafe { *self.raw.requirements.add(n) }),
            _ => kind(code & 255),
        };
        Error::Refused(Refusal { code, requirement })
    }

    fn check_counts(&self, inputs: &[TensorRef<'_>], outputs: &[TensorMut<'_>], wanted: usize) -> Result<(), Error> {
        let fits = inputs.len() == self.raw.input_count as usize && outputs.len() == wanted;
        if fits { Ok(()) } else { Err(Error::TensorCount) }
    }
}

/// The message of a kind of code, the same as `mcc_message` returns.
fn kind(kind: i32) -> &'static str {
    match kind {
        1 => "a pointer is null",
        2 => "a tensor has the wrong number of dimensions",
        3 => "a tensor has the wrong element type",
        4 => "a tensor has a wrong dimension, or two that must be equal are not",
        5 => "the arena is too small",
        6 => "the arena is not aligned to 64 bytes",
        7 => "the inputs' values are not what the model requires",
        8 => "the processor lacks an extension that the model was compiled for",
        9 => "the dimensions make a tensor larger than can be addressed",
        10 => "the weights are not those that were written with the model",
        _ => "unknown code",
    }
}

/// An input or output of a model.
#[derive(Clone, Copy)]
pub struct Port {
    raw: &'static RawPort,
}

impl Port {
    /// The name in the model.
    pub fn name(&self) -> &'static str {
        text(self.raw.name)
    }

    /// The number of the element type.
    pub fn dtype(&self) -> i32 {
        self.raw.dtype
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.raw.rank as usize
    }

    /// The dimensions; -1 for those that are not constant.
    pub fn dims(&self) -> &'static [i64] {
        // SAFETY: the descriptor has `rank` dimensions.
        unsafe { core::slice::from_raw_parts(self.raw.dims, self.rank()) }
    }

    /// The expression of a dimension that is not constant.
    pub fn dim_name(&self, axis: usize) -> &'static str {
        assert!(axis < self.rank(), "axis {axis} of {}", self.rank());
        // SAFETY: the descriptor has `rank` names.
        text(unsafe { *self.raw.dim_names.add(axis) })
    }
}

fn ports(first: *const RawPort, count: i32) -> impl ExactSizeIterator<Item = Port> {
    // SAFETY: the descriptor has `count` ports and lives as long as the program.
    (0..count as usize).map(move |i| Port { raw: unsafe { &*first.add(i) } })
}

fn text(s: *const c_char) -> &'static str {
    // SAFETY: the descriptor's strings are C strings that live as long as the program.
    unsafe { CStr::from_ptr(s) }.to_str().unwrap_or("")
}
