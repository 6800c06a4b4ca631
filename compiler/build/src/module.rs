//! Generates the Rust module of a model.

use std::fmt::Write;

use mcc::driver::Compiled;
use mcc::ir::DType;

/// The Rust type of an element, if tensors of it have one.
fn element(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::F32 => "f32",
        DType::F64 => "f64",
        DType::I8 => "i8",
        DType::I16 => "i16",
        DType::I32 => "i32",
        DType::I64 => "i64",
        DType::U8 => "u8",
        DType::U16 => "u16",
        DType::U32 => "u32",
        DType::U64 => "u64",
        DType::F16 => "::mcc_runtime::F16",
        DType::BF16 => "::mcc_runtime::Bf16",
        DType::Bool => "::mcc_runtime::Bool",
        DType::I4
        | DType::I2
        | DType::U4
        | DType::U2
        | DType::F8E4M3FN
        | DType::F8E4M3FNUZ
        | DType::F8E5M2
        | DType::F8E5M2FNUZ
        | DType::F8E8M0
        | DType::F4E2M1 => return None,
    })
}

/// Text as one line of a comment.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The module of a compiled model.
pub fn text(compiled: &Compiled, name: &str) -> String {
    let program = &compiled.program;
    let (inputs, outputs) = (compiled.inputs(), program.outputs.as_slice());
    let mut m = format!(
        "// Made by mcc-build; the model is `{name}`.\n\n\
         #[allow(improper_ctypes)]\n\
         unsafe extern \"C\" {{\n    \
         static {name}_model: ::mcc_runtime::RawModel;\n\
         }}\n\n\
         /// The model: its inputs and outputs, and calls with tensors of any dimensions.\n\
         ///\n\
         /// # Errors\n\
         /// When `mcc-runtime` and the compiler have different versions.\n\
         pub fn model() -> ::core::result::Result<::mcc_runtime::Model, ::mcc_runtime::Error> {{\n    \
         // SAFETY: the linked object defines it with the layout of the compiler that wrote this.\n    \
         unsafe {{ ::mcc_runtime::Model::new(&{name}_model) }}\n\
         }}\n"
    );
    let all = || inputs.iter().chain(outputs);
    let fixed = all().map(|port| Some((element(port.ty.dtype)?, port.ty.numel().as_const()?)));
    let (Some(arrays), Some(bytes)) = (fixed.collect::<Option<Vec<_>>>(), compiled.arena_bytes) else { return m };
    let _ = write!(
        m,
        "\n/// Bytes of the arena.\npub const ARENA_BYTES: usize = {bytes};\n\n\
         /// The memory that a run needs. It holds nothing between runs.\n\
         #[repr(C, align(64))]\n\
         pub struct Arena([u8; ARENA_BYTES]);\n\n\
         impl Arena {{\n    \
         /// An arena.\n    \
         #[allow(clippy::new_without_default)]\n    \
         pub const fn new() -> Arena {{\n        \
         Arena([0; ARENA_BYTES])\n    \
         }}\n\
         }}\n\n\
         /// Runs the model.\n///\n"
    );
    for port in all() {
        let _ = writeln!(m, "/// - `{}`: `{}`, {}", port.c_name, line(&port.name), port.ty);
    }
    m += "///\n/// # Errors\n/// When the processor lacks an extension that the code needs, or values are not what the model requires.\n\
          #[allow(clippy::too_many_arguments)]\npub fn run(\n";
    for (n, (port, (element, count))) in all().zip(&arrays).enumerate() {
        let mutable = if n < inputs.len() { "" } else { "mut " };
        let _ = writeln!(m, "    {}: &{mutable}[{element}; {count}],", port.c_name);
    }
    m += "    arena: &mut Arena,\n) -> ::core::result::Result<(), ::mcc_runtime::Error> {\n";
    for (n, port) in all().enumerate() {
        let dims: Vec<String> = port.ty.shape.iter().map(ToString::to_string).collect();
        let (mutable, of) = if n < inputs.len() { ("", "TensorRef") } else { ("mut ", "TensorMut") };
        let _ = writeln!(m, "    let {mutable}dims{n}: [i64; {}] = [{}];", dims.len(), dims.join(", "));
        let _ = writeln!(m, "    let tensor{n} = ::mcc_runtime::{of}::new({}, &{mutable}dims{n})?;", port.c_name);
    }
    let list = |range: std::ops::Range<usize>| range.map(|n| format!("tensor{n}")).collect::<Vec<_>>().join(", ");
    let _ = writeln!(
        m,
        "    model()?.invoke(&[{}], &mut [{}], &mut arena.0)\n}}",
        list(0..inputs.len()),
        list(inputs.len()..arrays.len())
    );
    m
}
