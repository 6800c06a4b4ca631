//! Landing pads: every function has one, linkers see the note, and they suffice where the system demands them.

use mcc_targets::Target;
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

use crate::{Variant, compile_variants};
use mcc_kernel::kir::Builder;
use mcc_testing::{program, sh};

/// Calls the model, and then past a landing pad, with the library's code on pages that demand them.
const CALLER: &str = r#"
#define _GNU_SOURCE
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "t.h"

static int protect(struct dl_phdr_info *info, size_t size, void *wanted)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + p->p_vaddr, end = start + p->p_memsz, page = start & -4096ul;
        if (p->p_type == PT_LOAD && (p->p_flags & PF_X) && (uintptr_t)wanted - start < p->p_memsz)
            return mprotect((void *)page, end - page, PROT_READ | PROT_EXEC | 0x10 /* PROT_BTI */) ? 2 : 1;
    }
    return 0;
}

static void refused(int signal)
{
    puts("refused");
    fflush(stdout);
    _Exit(0);
}

int main(void)
{
    static _Alignas(64) unsigned char arena[64];
    uint8_t y[8] = {0};
    if (dl_iterate_phdr(protect, (void *)t_model.invoke) != 1) return 1;
    int64_t dims[1] = {8};
    mcc_tensor out[1] = {{y, dims, 1, MCC_U8}};
    int32_t code = t_model.invoke(0, out, arena, sizeof arena, 0);
    int32_t (*volatile run)() = (int32_t (*)())t_run;
    printf("%d %d %d ", code, y[0], run(y, arena, sizeof arena));
    fflush(stdout);
    signal(SIGILL, refused);
    run = (int32_t (*)())((uintptr_t)t_run + 4);
    return run(y, arena, sizeof arena) + 3;
}
"#;

#[test]
fn functions_begin_with_landing_pads() {
    let targets =
        ["generic", "generic+dotprod"].map(|cpu| Target::new("aarch64-linux-android", Some(cpu)).expect("known"));
    let mut k = Builder::new("number", 1);
    let (to, seven) = (k.pointer(0), k.int(7));
    let to = k.at(to, 0);
    k.store(to, seven);
    let program = program(k.finish(), &[], 8);
    let variants = targets.each_ref().map(|target| Variant { program: &program, target });
    let compiled = compile_variants(&variants).expect("compiles");
    let file = object::File::parse(&*compiled.object).expect("an object");
    let text = file.section_by_name(".text").expect("code").data().expect("bytes").to_vec();
    let functions: Vec<usize> = file
        .symbols()
        .filter(|s| s.kind() == SymbolKind::Text && s.is_definition())
        .map(|s| s.address() as usize)
        .collect();
    assert!(functions.len() > 10);
    for at in functions {
        assert_eq!(text[at..at + 4], 0xd503_245f_u32.to_le_bytes(), "at {at:#x}");
    }

    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).expect("written");
    write("t.o", &compiled.object);
    write("t.h", compiled.header.as_bytes());
    write("main.c", CALLER.as_bytes());
    let notes =
        sh(dir.path(), "ld.lld-19 -shared -z force-bti --fatal-warnings t.o -o libt.so && llvm-readelf-19 -n libt.so");
    assert!(notes.contains("aarch64 feature: BTI"), "{notes}");
    sh(dir.path(), "aarch64-linux-gnu-gcc -O1 main.c libt.so -o main");
    let run = "LD_LIBRARY_PATH=. qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu -E LD_LIBRARY_PATH=. ./main";
    assert_eq!(sh(dir.path(), run).trim(), "0 7 0 refused");
}
