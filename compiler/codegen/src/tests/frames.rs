//! Frames of functions for wide vectors.

use super::*;

/// More live vectors than registers: the others are spilled to the frame, each page of which is touched.
#[test]
fn large_frames_touch_every_page() {
    let ty = Ty::new(Elem::F32, 16);
    let mut k = Builder::new("spills", 2);
    let (from, to) = (k.pointer(0), k.pointer(1));
    let values: Vec<Val> = (0..200)
        .map(|n| {
            let at = k.at(from, n * 64);
            k.load(ty, at)
        })
        .collect();
    for (n, value) in values.into_iter().rev().enumerate() {
        let at = k.at(to, n as i32 * 64);
        k.store(at, value);
    }
    let target = Target::new("x86_64-unknown-linux-gnu", Some("x86-64-v4")).expect("a known CPU");
    let text = crate::asm_text(&program(k.finish(), &[4096], 4096), &target).expect("compiles");
    let frame = text.lines().find_map(|l| l.trim().strip_prefix("sub rsp, ")).expect("a frame").trim_end_matches('h');
    let pages = i64::from_str_radix(frame, 16).expect("bytes") / 4096;
    assert!(pages >= 2, "{frame}");
    assert_eq!(text.matches("test [rsp").count() as i64, pages, "{text}");
}
