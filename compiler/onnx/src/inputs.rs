//! The types of a model's inputs, with their symbols.

use std::collections::{BTreeSet, HashMap};

use mcc_proto::ValueInfoProto;
use mcc_proto::tensor_shape_proto::DimensionValue;
use mcc_proto::type_proto::Value as Kind;

use super::Options;
use super::sharing::{Naming, Use};
use super::tensor::dtype;
use mcc_ir::{Dim, Error, Op, Result, Tensor, TensorType, infer};

/// Assigns symbols to dimensions, and pins those that the options name.
pub struct Symbols<'o> {
    options: &'o Options,
    naming: &'o Naming,
    /// Symbols by the dimension's name in the model and a number that distinguishes its uses; no two share a symbol.
    names: HashMap<(String, usize), String>,
    used: BTreeSet<String>,
    /// Named dimensions that are not pinned, in order.
    pub uses: Vec<Use>,
}

impl<'o> Symbols<'o> {
    /// Without any dimensions yet.
    pub fn new(options: &'o Options, naming: &'o Naming) -> Symbols<'o> {
        Symbols { options, naming, names: HashMap::new(), used: BTreeSet::new(), uses: Vec::new() }
    }

    /// The type of an input.
    ///
    /// # Errors
    /// When it is not a tensor of a supported element type and known rank.
    pub fn input(&mut self, info: &ValueInfoProto) -> Result<TensorType> {
        self.typed(info).map_err(|e| e.within(format!("input \"{}\"", info.name)))
    }

    fn typed(&mut self, info: &ValueInfoProto) -> Result<TensorType> {
        let tensor = match info.r#type.as_ref().and_then(|t| t.value.as_ref()) {
            Some(Kind::TensorType(t)) => t,
            Some(Kind::SequenceType(_)) => return Err(Error::unsupported("a sequence as a model input")),
            Some(Kind::OptionalType(_)) => return Err(Error::unsupported("an optional value as a model input")),
            Some(Kind::MapType(_) | Kind::OpaqueType(_) | Kind::SparseTensorType(_)) => {
                return Err(Error::unsupported("a model input that is not a dense tensor"));
            }
            None => return Err(Error::invalid("the type is missing")),
        };
        let dtype = dtype(tensor.elem_type)?;
        let of_value = self.pinned(&info.name).map(|t| t.shape().iter().map(|&d| d as i64).collect());
        let given = self.options.shapes.iter().find(|(name, _)| *name == info.name).map(|(_, shape)| shape.clone());
        let pinned: Option<Vec<i64>> = of_value.or(given);
        let Some(shape) = &tensor.shape else {
            let fixed = pinned.as_ref().filter(|p| p.iter().all(|&d| d >= 0));
            let fixed = fixed.ok_or_else(|| {
                Error::unsupported("its rank is not declared")
                    .help(format!("give its shape: --shape {}=1x3x224x224", info.name))
            })?;
            return Ok(TensorType::new(dtype, fixed.iter().map(|&d| Dim::from(d)).collect()));
        };
        if let Some(p) = pinned.as_ref().filter(|p| p.len() != shape.dim.len()) {
            let (given, declared) = (p.len(), shape.dim.len());
            return Err(Error::usage(format!("--shape gives it {given} axes, but it has {declared}")));
        }
        let mut dims = Vec::new();
        for (axis, dim) in shape.dim.iter().enumerate() {
            let given = pinned.as_ref().map(|p| p[axis]).filter(|&d| d >= 0);
            let declared = match &dim.value {
                Some(DimensionValue::DimValue(v)) if *v >= 0 => Some(Dim::from(*v)),
                Some(DimensionValue::DimParam(name)) if is_name(name) => {
                    // A pinned dimension does not count as a use of the name.
                    Some(self.named(name, &info.name, axis, given.is_none()))
                }
                // Some writers use negative sizes, "?" or "-1" for unknown; such dimensions are not the same one.
                _ => None,
            };
            dims.push(match (given, declared) {
                (Some(g), Some(d)) if d.as_const().is_some_and(|d| d != g) => {
                    return Err(Error::usage(format!("--shape gives axis {axis} the extent {g}, but it is {d}")));
                }
                (Some(g), _) => Dim::from(g),
                (None, Some(d)) => d,
                (None, None) => self.named(&format!("{}.dim{axis}", info.name), &info.name, axis, false),
            });
        }
        let ty = TensorType::new(dtype, dims);
        infer(&Op::Input(info.name.clone(), ty.clone()), &[]).map(|_| ty)
    }

    /// The elements that the caller pins an input to.
    pub fn pinned(&self, input: &str) -> Option<&'o Tensor> {
        self.options.values.iter().find(|(name, _)| name == input).map(|(_, t)| t)
    }

    /// The symbol of a declared name at a position, or its pinned value.
    fn named(&mut self, name: &str, input: &str, axis: usize, open: bool) -> Dim {
        let place = (input.to_string(), axis);
        let number = self.naming.get(&place).copied().unwrap_or(0);
        let key = (name.to_string(), number);
        let symbol = match self.names.get(&key) {
            Some(known) => known.clone(),
            None => {
                let symbol = match number {
                    0 => self.identifier(name),
                    n => self.identifier(&format!("{name}.{}", n + 1)),
                };
                self.names.insert(key, symbol.clone());
                symbol
            }
        };
        if let Some((_, d)) = self.options.dims.iter().find(|(n, _)| n == name || *n == symbol) {
            return Dim::from(*d);
        }
        if open {
            self.uses.push(Use { name: name.to_string(), place, symbol: symbol.clone() });
        }
        Dim::sym(symbol.as_str())
    }

    /// The name, made of letters, digits, `_` and `.` only.
    fn identifier(&mut self, name: &str) -> String {
        let mut symbol: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' }).collect();
        if !symbol.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            symbol.insert(0, '_');
        }
        while !self.used.insert(symbol.clone()) {
            symbol.push('_');
        }
        symbol
    }

    /// Checks that every option names something in the model.
    ///
    /// # Errors
    /// When an option names nothing in the model.
    pub fn check_options(&self, inputs: &[&str]) -> Result<()> {
        let known = |n: &str| self.names.keys().any(|(name, _)| name == n) || self.used.contains(n);
        if let Some((name, _)) = self.options.dims.iter().find(|(n, _)| !known(n)) {
            let names: BTreeSet<&str> = self.names.keys().map(|(name, _)| name.as_str()).collect();
            return Err(Error::usage(format!("--dim {name}: the model has no such dimension"))
                .help(format!("its dimensions: {}", listed(names))));
        }
        let shapes = self.options.shapes.iter().map(|(n, _)| ("--shape", n));
        let mut pins = shapes.chain(self.options.values.iter().map(|(n, _)| ("--value", n)));
        if let Some((option, name)) = pins.find(|(_, n)| !inputs.contains(&n.as_str())) {
            return Err(Error::usage(format!("{option} {name}: the model has no such input"))
                .help(format!("its inputs: {}", listed(inputs.iter().copied()))));
        }
        Ok(())
    }
}

fn is_name(text: &str) -> bool {
    text.contains(|c: char| c.is_alphanumeric()) && text.parse::<i64>().is_err()
}

fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    if names.is_empty() { "none".to_string() } else { names.join(", ") }
}
