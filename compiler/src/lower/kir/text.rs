//! Kernels as text, to be read: constants, pointers and symbols stand where they are used.
//!
//! ```text
//! kernel scale(p0, p1; n)
//!   for v4 = 0 to n step 4
//!     v5: f32x4 = load [p0 + v4*4]
//!     v6: f32x4 = mul v5, 0.5
//!     store [p1 + v4*4], v6
//! ```

use std::fmt::{self, Display, Formatter, Write};

use super::{Addr, Inst, Kernel, Rounding, Stmt, Ty, Val};

impl Display for Ty {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let elem = format!("{:?}", self.elem).to_lowercase();
        if self.lanes == 1 { write!(f, "{elem}") } else { write!(f, "{elem}x{}", self.lanes) }
    }
}

impl Display for Val {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl Display for Kernel {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let pointers: Vec<String> = (0..self.pointers).map(|n| format!("p{n}")).collect();
        write!(f, "kernel {}({}", self.name, pointers.join(", "))?;
        for (i, s) in self.symbols.iter().enumerate() {
            write!(f, "{} {s}", if i == 0 { ";" } else { "," })?;
        }
        writeln!(f, ")")?;
        block(f, self, &self.body, 1)
    }
}

/// A value's name, or what it is when that is short.
fn operand(kernel: &Kernel, v: Val) -> String {
    match kernel.insts.get(v.0 as usize).map(|(inst, _)| inst) {
        Some(Inst::Pointer(n)) => format!("p{n}"),
        Some(Inst::Symbol(n)) => match kernel.symbols.get(*n as usize) {
            Some(s) => s.to_string(),
            None => format!("symbol{n}"),
        },
        Some(Inst::Int(c)) => c.to_string(),
        Some(Inst::Float(bits)) => format!("{:?}", f64::from_bits(*bits)),
        _ => v.to_string(),
    }
}

fn address(kernel: &Kernel, a: &Addr) -> String {
    let mut text = operand(kernel, a.base);
    if let Some(index) = a.index {
        let _ = write!(text, " + {}", operand(kernel, index));
        if a.scale != 1 {
            let _ = write!(text, "*{}", a.scale);
        }
    }
    match a.offset {
        0 => {}
        o if o < 0 => {
            let _ = write!(text, " - {}", o.unsigned_abs());
        }
        o => {
            let _ = write!(text, " + {o}");
        }
    }
    format!("[{text}]")
}

fn block(f: &mut Formatter<'_>, kernel: &Kernel, body: &[Stmt], depth: usize) -> fmt::Result {
    let name = |v: Val| operand(kernel, v);
    let indent = "  ".repeat(depth);
    for stmt in body {
        match stmt {
            Stmt::Let(v) => {
                let Some((inst, ty)) = kernel.insts.get(v.0 as usize) else {
                    writeln!(f, "{indent}{v} = ?")?;
                    continue;
                };
                if matches!(inst, Inst::Pointer(_) | Inst::Symbol(_) | Inst::Int(_) | Inst::Float(_)) {
                    continue;
                }
                writeln!(f, "{indent}{v}: {ty} = {}", instruction(kernel, inst))?;
            }
            Stmt::Store(to, v) => writeln!(f, "{indent}store {}, {}", address(kernel, to), name(*v))?,
            Stmt::StorePart(to, v, count) => {
                writeln!(f, "{indent}store {} lanes {}, {}", name(*count), address(kernel, to), name(*v))?;
            }
            Stmt::For { index, start, end, step, carried, body } => {
                write!(f, "{indent}for {index} = {} to {} step {step}", name(*start), name(*end))?;
                for c in carried {
                    write!(f, ", {} = {}", c.inner, name(c.init))?;
                }
                writeln!(f)?;
                block(f, kernel, body, depth + 1)?;
                if !carried.is_empty() {
                    let next: Vec<String> = carried.iter().map(|c| name(c.next)).collect();
                    let after: Vec<String> = carried.iter().map(|c| c.result.to_string()).collect();
                    writeln!(f, "{indent}next {} giving {}", next.join(", "), after.join(", "))?;
                }
            }
            Stmt::If { condition, then, otherwise, results } => {
                writeln!(f, "{indent}if {}", name(*condition))?;
                block(f, kernel, then, depth + 1)?;
                if !otherwise.is_empty() {
                    writeln!(f, "{indent}else")?;
                    block(f, kernel, otherwise, depth + 1)?;
                }
                for (result, a, b) in results {
                    writeln!(f, "{indent}{result} = {} or {}", name(*a), name(*b))?;
                }
            }
            Stmt::Copy { to, from, bytes } => {
                writeln!(f, "{indent}copy [{}], [{}], {} bytes", name(*to), name(*from), name(*bytes))?;
            }
            Stmt::Prefetch(at) => writeln!(f, "{indent}prefetch {}", address(kernel, at))?,
            Stmt::Zero { to, bytes } => writeln!(f, "{indent}zero [{}], {} bytes", name(*to), name(*bytes))?,
        }
    }
    Ok(())
}

fn byte(Rounding { signed, bounded }: Rounding) -> &'static str {
    match (bounded, signed) {
        (false, false) => "u8",
        (false, true) => "s8",
        (true, false) => "bounded_u8",
        (true, true) => "bounded_s8",
    }
}

fn instruction(kernel: &Kernel, inst: &Inst) -> String {
    let n = |v: &Val| operand(kernel, *v);
    match inst {
        Inst::Pointer(i) => format!("pointer {i}"),
        Inst::Symbol(i) => format!("symbol {i}"),
        Inst::Int(c) => format!("int {c}"),
        Inst::Float(bits) => format!("float {:?}", f64::from_bits(*bits)),
        Inst::Load(from) => format!("load {}", address(kernel, from)),
        Inst::Bin(op, a, b) => format!("{} {}, {}", format!("{op:?}").to_lowercase(), n(a), n(b)),
        Inst::Un(op, a) => format!("{} {}", format!("{op:?}").to_lowercase(), n(a)),
        Inst::Fma(a, b, c) => format!("fma {}, {}, {}", n(a), n(b), n(c)),
        Inst::LoadPart(from, count) => format!("load {} lanes {}", n(count), address(kernel, from)),
        Inst::LoadExpanded(from, mask) => format!("load at {} of {}", n(mask), address(kernel, from)),
        Inst::Dot(kind, a, b, acc) => {
            format!("dot_{} {}, {}, {}", format!("{kind:?}").to_lowercase(), n(a), n(b), n(acc))
        }
        Inst::FmaLane(a, b, lane, c) => format!("fma {}, {}[{lane}], {}", n(a), n(b), n(c)),
        Inst::Cmp(op, a, b) => format!("cmp {} {}, {}", format!("{op:?}").to_lowercase(), n(a), n(b)),
        Inst::Select(mask, a, b) => format!("select {}, {}, {}", n(mask), n(a), n(b)),
        Inst::MaskToInt(mask) => format!("mask_to_int {}", n(mask)),
        Inst::AnyTrue(mask) => format!("any_true {}", n(mask)),
        Inst::Splat(v) => format!("splat {}", n(v)),
        Inst::Lane(v, lane) => format!("lane {}[{lane}]", n(v)),
        Inst::WithLane(v, scalar, lane) => format!("with_lane {}[{lane}] = {}", n(v), n(scalar)),
        Inst::Shuffle(a, b, pattern) => format!("shuffle {}, {}, {pattern:?}", n(a), n(b)),
        Inst::Bitcast(v) => format!("bitcast {}", n(v)),
        Inst::Convert(v) => format!("convert {}", n(v)),
        Inst::UConvert(v) => format!("uconvert {}", n(v)),
        Inst::Quantize(parts, zero, rounding) => {
            let parts: Vec<String> = parts.iter().map(n).collect();
            format!("quantize_{} {} zero {}", byte(*rounding), parts.join(", "), n(zero))
        }
        Inst::Lookup(v, table) => format!("lookup {} in {}", n(v), n(table)),
        Inst::Grid(v, zero, rounding) => format!("grid_{} {} zero {}", byte(*rounding), n(v), n(zero)),
        Inst::FromHalf(v) => format!("from_half {}", n(v)),
        Inst::ToHalf(v) => format!("to_half {}", n(v)),
        Inst::Permute(v, places) => format!("permute {}, {}", n(v), n(places)),
        Inst::Defined => "defined".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use crate::ir::Dim;
    use crate::lower::kir::{Builder, Elem, Ty};

    #[test]
    fn reads_like_the_example() {
        let mut k = Builder::new("scale", 2);
        let (p, q, zero, n) = (k.pointer(0), k.pointer(1), k.int(0), k.dim(&Dim::sym("n")));
        k.for_each(zero, n, 4, &mut |k, i| {
            let from = k.at_index(p, i, 4);
            let v = k.load(Ty::new(Elem::F32, 4), from);
            let half = k.float(0.5, k.ty(v));
            let v = k.mul(v, half);
            let to = k.at_index(q, i, 4);
            k.store(to, v);
        });
        let text = k.finish().to_string();
        let want = "kernel scale(p0, p1; n)\n  for v4 = 0 to n step 4\n    v5: f32x4 = load [p0 + v4*4]\n    \
                    v7: f32x4 = mul v5, 0.5\n    store [p1 + v4*4], v7\n";
        assert_eq!(text, want);
    }
}
