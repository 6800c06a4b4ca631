//! Public functions of objects with several variants.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Function, InstBuilder, UserFuncName, types};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{FuncId, Module};

use super::signature;
use crate::abi::Status;

/// A public function that calls the variant that `level` selects, with the same arguments.
pub fn dispatch<M: Module>(module: &mut M, args: usize, level: FuncId, variants: &[FuncId]) -> Function {
    let config = module.isa().frontend_config();
    let mut func = Function::with_name_signature(UserFuncName::default(), signature(module.isa(), args, true));
    let mut context = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(&mut func, &mut context);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let args = b.block_params(entry).to_vec();
    let level = module.declare_func_in_func(level, b.func);
    let call = b.ins().call(level, &[]);
    let level = b.inst_results(call)[0];
    for (n, &variant) in variants.iter().enumerate() {
        let (own, other) = (b.create_block(), b.create_block());
        let is_own = b.ins().icmp_imm_s(IntCC::Equal, level, n as i64 + 1);
        b.ins().brif(is_own, own, &[], other, &[]);
        b.switch_to_block(own);
        let variant = module.declare_func_in_func(variant, b.func);
        let call = b.ins().call(variant, &args);
        let code = b.inst_results(call)[0];
        b.ins().return_(&[code]);
        b.switch_to_block(other);
    }
    let code = b.ins().iconst(types::I32, Status::CpuLacksFeature as i64);
    b.ins().return_(&[code]);
    b.seal_all_blocks();
    b.finalize(config);
    func
}
