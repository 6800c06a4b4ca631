//! Headers compile whatever the names of a model, its ports and its dimensions.

#![cfg(unix)]

use std::path::Path;
use std::process::Command;

use mcc_proto::tensor_shape_proto::{Dimension, DimensionValue};
use mcc_proto::type_proto::{self, Value};
use mcc_proto::{
    GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto,
};

/// Keywords, macros and types of C and C++, names of generated code, and names that are not identifiers, end a comment
/// or are invisible.
const HOSTILE: &[&str] = &[
    "size_t",
    "int64_t",
    "uint8_t",
    "NULL",
    "unix",
    "linux",
    "concept",
    "errno",
    "stdin",
    "main",
    "float",
    "typeof",
    "nullptr",
    "constinit",
    "co_await",
    "requires",
    "char8_t",
    "bool",
    "true",
    "_Bool",
    "_Generic",
    "__FILE__",
    "EOF",
    "arena",
    "arena_size",
    "pool",
    "mcc_pool",
    "mcc_model",
    "MCC_OK",
    "MCC_H",
    "asm",
    "typeid",
    "and",
    "I",
    "_",
    "__",
    "8",
    "a b",
    "a-b",
    "a.b",
    "a_b",
    "",
    "*/ #error out /*",
    "/*",
    "*\\\n/ int x;",
    "??/\n*/",
    "??/",
    "\\",
    "a\\",
    "line\nbreak",
    "\r\n#error x",
    "输入",
    "\u{202e}rtl",
    "\u{2066}isolate",
    "\u{feff}bom",
    "nul\0",
    "%s\"'",
    "?\u{3f})",
    "ends in *",
    "/ begins",
    "\u{2028}#error x",
    "zero\u{200b}width",
    "é",
];

/// `y = Abs(x)` for every name, each with a dimension of the same name as the first of two.
fn model(names: &[&str]) -> Vec<u8> {
    let info = |name: &str, dimension: &str| {
        let named = DimensionValue::DimParam(dimension.to_string());
        let dim = [named, DimensionValue::DimValue(2)].map(|d| Dimension { value: Some(d), ..Default::default() });
        let tensor = type_proto::Tensor { elem_type: 1, shape: Some(TensorShapeProto { dim: dim.to_vec() }) };
        let ty = TypeProto { value: Some(Value::TensorType(tensor)), ..Default::default() };
        ValueInfoProto { name: name.to_string(), r#type: Some(ty), ..Default::default() }
    };
    // An empty name is an omitted operand, which an input cannot have.
    let names: Vec<&str> = names.iter().copied().filter(|n| !n.is_empty()).collect();
    let node = |name: &str| NodeProto {
        op_type: "Abs".to_string(),
        input: vec![name.to_string()],
        output: vec![format!("{name}'")],
        name: name.to_string(),
        ..Default::default()
    };
    let graph = GraphProto {
        input: names.iter().map(|n| info(n, n)).collect(),
        output: names.iter().map(|n| info(&format!("{n}'"), n)).collect(),
        node: names.iter().map(|n| node(n)).collect(),
        ..Default::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
    ModelProto { ir_version: 8, graph: Some(graph), opset_import, ..Default::default() }.encode_to_vec()
}

fn compile(dir: &Path, arguments: &[&str]) {
    let out = Command::new(env!("CARGO_BIN_EXE_mcc")).args(arguments).current_dir(dir).output().unwrap();
    assert!(out.status.success(), "mcc {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Compiles a source with every standard of C and C++ that the interface supports.
fn accepted(dir: &Path, source: &str) {
    for (compiler, standard, file) in [
        ("gcc", "-std=c11", "t.c"),
        ("gcc", "-std=gnu17", "t.c"),
        ("gcc", "-std=c2x", "t.c"),
        ("gcc", "-trigraphs", "t.c"),
        ("g++", "-std=c++17", "t.cpp"),
        ("g++", "-std=c++20", "t.cpp"),
    ] {
        std::fs::write(dir.join(file), source).unwrap();
        let flags = ["-Wall", "-Wextra", "-Wpedantic", "-Wcomment", "-Wtrigraphs", "-Werror", "-fsyntax-only"];
        let flags = flags.iter().chain(["-Wbidi-chars=any"].iter().filter(|_| newer(compiler)));
        let out = Command::new(compiler).arg(standard).args(flags).arg(file).current_dir(dir).output().unwrap();
        assert!(out.status.success(), "{compiler} {standard}: {}", String::from_utf8_lossy(&out.stderr));
    }
}

/// Whether the compiler knows characters that change the text direction.
fn newer(compiler: &str) -> bool {
    let out = Command::new(compiler).arg("-dumpversion").output().unwrap();
    let major = String::from_utf8_lossy(&out.stdout).split('.').next().and_then(|v| v.trim().parse::<u32>().ok());
    major.is_some_and(|v| v >= 12) && !cfg!(target_os = "macos")
}

#[test]
fn any_names() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    std::fs::write(dir.join("m.onnx"), model(HOSTILE)).unwrap();
    compile(dir, &["m.onnx", "-o", "m.o", "--threads"]);
    let header = std::fs::read_to_string(dir.join("m.h")).unwrap();
    assert!(header.contains("input_size_t") && header.contains("<U+202E>rtl"), "{header}");
    accepted(
        dir,
        "#include <errno.h>\n#include <stdio.h>\n#include \"m.h\"\nint main(void) { return m_model.abi_version; }\n",
    );
}

#[test]
fn any_models_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    std::fs::write(dir.join("mcc.onnx"), model(&["x"])).unwrap();
    let mut source = String::new();
    for name in ["foo", "Foo", "FOO", "unix", "int", "NULL", "mcc_pool", "MCC", "_", "foo_model", "mcc.onnx"] {
        let (arguments, file) = match name {
            "mcc.onnx" => (vec!["mcc.onnx", "-o", "mcc.o", "--shape", "x=3x2"], "mcc".to_string()),
            // Names that differ only in case are one file on some systems.
            _ => (vec!["mcc.onnx", "-o", "", "--shape", "x=3x2", "--name", name], format!("{name}_{}", source.len())),
        };
        let object = format!("{file}.o");
        let arguments: Vec<&str> =
            arguments.into_iter().map(|a| if a.is_empty() { object.as_str() } else { a }).collect();
        compile(dir, &arguments);
        source += &format!("#include \"{file}.h\"\n");
    }
    source += "int arena[FOO_ARENA_SIZE + Foo_arena_size + FOO_arena_size + MODEL_MCC_ARENA_SIZE + 1];\n";
    source +=
        "int main(void) { return Foo_model.abi_version + foo_model.abi_version + foo_model_model.abi_version; }\n";
    accepted(dir, &source);
    let taken = ["mcc.onnx", "-o", "x.o", "--name", "mcc"];
    let status = Command::new(env!("CARGO_BIN_EXE_mcc")).args(taken).current_dir(dir).status().unwrap();
    assert_eq!(status.code(), Some(2));
}
