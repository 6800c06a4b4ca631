//! Runs a model in this process from its object file: maps the sections, relocates them, calls the entry points. The
//! object is the same that would be linked into an application.
//!
//! This is a minimal dynamic linker, for the relocations that the compiler's ELF objects contain.

#[cfg(unix)]
pub mod guard;
pub mod peak;
pub mod relocation;
pub mod timing;
pub mod trace;

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_void};

use mcc_runtime::{Pool, RawPool};
use memmap2::MmapMut;
use object::{
    Architecture, Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget, SectionFlags, SectionIndex,
    SymbolIndex, elf,
};

use mcc_ir::{DType, Error, Result, Tensor};
use mcc_runtime::abi::{self, ARENA_ALIGN};
use relocation::Relocation;

/// A loaded model.
pub struct Model {
    /// Code and data; it must outlive every call.
    _memory: MmapMut,
    shapes: Shapes,
    invoke: Invoke,
    /// Inputs.
    pub inputs: Vec<Port>,
    /// Outputs.
    pub outputs: Vec<Port>,
    /// Bytes of arena, if no dimension decides them.
    pub fixed_arena: Option<usize>,
    /// The requirements' texts; codes are indices into them.
    pub requirements: Vec<String>,
}

/// An input or output.
#[derive(Debug, Clone)]
pub struct Port {
    /// Name in the model.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Dimensions; `None` where they are not constant.
    pub dims: Vec<Option<usize>>,
    /// The expression of each dimension that is not constant.
    pub dim_names: Vec<String>,
}

/// A model with inputs, arena and buffers for its outputs; it can run repeatedly.
pub struct Session<'m> {
    model: &'m Model,
    pool: Option<&'m Pool>,
    inputs: Vec<Tensor>,
    dims: Vec<Vec<i64>>,
    outputs: Vec<Vec<u8>>,
    output_dims: Vec<Vec<i64>>,
    upper_dims: Vec<Vec<i64>>,
    arena: Vec<u8>,
    /// Bytes of arena that the model needs.
    pub arena_bytes: usize,
}

type Shapes = unsafe extern "C" fn(*const CTensor, *mut CTensor, *mut i64) -> i32;
type Invoke = unsafe extern "C" fn(*const CTensor, *mut CTensor, *mut c_void, usize, *const RawPool) -> i32;

/// `mcc_tensor`.
#[repr(C)]
struct CTensor {
    data: *mut c_void,
    dims: *mut i64,
    rank: i32,
    dtype: i32,
}

/// `mcc_port`.
#[repr(C)]
struct CPort {
    name: *const c_char,
    dims: *const i64,
    dim_names: *const *const c_char,
    rank: i32,
    dtype: i32,
}

/// `mcc_model`.
#[repr(C)]
struct CModel {
    abi_version: i32,
    input_count: i32,
    output_count: i32,
    threads: i32,
    name: *const c_char,
    inputs: *const CPort,
    outputs: *const CPort,
    arena_size: i64,
    shapes: Shapes,
    invoke: Invoke,
    cpu_features: *const c_char,
    requirements: *const *const c_char,
    requirement_count: i32,
}

/// At least the page size of every system.
const MAX_PAGE_BYTES: usize = 1 << 16;

impl Model {
    /// Loads an ELF object that was compiled for this machine.
    ///
    /// # Errors
    /// When it is not such an object, has relocations that mcc does not emit, or needs CPU features that this machine
    /// lacks.
    pub fn load(object: &[u8]) -> Result<Model> {
        let file = object::File::parse(object).map_err(|e| Error::internal(format!("object file: {e}")))?;
        let image = Image::link(&file)?;
        let model = file.symbols().find(|s| s.is_global() && s.name().is_ok_and(|n| n.ends_with("_model")));
        let at = model.and_then(|s| image.address(&file, s.index()).ok());
        let at = at.ok_or_else(|| Error::internal("object file: no model descriptor"))?;
        let memory = image.executable()?;
        // SAFETY: the object defines an `mcc_model` there, relocated, in memory that the model keeps.
        let c = unsafe { &*(at as *const CModel) };
        if c.abi_version != abi::VERSION {
            return Err(Error::usage(format!("the object has interface version {}", c.abi_version)));
        }
        // SAFETY: a C string.
        let needs = unsafe { CStr::from_ptr(c.cpu_features) }.to_string_lossy();
        let missing = mcc_targets::missing_here(&needs);
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return Err(Error::usage(format!(
                "this processor lacks {missing}, which the model was compiled for; see --cpu"
            )));
        }
        // SAFETY: the descriptor's counts are the lengths of its arrays.
        let ports = |first: *const CPort, n: i32| (0..n as usize).map(|i| unsafe { port(&*first.add(i)) }).collect();
        // SAFETY: the descriptor has this many texts, which are C strings.
        let requirement = |n: usize| unsafe { CStr::from_ptr(*c.requirements.add(n)) }.to_string_lossy().into_owned();
        Ok(Model {
            shapes: c.shapes,
            invoke: c.invoke,
            inputs: ports(c.inputs, c.input_count),
            outputs: ports(c.outputs, c.output_count),
            fixed_arena: usize::try_from(c.arena_size).ok(),
            requirements: (0..c.requirement_count as usize).map(requirement).collect(),
            _memory: memory,
        })
    }

    /// Runs the model once.
    ///
    /// # Errors
    /// When the inputs do not fit the model.
    pub fn invoke(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        self.invoke_on(inputs, None)
    }

    /// Runs the model once on the threads of a pool.
    ///
    /// # Errors
    /// When the inputs do not fit the model.
    pub fn invoke_on(&self, inputs: &[Tensor], pool: Option<&Pool>) -> Result<Vec<Tensor>> {
        let mut session = self.session(inputs, pool)?;
        session.run()?;
        session.outputs()
    }

    /// Prepares to run on given inputs, on one thread or those of a pool.
    ///
    /// # Errors
    /// When the inputs do not fit the model.
    pub fn session<'m>(&'m self, inputs: &[Tensor], pool: Option<&'m Pool>) -> Result<Session<'m>> {
        if inputs.len() != self.inputs.len() {
            return Err(Error::invalid(format!("the model has {} inputs, not {}", self.inputs.len(), inputs.len())));
        }
        for (given, port) in inputs.iter().zip(&self.inputs) {
            port.accept(given)?;
        }
        let dims_of = |t: &Tensor| t.shape().iter().map(|&d| d as i64).collect::<Vec<_>>();
        let mut session = Session {
            model: self,
            pool,
            inputs: inputs.to_vec(),
            dims: inputs.iter().map(dims_of).collect(),
            outputs: Vec::new(),
            output_dims: self.outputs.iter().map(|p| vec![0; p.dims.len()]).collect(),
            upper_dims: Vec::new(),
            arena: Vec::new(),
            arena_bytes: 0,
        };
        session.outputs = vec![Vec::new(); self.outputs.len()];
        let (ins, mut outs) = session.tensors();
        let mut arena = 0;
        // SAFETY: both arrays have the model's counts, and dims arrays of the ports' ranks.
        self.check(unsafe { (self.shapes)(ins.as_ptr(), outs.as_mut_ptr(), &raw mut arena) })?;
        drop((ins, outs));
        session.upper_dims.clone_from(&session.output_dims);
        for (i, port) in self.outputs.iter().enumerate() {
            let too_large = || Error::invalid(format!("output {} is larger than the address space", port.name));
            let bytes = session.output_dims[i].iter().try_fold(port.dtype.size(), |n, &d| n.checked_mul(d as usize));
            session.outputs[i] = zeroed(bytes.ok_or_else(too_large)?)?;
        }
        session.arena_bytes = usize::try_from(arena).unwrap_or(0);
        session.arena = zeroed(session.arena_bytes + ARENA_ALIGN)?;
        Ok(session)
    }

    /// The error of a code other than success.
    fn check(&self, code: i32) -> Result<()> {
        let requirement = usize::try_from(code >> abi::KIND_BITS).ok().and_then(|n| n.checked_sub(1));
        match (code, requirement.and_then(|n| self.requirements.get(n))) {
            (0, _) => Ok(()),
            (_, Some(text)) => Err(Error::invalid(format!("the model refuses its inputs: {text}"))),
            (code, None) if code == abi::Status::CpuLacksFeature as i32 => {
                Err(Error::usage("this processor lacks an extension that the model was compiled for; see --cpu"))
            }
            (code, None) => Err(Error::internal(format!("the model gives the unknown code {code}"))),
        }
    }
}

impl Session<'_> {
    /// Runs the model.
    ///
    /// # Errors
    /// When the model refuses its inputs.
    pub fn run(&mut self) -> Result<()> {
        self.output_dims.clone_from(&self.upper_dims);
        let shift = self.arena.as_ptr().align_offset(ARENA_ALIGN);
        let arena = self.arena[shift..].as_mut_ptr();
        let bytes = self.arena_bytes;
        let pool = self.pool.map_or(std::ptr::null(), Pool::raw);
        let (ins, mut outs) = self.tensors();
        // SAFETY: inputs, outputs and arena have the types and sizes that the model returned for these inputs.
        let code = unsafe { (self.model.invoke)(ins.as_ptr(), outs.as_mut_ptr(), arena.cast(), bytes, pool) };
        self.model.check(code)
    }

    /// The results of the last run.
    ///
    /// # Errors
    /// When the dimensions that the run returned are larger than their bounds.
    pub fn outputs(&self) -> Result<Vec<Tensor>> {
        let mut tensors = Vec::new();
        for (i, port) in self.model.outputs.iter().enumerate() {
            let shape: Vec<usize> = self.output_dims[i].iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect();
            let bytes = shape.iter().product::<usize>() * port.dtype.size();
            let data = self.outputs[i].get(..bytes).ok_or_else(|| {
                Error::internal(format!("output {} has {shape:?} elements, more than its bound", port.name))
            })?;
            tensors.push(Tensor::new(port.dtype, shape, data.to_vec().into())?);
        }
        Ok(tensors)
    }

    fn tensors(&mut self) -> (Vec<CTensor>, Vec<CTensor>) {
        let c = |data: *mut c_void, dims: &mut Vec<i64>, dtype: DType| CTensor {
            data,
            dims: dims.as_mut_ptr(),
            rank: dims.len() as i32,
            dtype: dtype.code(),
        };
        let ins = self.inputs.iter().zip(&mut self.dims);
        // The model does not write to its inputs.
        let ins = ins.map(|(t, dims)| c(t.data().as_ptr().cast_mut().cast(), dims, t.dtype())).collect();
        let outs = self.outputs.iter_mut().zip(&mut self.output_dims).zip(&self.model.outputs);
        let outs = outs.map(|((data, dims), port)| c(data.as_mut_ptr().cast(), dims, port.dtype)).collect();
        (ins, outs)
    }
}

impl Port {
    fn accept(&self, given: &Tensor) -> Result<()> {
        let fits = given.dtype() == self.dtype
            && given.shape().len() == self.dims.len()
            && given.shape().iter().zip(&self.dims).all(|(&d, want)| want.is_none_or(|w| w == d));
        if fits {
            return Ok(());
        }
        let want: Vec<String> = self
            .dims
            .iter()
            .zip(&self.dim_names)
            .map(|(d, name)| d.map_or_else(|| name.clone(), |d| d.to_string()))
            .collect();
        Err(Error::invalid(format!(
            "input {} is {}[{}], but {}{:?} was given",
            self.name,
            self.dtype,
            want.join(", "),
            given.dtype(),
            given.shape()
        )))
    }
}

fn zeroed(bytes: usize) -> Result<Vec<u8>> {
    let mut v = Vec::new();
    v.try_reserve_exact(bytes).map_err(|_| Error::invalid(format!("no memory for {bytes} bytes")))?;
    v.resize(bytes, 0);
    Ok(v)
}

/// # Safety
/// `c` is a port of a loaded model.
unsafe fn port(c: &CPort) -> Port {
    // SAFETY: names are C strings; dims and their names have `rank` entries.
    let text = |s: *const c_char| unsafe { CStr::from_ptr(s) }.to_string_lossy().into_owned();
    let rank = c.rank as usize;
    let dims = (0..rank).map(|i| usize::try_from(unsafe { *c.dims.add(i) }).ok()).collect();
    let dim_names = (0..rank).map(|i| text(unsafe { *c.dim_names.add(i) })).collect();
    let dtype = DType::from_code(c.dtype).unwrap_or(DType::F32);
    Port { name: text(c.name), dtype, dims, dim_names }
}

/// Sections in memory, not yet executable.
struct Image {
    memory: MmapMut,
    /// Offset of the writable part.
    writable: usize,
    sections: HashMap<SectionIndex, usize>,
    stubs: HashMap<SymbolIndex, usize>,
}

impl Image {
    fn link(file: &object::File<'_>) -> Result<Image> {
        let broken = |what: String| Error::internal(format!("object file: {what}"));
        let arch = file.architecture();
        let loaded = |s: &object::Section<'_, '_>| matches!(s.flags(), SectionFlags::Elf { sh_flags, .. } if sh_flags & elf::SHF_ALLOC == elf::SHF_ALLOC);
        let writable = |s: &object::Section<'_, '_>| matches!(s.flags(), SectionFlags::Elf { sh_flags, .. } if sh_flags & elf::SHF_WRITE == elf::SHF_WRITE);
        let mut size = 0;
        let mut sections = HashMap::new();
        let mut place = |size: usize, section: &object::Section<'_, '_>| {
            let at = size.next_multiple_of((section.align() as usize).clamp(1, MAX_PAGE_BYTES));
            sections.insert(section.index(), at);
            at + section.size() as usize
        };
        for section in file.sections().filter(|s| loaded(s) && !writable(s)) {
            size = place(size, &section);
        }
        let mut stubs = HashMap::new();
        for symbol in file.symbols().filter(|s| s.is_undefined() && s.name().is_ok_and(|n| !n.is_empty())) {
            size = size.next_multiple_of(16);
            stubs.insert(symbol.index(), size);
            size += 16;
        }
        size = size.next_multiple_of(MAX_PAGE_BYTES);
        let first_writable = size;
        for section in file.sections().filter(|s| loaded(s) && writable(s)) {
            size = place(size, &section);
        }
        let memory = MmapMut::map_anon(size.max(1)).map_err(|e| broken(format!("no memory: {e}")))?;
        let mut image = Image { memory, writable: first_writable, sections, stubs };
        for section in file.sections().filter(loaded) {
            let at = image.sections[&section.index()];
            let data = section.data().map_err(|e| broken(e.to_string()))?;
            image.memory[at..at + data.len()].copy_from_slice(data);
        }
        for symbol in file.symbols() {
            if let Some(&at) = image.stubs.get(&symbol.index()) {
                let name = symbol.name().unwrap_or_default();
                let target = external(name).ok_or_else(|| broken(format!("it imports {name}")))?;
                image.memory[at..at + 16].copy_from_slice(&stub(arch, target as u64));
            }
        }
        for section in file.sections().filter(loaded) {
            let base = image.sections[&section.index()];
            for (offset, relocation) in section.relocations() {
                let RelocationTarget::Symbol(symbol) = relocation.target() else {
                    return Err(broken("a relocation without a symbol".to_string()));
                };
                let RelocationFlags::Elf { r_type } = relocation.flags() else {
                    return Err(broken("not an ELF object".to_string()));
                };
                let value = (image.address(file, symbol)? as i64).wrapping_add(relocation.addend());
                let at = base + offset as usize;
                let here = image.memory.as_ptr() as i64 + at as i64;
                relocation::apply(&mut image.memory[at..], &Relocation { arch, r_type, here, value })?;
            }
        }
        Ok(image)
    }

    /// Makes all but the writable part executable and read-only.
    fn executable(self) -> Result<MmapMut> {
        #[cfg(unix)]
        {
            const READ_AND_EXECUTE: i32 = 1 | 4;
            let start = self.memory.as_ptr().cast_mut().cast();
            // SAFETY: the range is page-aligned and lies in memory that the image owns; nothing writes to it any more.
            if unsafe { mprotect(start, self.writable, READ_AND_EXECUTE) } != 0 {
                return Err(Error::internal(format!("mapping code: {}", std::io::Error::last_os_error())));
            }
            Ok(self.memory)
        }
        #[cfg(not(unix))]
        {
            Err(Error::unsupported("running a model inside mcc on this system"))
        }
    }

    /// A symbol's address in this process.
    fn address(&self, file: &object::File<'_>, symbol: SymbolIndex) -> Result<usize> {
        let base = self.memory.as_ptr() as usize;
        if let Some(stub) = self.stubs.get(&symbol) {
            return Ok(base + stub);
        }
        let missing = || Error::internal("object file: a symbol has no section");
        let symbol = file.symbol_by_index(symbol).map_err(|_| missing())?;
        let section = symbol.section_index().and_then(|s| self.sections.get(&s)).ok_or_else(missing)?;
        Ok(base + section + symbol.address() as usize)
    }
}

unsafe extern "C" {
    fn memcpy(to: *mut c_void, from: *const c_void, bytes: usize) -> *mut c_void;
    fn memset(to: *mut c_void, byte: i32, bytes: usize) -> *mut c_void;
    #[cfg(unix)]
    fn mprotect(start: *mut c_void, bytes: usize, protection: i32) -> i32;
    #[cfg(all(target_os = "linux", target_arch = "aarch64"))]
    fn getauxval(key: u64) -> u64;
}

/// The functions that objects may import.
fn external(name: &str) -> Option<*const c_void> {
    match name {
        "memcpy" => Some(memcpy as *const c_void),
        "memset" => Some(memset as *const c_void),
        "mcc_step" => Some(trace::step as *const c_void),
        #[cfg(all(target_os = "linux", target_arch = "aarch64"))]
        "getauxval" => Some(getauxval as *const c_void),
        _ => None,
    }
    .filter(|p| !p.is_null())
}

/// A jump to any address.
fn stub(arch: Architecture, target: u64) -> [u8; 16] {
    let mut code = [0; 16];
    let jump: &[u8] = match arch {
        // jmp [rip + 2]
        Architecture::X86_64 => &[0xff, 0x25, 2, 0, 0, 0, 0, 0],
        // ldr x16, +8; br x16
        _ => &[0x50, 0, 0, 0x58, 0, 2, 0x1f, 0xd6],
    };
    code[..8].copy_from_slice(jump);
    code[8..].copy_from_slice(&target.to_le_bytes());
    code
}
