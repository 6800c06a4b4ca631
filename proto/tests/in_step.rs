//! `onnx.proto` and the Rust types state the same fields: message, number, name and type.

use std::collections::BTreeMap;

/// `(message, number)` -> `(name, type)`; for an enum, `(enum, number)` -> `(name, "")`.
type Fields = BTreeMap<(String, String), (String, String)>;

#[test]
fn onnx_proto_and_the_types_agree() {
    let sources = [
        include_str!("../src/data.rs"),
        include_str!("../src/device.rs"),
        include_str!("../src/model.rs"),
        include_str!("../src/tensor.rs"),
        include_str!("../src/types.rs"),
    ];
    let proto = proto_fields(include_str!("../onnx.proto"));
    let rust = rust_fields(&sources.join("\n"));
    assert!(proto.len() > 200, "onnx.proto did not parse: {} fields", proto.len());
    for (key, field) in &proto {
        assert_eq!(rust.get(key), Some(field), "{key:?} in src/");
    }
    for (key, field) in &rust {
        assert_eq!(proto.get(key), Some(field), "{key:?} in onnx.proto");
    }
}

/// The part of the proto language that the file uses: one field or brace a line.
fn proto_fields(text: &str) -> Fields {
    let mut fields = Fields::new();
    let mut open: Vec<(&str, String)> = Vec::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default().trim();
        let line = line.trim_end_matches(';').replace(" [packed = true]", "");
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["message", name, "{"] => open.push(("message", name.to_string())),
            ["oneof", _, "{"] => open.push(("oneof", String::new())),
            ["enum", name, "{"] => {
                let outer = open.last().map_or("", |(_, name)| name);
                let shared = name == "DataType" && outer != "TensorProto";
                let name = if shared { "ValueKind" } else { name };
                open.push(("enum", name.to_string()));
            }
            ["}"] => drop(open.pop()),
            [name, "=", number] if open.last().is_some_and(|(kind, _)| *kind == "enum") => {
                let key = (open[open.len() - 1].1.clone(), number.to_string());
                fields.insert(key, (plain(name), String::new()));
            }
            [.., ty, name, "=", number] if !open.is_empty() => {
                let (_, message) = open.iter().rfind(|(kind, _)| *kind == "message").expect("open");
                let label = if words[0] == "repeated" { "repeated " } else { "" };
                let ty = match ty {
                    "int64" | "uint64" | "int32" | "float" | "double" | "string" | "bytes" => ty,
                    "AttributeType" | "DataLocation" => "int32",
                    _ => "message",
                };
                let key = (message.clone(), number.to_string());
                fields.insert(key, (plain(name), format!("{label}{ty}")));
            }
            _ => {}
        }
    }
    fields
}

/// Reads the `#[prost(...)]` attributes, and hands the alternatives of a oneof to their message.
fn rust_fields(text: &str) -> Fields {
    let mut fields = Fields::new();
    let mut oneofs: Vec<(String, String)> = Vec::new();
    let (mut item, mut attribute, mut enumeration) = (String::new(), String::new(), false);
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[derive") {
            enumeration = line.contains("prost::Enumeration");
        } else if let Some(args) = line.strip_prefix("#[prost(") {
            attribute = args.trim_end_matches(")]").to_string();
        } else if let Some(rest) = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub enum ")) {
            item = rest.trim_end_matches(" {").to_string();
        } else if enumeration && let Some((name, number)) = line.split_once(" = ") {
            let number = number.trim_end_matches(',').to_string();
            fields.insert((item.clone(), number), (plain(name), String::new()));
        } else if let Some(oneof) = attribute.strip_prefix("oneof = \"") {
            let name = oneof.split('"').next().unwrap_or_default();
            let name = name.rsplit("::").next().unwrap_or_default();
            oneofs.push((name.to_string(), item.clone()));
            attribute.clear();
        } else if !attribute.is_empty() {
            let number = attribute.rsplit("tag = ").next().expect("a tag").replace('"', "");
            let kind = attribute.split([',', ' ']).next().unwrap_or_default();
            let kind = if kind == "enumeration" { "int32" } else { kind };
            let label = if attribute.contains("repeated") { "repeated " } else { "" };
            let name = line.trim_start_matches("pub ").split([':', '(']).next().unwrap_or_default();
            let field = (plain(name.trim_start_matches("r#")), format!("{label}{kind}"));
            fields.insert((item.clone(), number), field);
            attribute.clear();
        }
    }
    for (oneof, message) in oneofs {
        let moved: Vec<_> = fields.keys().filter(|(item, _)| *item == oneof).cloned().collect();
        for (_, number) in moved {
            let field = fields.remove(&(oneof.clone(), number.clone())).expect("listed");
            fields.insert((message.clone(), number), field);
        }
    }
    fields
}

/// `FLOAT8E4M3FN`, `Float8e4m3fn`, `dim_value` and `DimValue` in one spelling.
fn plain(name: &str) -> String {
    name.replace('_', "").to_lowercase()
}
