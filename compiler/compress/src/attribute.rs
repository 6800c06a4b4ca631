//! Attributes of nodes: reading and writing by name.

use mcc_proto::attribute_proto::AttributeType;
use mcc_proto::{AttributeProto, NodeProto};

fn find<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|a| a.name == name)
}

/// A list of integers.
pub fn ints(node: &NodeProto, name: &str) -> Option<Vec<i64>> {
    find(node, name).map(|a| a.ints.clone())
}

/// An integer, or its default.
pub fn int(node: &NodeProto, name: &str, default: i64) -> i64 {
    find(node, name).and_then(|a| a.i).unwrap_or(default)
}

/// A number, or its default.
pub fn float(node: &NodeProto, name: &str, default: f32) -> f32 {
    find(node, name).and_then(|a| a.f).unwrap_or(default)
}

/// A text.
pub fn text(node: &NodeProto, name: &str) -> Option<String> {
    find(node, name).and_then(|a| a.s.as_ref()).map(|s| String::from_utf8_lossy(s).into_owned())
}

/// Sets an attribute to a list of integers.
pub fn set_ints(node: &mut NodeProto, name: &str, ints: Vec<i64>) {
    set(node, AttributeProto { ints, r#type: AttributeType::Ints as i32, ..named(name) });
}

/// Sets an attribute to an integer.
pub fn set_int(node: &mut NodeProto, name: &str, i: i64) {
    set(node, AttributeProto { i: Some(i), r#type: AttributeType::Int as i32, ..named(name) });
}

/// Sets an attribute to a number.
pub fn set_float(node: &mut NodeProto, name: &str, f: f32) {
    set(node, AttributeProto { f: Some(f), r#type: AttributeType::Float as i32, ..named(name) });
}

fn named(name: &str) -> AttributeProto {
    AttributeProto { name: name.to_string(), ..Default::default() }
}

fn set(node: &mut NodeProto, attribute: AttributeProto) {
    node.attribute.retain(|a| a.name != attribute.name);
    node.attribute.push(attribute);
}
