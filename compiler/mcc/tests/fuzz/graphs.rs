//! Random valid graphs with symbolic dimensions, and inputs for them.

mod layers;
mod moves;
mod numbers;
mod regions;
mod weights;

use std::collections::BTreeMap;

use mcc_targets::Sparsity;

use mcc_ir::Random;
use mcc_ir::{BinaryOp, DType, Dim, Graph, Op, Output, Tensor, TensorType, Value};

/// A graph, inputs for it, and how to compile it.
pub struct Case {
    pub graph: Graph,
    /// Data for all inputs, several sets with different dimensions.
    pub inputs: Vec<Vec<Tensor>>,
    pub sparsity: Sparsity,
    /// Whether a small object is more important than speed.
    pub compact: bool,
    /// The seed for pseudo-random choices of the schedules' candidates, if not the defaults.
    pub choices: Option<u64>,
}

/// The case with a seed.
pub fn case(seed: u64) -> Case {
    let mut maker = Maker::new(seed);
    maker.begin();
    let steps = maker.random.within(2, 9);
    for _ in 0..steps {
        maker.step();
    }
    maker.finish()
}

/// A graph under construction.
struct Maker {
    random: Random,
    graph: Graph,
    /// Values that further operations may use.
    pool: Vec<Value>,
    /// Type of most floats.
    float: DType,
    /// Symbols, with their value in each set.
    symbols: BTreeMap<String, Vec<i64>>,
    /// The nesting depth of regions, and the number of symbols that conditions bind.
    depth: usize,
    bound: usize,
}

/// Number of sets of inputs.
const INPUT_SETS: usize = 3;

impl Maker {
    fn new(seed: u64) -> Maker {
        let mut random = Random::new(seed);
        use DType::{BF16, F16, F32, F64};
        let float = random.pick(&[F32, F32, F32, F32, F32, F32, F32, F64, F16, BF16]);
        Maker { random, graph: Graph::new(), pool: Vec::new(), float, symbols: BTreeMap::new(), depth: 0, bound: 0 }
    }

    /// Adds an operation, if inference accepts it.
    fn add(&mut self, op: Op, operands: &[Value]) -> Option<Value> {
        self.graph.add(op, operands).ok()
    }

    fn binary(&mut self, op: BinaryOp, a: Value, b: Value) -> Option<Value> {
        self.add(Op::Binary(op), &[a, b])
    }

    fn cast(&mut self, x: Value, to: DType) -> Option<Value> {
        if self.ty(x).dtype == to { Some(x) } else { self.add(Op::Cast { to, saturate: true }, &[x]) }
    }

    /// A number with a value's type.
    fn number_like(&mut self, x: Value, number: f64) -> Value {
        let dtype = self.ty(x).dtype;
        self.graph.constant(Tensor::scalar_f64(dtype, number))
    }

    fn ty(&self, x: Value) -> TensorType {
        self.graph.ty(x).clone()
    }

    fn shape(&self, x: Value) -> Vec<Dim> {
        self.graph.ty(x).shape.clone()
    }

    /// A constant extent, or a symbol whose values are at least `least`, or sometimes zero if that is allowed.
    fn extent(&mut self, name: &str, constants: &[i64], least: i64) -> Dim {
        if self.random.chance(45) {
            return Dim::from(self.random.pick(constants));
        }
        let small = [1, 2, 3, 5, 7, 9, 13, 16, 17];
        let values = (0..INPUT_SETS).map(|set| match set {
            0 => self.random.pick(&small).max(least),
            1 if self.random.chance(25) => least,
            _ => self.random.pick(&small).max(least),
        });
        let values = values.collect();
        self.symbols.insert(name.to_string(), values);
        Dim::sym(name)
    }

    fn input(&mut self, dtype: DType, shape: Vec<Dim>) -> Value {
        let name = format!("x{}", self.graph.inputs().len());
        self.graph.add_input(&name, TensorType::new(dtype, shape))
    }

    /// The first values: an image, a sequence, a table or a volume.
    fn begin(&mut self) {
        let float = self.float;
        let channels = self.random.pick(&[1i64, 2, 3, 4, 5, 8, 12, 16, 17, 24, 32, 33, 48, 64]);
        let batch = self.extent("n", &[1, 1, 2, 3], 0);
        let shape = match self.random.below(10) {
            0..=3 => {
                let (h, w) = (self.extent("h", &[5, 7, 8, 12], 1), self.extent("w", &[4, 7, 9, 16], 1));
                vec![batch, Dim::from(channels), h, w]
            }
            4 => vec![batch, Dim::from(channels), self.extent("t", &[6, 11, 16], 1)],
            5..=7 => vec![batch, self.extent("s", &[1, 4, 7, 12], 0), Dim::from(channels)],
            8 => vec![batch, Dim::from(channels)],
            _ => vec![self.extent("a", &[1, 3, 6], 0), batch, self.extent("b", &[2, 5], 0), Dim::from(4i64)],
        };
        let x = self.input(float, shape.clone());
        self.pool.push(x);
        match self.random.below(8) {
            0 => {
                let y = self.input(float, shape);
                self.pool.push(y);
            }
            1 => {
                let dtype = self.random.pick(&[DType::I32, DType::I64, DType::U8, DType::I8, DType::Bool, DType::I16]);
                let y = self.input(dtype, shape);
                self.pool.push(y);
            }
            2 => {
                let rank = shape.len();
                let y = self.input(float, vec![shape[rank - 1].clone()]);
                self.pool.push(y);
            }
            _ => {}
        }
    }

    /// One of the latest values.
    fn recent(&mut self) -> Value {
        let last = self.pool.len() - 1;
        if self.random.chance(75) { self.pool[last] } else { self.pool[self.random.below(last + 1)] }
    }

    /// Adds one more operation, or a few that belong together.
    fn step(&mut self) {
        for _ in 0..12 {
            let x = self.recent();
            let made = match self.random.below(108) {
                0..=27 => self.layer(x),
                28..=49 => self.element_wise(x),
                50..=74 => self.moved(x),
                75..=84 => self.reduced(x),
                85..=91 => self.joined(x),
                92..=95 => self.indexed(x),
                96..=99 => self.converted(x),
                _ => self.decided(x),
            };
            if let Some(y) = made {
                self.pool.push(y);
                return;
            }
        }
    }

    /// Values that nothing reads become outputs, and sometimes others too.
    fn finish(mut self) -> Case {
        let mut outputs: Vec<Value> = Vec::new();
        for value in self.pool.clone() {
            let input = matches!(self.graph.op(value.node), Op::Input(..));
            let unused = self.graph.users(value).is_empty();
            if (unused && !input || self.random.chance(12)) && !outputs.contains(&value) {
                outputs.push(value);
            }
        }
        if outputs.is_empty() {
            outputs.extend(self.pool.last());
        }
        let named = outputs.into_iter().enumerate();
        self.graph.outputs = named.map(|(n, value)| Output { name: format!("y{n}"), value }).collect();
        self.graph.remove_dead();
        let inputs = (0..INPUT_SETS).map(|set| self.data(set)).collect();
        let sparsity = self.random.pick(&[Sparsity::Auto, Sparsity::Auto, Sparsity::Force, Sparsity::Off]);
        let compact = self.random.chance(15);
        let choices = self.random.chance(15).then(|| self.random.next());
        Case { graph: self.graph, inputs, sparsity, compact, choices }
    }

    /// Data for all inputs.
    fn data(&mut self, set: usize) -> Vec<Tensor> {
        let types: Vec<TensorType> = self.graph.inputs().iter().map(|&n| self.graph.ty(n.into()).clone()).collect();
        let data = types.into_iter().map(|ty| {
            let extent = |d: &Dim| d.eval(&|s| self.symbols.get(&*s.0).map(|v| v[set])).unwrap_or(1) as usize;
            let shape: Vec<usize> = ty.shape.iter().map(extent).collect();
            self.noise(ty.dtype, shape, 2.0)
        });
        data.collect::<Vec<_>>()
    }

    /// A tensor of random numbers, up to `bound` where they are floats.
    fn noise(&mut self, dtype: DType, shape: Vec<usize>, bound: f64) -> Tensor {
        let count = shape.iter().product();
        let tensor = if dtype.is_float() {
            let values: Vec<f64> = (0..count).map(|_| self.random.real() * bound).collect();
            Tensor::from_f64s(dtype, shape, &values)
        } else {
            let (low, high) = match dtype {
                DType::Bool => (0, 1),
                DType::U8 => (0, 255),
                DType::I8 => (-128, 127),
                _ => (-100, 100),
            };
            let values: Vec<i64> = (0..count).map(|_| self.random.within(low, high)).collect();
            Tensor::from_i64s(dtype, shape, &values)
        };
        tensor.unwrap_or_else(|e| panic!("{e}"))
    }
}
