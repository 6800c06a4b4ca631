//! A node of the file, for importers: operands by index, attributes by name.

use mcc_proto::attribute_proto::AttributeType;
use mcc_proto::{AttributeProto, GraphProto, NodeProto, TensorProto};

use mcc_ir::{Error, Result, Value};

/// The value of a name during import.
#[derive(Debug, Clone)]
pub enum Item {
    /// An omitted optional operand, or an unused result.
    Absent,
    /// A tensor.
    Tensor(Value),
    /// A sequence, whose elements are known at import; it does not exist at run time.
    Sequence(Vec<Item>),
    /// An optional value.
    Optional(Option<Box<Item>>),
}

/// Results of one node.
pub struct Results(pub Vec<Item>);

impl From<Value> for Results {
    fn from(v: Value) -> Results {
        Results(vec![Item::Tensor(v)])
    }
}

impl From<Vec<Value>> for Results {
    fn from(values: Vec<Value>) -> Results {
        Results(values.into_iter().map(Item::Tensor).collect())
    }
}

impl<const N: usize> From<[Value; N]> for Results {
    fn from(values: [Value; N]) -> Results {
        values.to_vec().into()
    }
}

impl From<Item> for Results {
    fn from(item: Item) -> Results {
        Results(vec![item])
    }
}

/// A node with its operands.
pub struct Node<'a> {
    /// The message.
    pub proto: &'a NodeProto,
    /// Its inputs.
    pub inputs: Vec<Item>,
    /// The version of its operator set.
    pub version: i64,
}

impl Node<'_> {
    /// The number of listed inputs, absent ones included.
    pub fn arity(&self) -> usize {
        self.inputs.len()
    }

    /// Whether result `n` is used.
    pub fn wants(&self, n: usize) -> bool {
        self.proto.output.get(n).is_some_and(|name| !name.is_empty())
    }

    /// A required tensor.
    pub fn input(&self, n: usize) -> Result<Value> {
        match self.item(n) {
            Item::Tensor(v) => Ok(*v),
            Item::Absent => Err(Error::invalid(format!("input {n} is missing"))),
            Item::Sequence(_) | Item::Optional(_) => Err(Error::invalid(format!("input {n} is not a tensor"))),
        }
    }

    /// An optional tensor.
    pub fn optional(&self, n: usize) -> Option<Value> {
        match self.item(n) {
            Item::Tensor(v) => Some(*v),
            Item::Absent | Item::Sequence(_) | Item::Optional(_) => None,
        }
    }

    /// An input of any kind.
    pub fn item(&self, n: usize) -> &Item {
        self.inputs.get(n).unwrap_or(&Item::Absent)
    }

    /// All inputs as tensors; none may be absent.
    pub fn tensors(&self) -> Result<Vec<Value>> {
        (0..self.arity()).map(|n| self.input(n)).collect()
    }

    /// An attribute that is set.
    pub fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.proto.attribute.iter().find(|a| a.name == name)
    }

    /// Whether an attribute is set.
    pub fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    /// An integer, or its default.
    pub fn int(&self, name: &str, default: i64) -> Result<i64> {
        Ok(self.try_int(name)?.unwrap_or(default))
    }

    /// An optional integer.
    pub fn try_int(&self, name: &str) -> Result<Option<i64>> {
        self.typed(name, AttributeType::Int, |a| a.i.unwrap_or_default())
    }

    /// A boolean, or its default.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        Ok(self.int(name, i64::from(default))? != 0)
    }

    /// A number, or its default.
    pub fn float(&self, name: &str, default: f32) -> Result<f64> {
        Ok(f64::from(self.try_float(name)?.unwrap_or(default)))
    }

    /// An optional number.
    pub fn try_float(&self, name: &str) -> Result<Option<f32>> {
        self.typed(name, AttributeType::Float, |a| a.f.unwrap_or_default())
    }

    /// A string, or its default.
    pub fn text(&self, name: &str, default: &str) -> Result<String> {
        let text = self.typed(name, AttributeType::String, |a| a.s.clone().unwrap_or_default())?;
        Ok(text.map_or(default.to_string(), |s| String::from_utf8_lossy(&s).into_owned()))
    }

    /// Optional integers.
    pub fn ints(&self, name: &str) -> Result<Option<Vec<i64>>> {
        self.typed(name, AttributeType::Ints, |a| a.ints.clone())
    }

    /// Numbers; empty if omitted.
    pub fn floats(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.typed(name, AttributeType::Floats, |a| a.floats.clone())?.unwrap_or_default())
    }

    /// Strings; empty if omitted.
    pub fn texts(&self, name: &str) -> Result<Vec<String>> {
        let texts = self.typed(name, AttributeType::Strings, |a| a.strings.clone())?.unwrap_or_default();
        Ok(texts.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect())
    }

    /// An optional tensor.
    pub fn tensor(&self, name: &str) -> Result<Option<TensorProto>> {
        Ok(self.typed(name, AttributeType::Tensor, |a| a.t.clone())?.flatten())
    }

    /// A required graph.
    pub fn graph(&self, name: &str) -> Result<GraphProto> {
        let graph = self.typed(name, AttributeType::Graph, |a| a.g.clone())?.flatten();
        graph.ok_or_else(|| Error::invalid(format!("attribute {name} is missing")))
    }

    /// A required attribute.
    pub fn need<T>(&self, name: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| Error::invalid(format!("attribute {name} is missing")))
    }

    fn typed<T>(&self, name: &str, want: AttributeType, get: impl Fn(&AttributeProto) -> T) -> Result<Option<T>> {
        let Some(a) = self.attribute(name) else { return Ok(None) };
        // Files of IR version 1 have no type; it follows from the field that is set.
        if a.r#type == want as i32 || a.r#type == AttributeType::Undefined as i32 {
            return Ok(Some(get(a)));
        }
        Err(Error::invalid(format!("attribute {name} is {:?}, not {want:?}", a.r#type())))
    }
}

/// A node's description for errors.
pub fn place(node: &NodeProto) -> String {
    let operator = match domain(&node.domain) {
        "" => node.op_type.clone(),
        other => format!("{other}.{}", node.op_type),
    };
    format!("node \"{}\" ({operator})", label(node))
}

/// Normalises the two spellings of the standard domain.
pub fn domain(name: &str) -> &str {
    if name == "ai.onnx" { "" } else { name }
}

/// A node's name, or else its first result.
pub fn label(node: &NodeProto) -> &str {
    match node.name.as_str() {
        "" => node.output.iter().map(String::as_str).find(|o| !o.is_empty()).unwrap_or(""),
        name => name,
    }
}
