use crate::kir::{Builder, Cmp, Elem, Inst, Kernel, Stmt, Ty, Val};
use mcc_ir::Dim;

/// Prints and parses a kernel.
fn again(kernel: &Kernel) -> Kernel {
    let text = kernel.to_string();
    text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"))
}

#[test]
fn reads_like_the_example() {
    let mut k = Builder::new("scale", 2);
    let (p, q, zero, n) = (k.pointer(0), k.pointer(1), k.int(0), k.dim(&Dim::sym("n")));
    k.for_each(zero, n, 4, |k, i| {
        let from = k.at_index(p, i, 4);
        let v = k.load(Ty::new(Elem::F32, 4), from);
        let half = k.float(0.5, k.ty(v));
        let v = k.mul(v, half);
        let to = k.at_index(q, i, 4);
        k.store(to, v);
    });
    let kernel = k.finish();
    let example = include_str!("mod.rs").split("```").nth(1).unwrap().trim_start_matches("text");
    let example: Vec<&str> = example.trim_end_matches("//! ").lines().filter_map(|l| l.strip_prefix("//! ")).collect();
    let example = example.join("\n") + "\n";
    assert_eq!(kernel.to_string(), example);
    assert_eq!(again(&kernel), kernel);
}

#[test]
fn every_instruction() {
    let text = "\
kernel 'all of them'(p0, p1; n, 'p1', x[2], #part, 'a // \\'b\\'')
  v53 = 0; v54 = p1; v55 = 100; v0 = p0; v1 = 3; v2 = -9223372036854775808; v3 = 0.5:f32; v4 = -1e-300:f64
  v5 = NaN:f64; v6 = 0xfff8000000000000:f64; v7 = -inf:f32x4; v8 = n; v9 = 'p1'; v10 = x[2]; v11 = #part
  v12 = 'a // \\'b\\''; v13 = 7:i32x4; v14 = 1:i8x16
  v15: f32x4 = load [p0 + n*4 - 16]
  v16: f32x4 = load_part [p0 + 3*1 + 8], n
  v17: i8x16 = load_expanded [p0], 'p1'
  v18: f32x4 = add v15, v16
  v19: f32x4 = sqrt v18
  v20: i64 = count_ones n
  v21: f32x4 = fma v15, v16, v18
  v22: f32x4 = fma_lane v15, v16, 3, v18
  v23: i32x4 = dot_u8s8 1:i8x16, 1:i8x16, 7:i32x4
  v24: i32x4 = dot_s8narrow v17, v17, v23
  v25: mask32x4 = cmp_ult v23, v24
  v26: f32x4 = select v25, v15, v16
  v27: i32x4 = mask_to_int v25
  v28: mask8 = any_true v25
  v29: f32x4 = splat 0.5:f32
  v30: f32 = lane v29, 2
  v31: f32x4 = with_lane v29, v30, 1
  v32: f32x8 = shuffle v29, v31, [0, 7, 1, 6, 2, 5, 3, 4]
  v33: i64x2 = bitcast v31
  v34: i32x4 = convert v31
  v35: f32x4 = uconvert v34
  v36: i8x8 = quantize_bounded_s8 [v31, v35], v29
  v37: i8x8 = lookup v36, p0
  v38: f32x4 = grid_u8 v31, v29
  v39: i16x4 = to_half v38
  v40: f32x4 = from_half v39
  v41: f32x4 = permute v40, v34
  store [v20], v41
  store_part [p0 + n*8], v41, n
  prefetch [p0 + 4]
  for v42 = 0 to n step 2, v43 = v41, v44 = n
    if v28
      v45: f32x4 = neg v43
    else
      v46 = 4
      v47: f32x4 = abs v43
    giving v48 = v45 or v47, v49 = v44 or 4
    if v28
      copy p0, p1, n
    for v50 = 0 to 3 step 1
  next v48, v49 giving v51, v52
  zero v52, 100
";
    let kernel: Kernel = text.parse().unwrap();
    assert_eq!(kernel.to_string(), text);
    // The other kind of product has the same operands.
    let matrices = text.replace("= dot_s8narrow", "= matrix_dot_s8narrow");
    assert_eq!(matrices.parse::<Kernel>().unwrap().to_string(), matrices);
    // Literals without a definition are defined at entry, and values may have the name of a literal.
    let freer = text
        .replace("v53 = 0; v54 = p1; v55 = 100; ", "")
        .replace("v44 = n", "v44 = v8")
        .replace("dot_u8s8 1:i8x16", "dot_u8s8 v14");
    assert_eq!(freer.parse::<Kernel>().unwrap(), kernel);
    assert_eq!(again(&kernel), kernel);
}

/// Two values of one literal keep their names; so do values without an instruction, and those of unusual types.
#[test]
fn unusual_kernels() {
    let mut k = Builder::new("", 1);
    let (p, zero, half) = (k.pointer(0), k.int(0), k.float(0.5, Ty::new(Elem::F32, 1)));
    let less = k.cmp(Cmp::Lt, half, half);
    let [sum] = k.fold_loop(zero, p, 1, &[half], |k, _, sum| vec![k.add(sum[0], half)])[..] else { panic!() };
    k.choose(less, |_| vec![sum], |_| vec![half]);
    let mut kernel = k.finish();
    assert_eq!(again(&kernel), kernel);
    let n = kernel.insts.len() as u32;
    let fresh = [Inst::Int(0), Inst::Int(0), Inst::Symbol(3), Inst::Defined, Inst::Float(1), Inst::Pointer(9)];
    kernel.insts.extend(fresh.map(|inst| (inst, Ty::I64)));
    kernel.insts[n as usize + 1].1 = Ty::new(Elem::Mask16, 8);
    kernel.body.extend((0..6).map(|i| Stmt::Let(Val(n + i))));
    kernel.body.push(Stmt::Zero { to: Val(n), bytes: Val(n + 1) });
    for (inst, ty) in &mut kernel.insts {
        if *inst == Inst::Defined {
            ty.lanes *= 2;
        }
    }
    assert_eq!(again(&kernel), kernel, "{kernel}");
}

#[test]
fn malformed_text_is_told_with_its_line() {
    for (text, message, line) in [
        ("", "there is no kernel", ""),
        ("kernel f(p0", "`,` is missing at the end of the line", "line 1"),
        ("kernel f(p0)\n  v0: i64 = twice p0", "there is no instruction `twice`", "line 2"),
        ("kernel f(p0)\n\n  // a comment\n  v0: i64 = neg n", "the kernel has no symbol `n`", "line 4"),
        ("kernel f(p0)\n  v0: i63 = neg p0", "`i63` is not a type", "line 2"),
        ("kernel f(p0)\n  v0: i64 = add p0", "`,` is missing at the end", "line 2"),
        ("kernel f(p0)\n  v0: i64 = neg p0, p0", "`, p0` is too much", "line 2"),
        ("kernel f(p0)\n  v0: i64 = neg p0\n  v0: i64 = abs p0", "v0 is another value above", "line 3"),
        ("kernel f(p0)\n  v0: i64 = load [p0 + 3*4 + 1*4]", "`]` is missing before", "line 2"),
        ("kernel f(p0)\n  v0: i64 = load [p0 + 2147483648]", "`*` is missing before `]`", "line 2"),
        ("kernel f(p0)\n  v0 = 9223372036854775808", "`9223372036854775808` is not a number", "line 2"),
        ("kernel f(p0)\n  v0: f32 = 0.5", "there is no instruction `0.5`", "line 2"),
        ("kernel f(p0)\n  push p0", "there is no statement `push`", "line 2"),
        ("kernel f(p0)\n  for v0 = 0 to 3 step 1, v1 = p0\n    zero v1, 3", "`next` is missing", "line 3"),
        ("kernel f(p0)\n  zero p0, 3\n    zero p0, 3", "4 columns in, in a block of 2", "line 3"),
        ("kernel f(p0)\nzero p0, 3", "is in no block", "line 2"),
        ("kernel f(p0)\n  v4000000000: i64 = neg p0", "values are numbered up to", "line 1"),
        ("kernel f(p0)\n  v0 = 'n", "a closing quote is missing", "line 2"),
    ] {
        let error = text.parse::<Kernel>().unwrap_err().to_string();
        assert!(error.contains(message) && error.contains(line), "{text}\n{error}");
    }
    let deep = |n: usize| (1..n).fold("kernel f(p0)".to_string(), |text, i| text + "\n" + &" ".repeat(i) + "if p0");
    assert!(deep(50).parse::<Kernel>().is_ok());
    assert!(deep(5000).parse::<Kernel>().unwrap_err().to_string().contains("stand in each other"));
}
