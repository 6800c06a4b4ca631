//! Checks of the arguments of functions around kernels, each with the code that it returns.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Type, Value, types};
use cranelift_module::Module;

use super::{Entry, FLAGS};
use crate::abi::{self, Status};
use crate::dims::{self, Dims};
use mcc_ir::{Condition, Dim, Error, MAX_BYTES, Result, TensorType};
use mcc_kernel::program::{Check, Port};

impl<M: Module> Entry<'_, '_, M> {
    /// Returns a code of this kind, with a text, if `bad`.
    pub(super) fn refuse(&mut self, bad: Value, kind: Status, text: &str) {
        let code = self.parts.refusals.code(kind, text);
        let (fail, good) = (self.next(), self.next());
        self.b.ins().brif(bad, fail, &[], good, &[]);
        self.b.switch_to_block(fail);
        self.b.func.layout.set_cold(fail);
        let code = self.b.ins().iconst(types::I32, i64::from(code));
        self.b.ins().return_(&[code]);
        self.b.switch_to_block(good);
    }

    pub(super) fn not_null(&mut self, pointer: Value, text: &str) {
        let bad = self.b.ins().icmp_imm_s(IntCC::Equal, pointer, 0);
        self.refuse(bad, Status::NullPointer, text);
    }

    pub(super) fn not_negative(&mut self, v: Value, text: &str) {
        let bad = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, v, 0);
        self.refuse(bad, Status::WrongDimension, text);
    }

    /// Checks a tensor's extent against one whose symbols are bound.
    pub(super) fn check_dim(&mut self, given: Value, want: &Dim, which: &str) {
        let value = self.value(want);
        let bad = self.b.ins().icmp(IntCC::NotEqual, value, given);
        self.refuse(bad, Status::WrongDimension, &format!("{which} must be {want}"));
    }

    /// Calls `check`.
    pub(super) fn check_symbols(&mut self, symbols: Value) {
        if let Some(check) = self.parts.check {
            let check = self.parts.module.declare_func_in_func(check, self.b.func);
            let call = self.b.ins().call(check, &[symbols]);
            let code = self.b.inst_results(call)[0];
            self.pass_on(code);
        }
    }

    /// Returns a code unless it means success.
    pub(super) fn pass_on(&mut self, code: Value) {
        let (fail, good) = (self.next(), self.next());
        self.b.ins().brif(code, fail, &[], good, &[]);
        self.b.switch_to_block(fail);
        self.b.ins().return_(&[code]);
        self.b.switch_to_block(good);
    }

    /// Emits checks: those before any step are about the caller's arguments.
    pub(super) fn require_all(&mut self, symbols: Value, checks: &[Check], before: bool) {
        if checks.is_empty() {
            return;
        }
        let outer = std::mem::replace(&mut self.dims, Dims::detecting_overflow());
        self.load_symbols(symbols);
        checks.iter().for_each(|c| self.require(c, before));
        self.dims = outer;
    }

    /// Fails unless a check's condition holds without overflow. Expressions must detect overflow.
    fn require(&mut self, check: &Check, before: bool) {
        let mut number = |d: &Dim| self.dims.number(&mut self.b, d);
        let (cc, a, b) = match &check.condition {
            Condition::Equal(a, b) => (IntCC::NotEqual, number(a), number(b)),
            Condition::AtLeast(a, b) => (IntCC::SignedLessThan, number(a), number(b)),
            Condition::Differ(a, b) => (IntCC::Equal, number(a), number(b)),
            // As an unsigned number, a negative one exceeds all others.
            Condition::Fits(d) => (IntCC::UnsignedGreaterThan, number(d), number(&Dim::from(MAX_BYTES))),
        };
        let wrong = self.b.ins().icmp(cc, a.value, b.value);
        let overflow = dims::any(&mut self.b, a.overflow, b.overflow);
        let bad = dims::any(&mut self.b, Some(wrong), overflow).unwrap_or(wrong);
        let of_extents = |d: &Dim| !mcc_ir::bounds::has_element(d);
        let kind = match check.condition {
            Condition::Fits(_) => Status::TooLarge,
            _ if before && check.condition.dims().all(of_extents) => Status::WrongDimension,
            _ => Status::BadValue,
        };
        self.refuse(bad, kind, &check.text);
    }

    /// Rejects another model's weights, if weights are the last input; `pointers` is the array of the ports' data.
    pub(super) fn check_weights(&mut self, pointers: Value) {
        let program = self.parts.program;
        let (Some(id), Some(last)) = (program.weights_id, program.inputs.len().checked_sub(1)) else { return };
        let data = self.b.ins().load(types::I64, FLAGS, pointers, 8 * last as i32);
        let found = self.b.ins().load(types::I64, MemFlagsData::new().with_notrap(), data, 0);
        let own = self.b.ins().iconst(types::I64, id);
        let bad = self.b.ins().icmp(IntCC::NotEqual, found, own);
        let text = format!(
            "input \"{}\" must be the file of weights that was written with this object",
            program.inputs[last].name
        );
        self.refuse(bad, Status::WrongWeights, &text);
    }

    /// A port's data may be null only if it is empty.
    pub(super) fn data_not_null(&mut self, data: Value, port: &Port, side: &str) {
        let text = format!("{side} \"{}\": its data is null", port.name);
        let numel: Dim = port.ty.shape.iter().map(|d| self.parts.program.most(d)).product();
        match numel.as_const() {
            Some(0) => {}
            Some(_) => self.not_null(data, &text),
            None if numel.is_too_large() => self.not_null(data, &text),
            None => {
                let numel = self.value(&numel);
                let null = self.b.ins().icmp_imm_s(IntCC::Equal, data, 0);
                let some = self.b.ins().icmp_imm_s(IntCC::NotEqual, numel, 0);
                let bad = self.b.ins().band(null, some);
                self.refuse(bad, Status::NullPointer, &text);
            }
        }
    }

    /// Checks the rank and element type of a tensor, and that it has dimensions.
    pub(super) fn check_type(&mut self, tensors: Value, i: usize, port: &Port, side: &str) {
        let at = i as i32 * abi::tensor::BYTES as i32;
        let which = format!("{side} \"{}\"", port.name);
        let rank = self.b.ins().load(types::I32, FLAGS, tensors, at + abi::tensor::RANK as i32);
        let bad = self.b.ins().icmp_imm_s(IntCC::NotEqual, rank, port.ty.rank() as i64);
        self.refuse(bad, Status::WrongRank, &format!("{which} must have {} dimensions", port.ty.rank()));
        let dtype = self.b.ins().load(types::I32, FLAGS, tensors, at + abi::tensor::DTYPE as i32);
        let want = i64::from(abi::dtype_code(port.ty.dtype).0);
        let bad = self.b.ins().icmp_imm_s(IntCC::NotEqual, dtype, want);
        self.refuse(bad, Status::WrongDtype, &format!("{which} must be of type {}", port.ty.dtype));
        if port.ty.rank() > 0 {
            let dims = self.b.ins().load(types::I64, FLAGS, tensors, at + abi::tensor::DIMS as i32);
            self.not_null(dims, &format!("{which}: its dims are null"));
        }
    }

    pub(super) fn check_arena(&mut self, arena: Value, size: Value) {
        let bytes = &self.parts.program.arena_bytes;
        if bytes.is(0) {
            return;
        }
        let bytes = self.value(bytes);
        let bad = self.b.ins().icmp(IntCC::UnsignedLessThan, size, bytes);
        self.refuse(bad, Status::ArenaTooSmall, "the arena is too small");
        self.not_null(arena, "the arena is null");
        let low = self.b.ins().band_imm_s(arena, mcc_kernel::program::ALIGN as i64 - 1);
        self.refuse(low, Status::MisalignedArena, "the arena is not aligned to 64 bytes");
    }

    pub(super) fn dim_of(&mut self, tensors: Value, i: usize, axis: usize) -> Value {
        let at = i as i32 * abi::tensor::BYTES as i32;
        let dims = self.b.ins().load(types::I64, FLAGS, tensors, at + abi::tensor::DIMS as i32);
        self.b.ins().load(types::I64, FLAGS, dims, 8 * axis as i32)
    }

    pub(super) fn element_of(&mut self, tensors: Value, i: usize, index: usize) -> Result<Value> {
        let program = self.parts.program;
        let Some(Port { name, ty: TensorType { dtype, .. }, .. }) = program.inputs.get(i) else {
            return Err(Error::internal("a symbol is bound to an element of an input that is not there"));
        };
        let at = i as i32 * abi::tensor::BYTES as i32;
        let data = self.b.ins().load(types::I64, FLAGS, tensors, at + abi::tensor::DATA as i32);
        self.not_null(data, &format!("input \"{name}\": its data is null"));
        let signed = dtype.class() == mcc_ir::DTypeClass::Signed;
        let clif = Type::int(dtype.size() as u16 * 8).unwrap_or(types::I64);
        let value = self.b.ins().load(clif, FLAGS, data, (index * dtype.size()) as i32);
        Ok(match (clif == types::I64, signed) {
            (true, _) => value,
            (_, true) => self.b.ins().sextend(types::I64, value),
            _ => self.b.ins().uextend(types::I64, value),
        })
    }
}
