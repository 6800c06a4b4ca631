//! `mcc verify --hostile`: runs a model on hostile dimensions and values, and checks that each run is refused or gives
//! the right result.
//!
//! The case's model is tried with a symbol for every dimension of the inputs, then with one symbol for all dimensions
//! that are equal, then with symbols for the first input only, then as given. Each such model runs between guard pages
//! on its data and on variants of them: one dimension or integer at a time is zero, negative, slightly too large, or
//! huge. Results are compared with the reference evaluator unless that takes too long.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use mcc::driver::{self, Options};
use mcc::ir::{DType, Dim, Graph, Tensor, eval};
use mcc::kernel::program::{Symbol, SymbolSource};
use mcc::loader::Model;
use mcc::loader::guard::{self, Feed, Guarded, Outcome, Place};
use mcc::{Error, Result, onnx};
use mcc_data::pb;
use mcc_proto::tensor_shape_proto::DimensionValue;
use mcc_proto::type_proto::Value as Kind;
use mcc_proto::{Message, ModelProto};
use mcc_runtime::Pool;

use super::cases::{self, Case};
use super::compare::{Tolerance, difference};

/// Dimensions to try, besides those next to the case's own.
const DIMENSIONS: &[i64] =
    &[0, 1, 2, -1, 5, 1 << 20, 1 << 31, 1 << 33, 1 << 40, 1 << 61, 1 << 62, -(1 << 62), i64::MAX, i64::MIN];
/// Integers to try as elements.
const INTEGERS: &[i64] = &[
    0,
    1,
    -1,
    -2,
    5,
    100,
    -100,
    1 << 31,
    (1 << 31) - 1,
    -(1 << 31),
    1 << 40,
    1 << 61,
    1 << 62,
    -(1 << 62),
    i64::MAX,
    i64::MIN,
];
/// Floats to try as elements of small inputs.
const FLOATS: &[f64] = &[0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e30, -1e30, 1e-30];
/// Number of elements of an input that are replaced by hostile ones, at most.
const MAX_REPLACED_ELEMENTS: usize = 64;
/// Bytes of synthetic inputs, and of outputs and arena that a run may take.
const MAX_BYTES: usize = 4 << 20;
/// Elements of inputs and outputs up to which the evaluator runs.
const MAX_EVALUATED_ELEMENTS: usize = 4_000;
/// Extents that are not refused for their size but take long.
const SLOW_EXTENTS: Range<i64> = 1 << 22..1 << 44;
/// Seconds that a call may take.
const CALL_SECONDS: u32 = 10;
/// Findings reported per case.
const MAX_FINDINGS: usize = 4;

/// An input as passed: dimensions and data, which may contradict each other.
#[derive(Clone)]
struct Given {
    dtype: DType,
    dims: Vec<i64>,
    data: Vec<u8>,
}

/// The result of a case.
#[derive(Default)]
pub struct Found {
    /// The faults found.
    pub wrong: Vec<String>,
    /// The number of calls by outcome.
    pub counts: BTreeMap<&'static str, usize>,
}

/// Runs a case with all hostile variants.
pub fn check(folder: &Path, options: &Options, pool: Option<&Pool>) -> Result<Found> {
    let case = cases::open(folder)?;
    let bytes = std::fs::read(&case.model).map_err(|e| Error::io(case.model.display(), &e))?;
    let mut found = Found::default();
    let mut seen = BTreeSet::new();
    let mut refusal = None;
    for symbols in [Symbols::EachItsOwn, Symbols::OneAnExtent, Symbols::OfTheFirst, Symbols::AsGiven] {
        let proto = ModelProto::decode(bytes.as_slice()).map_err(|e| Error::invalid(format!("not a model: {e}")))?;
        let loosened = loosened(proto, symbols);
        // A variant of the case's model may be invalid; mcc must report that and not panic.
        let graph = onnx::import(loosened.encode_to_vec().into(), Some(folder), &onnx::Options::default());
        let graph = match graph {
            Ok(graph) => graph,
            Err(e) => {
                refusal.get_or_insert(e);
                continue;
            }
        };
        if !seen.insert(mcc::ir::text::print(&graph)) {
            continue;
        }
        let compiled = match driver::compile_graph(graph.clone(), options) {
            Ok(compiled) => compiled,
            Err(e) => {
                refusal.get_or_insert(e);
                continue;
            }
        };
        let model = Model::load(&compiled.code.object)?;
        let decides = |n: usize| {
            let of = |s: &Symbol| matches!(s.source, SymbolSource::InputElement { input, .. } if input == n);
            compiled.program.symbols.iter().any(of)
        };
        let decide = (0..model.inputs.len()).map(decides).collect();
        let hostile = Hostile { graph: &graph, model: &model, decide, pool };
        hostile.all(&case, &mut found)?;
    }
    match refusal {
        Some(e) if found.counts.is_empty() => Err(e),
        _ => Ok(found),
    }
}

/// Which dimensions of the inputs are symbols.
#[derive(Clone, Copy, PartialEq)]
enum Symbols {
    EachItsOwn,
    OneAnExtent,
    OfTheFirst,
    AsGiven,
}

/// The model with symbols in place of constant dimensions; declared types of other values are dropped.
fn loosened(mut model: ModelProto, symbols: Symbols) -> ModelProto {
    let Some(graph) = model.graph.as_mut().filter(|_| symbols != Symbols::AsGiven) else { return model };
    graph.value_info.clear();
    let inputs = if symbols == Symbols::OfTheFirst { 1 } else { usize::MAX };
    for (n, input) in graph.input.iter_mut().enumerate().take(inputs) {
        let Some(Kind::TensorType(ty)) = input.r#type.as_mut().and_then(|t| t.value.as_mut()) else { continue };
        for (axis, dim) in ty.shape.iter_mut().flat_map(|s| &mut s.dim).enumerate() {
            let name = match (&dim.value, symbols) {
                (Some(DimensionValue::DimValue(d)), Symbols::OneAnExtent) => format!("extent{d}"),
                (Some(DimensionValue::DimParam(_)), Symbols::OneAnExtent) => continue,
                _ => format!("extent{n}_{axis}"),
            };
            dim.value = Some(DimensionValue::DimParam(name));
        }
    }
    for output in &mut graph.output {
        if let Some(Kind::TensorType(ty)) = output.r#type.as_mut().and_then(|t| t.value.as_mut()) {
            ty.shape = None;
        }
    }
    model
}

struct Hostile<'a> {
    graph: &'a Graph,
    model: &'a Model,
    /// Whether the input's elements decide dimensions.
    decide: Vec<bool>,
    pool: Option<&'a Pool>,
}

impl Hostile<'_> {
    /// Runs every data set as it is, and variants of the first.
    fn all(&self, case: &Case, found: &mut Found) -> Result<()> {
        let names: Vec<&str> = self.model.inputs.iter().map(|p| p.name.as_str()).collect();
        let mut first = None;
        for data_set in &case.data_sets {
            let tensors = pb::read_tensors(data_set, "input", &names)?;
            let Some(tensors) = tensors.into_iter().collect::<Option<Vec<_>>>() else { continue };
            let given: Vec<Given> = tensors.iter().map(given).collect();
            if given.iter().zip(&self.model.inputs).any(|(g, p)| g.dtype != p.dtype || g.dims.len() != p.dims.len()) {
                continue;
            }
            self.one(&given, found);
            first.get_or_insert(given);
        }
        let Some(first) = first else { return Err(Error::invalid("no data set has all inputs")) };
        for variant in self.dimensions(&first).into_iter().chain(elements(&first)) {
            if found.wrong.len() >= MAX_FINDINGS {
                break;
            }
            self.one(&variant, found);
        }
        Ok(())
    }

    /// Variants with other values for symbols and for single dimensions.
    fn dimensions(&self, base: &[Given]) -> Vec<Vec<Given>> {
        let mut variants = Vec::new();
        let types: Vec<Vec<Dim>> = self.graph.inputs().iter().map(|&n| self.graph.ty(n.into()).shape.clone()).collect();
        let places: Vec<(usize, usize)> =
            types.iter().enumerate().flat_map(|(i, dims)| (0..dims.len()).map(move |a| (i, a))).collect();
        // Dimensions with the same symbol change together.
        let mut groups: BTreeMap<String, Vec<(usize, usize)>> = BTreeMap::new();
        for &(i, a) in &places {
            if let Some(symbol) = types[i][a].as_sym() {
                groups.entry(symbol.to_string()).or_default().push((i, a));
            }
        }
        let with = |changes: &[(&[(usize, usize)], i64)]| {
            let mut variant = base.to_vec();
            for (places, value) in changes {
                places.iter().for_each(|&(i, a)| variant[i].dims[a] = *value);
            }
            let changed: BTreeSet<usize> = changes.iter().flat_map(|c| c.0.iter().map(|p| p.0)).collect();
            changed.into_iter().for_each(|i| variant[i].fill(&base[i].data));
            variant
        };
        let mut groups: Vec<Vec<(usize, usize)>> = groups.into_values().collect();
        for group in &groups {
            let now = base[group[0].0].dims[group[0].1];
            for &value in DIMENSIONS.iter().chain(&[now - 1, now + 1, now + 16, 3 * now]) {
                variants.push(with(&[(group, value)]));
            }
        }
        for (n, a) in groups.iter().enumerate() {
            for b in &groups[n + 1..] {
                for (x, y) in [(0, 0), (0, 1 << 31), (1 << 62, 0), (1, 1), (0, 1), (1 << 33, 1 << 33)] {
                    variants.push(with(&[(a, x), (b, y)]));
                }
            }
        }
        // One of several dimensions with the same symbol differs from the others, or a constant one from its value.
        for &place in &places {
            let alone = vec![place];
            if !groups.contains(&alone) {
                let now = base[place.0].dims[place.1];
                [0, now + 1, now - 1, 1 << 40].into_iter().for_each(|d| variants.push(with(&[(&alone, d)])));
            }
        }
        groups.retain(|g| base[g[0].0].dims[g[0].1] != 1);
        if !groups.is_empty() {
            let ones: Vec<(&[(usize, usize)], i64)> = groups.iter().map(|g| (g.as_slice(), 1)).collect();
            variants.push(with(&ones));
        }
        variants
    }

    /// Whether an element of this magnitude decides dimensions.
    fn decides(&self, inputs: &[Given], long: impl Fn(i64) -> bool) -> bool {
        let values = |(given, _): (&Given, _)| given.tensor().map_or_else(Vec::new, |t| t.to_i64s());
        let deciding = inputs.iter().zip(&self.decide).filter(|(_, decides)| **decides);
        deciding.flat_map(values).any(|v| long(v.saturating_abs()))
    }

    /// One run, with memory at both ends of its pages.
    fn one(&self, inputs: &[Given], found: &mut Found) {
        let feeds: Vec<Feed<'_>> = inputs.iter().map(|g| Feed { dims: &g.dims, data: &g.data }).collect();
        let note = inputs.iter().map(Given::show).collect::<Vec<_>>().join(", ");
        let most = if self.decides(inputs, |v| SLOW_EXTENTS.contains(&v)) { 0 } else { MAX_BYTES };
        for place in Place::ALL {
            let how = Guarded { place, most, seconds: CALL_SECONDS, note: &note };
            let ended = match guard::run(self.model, &feeds, how, self.pool) {
                Err(e) => Err(e.to_string()),
                Ok(Outcome::Refused(_)) => Ok("refused"),
                Ok(Outcome::TooLarge) => Ok("too large"),
                Ok(Outcome::Taken) => Ok("taken"),
                Ok(Outcome::Done(got)) if place == Place::End => self.compare(inputs, &got),
                Ok(Outcome::Done(_)) => Ok("run"),
            };
            match ended {
                Ok(word) => *found.counts.entry(word).or_default() += 1,
                Err(what) => {
                    *found.counts.entry("wrong").or_default() += 1;
                    found.wrong.push(format!("{what}; inputs {note}"));
                    return;
                }
            }
        }
    }

    /// Compares with the evaluator.
    fn compare(&self, inputs: &[Given], got: &[Tensor]) -> std::result::Result<&'static str, String> {
        let elements = inputs.iter().map(|g| g.data.len() / g.dtype.size()).chain(got.iter().map(Tensor::numel));
        let long = inputs.iter().flat_map(|g| &g.dims).any(|&d| d > MAX_EVALUATED_ELEMENTS as i64)
            || self.decides(inputs, |v| v > MAX_EVALUATED_ELEMENTS as i64);
        if long || elements.sum::<usize>() > MAX_EVALUATED_ELEMENTS {
            return Ok("not evaluated");
        }
        let tensors: Vec<Tensor> = inputs.iter().filter_map(Given::tensor).collect();
        let infinite = tensors.iter().any(|t| t.dtype().is_float() && t.to_f64s().iter().any(|v| !v.is_finite()));
        let evaluated = catch_unwind(AssertUnwindSafe(|| eval::eval_graph(self.graph, &tensors)));
        let want = match evaluated {
            Ok(Ok(want)) => want,
            // Kernels clamp indices and lengths to the nearest valid one: see mcc.h.
            Ok(Err(e)) if ["out of range", "sequence length"].iter().any(|what| e.to_string().contains(what)) => {
                return Ok("clamped");
            }
            Ok(Err(e)) => return Err(format!("it gives {}, but there is no result: {e}", shapes(got))),
            Err(_) => return Ok("evaluator panics"),
        };
        for (got, want) in got.iter().zip(&want) {
            // Products of zeros and infinities may or may not be included.
            if got.dtype().is_float() && infinite && got.shape() == want.shape() {
                continue;
            }
            if let Some(reason) = difference(got, want, Tolerance { rtol: 1e-3, atol: 1e-4 }) {
                return Err(format!("it gives {}, but {reason}", shapes(std::slice::from_ref(got))));
            }
        }
        Ok("right")
    }
}

/// Variants with other elements: all of an input, or its first or last one.
fn elements(base: &[Given]) -> Vec<Vec<Given>> {
    let mut variants = Vec::new();
    for (i, given) in base.iter().enumerate() {
        let count = given.data.len() / given.dtype.size();
        let Some(tensor) = given.tensor().filter(|_| (1..=MAX_REPLACED_ELEMENTS).contains(&count)) else { continue };
        let shape = tensor.shape().to_vec();
        let mut push = |tensor: Result<Tensor>| {
            let mut variant = base.to_vec();
            if let Ok(tensor) = tensor {
                variant[i].data = tensor.data().to_vec();
                variants.push(variant);
            }
        };
        if given.dtype.is_float() {
            for &value in FLOATS.iter().filter(|_| count <= 8) {
                push(Tensor::from_f64s(given.dtype, shape.clone(), &vec![value; count]));
            }
        } else if given.dtype != DType::Bool {
            for &value in INTEGERS {
                push(Tensor::from_i64s(given.dtype, shape.clone(), &vec![value; count]));
                for at in BTreeSet::from([0, count - 1]).into_iter().filter(|_| count > 1) {
                    let mut values = tensor.to_i64s();
                    values[at] = value;
                    push(Tensor::from_i64s(given.dtype, shape.clone(), &values));
                }
            }
        }
    }
    variants
}

fn given(tensor: &Tensor) -> Given {
    let dims = tensor.shape().iter().map(|&d| d as i64).collect();
    Given { dtype: tensor.dtype(), dims, data: tensor.data().to_vec() }
}

impl Given {
    /// As many bytes as the dimensions need, up to a limit: those of `from`, repeated.
    fn fill(&mut self, from: &[u8]) {
        let element = if self.dims.contains(&0) { 0 } else { self.dtype.size() };
        let bytes = self.dims.iter().try_fold(element, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
        let bytes = bytes.filter(|&n| n <= MAX_BYTES).unwrap_or(0);
        let zeros = vec![0; self.dtype.size()];
        let from = if from.is_empty() { &zeros } else { from };
        self.data = from.repeat(bytes.div_ceil(from.len()));
        self.data.truncate(bytes);
    }

    fn tensor(&self) -> Option<Tensor> {
        let shape = self.dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<Vec<_>>>()?;
        Tensor::new(self.dtype, shape, self.data.clone().into()).ok()
    }

    /// Type, dimensions and first elements.
    fn show(&self) -> String {
        let mut text = format!("{}{:?}", self.dtype, self.dims);
        let count = self.data.len() / self.dtype.size();
        if (!self.dtype.is_float() || count <= 8)
            && let Some(tensor) = self.tensor()
        {
            let first: Vec<String> = (0..count.min(8)).map(|n| show(&tensor, n)).collect();
            text += &format!(" of {}", first.join(" "));
        }
        text
    }
}

fn show(tensor: &Tensor, n: usize) -> String {
    if tensor.dtype().is_float() { tensor.f64_at(n).to_string() } else { tensor.i64_at(n).to_string() }
}

fn shapes(tensors: &[Tensor]) -> String {
    tensors.iter().map(|t| t.ty().to_string()).collect::<Vec<_>>().join(", ")
}
