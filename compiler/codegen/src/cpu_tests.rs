//! Objects on CPUs that lack features they were compiled for: emulated by qemu, through C.

use mcc_targets::Target;

use super::{Variant, compile, compile_variants};
use mcc_kernel::kir::{Builder, Ty};
use mcc_testing::{program, sh};

/// Prints the code that the model returns, and its result.
const CALLER: &str = r#"
#include "t.h"
#include <stdio.h>
int main(void)
{
    static _Alignas(64) unsigned char arena[64];
    uint8_t y[8] = {0};
    int64_t dims[1] = {8}, bytes;
    mcc_tensor out[1] = {{y, dims, 1, MCC_U8}};
    int32_t run = t_run(y, arena, sizeof arena);
    if (t_shapes(0, 0, &bytes) != run || t_model.invoke(0, out, arena, sizeof arena, 0) != run) return 1;
    if (t_run(y, arena, sizeof arena) != run) return 2;
    printf("%d %d\n", run, y[0]);
    return 0;
}
"#;

/// The output on qemu CPUs of an object for these levels: each variant computes its number, from 1 on.
fn printed(triple: &str, levels: &[&str], link: &str, cpus: &[&str]) -> Vec<String> {
    let targets: Vec<Target> = levels.iter().map(|l| Target::new(triple, Some(l)).expect("a known level")).collect();
    let programs: Vec<_> = (1..=levels.len())
        .map(|n| {
            let mut k = Builder::new("number", 1);
            let (to, n) = (k.pointer(0), k.int(n as i64));
            let to = k.at(to, 0);
            k.store(to, n);
            assert_eq!(k.ty(n), Ty::I64);
            program(k.finish(), &[], 8)
        })
        .collect();
    let variants: Vec<Variant<'_>> =
        programs.iter().zip(&targets).map(|(program, target)| Variant { program, target }).collect();
    let compiled = compile_variants(&variants).expect("compiles");
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("t.o"), &compiled.object).expect("written");
    std::fs::write(dir.path().join("t.h"), &compiled.header).expect("written");
    std::fs::write(dir.path().join("main.c"), CALLER).expect("written");
    sh(dir.path(), &format!("{link} -O1 -static main.c t.o -o main"));
    let arch = triple.split('-').next().unwrap_or_default();
    let run = |cpu: &&str| sh(dir.path(), &format!("qemu-{arch} -cpu {cpu} ./main")).trim().to_string();
    cpus.iter().map(run).collect()
}

#[test]
fn objects_ask_the_cpu() {
    let x86 = |levels: &[&str], cpus: &[&str]| printed("x86_64-unknown-linux-gnu", levels, "cc", cpus);
    assert_eq!(x86(&["x86-64-v3"], &["Nehalem", "SandyBridge", "max"]), ["8 0", "8 0", "0 1"]);
    assert_eq!(x86(&["x86-64-v2", "x86-64-v3", "x86-64-v4"], &["Nehalem", "max"]), ["0 1", "0 2"]);
    // A feature is also missing if the system does not save its registers.
    assert_eq!(x86(&["x86-64-v3"], &["max,-xsave"]), ["8 0"]);
    let arm =
        |levels: &[&str], cpus: &[&str]| printed("aarch64-unknown-linux-gnu", levels, "aarch64-linux-gnu-gcc", cpus);
    assert_eq!(arm(&["generic"], &["cortex-a53"]), ["0 1"]);
    assert_eq!(arm(&["neoverse-n1"], &["cortex-a53", "cortex-a76"]), ["8 0", "0 1"]);
    assert_eq!(
        arm(&["generic", "cortex-a76", "neoverse-v1"], &["cortex-a53", "cortex-a76", "max"]),
        ["0 1", "0 2", "0 3"]
    );
}

#[test]
fn variants_share_constants_and_are_of_one_model() {
    let mut k = Builder::new("copy", 2);
    let (from, to) = (k.pointer(0), k.pointer(1));
    let bytes = k.int(8);
    k.copy(to, from, bytes);
    let mut one = program(k.finish(), &[], 8);
    let data = bytes::Bytes::from_static(b"01234567");
    one.constants.push(mcc_kernel::program::Constant { label: "c".to_string(), data });
    if let mcc_kernel::program::Step::Call { args, .. } = &mut one.steps[0] {
        args.insert(0, mcc_kernel::program::Place::Constant(0));
    }
    let targets = ["x86-64-v2", "x86-64-v3"].map(|l| Target::new("x86_64-unknown-linux-gnu", Some(l)).expect("known"));
    let of = |program, target| Variant { program, target };
    let two = compile_variants(&[of(&one, &targets[0]), of(&one, &targets[1])]).expect("compiles");
    assert_eq!(two.weights_bytes, compile(&one, &targets[0]).expect("compiles").weights_bytes);
    let other = program(Builder::new("nothing", 1).finish(), &[], 16);
    assert!(compile_variants(&[of(&one, &targets[0]), of(&other, &targets[1])]).is_err());
    let apple = Target::new("aarch64-apple-darwin", Some("apple-m1")).expect("known");
    assert!(compile(&one, &apple).is_ok());
    assert!(compile_variants(&[of(&one, &apple), of(&one, &apple)]).is_err());
}
