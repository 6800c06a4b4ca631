//! Runs a model between inaccessible pages, so that every access outside of its buffers is detected.
//!
//! Every input, output, array of dimensions and the arena has its exact size at the end or at the start of its own
//! pages, with inaccessible pages on both sides. The rest of the pages is filled with a pattern, which is checked
//! afterwards. Inputs and their dimensions are read-only. A model runs twice with different initial contents of arena
//! and outputs, and must give the same bytes. A fault ends the process, after a line on stderr that names the buffer
//! and the offset. One run at a time is guarded; others wait.

use std::ffi::c_void;
use std::fmt::Write as _;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use mcc_runtime::Pool;

use mcc_runtime::abi::ARENA_ALIGN;

use super::{CTensor, Model};
use mcc_ir::{DType, Error, Result, Tensor};

/// Position of a buffer within its pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Its last byte is the last accessible one, as far as the type's alignment allows.
    End,
    /// Its first byte is the first accessible one.
    Begin,
}

impl Place {
    /// Both positions.
    pub const ALL: [Place; 2] = [Place::End, Place::Begin];
}

/// An input with any dimensions.
#[derive(Debug, Clone, Copy)]
pub struct Feed<'a> {
    /// Dimensions, of the input's rank.
    pub dims: &'a [i64],
    /// The elements' bytes. If their number does not match the dimensions, only `shapes` is called.
    pub data: &'a [u8],
}

/// Options of a guarded run.
#[derive(Debug, Clone, Copy)]
pub struct Guarded<'a> {
    /// Position of the buffers.
    pub place: Place,
    /// Limit on the bytes of arena and outputs; above it nothing is run. With 0 only `shapes` is called.
    pub most: usize,
    /// Seconds that a call may take; 0 for no limit.
    pub seconds: u32,
    /// Text that a fault's message adds about the run.
    pub note: &'a str,
}

/// The outcome of a run without faults.
#[derive(Debug)]
pub enum Outcome {
    /// The model refused its inputs.
    Refused(Error),
    /// It needs more memory than the limit.
    TooLarge,
    /// It accepts these dimensions; there are no data to run it on.
    Taken,
    /// Its outputs.
    Done(Vec<Tensor>),
}

/// Initial contents of arena and outputs in the two runs: as floats NaN, and large numbers.
const INITIAL_BYTES: [u8; 2] = [0xff, 0x7b];
/// Pattern around buffers.
const SLACK_BYTE: u8 = 0xa5;
/// Inaccessible bytes on either side.
const MARGIN_BYTES: usize = 1 << 20;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs a model on tensors, at both positions.
///
/// # Errors
/// When the model refuses them, and as [`run`]; also if the two positions give different bytes.
pub fn invoke(model: &Model, inputs: &[Tensor], pool: Option<&Pool>, note: &str) -> Result<Vec<Tensor>> {
    let dims: Vec<Vec<i64>> = inputs.iter().map(|t| t.shape().iter().map(|&d| d as i64).collect()).collect();
    let feeds: Vec<Feed<'_>> = inputs.iter().zip(&dims).map(|(t, dims)| Feed { dims, data: t.data() }).collect();
    let mut first: Option<Vec<Tensor>> = None;
    for place in Place::ALL {
        let got = match run(model, &feeds, Guarded { place, most: usize::MAX, seconds: 0, note }, pool)? {
            Outcome::Done(got) => got,
            Outcome::Refused(e) => return Err(e),
            Outcome::TooLarge | Outcome::Taken => {
                return Err(Error::invalid("the outputs are larger than the address space"));
            }
        };
        match &first {
            None => first = Some(got),
            Some(first) => check_equal(model, first, &got)?,
        }
    }
    Ok(first.unwrap_or_default())
}

/// Runs a model twice.
///
/// # Errors
/// When it writes outside of its outputs and arena, gives impossible dimensions, accepts inputs that it refused before,
/// or gives different bytes the second time.
pub fn run(model: &Model, feeds: &[Feed<'_>], how: Guarded<'_>, pool: Option<&Pool>) -> Result<Outcome> {
    if feeds.len() != model.inputs.len() || feeds.iter().zip(&model.inputs).any(|(f, p)| f.dims.len() != p.dims.len()) {
        return Err(Error::invalid("the number or the ranks of the inputs differ from the model's"));
    }
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut buffers = Buffers { list: Vec::new(), place: how.place };
    let mut ins = Vec::new();
    for (i, (feed, port)) in feeds.iter().zip(&model.inputs).enumerate() {
        let data = buffers.add(feed.data.len(), port.dtype.size(), "input", i)?;
        let dims = buffers.add(size_of_val(feed.dims), align_of::<i64>(), "the dimensions of input", i)?;
        buffers.list[data].bytes_mut().copy_from_slice(feed.data);
        buffers.list[dims].set_dims(feed.dims);
        buffers.list[data].make_read_only()?;
        buffers.list[dims].make_read_only()?;
        ins.push((data, dims, port.dtype));
    }
    let mut outs = Vec::new();
    for (i, port) in model.outputs.iter().enumerate() {
        let nothing = buffers.add(0, port.dtype.size(), "output", i)?;
        let dims = buffers.add(port.dims.len() * size_of::<i64>(), align_of::<i64>(), "the dimensions of output", i)?;
        outs.push((nothing, dims, port.dtype));
    }
    let no_arena = buffers.add(0, ARENA_ALIGN, "the arena", 0)?;

    let mut arena_bytes = -1;
    let faults = Faults::report(&buffers, how);
    let (c_ins, mut c_outs) = (buffers.tensors(&ins), buffers.tensors(&outs));
    // SAFETY: both arrays have the model's counts, and dims arrays of the ports' ranks.
    let code = unsafe { (model.shapes)(c_ins.as_ptr(), c_outs.as_mut_ptr(), &raw mut arena_bytes) };
    if let Err(refused) = model.check(code) {
        let (arena, pool) = (buffers.list[no_arena].data, pool.map_or(ptr::null(), Pool::raw));
        // SAFETY: the model must refuse these arguments before it accesses what they point to.
        let code = unsafe { (model.invoke)(c_ins.as_ptr(), c_outs.as_mut_ptr(), arena.cast(), 0, pool) };
        if code == 0 {
            return Err(Error::internal("`invoke` accepts inputs that `shapes` refuses").within(refused.to_string()));
        }
        buffers.check_slack()?;
        return Ok(Outcome::Refused(refused));
    }
    drop(faults);
    let asked = |(feed, port): (&Feed<'_>, &super::Port)| {
        if feed.dims.iter().any(|&d| d < 0) {
            return Err(Error::internal(format!("`shapes` accepts {:?} for input {}", feed.dims, port.name)));
        }
        let bytes = size_of_dims(feed.dims, port.dtype);
        Ok(bytes == Some(feed.data.len()))
    };
    let fed = feeds.iter().zip(&model.inputs).map(asked).collect::<Result<Vec<_>>>()?;

    let upper: Vec<Vec<i64>> = outs.iter().map(|&(_, dims, _)| buffers.list[dims].dims()).collect();
    let too_large = |n: Option<usize>| n.is_none_or(|n| n > how.most);
    let Ok(arena_bytes) = usize::try_from(arena_bytes) else {
        return Err(Error::internal(format!("`shapes` gives an arena of {arena_bytes} bytes")));
    };
    let sizes = sizes(model, &upper, "shapes")?;
    let total = sizes.iter().try_fold(arena_bytes, |n, &bytes| n.checked_add(bytes?));
    if how.most == 0 || fed.contains(&false) {
        return Ok(Outcome::Taken);
    }
    if too_large(total) {
        return Ok(Outcome::TooLarge);
    }
    for (i, (out, bytes)) in outs.iter_mut().zip(&sizes).enumerate() {
        out.0 = buffers.add(bytes.unwrap_or(0), out.2.size(), "output", i)?;
    }
    let arena = buffers.add(arena_bytes, ARENA_ALIGN, "the arena", 0)?;

    let mut first: Option<Vec<Tensor>> = None;
    for junk in INITIAL_BYTES {
        buffers.list[arena].bytes_mut().fill(junk);
        for (&(data, dims, _), upper) in outs.iter().zip(&upper) {
            buffers.list[data].bytes_mut().fill(junk);
            buffers.list[dims].set_dims(upper);
        }
        let faults = Faults::report(&buffers, how);
        let (c_ins, mut c_outs) = (buffers.tensors(&ins), buffers.tensors(&outs));
        let (arena, pool) = (buffers.list[arena].data, pool.map_or(ptr::null(), Pool::raw));
        // SAFETY: inputs, outputs and arena have the types and sizes that the model returned for these inputs.
        let code = unsafe { (model.invoke)(c_ins.as_ptr(), c_outs.as_mut_ptr(), arena.cast(), arena_bytes, pool) };
        drop(faults);
        buffers.check_slack()?;
        if let Err(refused) = model.check(code) {
            return Ok(Outcome::Refused(refused));
        }
        // Without elements there is nothing to compare, and the strides of such extents may overflow.
        let strides = |dims: &Vec<i64>| dims.iter().try_fold(1i64, |n, &d| n.checked_mul(d.max(1)));
        if upper.iter().any(|dims| strides(dims).is_none()) {
            return Ok(Outcome::Taken);
        }
        let got = outputs(model, &buffers, &outs)?;
        match &first {
            None => first = Some(got),
            Some(first) => check_equal(model, first, &got)?,
        }
    }
    Ok(Outcome::Done(first.unwrap_or_default()))
}

/// The size of every output in bytes; `None` if it cannot be addressed.
fn sizes(model: &Model, dims: &[Vec<i64>], of: &str) -> Result<Vec<Option<usize>>> {
    let bytes = |(port, dims): (&super::Port, &Vec<i64>)| {
        if dims.iter().any(|&d| d < 0) {
            return Err(Error::internal(format!("`{of}` gives output {} the dimensions {dims:?}", port.name)));
        }
        Ok(size_of_dims(dims, port.dtype))
    };
    model.outputs.iter().zip(dims).map(bytes).collect()
}

/// The size of a tensor in bytes, if it can be addressed; 0 for an empty one, however long its other axes are.
fn size_of_dims(dims: &[i64], dtype: DType) -> Option<usize> {
    let element = if dims.contains(&0) { 0 } else { dtype.size() };
    dims.iter().try_fold(element, |n, &d| n.checked_mul(d as usize))
}

fn outputs(model: &Model, buffers: &Buffers, outs: &[(usize, usize, DType)]) -> Result<Vec<Tensor>> {
    let dims: Vec<Vec<i64>> = outs.iter().map(|&(_, dims, _)| buffers.list[dims].dims()).collect();
    let sizes = sizes(model, &dims, "invoke")?;
    let tensor = |((&(data, _, dtype), dims), bytes): ((&(usize, usize, DType), Vec<i64>), Option<usize>)| {
        let held = buffers.list[data].bytes();
        let Some(bytes) = bytes.and_then(|n| held.get(..n)) else {
            return Err(Error::internal(format!(
                "`invoke` gives {dims:?}, more than the bound of {} bytes",
                held.len()
            )));
        };
        Tensor::new(dtype, dims.iter().map(|&d| d as usize).collect(), bytes.to_vec().into())
    };
    outs.iter().zip(dims).zip(sizes).map(tensor).collect()
}

fn check_equal(model: &Model, first: &[Tensor], second: &[Tensor]) -> Result<()> {
    for ((a, b), port) in first.iter().zip(second).zip(&model.outputs) {
        if a.shape() != b.shape() || a.data() != b.data() {
            let at = a.data().iter().zip(b.data()).position(|(a, b)| a != b);
            return Err(Error::internal(format!(
                "output {} depends on what its memory or the arena held, or where they lie: {:?} and {:?}, byte {at:?}",
                port.name,
                a.shape(),
                b.shape()
            )));
        }
    }
    Ok(())
}

/// A buffer between inaccessible pages.
struct Buffer {
    map: *mut u8,
    /// Everything mapped, margins included.
    mapped: usize,
    data: *mut u8,
    size: usize,
    what: &'static str,
    index: usize,
}

impl Buffer {
    fn new(size: usize, align: usize, place: Place, what: &'static str, index: usize) -> Result<Buffer> {
        let failed = || Error::invalid(format!("no memory for {size} bytes: {}", std::io::Error::last_os_error()));
        // SAFETY: only queries a number.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(super::MAX_PAGE_BYTES);
        let body = size.checked_next_multiple_of(page).ok_or_else(failed)?;
        let mapped = body.checked_add(2 * MARGIN_BYTES).ok_or_else(failed)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_NORESERVE;
        // SAFETY: new memory, at any address.
        let map = unsafe { libc::mmap(ptr::null_mut(), mapped, libc::PROT_NONE, flags, -1, 0) };
        if map == libc::MAP_FAILED {
            return Err(failed());
        }
        let map = map.cast::<u8>();
        let shift = if place == Place::End { (body - size) / align * align } else { 0 };
        // SAFETY: inside of what was just mapped.
        let (begin, data) = unsafe { (map.add(MARGIN_BYTES), map.add(MARGIN_BYTES + shift)) };
        let buffer = Buffer { map, mapped, data, size, what, index };
        // SAFETY: as above; `mprotect` takes whole pages, and `MARGIN_BYTES` is some.
        if body > 0 && unsafe { libc::mprotect(begin.cast(), body, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
            return Err(failed());
        }
        buffer.body_mut().fill(SLACK_BYTE);
        Ok(buffer)
    }

    fn make_read_only(&self) -> Result<()> {
        let body = self.body_mut();
        // SAFETY: the whole accessible part.
        if !body.is_empty() && unsafe { libc::mprotect(body.as_mut_ptr().cast(), body.len(), libc::PROT_READ) } != 0 {
            return Err(Error::internal(format!("mprotect: {}", std::io::Error::last_os_error())));
        }
        Ok(())
    }

    /// The accessible part. There are no other references to it: models have pointers only while they run.
    #[allow(clippy::mut_from_ref)]
    fn body_mut(&self) -> &mut [u8] {
        // SAFETY: mapped, between the margins.
        unsafe { std::slice::from_raw_parts_mut(self.map.add(MARGIN_BYTES), self.mapped - 2 * MARGIN_BYTES) }
    }

    fn shift(&self) -> usize {
        self.data as usize - self.map as usize - MARGIN_BYTES
    }

    fn bytes(&self) -> &[u8] {
        &self.body_mut()[self.shift()..][..self.size]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        let shift = self.shift();
        &mut self.body_mut()[shift..][..self.size]
    }

    fn set_dims(&mut self, dims: &[i64]) {
        let to = self.bytes_mut().chunks_exact_mut(size_of::<i64>());
        to.zip(dims).for_each(|(to, d)| to.copy_from_slice(&d.to_ne_bytes()));
    }

    fn dims(&self) -> Vec<i64> {
        let dim = |bytes: &[u8]| bytes.try_into().map_or(0, i64::from_ne_bytes);
        self.bytes().chunks_exact(size_of::<i64>()).map(dim).collect()
    }

    fn name(&self) -> String {
        format!("{} {}", self.what, self.index)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nothing points to it any more.
        unsafe { libc::munmap(self.map.cast(), self.mapped) };
    }
}

struct Buffers {
    list: Vec<Buffer>,
    place: Place,
}

impl Buffers {
    fn add(&mut self, size: usize, align: usize, what: &'static str, index: usize) -> Result<usize> {
        self.list.push(Buffer::new(size, align, self.place, what, index)?);
        Ok(self.list.len() - 1)
    }

    fn tensors(&self, of: &[(usize, usize, DType)]) -> Vec<CTensor> {
        let tensor = |&(data, dims, dtype): &(usize, usize, DType)| CTensor {
            data: self.list[data].data.cast::<c_void>(),
            dims: self.list[dims].data.cast(),
            rank: (self.list[dims].size / size_of::<i64>()) as i32,
            dtype: dtype.code(),
        };
        of.iter().map(tensor).collect()
    }

    fn check_slack(&self) -> Result<()> {
        let mut wrong = String::new();
        for buffer in &self.list {
            let (shift, body) = (buffer.shift(), buffer.body_mut());
            let mut slack = (0..shift).chain(shift + buffer.size..body.len());
            if let Some(at) = slack.find(|&at| body[at] != SLACK_BYTE) {
                let offset = at as i64 - shift as i64;
                let _ = write!(wrong, "; offset {offset} of {}, which has {} bytes", buffer.name(), buffer.size);
            }
        }
        let error = || Error::internal(format!("bytes outside of buffers were written to{wrong}"));
        if wrong.is_empty() { Ok(()) } else { Err(error()) }
    }
}

// State of the fault handler: the buffers of the current run, and its description.
static BUFFERS: AtomicPtr<Buffer> = AtomicPtr::new(ptr::null_mut());
static BUFFER_COUNT: AtomicUsize = AtomicUsize::new(0);
static NOTE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static NOTE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// While a value of this type lives, faults are reported.
struct Faults;

const SIGNALS: [i32; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGALRM];

impl Faults {
    fn report(buffers: &Buffers, how: Guarded<'_>) -> Faults {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| {
            for signal in SIGNALS {
                // SAFETY: all zeros are a valid action; the handler does only what is allowed in one.
                unsafe {
                    let mut action: libc::sigaction = std::mem::zeroed();
                    let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void) = on_fault;
                    action.sa_sigaction = handler as usize;
                    // The standard library gives every thread an alternate stack for handlers.
                    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                    libc::sigaction(signal, &raw const action, ptr::null_mut());
                }
            }
        });
        NOTE.store(how.note.as_ptr().cast_mut(), Ordering::SeqCst);
        NOTE_BYTES.store(how.note.len(), Ordering::SeqCst);
        BUFFERS.store(buffers.list.as_ptr().cast_mut(), Ordering::SeqCst);
        BUFFER_COUNT.store(buffers.list.len(), Ordering::SeqCst);
        // SAFETY: sets a timer, whose signal has a handler.
        unsafe { libc::alarm(how.seconds) };
        Faults
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        // SAFETY: stops the timer.
        unsafe { libc::alarm(0) };
        BUFFER_COUNT.store(0, Ordering::SeqCst);
        NOTE_BYTES.store(0, Ordering::SeqCst);
    }
}

/// Reports where a fault was, then lets it end the process. It neither allocates nor locks.
extern "C" fn on_fault(signal: i32, info: *mut libc::siginfo_t, _: *mut c_void) {
    let mut line = Told;
    // SAFETY: the system gives valid information.
    let address = unsafe { (*info).si_addr() } as usize;
    let _ = write!(line, "fault: signal {signal}");
    let (buffers, count) = (BUFFERS.load(Ordering::SeqCst), BUFFER_COUNT.load(Ordering::SeqCst));
    // SAFETY: while the count is not zero, `Faults` and the buffers live.
    let buffers: &[Buffer] = if count > 0 { unsafe { std::slice::from_raw_parts(buffers, count) } } else { &[] };
    let place = if signal == libc::SIGALRM { 0 } else { address };
    let hit = buffers.iter().find(|b| (b.map as usize..b.map as usize + b.mapped).contains(&place));
    let _ = match hit {
        Some(b) => {
            let offset = address.wrapping_sub(b.data as usize) as isize;
            write!(line, " at offset {offset} of {} {}, which has {} bytes", b.what, b.index, b.size)
        }
        None if signal == libc::SIGALRM => write!(line, ": it takes too long"),
        None => write!(line, " at {address:#x}, in no buffer"),
    };
    let (note, bytes) = (NOTE.load(Ordering::SeqCst), NOTE_BYTES.load(Ordering::SeqCst));
    if bytes > 0 {
        // SAFETY: while the length is not zero, `Faults` and the caller's note live.
        let note = unsafe { std::slice::from_raw_parts(note, bytes) };
        let _ = write!(line, "; ");
        line.put(note);
    }
    line.put(b"\n");
    // SAFETY: `sigaction` and `raise` may be called in a handler. With the default action the signal, which is blocked
    // until the handler returns, ends the process.
    unsafe {
        let mut default: libc::sigaction = std::mem::zeroed();
        default.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(signal, &raw const default, ptr::null_mut());
        libc::raise(signal);
    }
}

/// Unbuffered stderr: stacks of handlers are small.
struct Told;

impl Told {
    fn put(&mut self, bytes: &[u8]) {
        // SAFETY: the bytes are valid, and `write` may be called in a handler.
        unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
    }
}

impl std::fmt::Write for Told {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        self.put(s.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use mcc_targets::Target;

    use super::*;
    use mcc_codegen::compile;
    use mcc_kernel::kir::{Builder, Elem, Ty};
    use mcc_testing::program;

    const BYTES: usize = 5;

    /// A model that copies one byte of its input to one of its output, wherever these are.
    fn copies(from: i32, to: i32) -> Model {
        let mut k = Builder::new("k", 2);
        let (input, output) = (k.pointer(0), k.pointer(1));
        let [from, last] = [from, 0].map(|at| k.at(input, at));
        let [to, first] = [to, 0].map(|at| k.at(output, at));
        let byte = k.load(Ty::new(Elem::I8, 1), from);
        k.store(to, byte);
        let byte = k.load(Ty::new(Elem::I8, 1), last);
        k.store(first, byte);
        let target = Target::host(None).unwrap();
        let program = program(k.finish(), &[BYTES], BYTES);
        Model::load(&compile(&program, &target).unwrap().object).unwrap()
    }

    fn at(place: Place, from: i32, to: i32) -> Result<Outcome> {
        let feed = Feed { dims: &[BYTES as i64], data: b"abcde" };
        run(&copies(from, to), &[feed], Guarded { place, most: 1 << 20, seconds: 0, note: "a test" }, None)
    }

    #[test]
    fn what_is_not_written_keeps_junk() {
        let error = at(Place::End, 1, 1).unwrap_err().to_string();
        assert!(error.contains("depends on what its memory"), "{error}");
    }

    #[test]
    fn slack_is_looked_at() {
        for (place, to) in [(Place::End, -1), (Place::Begin, BYTES as i32)] {
            let error = at(place, 1, to).unwrap_err().to_string();
            assert!(error.contains(&format!("offset {to} of output 0, which has 5 bytes")), "{error}");
        }
    }

    /// Helper for the test below, which runs it in a child process: runs the model that the environment describes.
    #[test]
    #[ignore = "faults"]
    fn faults() {
        let of = |name: &str| std::env::var(name).unwrap().parse().unwrap();
        let place = if of("FROM_BEGIN") == 1 { Place::Begin } else { Place::End };
        at(place, of("FROM"), of("TO")).unwrap();
    }

    #[test]
    fn faults_are_reported() {
        let stderr_of = |begin: i32, from: i32, to: i32| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "guard::tests::faults", "--ignored", "--nocapture"]);
            command.envs([("FROM_BEGIN", begin), ("FROM", from), ("TO", to)].map(|(k, v)| (k, v.to_string())));
            let output = command.output().unwrap();
            assert!(!output.status.success());
            String::from_utf8_lossy(&output.stderr).into_owned()
        };
        for (begin, from, to, want) in [
            (0, 5, 0, "signal 11 at offset 5 of input 0, which has 5 bytes; a test"),
            (1, -1, 0, "signal 11 at offset -1 of input 0, which has 5 bytes; a test"),
            (0, 0, 7, "signal 11 at offset 7 of output 0, which has 5 bytes; a test"),
        ] {
            let stderr = stderr_of(begin, from, to);
            assert!(stderr.contains(want), "{stderr}");
        }
    }

    #[test]
    fn other_dimensions_are_refused() {
        let model = copies(0, 0);
        for extent in [4, 6, 0, -1, i64::MAX, i64::MIN] {
            let how = Guarded { place: Place::End, most: 1 << 20, seconds: 0, note: "" };
            let outcome = run(&model, &[Feed { dims: &[extent], data: &[] }], how, None).unwrap();
            assert!(matches!(outcome, Outcome::Refused(_)), "{extent}: {outcome:?}");
        }
    }
}
