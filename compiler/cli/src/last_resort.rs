//! Reports internal failures and lack of memory: an ordinary message and a documented exit status. Nothing relies on
//! this; whatever ends up here is a bug to fix.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::process::ExitCode;

/// Bytes of stack for the compiler, whose recursion over nested graphs and expressions is bounded. Only touched pages
/// take memory.
const STACK: usize = 256 << 20;

/// Runs the program on a thread with a large stack, and reports a panic as an internal error.
pub fn guarded(program: impl FnOnce() -> ExitCode + Send + 'static) -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload_as_str().unwrap_or("a panic");
        let place = panic.location().map(|l| format!(" ({}:{})", l.file(), l.line())).unwrap_or_default();
        let arguments: Vec<String> = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
        eprintln!("mcc: internal error: {text}{place}");
        eprintln!("  in mcc {}", arguments.join(" "));
        eprintln!("  help: this is a bug in mcc, whatever the model: please report it with the model");
    }));
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(program);
    match thread.map(std::thread::JoinHandle::join) {
        Ok(Ok(code)) => code,
        // The panic hook has printed the message.
        Ok(Err(_)) => ExitCode::from(3),
        Err(e) => {
            eprintln!("mcc: error: cannot start a thread: {e}");
            ExitCode::from(1)
        }
    }
}

/// The system's allocator; when there is no memory, the process prints a message and ends.
pub struct Allocator;

// SAFETY: every call is passed to the system's allocator unchanged; a result that is returned is that allocator's.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract, which is the same.
        or_end(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        or_end(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        or_end(unsafe { System.realloc(block, layout, size) }, size)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Returns a block; without one, prints a message and ends the process.
fn or_end(block: *mut u8, size: usize) -> *mut u8 {
    if block.is_null() {
        // Format into a buffer on the stack, since there is no memory for another.
        let mut text = [0u8; 96];
        let mut rest = &mut text[..];
        let _ = writeln!(rest, "mcc: error: there is not enough memory: {size} bytes more are needed");
        let left = rest.len();
        let _ = std::io::stderr().write_all(&text[..text.len() - left]);
        std::process::exit(1);
    }
    block
}
