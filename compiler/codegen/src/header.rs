//! The C header of a model. It contains `runtime/mcc.h`, so that one file is enough.

use std::fmt::Write;

use super::abi;
use mcc_kernel::names::Names;
use mcc_kernel::program::{Port, Program};

/// The header's text, for a model's variants.
pub fn header(programs: &[&Program]) -> String {
    let Some(&program) = programs.first() else { return String::new() };
    let name = &program.name;
    let mut h =
        format!("/* {name}: a model compiled by mcc. */\n#ifndef MCC_MODEL_{name}_H\n#define MCC_MODEL_{name}_H\n\n");
    h += include_str!("../../../runtime/mcc.h");
    h += &format!(
        "\n#if MCC_ABI_VERSION != {0}\n#error \"{name} is of version {0} of mcc's interface, another model included before is not\"\n#endif\n",
        abi::VERSION
    );
    h += "\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n";
    let ports = |ports: &[Port], kind: &str| -> String {
        ports.iter().enumerate().map(|(i, p)| format!("   {kind} {i}: {}\n", describe(p))).collect()
    };
    h += &format!("/*\n{}{}*/\n\n", ports(&program.inputs, "input"), ports(&program.outputs, "output"));
    if let Some(input) = programs.iter().find_map(|p| p.weights_input()) {
        h += &format!(
            "/* The weights are not in the object: input {input} is the content of the file that was written beside it,\n   \
             mapped or read. */\n\n"
        );
    }
    if let Some(bytes) = abi::fixed_arena(programs) {
        h += &format!("/* Bytes of arena. */\n#define {} {bytes}\n\n", arena_macro(name));
    }
    h += &format!("extern const mcc_model {name}_model;\n\n");
    h += "/* See mcc_model.shapes and mcc_model.invoke. */\n";
    h += &format!("int32_t {name}_shapes(const mcc_tensor *inputs, mcc_tensor *outputs, int64_t *arena_size);\n");
    h += &format!(
        "int32_t {name}_invoke(const mcc_tensor *inputs, mcc_tensor *outputs, void *arena, size_t arena_size,\n\
         {:width$}const mcc_pool *pool);\n",
        "",
        width = "int32_t _invoke(".len() + name.len()
    );
    let mut required: Vec<&str> = Vec::new();
    for check in programs.iter().flat_map(|p| &p.requires) {
        if !required.contains(&check.text.as_str()) {
            required.push(&check.text);
        }
    }
    if !required.is_empty() {
        h += "\n/* What the model requires of its inputs, else it refuses them:\n";
        h.extend(required.iter().map(|text| format!("   - {}\n", comment(text))));
        h += "*/\n";
    }
    h += &format!(
        "\n/* What a code of the model's functions means. */\n\
         static inline const char *{name}_explain(int32_t code) {{ return mcc_explain(&{name}_model, code); }}\n"
    );
    if abi::has_typed_run(program) {
        h += "\n/* Runs the model on contiguous tensors: first the dimensions that are not constant, then inputs and outputs. */\n";
        if program.threads > 1 {
            h += "/* `pool` may be null: one thread. */\n";
        }
        h += &format!("int32_t {name}_run({});\n", run_parameters(program).join(", "));
    }
    h += "\n#ifdef __cplusplus\n}\n#endif\n\n";
    let _ = writeln!(h, "#endif /* MCC_MODEL_{name}_H */");
    h
}

/// The macro for the arena's size: in upper case, unless another model's could have the same name.
fn arena_macro(name: &str) -> String {
    match name.contains(|c: char| c.is_ascii_uppercase()) {
        true => format!("{name}_arena_size"),
        false => format!("{}_ARENA_SIZE", name.to_uppercase()),
    }
}

/// Name, type and dimensions; without characters that would end a comment.
fn describe(port: &Port) -> String {
    comment(&format!("{} {}", port.name, port.ty))
}

/// A text without comment terminators, character sequences that compilers warn about in comments, and misleading
/// characters.
fn comment(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        let hidden = matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{ffff}' | '\u{e0000}'..);
        match (shown.chars().last(), c) {
            _ if hidden || c.is_control() => shown += &format!("<U+{:04X}>", u32::from(c)),
            (Some('*'), '/') | (Some('/'), '*') | (Some('?'), '?') => shown.extend([' ', c]),
            _ => shown.push(c),
        }
    }
    // A line break follows.
    if shown.ends_with('\\') { shown + " ." } else { shown }
}

fn run_parameters(program: &Program) -> Vec<String> {
    let pointer = |port: &Port| abi::dtype_code(port.ty.dtype).1;
    let mut names = Names::default();
    let symbols = program.symbols.iter().map(|s| format!("int64_t {}", names.c_name("dim", &s.name.0)));
    let mut parameters: Vec<String> = symbols.collect();
    parameters.extend(program.inputs.iter().map(|p| format!("const {} *{}", pointer(p), p.c_name)));
    parameters.extend(program.outputs.iter().map(|p| format!("{} *{}", pointer(p), p.c_name)));
    parameters.extend(["void *arena", "size_t arena_size"].map(str::to_string));
    if program.threads > 1 {
        parameters.push("const mcc_pool *pool".to_string());
    }
    parameters
}
