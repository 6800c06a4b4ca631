//! The C header of a model. It contains `runtime/mcc.h`, so that one file is enough.

use std::fmt::Write;

use super::abi;
use crate::lower::program::{Port, Program};

/// The header's text, for a model's variants.
pub fn header(programs: &[&Program]) -> String {
    let Some(&program) = programs.first() else { return String::new() };
    let name = &program.name;
    let upper = name.to_uppercase();
    let mut h = format!("/* {name}: a model compiled by mcc. */\n#ifndef {upper}_MODEL_H\n#define {upper}_MODEL_H\n\n");
    h += include_str!("../../../runtime/mcc.h");
    h += "\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n";
    let ports = |ports: &[Port], kind: &str| -> String {
        ports.iter().enumerate().map(|(i, p)| format!("   {kind} {i}: {}\n", describe(p))).collect()
    };
    h += &format!("/*\n{}{}*/\n\n", ports(&program.inputs, "input"), ports(&program.outputs, "output"));
    if let Some(bytes) = abi::fixed_arena(programs) {
        h += &format!("/* Bytes of arena. */\n#define {upper}_ARENA_SIZE {bytes}\n\n");
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
    let _ = writeln!(h, "#endif /* {upper}_MODEL_H */");
    h
}

/// Name, type and dimensions; without what would end a comment.
fn describe(port: &Port) -> String {
    comment(&format!("{} {}", port.name, port.ty))
}

/// A text without what would end a comment.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || c == '*' { ' ' } else { c }).collect()
}

fn run_parameters(program: &Program) -> Vec<String> {
    let mut taken: Vec<String> = Vec::new();
    let mut distinct = |wanted: String| {
        let mut name = wanted.clone();
        let mut n = 1;
        while taken.contains(&name) {
            n += 1;
            name = format!("{wanted}_{n}");
        }
        taken.push(name.clone());
        name
    };
    let pointer = |port: &Port| abi::dtype_code(port.ty.dtype).1;
    let fixed = ["arena", "arena_size", "pool"].map(|name| distinct(name.to_string()));
    let inputs: Vec<String> =
        program.inputs.iter().map(|p| format!("const {} *{}", pointer(p), distinct(p.c_name.clone()))).collect();
    let outputs: Vec<String> =
        program.outputs.iter().map(|p| format!("{} *{}", pointer(p), distinct(p.c_name.clone()))).collect();
    let symbols = program.symbols.iter().map(|s| format!("int64_t {}", distinct(identifier(&s.name.0))));
    let mut parameters: Vec<String> = symbols.collect();
    parameters.extend(inputs);
    parameters.extend(outputs);
    parameters.extend([format!("void *{}", fixed[0]), format!("size_t {}", fixed[1])]);
    if program.threads > 1 {
        parameters.push(format!("const mcc_pool *{}", fixed[2]));
    }
    parameters
}

/// A symbol's name as a C identifier.
fn identifier(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("dim_{plain}")
}
