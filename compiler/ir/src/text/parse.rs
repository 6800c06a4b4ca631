//! Parses graphs.

use std::collections::HashMap;

use super::attr::{Attr, find, pieces, unescape};
use super::{END, REGIONS, ops};
use crate::{
    Condition, DType, DTypeClass, Dim, F64, Graph, If, NodeId, Op, Output, Requirement, Requirements, Tensor,
    TensorType, Value, random,
};
use crate::{Error, Result};

/// The graph of a text.
///
/// # Errors
/// When the text is malformed, or a type in it is not the inferred one; the error names the line.
pub fn parse(text: &str) -> Result<Graph> {
    block(&mut text.lines().enumerate(), Graph::new(), None)
}

/// The lines that are left, with their numbers.
type Lines<'a> = std::iter::Enumerate<std::str::Lines<'a>>;

/// The graph of the lines up to the one that is `end`.
fn block<'a>(lines: &mut Lines<'a>, graph: Graph, end: Option<&str>) -> Result<Graph> {
    let mut parser = Parser { graph, values: HashMap::new(), requires: Requirements::default() };
    let mut closed = end.is_none();
    while let Some((n, line)) = lines.next() {
        if end.is_some_and(|end| line.trim() == end) {
            closed = true;
            break;
        }
        parser.line(line, lines).map_err(|e| e.within(format!("line {}: {}", n + 1, shorten(line))))?;
    }
    if !closed {
        return Err(Error::invalid(format!("`{}` is missing", end.unwrap_or_default())));
    }
    // Requirements that inference finds are written out like all others.
    parser.graph.requires = parser.requires;
    Ok(parser.graph)
}

/// The regions of a condition, which follow its line.
fn regions(lines: &mut Lines<'_>) -> Result<[Graph; 2]> {
    let [first, second] = REGIONS;
    if lines.next().is_none_or(|(_, line)| line.trim() != first) {
        return Err(Error::invalid(format!("`{first}` is missing")));
    }
    Ok([block(lines, Graph::region(), Some(second))?, block(lines, Graph::region(), Some(END))?])
}

/// A line's code, and the text of its comment.
fn comment(line: &str) -> Result<(&str, String)> {
    Ok(match find(line, "//") {
        Some(at) => {
            let text = &line[at + 2..];
            (&line[..at], unescape(text.strip_prefix(' ').unwrap_or(text))?)
        }
        None => (line, String::new()),
    })
}

fn condition(text: &str) -> Result<Condition> {
    const FORMS: [(&str, fn(Dim, Dim) -> Condition); 3] =
        [("==", Condition::Equal), (">=", Condition::AtLeast), ("!=", Condition::Differ)];
    for (sign, condition) in FORMS {
        if find(text, sign).is_some() {
            let (a, b) = cut(text, sign)?;
            return Ok(condition(Dim::read(a)?, Dim::read(b)?));
        }
    }
    Err(Error::invalid("a requirement compares by `==`, `>=` or `!=`"))
}

fn shorten(line: &str) -> String {
    const MAX_LINE: usize = 160;
    if line.chars().count() <= MAX_LINE {
        line.to_string()
    } else {
        line.chars().take(MAX_LINE).chain("...".chars()).collect()
    }
}

struct Parser<'a> {
    graph: Graph,
    values: HashMap<&'a str, Value>,
    requires: Requirements,
}

impl<'a> Parser<'a> {
    fn line(&mut self, line: &'a str, lines: &mut Lines<'_>) -> Result<()> {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with("//") {
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix("output ") {
            let (name, value) = cut(rest, "=")?;
            let value = self.value(value)?;
            self.graph.outputs.push(Output { name: String::read(name)?, value });
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix("keep ") {
            let value = self.value(rest.trim())?;
            self.graph.kept.push(value);
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix("requires ") {
            let (rest, reason) = comment(rest)?;
            self.requires.push(Requirement { condition: condition(rest)?, reason });
            return Ok(());
        }
        let (line, label) = comment(line)?;
        let (names, rest) = cut(line, "=")?;
        let (body, types) = cut(rest, " : ")?;
        let types = pieces(types).into_iter().map(tensor_type).collect::<Result<Vec<_>>>()?;
        let node = self.node(body, &types, &label, lines)?;
        if self.graph.types(node) != types {
            let given: Vec<_> = self.graph.types(node).iter().map(ToString::to_string).collect();
            return Err(Error::invalid(format!("the operation gives {}", given.join(", "))));
        }
        let names = pieces(names);
        if names.len() != types.len() {
            return Err(Error::invalid(format!("{} values are named for {} results", names.len(), types.len())));
        }
        for (result, name) in names.into_iter().enumerate() {
            if !name.starts_with('%') {
                return Err(Error::invalid(format!("`{name}` is not a value: values start with `%`")));
            }
            if self.values.insert(name, Value { node, result }).is_some() {
                return Err(Error::invalid(format!("`{name}` is named twice")));
            }
        }
        Ok(())
    }

    fn node(&mut self, body: &str, types: &[TensorType], label: &str, lines: &mut Lines<'_>) -> Result<NodeId> {
        let node = if let Some(name) = body.strip_prefix("input ") {
            self.graph.add_input(&String::read(name.trim())?, only(types)?.clone()).node
        } else if let Some(data) = body.strip_prefix("constant ") {
            self.graph.constant(tensor(only(types)?, data.trim())?).node
        } else {
            let (name, rest) = body.split_at(body.find('(').ok_or_else(|| Error::invalid("operands are missing"))?);
            // After its first character the rest has the closing parenthesis outside of all brackets.
            let close = find(&rest[1..], ")").ok_or_else(|| Error::invalid("`)` is missing"))? + 1;
            let operands = pieces(&rest[1..close]).into_iter().map(|v| self.value(v)).collect::<Result<Vec<_>>>()?;
            let (name, attributes) = (name.trim(), rest[close + 1..].trim());
            let op = if name == "if" {
                let binds = ops::binds(attributes)?;
                let [then, otherwise] = regions(lines)?;
                Op::If(Box::new(If { then, otherwise, results: types.to_vec(), binds }))
            } else {
                ops::operation(name, attributes)?
            };
            return self.graph.add_labelled(op, &operands, label);
        };
        self.graph.set_label(node, label);
        Ok(node)
    }

    fn value(&self, name: &str) -> Result<Value> {
        self.values.get(name).copied().ok_or_else(|| Error::invalid(format!("`{name}` is not defined above")))
    }
}

/// The text before and after a separator, trimmed.
fn cut<'a>(text: &'a str, separator: &str) -> Result<(&'a str, &'a str)> {
    match find(text, separator) {
        Some(at) => Ok((text[..at].trim(), text[at + separator.len()..].trim())),
        None => Err(Error::invalid(format!("`{}` is missing", separator.trim()))),
    }
}

fn only(types: &[TensorType]) -> Result<&TensorType> {
    match types {
        [ty] => Ok(ty),
        _ => Err(Error::invalid("there must be one type")),
    }
}

/// `f32[batch, 3]`.
fn tensor_type(text: &str) -> Result<TensorType> {
    let at = text.find('[').ok_or_else(|| Error::invalid(format!("`{text}` is not a type")))?;
    Ok(TensorType::new(DType::read(&text[..at])?, Vec::read(&text[at..])?))
}

fn tensor(ty: &TensorType, text: &str) -> Result<Tensor> {
    let shape = ty.fixed_shape().ok_or_else(|| Error::invalid("a constant's dimensions must be constant"))?;
    if let Some(value) = text.strip_prefix("splat ") {
        let one = elements(ty.dtype, &[value.trim()])?;
        let count = shape.iter().product();
        return Tensor::new(ty.dtype, shape, one.repeat(count).into());
    }
    if let Some((name, arguments)) = text.strip_suffix(')').and_then(|t| t.split_once('(')) {
        return generated(ty.dtype, &shape, name, arguments);
    }
    let data = match text.strip_prefix("0x") {
        Some(digits) => hex(digits)?,
        None => elements(ty.dtype, &pieces(super::attr::inside(text, '[', ']')?))?,
    };
    Tensor::new(ty.dtype, shape, data.into())
}

/// `noise(seed=2)` and `sparse(seed=1, density=0.1, block=[4, 16], period=[8])`: see [`random`].
fn generated(dtype: DType, shape: &[usize], name: &str, arguments: &str) -> Result<Tensor> {
    let (mut seed, mut density, mut block, mut period) = (None, None, Vec::new(), Vec::new());
    let sparse = name == "sparse";
    for argument in pieces(arguments) {
        let (key, value) = cut(argument, "=")?;
        match key {
            "seed" => seed = Some(u32::read(value)?),
            "density" if sparse => density = Some(F64::read(value)?.get()),
            "block" if sparse => block = Vec::read(value)?,
            "period" if sparse => period = Vec::read(value)?,
            _ => return Err(Error::invalid(format!("`{name}` has no `{key}`"))),
        }
    }
    let missing = |what: &str| Error::invalid(format!("`{name}` needs `{what}`"));
    let seed = seed.ok_or_else(|| missing("seed"))?.into();
    match name {
        "noise" => random::noise(dtype, shape, seed),
        "sparse" => {
            let density = density.ok_or_else(|| missing("density"))?;
            random::sparse(dtype, shape, seed, &random::NonZeros { density, block, period })
        }
        _ => Err(Error::invalid(format!("there is no generator `{name}`: there are `noise` and `sparse`"))),
    }
}

fn hex(digits: &str) -> Result<Vec<u8>> {
    let digit = |c: u8| {
        let value = char::from(c).to_digit(16);
        value.map(|v| v as u8).ok_or_else(|| Error::invalid(format!("`{}` is not a hexadecimal digit", char::from(c))))
    };
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Error::invalid("half a byte is missing"));
    }
    pairs.iter().map(|&[high, low]| Ok(digit(high)? << 4 | digit(low)?)).collect()
}

fn elements(dtype: DType, texts: &[&str]) -> Result<Vec<u8>> {
    let bad = |text: &str| Error::invalid(format!("`{text}` is not a valid {dtype}"));
    let shape = vec![texts.len()];
    let tensor = match dtype.class() {
        DTypeClass::Float => {
            let values = texts.iter().map(|t| t.parse::<f64>().map_err(|_| bad(t))).collect::<Result<Vec<_>>>()?;
            Tensor::from_f64s(dtype, shape, &values)?
        }
        DTypeClass::Signed | DTypeClass::Unsigned | DTypeClass::Bool => {
            let int = |t: &&str| t.parse::<i128>().map(|v| v as i64).map_err(|_| bad(t));
            Tensor::from_i64s(dtype, shape, &texts.iter().map(int).collect::<Result<Vec<_>>>()?)?
        }
    };
    Ok(tensor.data().to_vec())
}
