//! The binary interface between generated code and its callers; `runtime/mcc.h` says the same in C.

use crate::ir::{DType, Dim};
use crate::lower::program::{Port, Program, SymbolSource};

/// Version of the interface, in every model's descriptor.
pub const VERSION: i32 = 3;

/// Kinds of return codes, see [`super::refusals`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
#[repr(i32)]
pub enum Status {
    Ok = 0,
    NullPointer = 1,
    WrongRank = 2,
    WrongDtype = 3,
    WrongDimension = 4,
    ArenaTooSmall = 5,
    MisalignedArena = 6,
    BadValue = 7,
    CpuLacksFeature = 8,
    TooLarge = 9,
    WrongWeights = 10,
}

/// Bytes of a C `mcc_tensor`, and the offsets of its fields.
pub const TENSOR_BYTES: i32 = 24;
/// `void *data`.
pub const TENSOR_DATA: i32 = 0;
/// `int64_t *dims`.
pub const TENSOR_DIMS: i32 = 8;
/// `int32_t rank`.
pub const TENSOR_RANK: i32 = 16;
/// `int32_t dtype`.
pub const TENSOR_DTYPE: i32 = 20;

/// `void *context` of a C `mcc_pool`.
pub const POOL_CONTEXT: i32 = 0;
/// `void (*parallel_for)(...)`.
pub const POOL_PARALLEL_FOR: i32 = 8;
/// `int32_t threads`.
pub const POOL_THREADS: i32 = 16;

/// Status of an element type, ONNX's, and the C type of an element.
pub fn dtype_code(dtype: DType) -> (i32, &'static str) {
    match dtype {
        DType::F32 => (1, "float"),
        DType::U8 => (2, "uint8_t"),
        DType::I8 => (3, "int8_t"),
        DType::U16 => (4, "uint16_t"),
        DType::I16 => (5, "int16_t"),
        DType::I32 => (6, "int32_t"),
        DType::I64 => (7, "int64_t"),
        DType::Bool => (9, "uint8_t"),
        DType::F16 => (10, "uint16_t"),
        DType::F64 => (11, "double"),
        DType::U32 => (12, "uint32_t"),
        DType::U64 => (13, "uint64_t"),
        DType::BF16 => (16, "uint16_t"),
        DType::F8E4M3FN => (17, "uint8_t"),
        DType::F8E4M3FNUZ => (18, "uint8_t"),
        DType::F8E5M2 => (19, "uint8_t"),
        DType::F8E5M2FNUZ => (20, "uint8_t"),
        DType::U4 => (21, "uint8_t"),
        DType::I4 => (22, "int8_t"),
        DType::F4E2M1 => (23, "uint8_t"),
        DType::F8E8M0 => (24, "uint8_t"),
        DType::U2 => (25, "uint8_t"),
        DType::I2 => (26, "int8_t"),
    }
}

/// Arguments of `NAME_run`: symbols, inputs, outputs, arena, its size, and the pool where there is one.
pub fn run_args(program: &Program) -> usize {
    program.symbols.len() + program.inputs.len() + program.outputs.len() + 2 + usize::from(program.threads > 1)
}

/// Parameters that compilers of C++ should take at least (its standard's annex on implementation quantities).
const MOST_PARAMETERS: usize = 256;

/// Whether the model has the typed function `NAME_run`: every symbol is the extent of an input's axis, and compilers
/// take as many parameters.
pub fn has_typed_run(program: &Program) -> bool {
    run_args(program) <= MOST_PARAMETERS
        && program.symbols.iter().all(|s| matches!(s.source, SymbolSource::InputDim { .. }))
}

/// Bytes of arena for any of a model's variants, when no dimension decides them.
pub fn fixed_arena(programs: &[&Program]) -> Option<i64> {
    let sizes: Option<Vec<i64>> = programs.iter().map(|p| p.arena_bytes.as_const()).collect();
    sizes?.into_iter().max()
}

/// Whether callers see no difference between two programs but the arena's size.
pub fn same_interface(a: &Program, b: &Program) -> bool {
    let ports =
        |p: &Program| p.inputs.iter().chain(&p.outputs).map(|p| (p.name.clone(), p.ty.clone())).collect::<Vec<_>>();
    let symbols = |p: &Program| p.symbols.iter().map(|s| s.name.clone()).collect::<Vec<_>>();
    ports(a) == ports(b) && a.threads == b.threads && symbols(a) == symbols(b) && has_typed_run(a) == has_typed_run(b)
}

/// The dimensions of a port that are not constant.
pub fn symbolic_dims(port: &Port) -> impl Iterator<Item = &Dim> {
    port.ty.shape.iter().filter(|d| d.as_const().is_none())
}
