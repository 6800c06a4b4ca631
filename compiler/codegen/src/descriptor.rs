//! `NAME_model`: the data with which a program can run a model that it does not know. The layout is `mcc_model` in
//! `runtime/mcc.h`; ports, dimensions and strings are in the same data object.

use cranelift_module::{DataDescription, FuncId, Linkage, Module, ModuleResult};
use mcc_targets::Target;

use super::abi::{self, model, port};
use mcc_kernel::program::{Port, Program};

/// Defines the descriptor of a model's variants, the most basic of which is for `target`; `refusals` are the texts that
/// return codes refer to.
pub fn define<M: Module>(
    programs: &[&Program],
    target: &Target,
    module: &mut M,
    [shapes, invoke]: [FuncId; 2],
    refusals: &[String],
) -> ModuleResult<()> {
    let program = programs[0];
    let mut image = Image::default();
    image.reserve(model::BYTES);
    image.put_i32(model::ABI_VERSION, abi::VERSION);
    image.put_i32(model::INPUT_COUNT, program.inputs.len() as i32);
    image.put_i32(model::OUTPUT_COUNT, program.outputs.len() as i32);
    image.put_i32(model::THREADS, program.threads as i32);
    let name = image.string(&program.name);
    image.point(model::NAME, name);
    let inputs = image.ports(&program.inputs);
    image.point(model::INPUTS, inputs);
    let outputs = image.ports(&program.outputs);
    image.point(model::OUTPUTS, outputs);
    image.put_i64(model::ARENA_SIZE, abi::fixed_arena(programs).unwrap_or(-1));
    let features = image.string(&target.features.to_string());
    image.point(model::CPU_FEATURES, features);
    let texts = image.reserve(8 * refusals.len());
    image.point(model::REQUIREMENTS, texts);
    for (i, text) in refusals.iter().enumerate() {
        let text = image.string(text);
        image.point(texts + 8 * i, text);
    }
    image.put_i32(model::REQUIREMENT_COUNT, refusals.len() as i32);

    let id = module.declare_data(&format!("{}_model", program.name), Linkage::Export, false, false)?;
    let mut data = DataDescription::new();
    data.define(image.bytes.into_boxed_slice());
    data.set_align(8);
    let own = module.declare_data_in_data(id, &mut data);
    for (at, to) in image.pointers {
        data.write_data_addr(at as u32, own, to as i64);
    }
    for (at, function) in [(model::SHAPES, shapes), (model::INVOKE, invoke)] {
        let function = module.declare_func_in_data(function, &mut data);
        data.write_function_addr(at as u32, function);
    }
    module.define_data(id, &data)
}

/// Bytes with pointers into themselves.
#[derive(Default)]
struct Image {
    bytes: Vec<u8>,
    pointers: Vec<(usize, usize)>,
}

impl Image {
    fn reserve(&mut self, bytes: usize) -> usize {
        let at = self.bytes.len().next_multiple_of(8);
        self.bytes.resize(at + bytes, 0);
        at
    }

    fn put_i32(&mut self, at: usize, v: i32) {
        self.bytes[at..at + 4].copy_from_slice(&v.to_le_bytes());
    }

    fn put_i64(&mut self, at: usize, v: i64) {
        self.bytes[at..at + 8].copy_from_slice(&v.to_le_bytes());
    }

    fn point(&mut self, at: usize, to: usize) {
        self.pointers.push((at, to));
    }

    fn string(&mut self, s: &str) -> usize {
        let at = self.bytes.len();
        self.bytes.extend(s.bytes().filter(|&b| b != 0));
        self.bytes.push(0);
        at
    }

    fn ports(&mut self, ports: &[Port]) -> usize {
        let first = self.reserve(port::BYTES * ports.len());
        for (i, own) in ports.iter().enumerate() {
            let at = first + port::BYTES * i;
            let rank = own.ty.rank();
            let name = self.string(&own.name);
            self.point(at + port::NAME, name);
            let dims = self.reserve(8 * rank);
            self.point(at + port::DIMS, dims);
            let names = self.reserve(8 * rank);
            self.point(at + port::DIM_NAMES, names);
            for (axis, dim) in own.ty.shape.iter().enumerate() {
                self.put_i64(dims + 8 * axis, dim.as_const().unwrap_or(-1));
                let text = if dim.as_const().is_some() { String::new() } else { dim.to_string() };
                let text = self.string(&text);
                self.point(names + 8 * axis, text);
            }
            self.put_i32(at + port::RANK, rank as i32);
            self.put_i32(at + port::DTYPE, abi::dtype_code(own.ty.dtype).0);
        }
        first
    }
}
