//! Random kernels through all emitters and the interpreter.
//!
//! A kernel reads floats, doubles and bytes, computes with all types that fit, also in loops and branches, and stores
//! its last values. Every level of this machine, and a level of Arm under qemu, must give the interpreter's bytes; NaNs
//! may have different bits.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mcc_targets::{Feature, Target};

use mcc_ir::Random;
use mcc_ir::{DType, Tensor};
use mcc_kernel::kir::{Bin, Builder, Cmp, DotKind, Elem, Kernel, Rounding, Ty, Un, Val, interp};
use mcc_loader::{Model, guard};
use mcc_testing::program;

/// Bytes of every input, and of the output.
const BUFFER_BYTES: usize = 1024;
/// Inputs: `f32` numbers, `f64` numbers, bytes.
const INPUT_COUNT: u32 = 3;

/// Checks the kernel with a seed.
pub fn kernel(seed: u64) -> Result<&'static str, String> {
    let mut random = Random::new(seed);
    // Only some targets have instructions to convert 16-bit floats.
    let halves = random.chance(15);
    let matrices = random.chance(15);
    let kernel = Maker::new(&mut random, halves, matrices).kernel();
    match kernel.to_string().parse::<Kernel>() {
        Ok(again) if again == kernel => {}
        Ok(again) => return Err(format!("printed and parsed it is\n{again}\nnot\n{kernel}")),
        Err(e) => return Err(format!("{e}\n{kernel}")),
    }
    let inputs = data(&mut random);
    let tensors: Vec<Tensor> = inputs
        .iter()
        .map(|bytes| Tensor::new(DType::U8, vec![BUFFER_BYTES], bytes.clone().into()).unwrap_or_else(|e| panic!("{e}")))
        .collect();
    let levels = if matrices { Vec::new() } else { Target::host_levels() };
    for target in levels.into_iter().filter(|t| !halves || t.has(Feature::F16c)) {
        let failure = |what: String| format!("{}: {what}\n{kernel}", target.cpu_name());
        let mut memory: Vec<Vec<u8>> = inputs.iter().cloned().chain([vec![0xff; BUFFER_BYTES]]).collect();
        let interpret = if target.has(Feature::Fma) { interp::run } else { interp::run_unfused };
        interpret(&kernel, &mut memory, &[]).map_err(|e| failure(format!("the interpreter: {e}")))?;
        let want = &memory[INPUT_COUNT as usize];
        let object = compiled(&kernel, &target).map_err(failure)?;
        let model = Model::load(&object).map_err(|e| failure(e.to_string()))?;
        let note = format!("kernel {seed} at {}", target.cpu_name());
        let got = guard::invoke(&model, &tensors, None, &note).map_err(|e| failure(e.to_string()))?;
        compare(got[0].data(), want).map_err(failure)?;
    }
    let cpu = if matrices { ARM[2] } else { ARM[seed as usize % ARM.len()] };
    on_arm(cpu, &kernel, &inputs, &tensors)?;
    Ok("same")
}

/// CPUs of Arm, of which each seed takes one; the last one has products of matrices of bytes.
const ARM: [&str; 3] = ["generic", "generic+dotprod", "generic+dotprod+i8mm"];

fn on_arm(cpu: &str, kernel: &Kernel, inputs: &[Vec<u8>], tensors: &[Tensor]) -> Result<(), String> {
    let failure = |what: String| format!("Arm, {cpu}: {what}\n{kernel}");
    let target = Target::new("aarch64-unknown-linux-gnu", Some(cpu)).map_err(|e| failure(e.to_string()))?;
    let mut memory: Vec<Vec<u8>> = inputs.iter().cloned().chain([vec![0xff; BUFFER_BYTES]]).collect();
    interp::run(kernel, &mut memory, &[]).map_err(|e| failure(format!("the interpreter: {e}")))?;
    let object = compiled(kernel, &target).map_err(failure)?;
    let output = Tensor::new(DType::U8, vec![BUFFER_BYTES], vec![0; BUFFER_BYTES].into());
    let output = output.map_err(|e| failure(e.to_string()))?;
    let got = mcc_testing::invoke(&target, &object, tensors, &[output]);
    compare(got[0].data(), &memory[INPUT_COUNT as usize]).map_err(failure)
}

/// The object of a program with the kernel.
fn compiled(kernel: &Kernel, target: &Target) -> Result<Vec<u8>, String> {
    let compiled = catch_unwind(AssertUnwindSafe(|| {
        let program = program(kernel.clone(), &[BUFFER_BYTES; INPUT_COUNT as usize], BUFFER_BYTES);
        mcc_codegen::compile(&program, target)
    }));
    match compiled {
        Ok(Ok(compiled)) => Ok(compiled.object),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err("panic".to_string()),
    }
}

/// Fails if bytes differ that are not both NaN.
fn compare(got: &[u8], want: &[u8]) -> Result<(), String> {
    match (0..BUFFER_BYTES).step_by(8).find(|&at| !equal_or_nan(&got[at..at + 8], &want[at..at + 8])) {
        Some(at) => Err(format!("bytes from {at} on are {:x?}, not {:x?}", &got[at..at + 8], &want[at..at + 8])),
        None => Ok(()),
    }
}

/// Whether bytes are equal, or both NaN, as one `f64` or two `f32`.
fn equal_or_nan(a: &[u8], b: &[u8]) -> bool {
    let double = |x: &[u8]| x.try_into().map_or(0.0, f64::from_le_bytes);
    let nan = |x: &[u8]| x.try_into().map_or(0.0, f32::from_le_bytes).is_nan();
    let halves = a.chunks(4).zip(b.chunks(4)).all(|(x, y)| x == y || nan(x) && nan(y));
    halves || double(a).is_nan() && double(b).is_nan()
}

fn data(random: &mut Random) -> Vec<Vec<u8>> {
    let odd = [0.0, -0.0, 0.5, 1.5, 2.5, -0.5, 1e9, -3e9, 255.5, 1e-20];
    let number = |random: &mut Random| if random.chance(15) { random.pick(&odd) } else { random.real() * 200.0 };
    let floats = (0..BUFFER_BYTES / 4).flat_map(|_| (number(random) as f32).to_le_bytes()).collect();
    let doubles = (0..BUFFER_BYTES / 8).flat_map(|_| number(random).to_le_bytes()).collect();
    let bytes = (0..BUFFER_BYTES)
        .map(|_| if random.chance(20) { random.pick(&[0, 255, 128, 127]) } else { random.next() as u8 });
    vec![floats, doubles, bytes.collect()]
}

/// A kernel under construction.
struct Maker<'r> {
    random: &'r mut Random,
    k: Builder,
    /// The values to compute with.
    pool: Vec<Val>,
    halves: bool,
    /// Whether there are products of matrices of bytes.
    matrices: bool,
}

impl Maker<'_> {
    fn new(random: &mut Random, halves: bool, matrices: bool) -> Maker<'_> {
        let k = Builder::new("random", INPUT_COUNT + 1).with_halves(halves);
        Maker { random, k, pool: Vec::new(), halves, matrices }
    }

    fn kernel(mut self) -> Kernel {
        let (out, zero) = (self.k.pointer(INPUT_COUNT), self.k.int(BUFFER_BYTES as i64));
        self.k.fill_zero(out, zero);
        for _ in 0..5 {
            let v = self.loaded();
            self.pool.push(v);
        }
        for _ in 0..self.random.within(3, 14) {
            match self.random.below(10) {
                0 => self.looped(),
                1 => self.branched(),
                _ => self.step(),
            }
        }
        self.stores(out);
        self.k.finish()
    }

    /// Stores the last values one after another, whole or in part.
    fn stores(&mut self, out: Val) {
        let mut at = 0;
        for v in self.pool.clone().into_iter().rev() {
            let ty = self.k.ty(v);
            if ty.elem.is_mask() || at + 64 > BUFFER_BYTES as i32 {
                continue;
            }
            let to = self.k.at(out, at);
            if ty.lanes > 1 && self.random.chance(25) {
                let count = self.count();
                self.k.store_part(to, v, count);
            } else {
                self.k.store(to, v);
            }
            at += 64;
        }
    }

    fn ty(&mut self) -> Ty {
        use Elem::{F32, F64, I8, I16, I32, I64};
        let elem = self.random.pick(&[I8, I16, I32, I32, I64, F32, F32, F32, F64]);
        let lanes = self.random.pick(&[1, 4, 8, 16]);
        Ty::new(elem, lanes.min(64 / elem.bytes()))
    }

    fn loaded(&mut self) -> Val {
        let ty = self.ty();
        self.load(ty)
    }

    fn load(&mut self, ty: Ty) -> Val {
        let from = match ty.elem {
            Elem::F32 => 0,
            Elem::F64 => 1,
            _ => 2,
        };
        let pointer = self.k.pointer(from);
        let last = (BUFFER_BYTES as i64 - i64::from(ty.bytes())) / i64::from(ty.elem.bytes());
        let element = self.random.within(0, last) * i64::from(ty.elem.bytes());
        if ty.lanes > 1 && self.random.chance(20) {
            // A partial load, and then one up to the end of the buffer.
            let from = self.k.at(pointer, element as i32);
            let count = self.count();
            return self.k.load_part(ty, from, count);
        }
        let from = self.k.at(pointer, element as i32);
        self.k.load(ty, from)
    }

    /// A number of lanes that is known at run time only; any value.
    fn count(&mut self) -> Val {
        let at = self.random.within(0, BUFFER_BYTES as i64 / 8 - 1) * 8;
        let pointer = self.k.pointer(2);
        let from = self.k.at(pointer, at as i32);
        let v = self.k.load(Ty::I64, from);
        if self.random.chance(25) {
            return v;
        }
        let mask = self.k.int(15);
        self.k.bin(Bin::And, v, mask)
    }

    /// A value of the pool for which `fits` is true.
    fn pick(&mut self, fits: impl Fn(Ty) -> bool) -> Option<Val> {
        let all: Vec<Val> = self.pool.iter().copied().filter(|&v| fits(self.k.ty(v))).collect();
        if all.is_empty() { None } else { Some(self.random.pick(&all)) }
    }

    /// Another value of a type, loaded if necessary.
    fn another(&mut self, ty: Ty) -> Val {
        match self.pick(|t| t == ty) {
            Some(v) if self.random.chance(70) => v,
            _ => self.load(ty),
        }
    }

    fn step(&mut self) {
        for _ in 0..8 {
            if let Some(v) = self.made() {
                self.pool.push(v);
                return;
            }
        }
    }

    fn made(&mut self) -> Option<Val> {
        let a = self.pick(|t| !t.elem.is_mask())?;
        let ty = self.k.ty(a);
        let (elem, scalar) = (ty.elem, ty.lanes == 1);
        Some(match self.random.below(22) {
            0..=3 => {
                let op = self.random.pick(&[Bin::Add, Bin::Sub, Bin::Mul, Bin::Min, Bin::Max]);
                let b = self.another(ty);
                let v = self.k.bin(op, a, b);
                // Either of two zeros may be the lesser.
                let nothing = self.k.zero(ty);
                if elem.is_float() { self.k.add(v, nothing) } else { v }
            }
            4 if elem.is_int() => {
                let op = self.random.pick(&[Bin::And, Bin::Or, Bin::Xor, Bin::UMin, Bin::UMax]);
                let b = self.another(ty);
                self.k.bin(op, a, b)
            }
            4 => {
                let b = self.another(ty);
                self.k.bin(Bin::Div, a, b)
            }
            5 if elem.is_int() => {
                let op = self.random.pick(&[Bin::Shl, Bin::Shr, Bin::Sar]);
                let count = self.random.within(0, i64::from(elem.bytes()) * 8 - 1);
                let count = self.k.int_of(count, Ty::new(self.random.pick(&[Elem::I32, Elem::I64]), 1));
                self.k.bin(op, a, count)
            }
            5 | 6 if elem.is_float() => {
                let op = self.random.pick(&[Un::Neg, Un::Abs, Un::Sqrt, Un::Floor, Un::Ceil, Un::Trunc, Un::Nearest]);
                self.k.un(op, a)
            }
            6 if scalar => {
                // Division of integers, for operands for which it is defined.
                let b = self.another(ty);
                let (low, one) = (self.k.int_of(63, ty), self.k.int_of(1, ty));
                let b = self.k.bin(Bin::And, b, low);
                let b = self.k.bin(Bin::Or, b, one);
                self.k.bin(self.random.pick(&[Bin::Div, Bin::UDiv, Bin::Rem, Bin::URem]), a, b)
            }
            6 => self.k.un(self.random.pick(&[Un::Neg, Un::Abs, Un::Not]), a),
            7 | 8 if elem.is_float() => {
                let (b, c) = (self.another(ty), self.another(ty));
                self.k.fma(a, b, c)
            }
            7 if elem == Elem::I64 && scalar => self.k.un(Un::CountOnes, a),
            8 if elem == Elem::I32 => self.dot(ty, a),
            9 if elem.is_float() && !scalar => {
                let (b, c) = (self.another(ty), self.another(ty));
                let lane = self.random.below(ty.lanes as usize) as u8;
                self.k.fma_lane(a, b, lane, c)
            }
            10 | 11 => {
                let b = self.another(ty);
                let mut ops = vec![Cmp::Eq, Cmp::Ne, Cmp::Lt, Cmp::Le, Cmp::Gt, Cmp::Ge];
                if elem.is_int() {
                    ops.extend([Cmp::ULt, Cmp::ULe, Cmp::UGt, Cmp::UGe]);
                }
                let mask = self.k.cmp(self.random.pick(&ops), a, b);
                self.pool.push(mask);
                match self.random.below(3) {
                    0 => self.k.mask_to_int(mask),
                    1 => {
                        let any = self.k.any_true(mask);
                        self.k.mask_to_int(any)
                    }
                    _ => {
                        let c = self.another(ty);
                        self.k.select(mask, a, c)
                    }
                }
            }
            12 => {
                let mask = self.pick(|t| t.elem == elem.mask() && t.lanes == ty.lanes)?;
                let mask = if self.random.chance(50) {
                    let other = self.pick(|t| t.elem == elem.mask() && t.lanes == ty.lanes)?;
                    self.k.bin(self.random.pick(&[Bin::And, Bin::Or, Bin::Xor]), mask, other)
                } else {
                    self.k.un(Un::Not, mask)
                };
                let b = self.another(ty);
                self.k.select(mask, a, b)
            }
            13 if scalar => {
                let lanes = self.random.pick(&[4, 8, 16]);
                self.k.splat(a, lanes.min(64 / elem.bytes()))
            }
            13 => self.k.lane(a, self.random.below(ty.lanes as usize) as u8),
            14 if !scalar => {
                let one = self.another(ty.with_lanes(1));
                self.k.with_lane(a, one, self.random.below(ty.lanes as usize) as u8)
            }
            15 if !scalar => {
                let b = self.another(ty);
                let pattern: Vec<u8> = (0..ty.lanes).map(|_| self.random.below(2 * ty.lanes as usize) as u8).collect();
                self.k.shuffle(a, b, &pattern)
            }
            16 => {
                let to = self.random.pick(&[Elem::I8, Elem::I16, Elem::I32, Elem::I64, Elem::F32, Elem::F64]);
                if to.bytes() * ty.lanes > 64 || to == elem {
                    return None;
                }
                let unsigned = elem.is_float() && to.is_float() || self.random.chance(60);
                if unsigned { self.k.convert(a, to) } else { self.unsigned(a, elem, to)? }
            }
            17 if elem == Elem::F32 && !scalar => {
                let parts = self.random.pick(&[1, 2, 4]).min(64 / ty.lanes as usize).min(4);
                let parts: Vec<Val> = (0..parts).map(|_| self.another(ty)).collect();
                let (zero, rounding) = self.zero_point(ty);
                self.k.quantize(&parts, zero, rounding)
            }
            18 if elem == Elem::F32 => {
                let (zero, rounding) = self.zero_point(ty);
                let byte = self.k.grid(a, zero, rounding);
                // Its zeros may be negative.
                let nothing = self.k.zero(ty);
                self.k.add(byte, nothing)
            }
            19 if elem == Elem::I8 => {
                let table = self.k.pointer(2);
                self.k.lookup(a, table)
            }
            20 if elem.bytes() == 4 && matches!(ty.lanes, 4 | 8) => {
                let places = self.another(ty.with(Elem::I32));
                self.k.permute(a, places)
            }
            21 if self.halves && elem == Elem::F32 => {
                let half = self.k.float_to_half(a);
                self.pool.push(half);
                self.k.half_to_float(half)
            }
            _ => return None,
        })
    }

    /// An unsigned conversion.
    fn unsigned(&mut self, a: Val, from: Elem, to: Elem) -> Option<Val> {
        let wider = from.is_int() && to.is_int() && to.bytes() > from.bytes();
        (wider || from.is_float() != to.is_float()).then(|| self.k.uconvert(a, to))
    }

    fn zero_point(&mut self, ty: Ty) -> (Val, Rounding) {
        let signed = self.random.chance(50);
        let zero = if signed { self.random.pick(&[0, -128, 5]) } else { self.random.pick(&[0, 128, 255, 3]) };
        (self.k.float(f64::from(zero), ty), Rounding { signed, bounded: false })
    }

    fn dot(&mut self, ty: Ty, acc: Val) -> Val {
        let bytes = Ty::new(Elem::I8, 4 * ty.lanes);
        let (a, mut b) = (self.another(bytes), self.another(bytes));
        let kind = self.random.pick(&[DotKind::U8S8, DotKind::S8S8, DotKind::S8Narrow, DotKind::U8U8]);
        if kind == DotKind::S8Narrow {
            let least = self.k.int_of(-127, bytes);
            b = self.k.bin(Bin::Max, b, least);
        }
        if self.matrices && ty.lanes >= 4 && self.random.chance(50) {
            return self.k.matrix_dot(kind, a, b, acc);
        }
        self.k.dot(kind, a, b, acc)
    }

    /// A loop that carries one value or two.
    fn looped(&mut self) {
        let Some(first) = self.pick(|t| !t.elem.is_mask()) else { return };
        let second = self.pick(|t| !t.elem.is_mask()).unwrap_or(first);
        let (count, limit, start) = (self.count(), self.k.int(7), self.k.int(0));
        let end = self.k.bin(Bin::And, count, limit);
        let step = self.random.within(1, 2);
        let seed = self.random.next();
        let pool = self.pool.clone();
        let kinds = (self.halves, self.matrices);
        let results = self.k.fold_loop(start, end, step, &[first, second], |k, i, carried| {
            nested(
                k,
                seed,
                kinds,
                [pool.clone(), carried.to_vec(), vec![i]].concat(),
                &[k.ty(carried[0]), k.ty(carried[1])],
            )
        });
        self.pool.extend(results);
    }

    /// A branch on a condition, with a result.
    fn branched(&mut self) {
        let Some(mask) = self.pick(|t| t.elem.is_mask()) else { return };
        let Some(a) = self.pick(|t| !t.elem.is_mask()) else { return };
        let condition = self.k.any_true(mask);
        let (ty, pool, kinds) = (self.k.ty(a), self.pool.clone(), (self.halves, self.matrices));
        let [yes, no] = [self.random.next(), self.random.next()];
        let results = self.k.choose(
            condition,
            |k| nested(k, yes, kinds, pool.clone(), &[ty]),
            |k| nested(k, no, kinds, pool.clone(), &[ty]),
        );
        self.pool.extend(results);
    }
}

/// A few steps in a block; returns values of some types. `kinds` says whether there are 16-bit floats and products of
/// matrices.
fn nested(k: &mut Builder, seed: u64, kinds: (bool, bool), pool: Vec<Val>, wanted: &[Ty]) -> Vec<Val> {
    let mut random = Random::new(seed);
    let own = std::mem::replace(k, Builder::new("", 0));
    let (halves, matrices) = kinds;
    let mut inner = Maker { random: &mut random, k: own, pool, halves, matrices };
    for _ in 0..inner.random.within(1, 4) {
        inner.step();
    }
    let results = wanted.iter().map(|&ty| inner.another(ty)).collect();
    *k = inner.k;
    results
}
