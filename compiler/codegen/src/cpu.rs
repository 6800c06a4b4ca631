//! CPU detection by the model itself: objects refuse to run if a CPU extension is missing, and select the best of their
//! variants if they have several.
//!
//! `_level` returns the number of the variant to run, from 1 on, or [`NONE`]. It caches the result in one word of the
//! object, because `cpuid` traps in virtual machines and costs thousands of cycles there, more than a whole run of a
//! small model. Objects with extensions write to nothing but that word: every thread stores the same value with one
//! store, so concurrent first calls need no lock.
//!
//! On x86-64 the object detects features itself: `cpuid`, and `xgetbv` for the registers that the operating system
//! saves. On 64-bit Arm only the system knows: objects import `getauxval` of Linux and Android. Apple's systems have
//! one level per target, which the caller guarantees: nothing is detected there.

use std::collections::BTreeMap;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AbiParam, Function, InstBuilder, MemFlagsData, Signature, UserFuncName, Value, types};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{DataDescription, DataId, FuncId, Linkage, Module, ModuleResult};
use iced_x86::IcedError;
use iced_x86::code_asm::{CodeAssembler, dword_ptr, gpr32::*, gpr64::*, qword_ptr};
use mcc_targets::{Arch, CpuWord, Feature, Target};
use regalloc2::{PReg, RegClass};
use target_lexicon::BinaryFormat;

use super::emitter::MachineCode;
use super::unwind::Frame;
use mcc_ir::{Error, Result};

/// The result of `_level` when no variant can run.
pub const NONE: i64 = -1;

/// The function of Linux and Android that tells the CPU's features on 64-bit Arm.
pub const GETAUXVAL: &str = "getauxval";

const FLAGS: MemFlagsData = MemFlagsData::trusted();

/// Whether objects of these variants detect the CPU.
///
/// # Errors
/// When there are several variants and the system offers no detection.
pub fn asks(variants: &[&Target]) -> Result<bool> {
    let needs = variants.len() > 1 || variants.iter().any(|t| !t.features.is_empty());
    let can = variants.iter().all(|t| t.arch == Arch::X86_64 || t.triple.binary_format == BinaryFormat::Elf);
    if variants.len() > 1 && !can {
        return Err(Error::unsupported(format!(
            "several CPU levels in one object for {}: choose one, such as apple-m1",
            variants[0].triple
        )));
    }
    Ok(needs && can)
}

/// The words, and the bits in each, that a target's features require; on x86-64 the last word is `XCR0`.
fn masks(target: &Target) -> (BTreeMap<CpuWord, u32>, u32) {
    let mut words = BTreeMap::new();
    let mut xcr0 = 0;
    for feature in target.features.iter().map(Feature::row) {
        let (word, bit) = feature.bit;
        *words.entry(word).or_insert(0) |= 1 << bit;
        xcr0 |= feature.xcr0;
    }
    (words, xcr0)
}

/// The word that caches the result: 0 until it is known.
///
/// # Errors
/// When the module returns an error.
pub fn word<M: Module>(module: &mut M, name: &str) -> ModuleResult<DataId> {
    let id = module.declare_data(&format!("{name}__cpu"), Linkage::Local, true, false)?;
    let mut data = DataDescription::new();
    data.define_zeroinit(8);
    data.set_align(8);
    module.define_data(id, &data)?;
    Ok(id)
}

/// Signature of `_level` and of the detection function.
pub fn signature<M: Module>(module: &M) -> Signature {
    let mut s = Signature::new(module.isa().default_call_conv());
    s.returns = vec![AbiParam::new(types::I64)];
    s
}

/// `_level()`: the cached result, or that of `ask` if there is none yet.
pub fn level<M: Module>(
    module: &mut M,
    word: DataId,
    ask: impl FnOnce(&mut M, &mut FunctionBuilder<'_>) -> Result<Value>,
) -> Result<Function> {
    let config = module.isa().frontend_config();
    let mut func = Function::with_name_signature(UserFuncName::default(), signature(module));
    let mut context = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(&mut func, &mut context);
    let (entry, known, unknown) = (b.create_block(), b.create_block(), b.create_block());
    b.switch_to_block(entry);
    let word = module.declare_data_in_func(word, b.func);
    let word = b.ins().symbol_value(types::I64, word);
    let level = b.ins().load(types::I64, FLAGS, word, 0);
    b.ins().brif(level, known, &[], unknown, &[]);
    b.switch_to_block(known);
    b.ins().return_(&[level]);
    b.switch_to_block(unknown);
    let level = ask(module, &mut b)?;
    b.ins().store(FLAGS, level, word, 0);
    b.ins().return_(&[level]);
    b.seal_all_blocks();
    b.finalize(config);
    Ok(func)
}

/// On Linux for 64-bit Arm: the last variant whose features `getauxval` reports.
pub fn ask_linux<M: Module>(
    variants: &[&Target],
    getauxval: FuncId,
    module: &mut M,
    b: &mut FunctionBuilder<'_>,
) -> Value {
    let getauxval = module.declare_func_in_func(getauxval, b.func);
    // The linker finds a way to it for the call. Otherwise its address would be in the code, where libraries have none.
    b.func.dfg.ext_funcs[getauxval].colocated = true;
    let words: Vec<(CpuWord, Value)> = [(CpuWord::Hwcap, 16), (CpuWord::Hwcap2, 26)]
        .into_iter()
        .map(|(word, key)| {
            let key = b.ins().iconst(types::I64, key);
            let call = b.ins().call(getauxval, &[key]);
            (word, b.inst_results(call)[0])
        })
        .collect();
    let mut level = b.ins().iconst(types::I64, NONE);
    for (n, target) in variants.iter().enumerate() {
        let (masks, _) = masks(target);
        let mut missing = b.ins().iconst(types::I64, 0);
        for &(word, has) in &words {
            if let Some(&mask) = masks.get(&word) {
                let lacks = b.ins().bnot(has);
                let lacks = b.ins().band_imm_s(lacks, i64::from(mask));
                missing = b.ins().bor(missing, lacks);
            }
        }
        let own = b.ins().iconst(types::I64, n as i64 + 1);
        let runs = b.ins().icmp_imm_s(IntCC::Equal, missing, 0);
        level = b.ins().select(runs, own, level);
    }
    level
}

/// Signature of `getauxval`.
pub fn getauxval_signature<M: Module>(module: &M) -> Signature {
    let mut s = signature(module);
    s.params = vec![AbiParam::new(types::I64)];
    s
}

/// On x86-64: a function without arguments that returns the last variant that the CPU and the system can run.
///
/// # Errors
/// When the assembler returns an error, which would be a bug here.
pub fn ask_x86(variants: &[&Target]) -> Result<MachineCode> {
    let bytes = assemble(variants).map_err(|e| Error::internal(format!("CPU detection: {e}")))?;
    // push rbp, of 1 byte; mov rbp, rsp, of 3; push rbx, of 1.
    let mut frame = Frame::default();
    frame.push(1);
    frame.establish(4);
    frame.save(5, RBX, 8);
    Ok(MachineCode { bytes, relocations: Vec::new(), frame })
}

/// The stack offset of each word.
const SLOTS: [(CpuWord, i32); 5] = [
    (CpuWord::Leaf1Ecx, 0),
    (CpuWord::Leaf7Ebx, 4),
    (CpuWord::Leaf7Ecx, 8),
    (CpuWord::Leaf7Sub1Eax, 12),
    (CpuWord::ExtendedEcx, 16),
];
const XCR0: i32 = 20;
const FRAME: i32 = 32;
const RBX: PReg = PReg::new(3, RegClass::Int);
/// The bit of [`CpuWord::Leaf1Ecx`] that allows `xgetbv`.
const OSXSAVE: u32 = 27;

fn assemble(variants: &[&Target]) -> std::result::Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    let (mut no_xsave, mut no_leaf_7, mut no_extended) = (a.create_label(), a.create_label(), a.create_label());
    let mut done = a.create_label();
    a.push(rbp)?;
    a.mov(rbp, rsp)?;
    a.push(rbx)?;
    a.sub(rsp, FRAME)?;
    for at in [0, 8, 16] {
        a.mov(qword_ptr(rsp + at), 0)?;
    }
    a.xor(eax, eax)?;
    a.cpuid()?;
    a.mov(r8d, eax)?;
    a.mov(eax, 1)?;
    a.cpuid()?;
    a.mov(dword_ptr(rsp), ecx)?;
    a.bt(ecx, OSXSAVE)?;
    a.jae(no_xsave)?;
    a.xor(ecx, ecx)?;
    a.xgetbv()?;
    a.mov(dword_ptr(rsp + XCR0), eax)?;
    a.set_label(&mut no_xsave)?;
    a.cmp(r8d, 7)?;
    a.jb(no_leaf_7)?;
    a.mov(eax, 7)?;
    a.xor(ecx, ecx)?;
    a.cpuid()?;
    a.mov(dword_ptr(rsp + 4), ebx)?;
    a.mov(dword_ptr(rsp + 8), ecx)?;
    a.test(eax, eax)?;
    a.je(no_leaf_7)?;
    a.mov(eax, 7)?;
    a.mov(ecx, 1)?;
    a.cpuid()?;
    a.mov(dword_ptr(rsp + 12), eax)?;
    a.set_label(&mut no_leaf_7)?;
    a.mov(eax, 0x8000_0000u32)?;
    a.cpuid()?;
    a.cmp(eax, 0x8000_0001u32 as i32)?;
    a.jb(no_extended)?;
    a.mov(eax, 0x8000_0001u32)?;
    a.cpuid()?;
    a.mov(dword_ptr(rsp + 16), ecx)?;
    a.set_label(&mut no_extended)?;
    for (n, target) in variants.iter().enumerate().rev() {
        let mut next = a.create_label();
        let (masks, xcr0) = masks(target);
        let slots = SLOTS.iter().filter_map(|(word, at)| Some((*at, *masks.get(word)?))).chain([(XCR0, xcr0)]);
        for (at, mask) in slots.filter(|s| s.1 != 0) {
            a.mov(ecx, dword_ptr(rsp + at))?;
            a.and(ecx, mask as i32)?;
            a.cmp(ecx, mask as i32)?;
            a.jne(next)?;
        }
        a.mov(rax, n as i64 + 1)?;
        a.jmp(done)?;
        a.set_label(&mut next)?;
    }
    a.mov(rax, NONE)?;
    a.set_label(&mut done)?;
    a.add(rsp, FRAME)?;
    a.pop(rbx)?;
    a.pop(rbp)?;
    a.ret()?;
    a.assemble(0)
}
