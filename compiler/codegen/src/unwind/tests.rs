//! Unwinding through kernels: by the tables' text, and by faults in kernels that a signal handler unwinds.

use mcc_targets::{Arch, Target};
use regalloc2::{PReg, RegClass};

use super::{Frame, windows};
use crate::compile;
use mcc_kernel::kir::{Builder, Elem, Kernel, Ty, Val};
use mcc_testing::{program, sh, tools};

/// A kernel that holds more values than there are registers while it loads: all of its caller's are saved.
fn many_values() -> Kernel {
    let mut k = Builder::new("many", 3);
    let (from, faulting, to) = (k.pointer(0), k.pointer(1), k.pointer(2));
    let mut load = |base, ty, n: i32| {
        let at = k.at(base, n);
        k.load(ty, at)
    };
    let (vector, word) = (Ty::new(Elem::F32, 4), Ty::I64);
    let vectors: Vec<Val> = (0..40).map(|n| load(from, vector, 16 * n)).collect();
    let words: Vec<Val> = (0..40).map(|n| load(from, word, 8 * n)).collect();
    let fault = load(faulting, word, 0);
    let at = k.at(to, 0);
    k.store(at, fault);
    for (n, &value) in vectors.iter().enumerate() {
        let at = k.at(to, 8 + 16 * n as i32);
        k.store(at, value);
    }
    for (n, &value) in words.iter().enumerate() {
        let at = k.at(to, 1024 + 8 * n as i32);
        k.store(at, value);
    }
    k.finish()
}

/// A program that calls the model with a pointer that faults, from a function that first fills all registers that belong
/// to the caller. The signal's handler unwinds: it must meet that function, with those registers, and `main`.
const CALLER: &str = r#"
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unwind.h>
#include "t.h"

int fault(void);
int fill(void) __asm__("fill_registers");
int main(void);

#if defined(__x86_64__)
enum { FIRST = 12, LAST = 15, VECTORS = 0, FIRST_VECTOR = 0 };
__asm__(".text\nfill_registers:\n.cfi_startproc\nsub $8, %rsp\n.cfi_adjust_cfa_offset 8\n"
        "mov $1012, %r12\nmov $1013, %r13\nmov $1014, %r14\nmov $1015, %r15\nmov $1003, %rbx\nmov $1006, %rbp\n"
        "call fault\nadd $8, %rsp\nret\n.cfi_endproc\n");
#else
enum { FIRST = 19, LAST = 28, VECTORS = 8, FIRST_VECTOR = 64 + 8 };
__asm__(".text\nfill_registers:\n.cfi_startproc\nstp x29, x30, [sp, -16]!\n.cfi_def_cfa_offset 16\n"
        ".cfi_offset 29, -16\n.cfi_offset 30, -8\n"
        ".irp n, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28\nmov x\\n, 1000 + \\n\n.endr\n"
        ".irp n, 8, 9, 10, 11, 12, 13, 14, 15\nmov x0, 1064 + \\n\nfmov d\\n, x0\n.endr\n"
        "bl fault\nldp x29, x30, [sp], 16\nret\n.cfi_endproc\n");
#endif

static _Alignas(64) unsigned char arena[64], values[1024], result[2048];

__attribute__((noinline)) int fault(void)
{
    return t_run(values, (void *)16, result, arena, sizeof arena) + 1;
}

static int met_fill, met_main, frames;

static _Unwind_Reason_Code frame(struct _Unwind_Context *context, void *unused)
{
    void *function = _Unwind_FindEnclosingFunction((void *)(_Unwind_GetIP(context) - 1));
    frames++;
    met_main |= function == (void *)main;
    if (function == (void *)fill) {
        met_fill = 1;
        for (int n = FIRST; n <= LAST; n++)
            if (_Unwind_GetGR(context, n) != (uintptr_t)1000 + n) printf("register %d: %ld\n", n, (long)_Unwind_GetGR(context, n));
        for (int n = FIRST_VECTOR; n < FIRST_VECTOR + VECTORS; n++)
            if (_Unwind_GetGR(context, n) != (uintptr_t)1000 + n) printf("register %d: %ld\n", n, (long)_Unwind_GetGR(context, n));
#if defined(__x86_64__)
        if (_Unwind_GetGR(context, 3) != 1003 || _Unwind_GetGR(context, 6) != 1006) puts("rbx or rbp");
#endif
    }
    return _URC_NO_REASON;
}

static void handler(int signal)
{
    _Unwind_Backtrace(frame, 0);
    printf("%d %d %d\n", met_fill, met_main, frames >= 7);
    fflush(stdout);
    _Exit(0);
}

int main(void)
{
    signal(SIGSEGV, handler);
    return fill() + 1;
}
"#;

/// The object of a kernel of three pointers.
fn object(target: &Target, kernel: Kernel) -> crate::Compiled {
    compile(&program(kernel, &[1024, 8], 2048), target).expect("compiles")
}

#[test]
fn faults_in_kernels_are_unwound() {
    let x86 = ["x86-64-v2", "x86-64-v3", "x86-64-v4"].map(|cpu| ("x86_64-unknown-linux-gnu", cpu));
    for (triple, cpu) in x86.into_iter().chain([("aarch64-unknown-linux-gnu", "generic")]) {
        let target = Target::new(triple, Some(cpu)).expect("known");
        let (link, emulator) = tools(&target);
        let run = match target.runs_here() {
            true => "",
            // qemu has no AVX-512; the frame is the same as with AVX2.
            false if cpu == "x86-64-v4" => continue,
            false => emulator,
        };
        let compiled = object(&target, many_values());
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).expect("written");
        write("t.o", &compiled.object);
        write("t.h", compiled.header.as_bytes());
        write("main.c", CALLER.as_bytes());
        sh(dir.path(), &format!("{link} -O1 -fexceptions -fasynchronous-unwind-tables main.c t.o -o main"));
        assert_eq!(sh(dir.path(), &format!("{run} ./main")).trim(), "1 1 1", "{cpu}");
    }
}

/// The text of an object's tables.
fn dump(object: &[u8], command: &str) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("t.o"), object).expect("written");
    sh(dir.path(), &format!("{command} t.o"))
}

#[test]
fn every_function_has_a_description() {
    for triple in ["x86_64-unknown-linux-gnu", "aarch64-linux-android", "aarch64-apple-ios17.0", "x86_64-apple-darwin"]
    {
        for target in Target::all(triple, None).expect("known") {
            let object = object(&target, many_values()).object;
            let functions =
                dump(&object, "llvm-nm-19").lines().filter(|l| l.contains(" t ") || l.contains(" T ")).count();
            let text = dump(&object, "llvm-dwarfdump-19 --eh-frame");
            assert_eq!(text.matches(" FDE ").count(), functions, "{triple}: {text}");
            assert!(!text.contains("error") && !text.contains("warning"), "{triple}: {text}");
            let [frame, saved] = match target.arch {
                Arch::X86_64 => ["CFA=RBP+16", "R15=[CFA-"],
                Arch::Aarch64 => ["CFA=W29+16", "W28=[CFA-"],
            };
            assert!(text.contains(frame) && text.contains(saved), "{triple}: {text}");
        }
    }
}

#[test]
fn windows_tables_name_every_function_with_a_frame() {
    for target in Target::all("x86_64-pc-windows-gnu", Some("x86-64-v2,x86-64-v3,x86-64-v4")).expect("known") {
        let text = dump(&object(&target, many_values()).object, "llvm-readobj-19 --unwind");
        for name in ["t_run", "t_invoke", "t__v0_0_many", "t__v0_steps"] {
            assert!(text.contains(&format!("StartAddress: {name}")), "{name}: {text}");
        }
        assert!(text.contains("SET_FPREG reg=RBP") && text.contains("PUSH_NONVOL reg=RBP"), "{text}");
        let kernel = text.split("StartAddress: t__v0_0_many").nth(1).expect("the kernel");
        let kernel = kernel.split("StartAddress").next().unwrap_or_default();
        assert!(kernel.contains("SAVE_NONVOL reg=R15"), "{kernel}");
        // Cranelift's kernels save vector registers, as Windows demands; those of System V have none to save.
        assert_eq!(kernel.contains("SAVE_XMM128 reg=XMM6"), target.vector_bytes == 16, "{kernel}");
    }
}

/// The codes of a prologue, undone from its last step to its first as Windows does, find what it saved.
#[test]
fn windows_codes_undo_a_prologue() {
    let general = |n| PReg::new(n, RegClass::Int);
    let mut frame = Frame::default();
    frame.push(1);
    frame.establish(4);
    frame.save(5, general(3), 8);
    frame.save(7, general(12), 16);
    frame.save(9, general(15), 24);
    let info = windows::unwind_info(&frame).expect("a form");
    // Base: 32 bytes below rbp.
    let expected = [
        &[1u8, 9, 9, 0x25][..],
        // r15 at base + 8, r12 at base + 16, rbx at base + 24
        &[9, 0xf4, 1, 0],
        &[7, 0xc4, 2, 0],
        &[5, 0x34, 3, 0],
        // rsp = rbp - 32, rsp += 32, pop rbp
        &[4, 0x03, 4, 0x32, 1, 0x50],
        &[0, 0],
    ];
    assert_eq!(info, expected.concat());
    let mut far = frame;
    far.save(20, general(14), 512);
    assert!(windows::unwind_info(&far).is_err());
}
