//! The common check of kernel tests: compares a kernel, run by the interpreter, with the reference evaluator.
//!
//! Every operation is built with constant and with symbolic dimensions, for vectors of 128, 256 and 512 bits and for
//! levels of 64-bit Arm, and, if it takes one, with an epilogue. Parallel kernels run with several numbers of parts,
//! which must all give the same bits.

mod attention;
mod blocks;
mod gemm;
mod int8;
mod int8_depthwise;
mod lowbit;
mod movement;
mod recurrent;
mod reduce;
mod search;
mod separable;
mod sparse;
mod winograd_weights;

use std::collections::HashMap;

use mcc_targets::choices::Choices;
use mcc_targets::{Config, Target};

use mcc_ir::eval::eval_op;
use mcc_ir::{
    BinaryOp, DType, DTypeClass, Dim, Graph, Op, Output, Packed, Random, Tensor, TensorType, Traits, Value,
    WeightFormat, infer,
};
use mcc_kernel::expr::{Expr, ExprKind};
use mcc_kernel::kernels::{Built, Epilogue, KernelRequest, Places, RowLeaf, build, column_axes, reads_spaced};
use mcc_kernel::kir::verify::verify;
use mcc_kernel::kir::{Kernel, interp};
use mcc_kernel::view::View;

/// Compares an operation's kernels with the evaluator on `inputs`.
pub fn check(op: &Op, inputs: &[Tensor]) {
    check_with(op, inputs, 1e-5);
}

/// The same with a tolerance relative to the larger of 1 and the expected value.
pub fn check_with(op: &Op, inputs: &[Tensor], tolerance: f64) {
    let types: Vec<TensorType> = inputs.iter().map(Tensor::ty).collect();
    let results = infer(op, &types.iter().collect::<Vec<_>>()).unwrap_or_else(|e| panic!("{op:?}: {e}")).types;
    let want = eval_op(op, inputs, &results).unwrap_or_else(|e| panic!("{op:?}: {e}"));
    let mut config = Config::new("x86_64-unknown-linux-gnu", None).unwrap();
    let case = Case { op, inputs, want: &want, tolerance };
    case.run(&config, &types, &results, &HashMap::new(), (false, &Places::default()));
    case.run(&config, &types, &results, &HashMap::new(), (true, &Places::default()));
    config.threads = 4;
    case.run(&config, &types, &results, &HashMap::new(), (false, &Places::default()));
    for gaps in [Gaps::Columns, Gaps::All] {
        let places = case.apart(&types, &results, gaps);
        case.run(&config, &types, &results, &HashMap::new(), (false, &places));
        case.run(&config, &types, &results, &HashMap::new(), (true, &places));
    }
    if let Some((types, results, symbols)) = symbolic(op, inputs) {
        case.run(&config, &types, &results, &symbols, (false, &Places::default()));
        case.run(&config, &types, &results, &symbols, (true, &Places::default()));
    }
    for (vector_bytes, fused) in [(32, false), (64, true), (64, false)] {
        config.target.vector_bytes = vector_bytes;
        case.run(&config, &types, &results, &HashMap::new(), (fused, &Places::default()));
    }
    config.choices = Choices::any(1);
    case.run(&config, &types, &results, &HashMap::new(), (false, &Places::default()));
    for cpu in ["generic", "generic+dotprod", "generic+dotprod+i8mm"] {
        let config = Config::new("aarch64-unknown-linux-gnu", Some(cpu)).unwrap();
        case.run(&config, &types, &results, &HashMap::new(), (true, &Places::default()));
        if let Some((types, results, symbols)) = symbolic(op, inputs) {
            case.run(&config, &types, &results, &symbols, (false, &Places::default()));
        }
    }
    case.as_objects(&types);
    if let Some((types, ..)) = symbolic(op, inputs) {
        case.as_objects(&types);
    }
}

/// Compares objects with the evaluator, on all targets.
pub fn check_objects(op: &Op, inputs: &[Tensor]) {
    let types: Vec<TensorType> = inputs.iter().map(Tensor::ty).collect();
    let results = infer(op, &types.iter().collect::<Vec<_>>()).unwrap_or_else(|e| panic!("{op:?}: {e}")).types;
    let want = eval_op(op, inputs, &results).unwrap_or_else(|e| panic!("{op:?}: {e}"));
    Case { op, inputs, want: &want, tolerance: 1e-5 }.as_objects(&types);
}

/// Types of the operands with a symbol for every extent, except those of packed weights, where inference accepts that.
fn symbolic(op: &Op, inputs: &[Tensor]) -> Option<(Vec<TensorType>, Vec<TensorType>, HashMap<String, i64>)> {
    let mut symbols = HashMap::new();
    let mut types = Vec::new();
    let weights = || inputs[1..].iter().flat_map(|t| t.shape().to_vec());
    let mut fixed: Vec<usize> = match op {
        Op::PackedMatMul { .. } => weights().collect(),
        Op::Packed(packed) => {
            let Packed { spec, kernel, weights: format, .. } = &**packed;
            let shape = inputs[0].shape();
            let last = shape.len() - 1..shape.len();
            let data = match format {
                WeightFormat::Dense | WeightFormat::Depthwise => 0..0,
                // Weights of bytes and codes have contracted elements in groups of four.
                WeightFormat::Int8 { .. } | WeightFormat::Int8Depthwise | WeightFormat::LowBit(_) => last,
                // Offsets depend on the distances between elements of a window.
                WeightFormat::Blocks => {
                    if kernel.is_empty() {
                        last
                    } else {
                        1..shape.len()
                    }
                }
                // Spatial extents determine the staging.
                WeightFormat::NonZeros { .. } => {
                    let channels = spec.layout.channels(shape.len());
                    if kernel.is_empty() { channels..channels + 1 } else { 1..shape.len() }
                }
                // Spatial extents are determined by the results'.
                WeightFormat::Filtered { .. } => 1..shape.len(),
            };
            weights().chain(shape[data].iter().copied()).collect()
        }
        // Only extents that depend on inputs are symbols.
        Op::Attention { .. } => inputs[..3].iter().flat_map(|t| t.shape()[2..].to_vec()).chain([1]).collect(),
        Op::Recurrent(_) if inputs[1].shape().len() == 3 => inputs[1].shape().to_vec(),
        _ => Vec::new(),
    };
    if matches!(op, Op::Recurrent(_)) && matches!(inputs[1].dtype(), DType::I8 | DType::I32) {
        fixed.extend(inputs[..3].iter().flat_map(|t| t.shape().last()));
        fixed.extend(inputs[1].shape());
        // Parameters of codes are constant, as these are.
        fixed.extend(inputs[3..].iter().filter(|t| t.shape().len() != 2).flat_map(Tensor::shape));
    }
    for input in inputs {
        // One symbol per extent, so that axes that must agree do.
        let dims = input.shape().iter().map(|&extent| {
            if fixed.contains(&extent) {
                return Dim::from(extent);
            }
            symbols.insert(format!("d{extent}"), extent as i64);
            Dim::sym(format!("d{extent}"))
        });
        types.push(TensorType::new(input.dtype(), dims.collect()));
    }
    let results = infer(op, &types.iter().collect::<Vec<_>>()).ok()?.types;
    Some((types, results, symbols))
}

struct Case<'a> {
    op: &'a Op,
    inputs: &'a [Tensor],
    want: &'a [Tensor],
    tolerance: f64,
}

impl Case<'_> {
    fn run(
        &self,
        config: &Config,
        types: &[TensorType],
        results: &[TensorType],
        symbols: &HashMap<String, i64>,
        (fused, places): (bool, &Places),
    ) {
        let epilogue = if fused { self.epilogue(results) } else { Some(Epilogue::default()) };
        let Some(epilogue) = epilogue else { return };
        let constants = self.constants();
        let request =
            KernelRequest { op: self.op, operands: types, constants: &constants, results, places, config, layer: "" };
        let built = build(&request, &epilogue).unwrap_or_else(|e| panic!("{:?} of {types:?}: {e}", self.op));
        let Built { kernel, scratch, constants } = built;
        verify(&kernel).unwrap_or_else(|e| panic!("{:?} of {types:?}: {e}", self.op));
        let again: Kernel = kernel.to_string().parse().unwrap_or_else(|e| panic!("{e}"));
        assert!(again == kernel, "printed and parsed:\n{again}\nnot\n{kernel}");
        // A data-dependent extent is at most the number of elements that it counts.
        let bound = self.inputs.first().map_or(0, Tensor::numel) as i64;
        let value = |name: &str| symbols.get(name).copied().unwrap_or(bound);
        let bytes = |d: &Dim| d.eval(&|s| Some(value(&s.0))).unwrap() as usize;
        let operands = self.inputs.iter().enumerate().map(|(n, t)| match places.operands.get(n) {
            Some(Some(view)) => spread(t, view),
            _ => t.data().to_vec(),
        });
        let mut memory: Vec<Vec<u8>> = operands.collect();
        if fused {
            memory.push(self.addend().data().to_vec());
        }
        let first_result = memory.len();
        memory.extend(results.iter().map(|r| vec![0xee; bytes(&r.bytes())]));
        if let Some(view) = &places.result {
            memory[first_result] = vec![0xee; spread(&self.want[0], view).len()];
        }
        memory.extend(scratch.iter().map(|d| vec![0xee; bytes(d)]));
        memory.extend(constants.iter().map(|c| c.to_vec()));
        let first_scratch = first_result + results.len();
        let in_parts = |parts: u32| {
            let mut memory = memory.clone();
            let values: Vec<i64> = kernel.symbols.iter().map(|s| value(&s.0)).collect();
            let own = first_scratch..first_scratch + scratch.len();
            let done = interp::run_parts(&kernel, &mut memory, &values, parts, own);
            done.unwrap_or_else(|e| panic!("{:?} of {types:?}: {e}", self.op));
            memory
        };
        let whole = in_parts(1);
        if kernel.is_shared() {
            let results = first_result..first_scratch;
            for parts in [2, 3, 64] {
                let same = whole[results.clone()] == in_parts(parts)[results.clone()];
                assert!(same, "{:?} of {types:?}: {parts} parts differ", self.op);
            }
        }
        memory = whole;
        for (n, want) in self.want.iter().enumerate() {
            let mut data = std::mem::take(&mut memory[first_result + n]);
            match &places.result {
                Some(view) if n == 0 => {
                    let (size, indices) = (want.dtype().size(), indices(want.shape(), view));
                    data = indices.into_iter().flat_map(|i| data[i * size..(i + 1) * size].to_vec()).collect();
                }
                _ => data.truncate(want.data().len()),
            }
            let got = Tensor::new(want.dtype(), want.shape().to_vec(), data.into()).unwrap();
            let addend = if fused { Some(self.addend()) } else { None };
            self.compare(n, &got, want, addend.as_ref(), &format!("{types:?}, fused: {fused}"));
        }
    }

    /// Places with gaps, for all operands and results for which the kernel supports them.
    fn apart(&self, types: &[TensorType], results: &[TensorType], gaps: Gaps) -> Places {
        let operands = types.iter().enumerate().map(|(n, ty)| {
            let view = gaps.view(&ty.shape);
            reads_spaced(self.op, n, &view.strides).then_some(view)
        });
        let shape = &results[0].shape;
        let result = self.op.is(Traits::EPILOGUE).then(|| gaps.view(shape));
        let result = result.filter(|view| view.merged(shape, column_axes(self.op, shape.len())).is_some());
        Places { operands: operands.collect(), result, inside: Vec::new() }
    }

    /// The same through objects.
    fn as_objects(&self, types: &[TensorType]) {
        let mut graph = Graph::new();
        let constants = self.constants();
        let operand = |(i, constant): (usize, &Option<Tensor>)| match constant {
            Some(t) => graph.constant(t.clone()),
            None => graph.add_input(&format!("x{i}"), types[i].clone()),
        };
        let operands: Vec<Value> = constants.iter().enumerate().map(operand).collect();
        let given: Vec<Tensor> =
            self.inputs.iter().zip(&constants).filter(|(_, c)| c.is_none()).map(|(t, _)| t.clone()).collect();
        let node = graph.add_labelled(self.op.clone(), &operands, "node").unwrap();
        for result in 0..self.want.len() {
            let value = Value { node, result };
            graph.outputs.push(Output { name: format!("y{result}"), value });
        }
        let object = |target: &Target| {
            let program = mcc_kernel::lower(&graph, &Config::from(target.clone()), "m")
                .unwrap_or_else(|e| panic!("{:?}: {e}", self.op));
            mcc_codegen::compile(&program, target).unwrap_or_else(|e| panic!("{:?}: {e}", self.op)).object
        };
        for target in mcc_testing::machines() {
            let got = mcc_testing::invoke(&target, &object(&target), &given, self.want);
            for (n, (got, want)) in got.iter().zip(self.want).enumerate() {
                self.compare(n, got, want, None, &format!("{types:?}, as machine code for {}", target.cpu_name()));
            }
        }
    }

    /// Operands that must be constant: weights of bytes, which kernels inspect.
    fn constants(&self) -> Vec<Option<Tensor>> {
        use WeightFormat::{Blocks, Int8, Int8Depthwise};
        let bytes = matches!(self.op.weights(), Some(Int8 { .. } | Int8Depthwise | Blocks));
        let of = |(i, t): (usize, &Tensor)| (bytes && i > 0).then(|| t.clone());
        self.inputs.iter().enumerate().map(of).collect()
    }

    /// An epilogue that adds a tensor of the result's shape; only for `f32`.
    fn epilogue(&self, results: &[TensorType]) -> Option<Epilogue> {
        let [result] = results else { return None };
        if !self.op.is(Traits::EPILOGUE) || result.dtype != DType::F32 {
            return None;
        }
        let mut expr = Expr::default();
        let anchor = expr.push(ExprKind::Anchor, DType::F32);
        let leaf = expr.push(ExprKind::Leaf(0), DType::F32);
        expr.push(ExprKind::Binary(BinaryOp::Add, anchor, leaf), DType::F32);
        let view = View::contiguous(&result.shape);
        Some(Epilogue { expr, leaves: vec![RowLeaf { dtype: DType::F32, view }] })
    }

    fn addend(&self) -> Tensor {
        let shape = self.want[0].shape().to_vec();
        let values: Vec<f64> = (0..self.want[0].numel()).map(|i| (i % 101) as f64).collect();
        Tensor::from_f64s(DType::F32, shape, &values).unwrap()
    }

    fn compare(&self, n: usize, got: &Tensor, want: &Tensor, addend: Option<&Tensor>, what: &str) {
        for i in 0..want.numel() {
            let extra = addend.map_or(0.0, |t| t.f64_at(i));
            let (g, w) = (got.f64_at(i), want.f64_at(i) + extra);
            let same = if want.dtype().is_float() {
                g == w || g.is_nan() && w.is_nan() || (g - w).abs() <= self.tolerance * w.abs().max(1.0)
            } else {
                got.i64_at(i) == want.i64_at(i)
            };
            assert!(
                same,
                "{:?} of {what}\nresult {n}, element {i} of {:?}: {g}, not {w}\ngot  {:?}\nwant {:?}",
                self.op,
                want.shape(),
                got.to_f64s(),
                want.to_f64s()
            );
        }
    }
}

/// Where a tensor has gaps in memory.
#[derive(Clone, Copy)]
enum Gaps {
    /// After each row, as in a concatenation of channels.
    Columns,
    /// After every axis, as in padding.
    All,
}

impl Gaps {
    fn view(self, shape: &[Dim]) -> View {
        let mut larger = shape.to_vec();
        let rank = larger.len();
        for (axis, extent) in larger.iter_mut().enumerate() {
            let wide = axis + 1 == rank || matches!(self, Gaps::All);
            *extent = &*extent + &Dim::from(if wide { 3i64 } else { 0 });
        }
        View { offset: Dim::from(2i64), ..View::contiguous(&larger) }
    }
}

/// The position of each element.
fn indices(shape: &[usize], view: &View) -> Vec<usize> {
    let fixed = |d: &Dim| d.as_const().unwrap() as usize;
    let mut places = vec![fixed(&view.offset)];
    for (&extent, stride) in shape.iter().zip(&view.strides) {
        places = places.into_iter().flat_map(|p| (0..extent).map(move |i| p + i * fixed(stride))).collect();
    }
    places
}

/// A tensor's memory with the strides of a view.
fn spread(t: &Tensor, view: &View) -> Vec<u8> {
    let (size, places) = (t.dtype().size(), indices(t.shape(), view));
    let mut memory = vec![0xcc; places.iter().max().map_or(0, |&last| (last + 1) * size)];
    for (from, to) in t.data().chunks_exact(size.max(1)).zip(places) {
        memory[to * size..(to + 1) * size].copy_from_slice(from);
    }
    memory
}

/// Seeded numbers, of both signs if the type has them.
pub fn noise(dtype: DType, shape: &[usize], seed: u64) -> Tensor {
    let mut random = Random::new(seed);
    let tensor = match dtype {
        DType::Bool => random.integers(dtype, shape, 0, 1),
        t if t.is_float() => {
            let values: Vec<f64> = (0..shape.iter().product()).map(|_| 2.0 * random.real()).collect();
            Tensor::from_f64s(t, shape.to_vec(), &values)
        }
        t if t.class() == DTypeClass::Signed => random.integers(t, shape, -7, 6),
        t => random.integers(t, shape, 0, 13),
    };
    tensor.unwrap()
}

/// An `i64` tensor.
pub fn ints(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::from_i64s(DType::I64, shape.to_vec(), values).unwrap()
}
