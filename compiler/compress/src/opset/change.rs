//! A node that is rewritten, with the nodes that are added around it.

use mcc_ir::{DType, Error, Result, Tensor};
use mcc_onnx::tensor::data_type;
use mcc_proto::attribute_proto::AttributeType;
use mcc_proto::tensor_proto::DataType;
use mcc_proto::{AttributeProto, NodeProto, TensorProto};

use super::context::Context;
use super::types::Operands;

/// A node under change. A function of the table edits `node` and adds nodes before and after it, in the form of the
/// table row's version.
pub struct Change<'c, 'm> {
    context: &'c mut Context<'m>,
    /// The node.
    pub node: NodeProto,
    before: Vec<NodeProto>,
    after: Vec<NodeProto>,
}

impl<'c, 'm> Change<'c, 'm> {
    /// Of a node.
    pub fn new(context: &'c mut Context<'m>, node: NodeProto) -> Change<'c, 'm> {
        Change { context, node, before: Vec::new(), after: Vec::new() }
    }

    /// All nodes, in the order in which they run.
    pub fn into_nodes(self) -> Vec<NodeProto> {
        self.before.into_iter().chain([self.node]).chain(self.after).collect()
    }

    /// The version to which the model is raised.
    pub fn to(&self) -> i64 {
        self.context.to
    }

    /// The name of input `n`; empty if it is absent.
    pub fn input(&self, n: usize) -> &str {
        self.node.input.get(n).map_or("", String::as_str)
    }

    /// The name of output `n`; empty if it is absent.
    pub fn output(&self, n: usize) -> &str {
        self.node.output.get(n).map_or("", String::as_str)
    }

    /// Sets input `n`; those before it that do not exist become absent.
    pub fn set_input(&mut self, n: usize, name: String) {
        if self.node.input.len() <= n {
            self.node.input.resize(n + 1, String::new());
        }
        self.node.input[n] = name;
    }

    /// The element type of a name.
    pub fn element_type(&self, name: &str) -> Option<DataType> {
        self.context.known(name).element
    }

    /// The number of axes of a name.
    pub fn rank(&self, name: &str) -> Option<usize> {
        self.context.known(name).rank
    }

    /// Whether a node reads a name, or a graph gives it.
    pub fn is_used(&self, name: &str) -> bool {
        self.context.is_used(name)
    }

    /// The elements of a name that is constant.
    pub fn known(&self, name: &str) -> Option<Tensor> {
        self.context.constant(name)
    }

    /// An attribute.
    pub fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.node.attribute.iter().find(|a| a.name == name)
    }

    /// Removes an attribute.
    pub fn take(&mut self, name: &str) -> Option<AttributeProto> {
        let at = self.node.attribute.iter().position(|a| a.name == name)?;
        Some(self.node.attribute.remove(at))
    }

    /// Adds an attribute.
    pub fn set(&mut self, attribute: AttributeProto) {
        self.node.attribute.retain(|a| a.name != attribute.name);
        self.node.attribute.push(attribute);
    }

    /// An attribute whose value decides the form of the result.
    fn decisive(&self, name: &str) -> Result<Option<&AttributeProto>> {
        match self.attribute(name) {
            Some(a) if !a.ref_attr_name.is_empty() => Err(Error::unsupported(format!(
                "attribute {name} has the value that callers of a function give, which decides the node's new form"
            ))),
            found => Ok(found),
        }
    }

    /// An integer attribute, or its default.
    pub fn int(&self, name: &str, default: i64) -> Result<i64> {
        Ok(self.decisive(name)?.map_or(default, |a| a.i.unwrap_or_default()))
    }

    /// A number, if it is set.
    pub fn float(&self, name: &str) -> Result<Option<f32>> {
        Ok(self.decisive(name)?.map(|a| a.f.unwrap_or_default()))
    }

    /// A text, or its default.
    pub fn text(&self, name: &str, default: &str) -> Result<String> {
        let text = self.decisive(name)?.map(|a| a.s.clone().unwrap_or_default());
        Ok(text.map_or(default.to_string(), |s| String::from_utf8_lossy(&s).into_owned()))
    }

    /// A name that no value has, after what it is for.
    pub fn fresh(&mut self, what: &str) -> String {
        let stem = match self.output(0) {
            "" => what.to_string(),
            output => format!("{output}_{what}"),
        };
        self.context.fresh(&stem)
    }

    /// Adds a node with one result before this one, and gives the result's name.
    pub fn compute(&mut self, operator: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = self.fresh(&operator.to_lowercase());
        self.before.push(node(operator, inputs, &output, attributes));
        output
    }

    /// Lets this node give its output 0 under a new name, and adds a node after it that gives the old one, from the new
    /// one and `others`.
    pub fn follow(&mut self, operator: &str, others: &[&str], attributes: Vec<AttributeProto>) {
        let inner = self.fresh(&operator.to_lowercase());
        let outer = std::mem::replace(&mut self.node.output[0], inner.clone());
        let inputs: Vec<&str> = std::iter::once(inner.as_str()).chain(others.iter().copied()).collect();
        self.after.push(node(operator, &inputs, &outer, attributes));
    }

    /// Adds a constant, and gives its name.
    pub fn constant(&mut self, what: &str, tensor: Tensor) -> String {
        let name = self.fresh(what);
        let proto = TensorProto {
            dims: tensor.shape().iter().map(|&d| d as i64).collect(),
            data_type: data_type(tensor.dtype()) as i32,
            raw_data: tensor.data().to_vec().into(),
            ..Default::default()
        };
        let value = AttributeProto { t: Some(proto), r#type: AttributeType::Tensor as i32, ..named("value") };
        self.before.push(node("Constant", &[], &name, vec![value]));
        self.context.remember(&name, tensor);
        name
    }

    /// Adds a list of integers as a constant of one axis.
    pub fn ints(&mut self, what: &str, ints: &[i64]) -> Result<String> {
        let tensor = Tensor::from_i64s(DType::I64, vec![ints.len()], ints)?;
        Ok(self.constant(what, tensor))
    }

    /// Adds a number as a scalar constant with the element type of `like`.
    pub fn scalar_like(&mut self, what: &str, like: &str, value: f32) -> Result<String> {
        let dtype = self.element_type(like).and_then(|t| DType::from_code(t as i32)).ok_or_else(|| {
            Error::unsupported(format!(
                "attribute {what} becomes an input, whose type is that of \"{like}\", which is unknown"
            ))
            .help(format!("declare the type of \"{like}\" in the graph's value_info"))
        })?;
        Ok(self.constant(what, Tensor::scalar_f64(dtype, f64::from(value))))
    }

    /// Turns an attribute of integers into input `n`; without the attribute nothing changes. An integer becomes a list of
    /// one.
    pub fn ints_to_input(&mut self, name: &str, n: usize) -> Result<()> {
        let Some(attribute) = self.take(name) else { return Ok(()) };
        let ints = match attribute.i {
            Some(i) if attribute.ints.is_empty() => vec![i],
            _ => attribute.ints.clone(),
        };
        let input = self.attribute_value(attribute, &ints)?;
        self.set_input(n, input);
        Ok(())
    }

    /// A constant of an attribute's integers; within a function, of those that its caller gives.
    fn attribute_value(&mut self, attribute: AttributeProto, ints: &[i64]) -> Result<String> {
        if attribute.ref_attr_name.is_empty() {
            return self.ints(&attribute.name, ints);
        }
        if attribute.r#type() != AttributeType::Ints {
            return Err(Error::unsupported(format!(
                "attribute {} becomes an input, but has the value that callers of a function give",
                attribute.name
            )));
        }
        let name = self.fresh(&attribute.name);
        let value = AttributeProto { name: "value_ints".into(), ..attribute };
        self.before.push(node("Constant", &[], &name, vec![value]));
        Ok(name)
    }
}

/// A node with one result.
pub fn node(operator: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: operator.to_string(),
        input: inputs.iter().map(|i| i.to_string()).collect(),
        output: vec![output.to_string()],
        name: output.to_string(),
        attribute,
        ..Default::default()
    }
}

fn named(name: &str) -> AttributeProto {
    AttributeProto { name: name.to_string(), ..Default::default() }
}

/// An attribute of one integer.
pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), r#type: AttributeType::Int as i32, ..named(name) }
}

/// An attribute of integers.
pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), r#type: AttributeType::Ints as i32, ..named(name) }
}

/// An attribute of text.
pub fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.as_bytes().to_vec().into()), r#type: AttributeType::String as i32, ..named(name) }
}
