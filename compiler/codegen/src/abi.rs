//! The binary interface between generated code and its callers, as in the table of [`mcc_runtime::abi`].

use mcc_runtime::abi::element_type;

use mcc_ir::{DType, Dim};
use mcc_kernel::program::{Port, Program, SymbolSource};

pub use mcc_runtime::abi::{KIND_BITS, Status, VERSION, model, pool, port, tensor};

/// The code of an element type (ONNX's), and the C type of an element.
pub fn dtype_code(dtype: DType) -> (i32, &'static str) {
    // `every_element_type_has_a_row` checks that a row exists.
    (dtype.code(), element_type(dtype.code()).map_or("void", |row| row.c_type))
}

/// Number of arguments of `NAME_run`: symbols, inputs, outputs, arena, its size, and the pool if there is one.
pub fn run_args(program: &Program) -> usize {
    program.symbols.len() + program.inputs.len() + program.outputs.len() + 2 + usize::from(program.threads > 1)
}

/// The number of parameters that C++ compilers should support (the standard's annex on implementation quantities).
const MOST_PARAMETERS: usize = 256;

/// Whether the model has the typed function `NAME_run`: every symbol is the extent of an input's axis, and compilers
/// support that many parameters.
pub fn has_typed_run(program: &Program) -> bool {
    run_args(program) <= MOST_PARAMETERS
        && program.symbols.iter().all(|s| matches!(s.source, SymbolSource::InputDim { .. }))
}

/// Bytes of arena that suffice for all of a model's variants, if they do not depend on dimensions.
pub fn fixed_arena(programs: &[&Program]) -> Option<i64> {
    let sizes: Option<Vec<i64>> = programs.iter().map(|p| p.arena_bytes.as_const()).collect();
    sizes?.into_iter().max()
}

/// Whether two programs differ for callers at most in the arena's size.
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

#[test]
fn every_element_type_has_a_row() {
    for dtype in DType::all() {
        let row = element_type(dtype.code()).unwrap_or_else(|| panic!("{dtype}"));
        let c_bytes = match row.c_type {
            "double" | "int64_t" | "uint64_t" => 8,
            "float" | "int32_t" | "uint32_t" => 4,
            "int16_t" | "uint16_t" => 2,
            _ => 1,
        };
        assert_eq!(dtype.size(), c_bytes, "{dtype}");
    }
}
