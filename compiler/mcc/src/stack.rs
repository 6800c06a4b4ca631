//! A stack for the compiler's recursion over nested graphs and expressions, whose depth is bounded but may exceed what
//! the usual stack of a thread holds.

use std::thread;

use mcc_ir::{Error, Result};

/// Bytes of stack. Only touched pages take memory.
const STACK_BYTES: usize = 256 << 20;

/// Runs `work` on a large stack. A panic in it, which is a bug in the compiler, becomes an internal error.
pub fn on_large_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("mcc".to_string()).stack_size(STACK_BYTES);
        let running = thread.spawn_scoped(scope, work).map_err(|e| Error::io("a thread for the compiler", &e))?;
        running.join().unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            Err(Error::internal(text.unwrap_or("a panic")))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_internal_errors() {
        let error = on_large_stack::<()>(|| panic!("index {} of 3", 4)).unwrap_err();
        assert!(matches!(error, Error::Internal(_)));
        assert_eq!(error.report().message, "index 4 of 3");
    }

    #[test]
    fn recursion_has_room() {
        fn depth(n: usize) -> usize {
            let bytes = std::hint::black_box([n as u8; 1000]);
            if n == 0 { usize::from(bytes[0]) } else { 1 + depth(n - 1) }
        }
        assert_eq!(on_large_stack(|| Ok(depth(100_000))).unwrap(), 100_000);
    }
}
