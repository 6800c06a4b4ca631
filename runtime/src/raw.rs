//! The types of `mcc.h`.

use core::ffi::{c_char, c_void};

/// `mcc_tensor`.
#[repr(C)]
#[derive(Debug)]
pub struct RawTensor {
    /// Elements.
    pub data: *mut c_void,
    /// Dimensions.
    pub dims: *mut i64,
    /// Number of dimensions.
    pub rank: i32,
    /// Element type.
    pub dtype: i32,
}

/// `mcc_port`.
#[repr(C)]
#[derive(Debug)]
pub struct RawPort {
    /// Name in the model.
    pub name: *const c_char,
    /// Dimensions, or -1.
    pub dims: *const i64,
    /// Expressions of dimensions that are not constant.
    pub dim_names: *const *const c_char,
    /// Number of dimensions.
    pub rank: i32,
    /// Element type.
    pub dtype: i32,
}

/// The task that threads call with an argument and an index.
pub type Task = unsafe extern "C" fn(*mut c_void, i64);

/// `mcc_pool`.
#[repr(C)]
#[derive(Debug)]
pub struct RawPool {
    /// The first argument of `parallel_for`.
    pub context: *mut c_void,
    /// Calls a task for every index below a count; returns when all calls have returned.
    pub parallel_for: unsafe extern "C" fn(*mut c_void, Task, *mut c_void, i64),
    /// Number of threads.
    pub threads: i32,
}

/// `mcc_model`.
#[repr(C)]
#[derive(Debug)]
pub struct RawModel {
    /// Version of the interface.
    pub abi_version: i32,
    /// Number of inputs.
    pub input_count: i32,
    /// Number of outputs.
    pub output_count: i32,
    /// The largest number of threads that a run uses.
    pub threads: i32,
    /// Prefix of the symbols.
    pub name: *const c_char,
    /// Inputs.
    pub inputs: *const RawPort,
    /// Outputs.
    pub outputs: *const RawPort,
    /// Bytes, or -1.
    pub arena_size: i64,
    /// `NAME_shapes`.
    pub shapes: unsafe extern "C" fn(*const RawTensor, *mut RawTensor, *mut i64) -> i32,
    /// `NAME_invoke`.
    pub invoke: unsafe extern "C" fn(*const RawTensor, *mut RawTensor, *mut c_void, usize, *const RawPool) -> i32,
    /// CPU extensions.
    pub cpu_features: *const c_char,
    /// Texts of requirements.
    pub requirements: *const *const c_char,
    /// Number of requirements.
    pub requirement_count: i32,
}

// SAFETY: descriptors are constant data.
unsafe impl Sync for RawModel {}
