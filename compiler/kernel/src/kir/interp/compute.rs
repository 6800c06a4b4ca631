//! The results of instructions, lane by lane.

use super::numbers::{binary, compare, convert, from_float, quantized, signed, truncate, unary};
use super::parts::Access;
use super::{BUFFER_BITS, Machine, Step};
use crate::kir::{Bin, DotKind, Elem, Inst, Ty, Val};

impl Machine<'_> {
    pub(super) fn compute(&mut self, v: Val) -> Step {
        let kernel = self.kernel;
        let (inst, ty) = &kernel.insts[v.0 as usize];
        match inst {
            Inst::Pointer(n) => {
                let (buffer, offset) = self.pointers[*n as usize];
                self.set(v, 0, ((buffer as u64 + 1) << BUFFER_BITS).wrapping_add_signed(offset));
                Ok(())
            }
            Inst::Symbol(n) => {
                self.set(v, 0, self.symbols[*n as usize] as u64);
                Ok(())
            }
            Inst::Int(c) => self.each_lane(v, |_, _| Ok(truncate(*c as u64, ty.elem))),
            Inst::Float(bits) => self.each_lane(v, |_, _| Ok(from_float(f64::from_bits(*bits), ty.elem))),
            Inst::Load(_) | Inst::LoadPart(..) | Inst::LoadExpanded(..) | Inst::Lookup(..) => {
                self.read(v, inst, ty.lanes as usize)
            }
            Inst::Bin(..)
            | Inst::Un(..)
            | Inst::Fma(..)
            | Inst::FmaLane(..)
            | Inst::Dot(..)
            | Inst::MatrixDot(..)
            | Inst::Cmp(..)
            | Inst::Convert(_)
            | Inst::UConvert(_)
            | Inst::FromHalf(_)
            | Inst::ToHalf(_)
            | Inst::Quantize(..)
            | Inst::Grid(..) => self.arithmetic(v, inst, *ty),
            Inst::Select(..)
            | Inst::MaskToInt(_)
            | Inst::AnyTrue(_)
            | Inst::Splat(_)
            | Inst::Lane(..)
            | Inst::WithLane(..)
            | Inst::Shuffle(..)
            | Inst::Permute(..)
            | Inst::Bitcast(_) => self.rearrange(v, inst, *ty),
            Inst::Defined => Err("has no instruction".to_string()),
        }
    }

    /// Sets each lane of a value.
    fn each_lane(&mut self, v: Val, of: impl Fn(&Self, usize) -> Result<u64, String>) -> Step {
        for i in 0..self.ty(v).lanes as usize {
            let bits = of(self, i)?;
            self.set(v, i, bits);
        }
        Ok(())
    }

    /// Instructions that read memory.
    fn read(&mut self, v: Val, inst: &Inst, lanes: usize) -> Step {
        match inst {
            Inst::Load(from) => self.load(v, from, lanes),
            Inst::LoadPart(from, below) => {
                let loaded = self.lanes_below(*below, self.ty(v));
                (loaded..lanes).for_each(|i| self.set(v, i, 0));
                self.load(v, from, loaded)
            }
            Inst::LoadExpanded(from, mask) => {
                let mask = self.get(*mask, 0);
                self.load(v, from, lanes)?;
                let mut next = self.all(v).to_vec().into_iter();
                for i in 0..lanes {
                    let byte = if mask >> i & 1 == 1 { next.next() } else { None };
                    self.set(v, i, byte.unwrap_or(0));
                }
                Ok(())
            }
            Inst::Lookup(x, table) => {
                for i in 0..lanes {
                    let at = self.int(*table) + self.get(*x, i) as i64;
                    let byte = self.bytes(at, 1, Access::Read)?[0];
                    self.set(v, i, u64::from(byte));
                }
                Ok(())
            }
            _ => Err(format!("{inst:?} reads no memory")),
        }
    }

    /// Instructions that compute numbers.
    fn arithmetic(&mut self, v: Val, inst: &Inst, ty: Ty) -> Step {
        match inst {
            Inst::Bin(op, a, b) => {
                let shift = matches!(op, Bin::Shl | Bin::Shr | Bin::Sar);
                self.each_lane(v, |m, i| binary(*op, ty.elem, m.get(*a, i), m.get(*b, if shift { 0 } else { i })))
            }
            Inst::Un(op, a) => self.each_lane(v, |m, i| unary(*op, ty.elem, m.get(*a, i))),
            Inst::Fma(a, b, c) => {
                self.each_lane(v, |m, i| Ok(m.fma(ty.elem, m.get(*a, i), m.get(*b, i), m.get(*c, i))))
            }
            Inst::FmaLane(a, b, lane, c) => {
                let b = self.get(*b, usize::from(*lane));
                self.each_lane(v, |m, i| Ok(m.fma(ty.elem, m.get(*a, i), b, m.get(*c, i))))
            }
            Inst::Dot(kind, a, b, acc) | Inst::MatrixDot(kind, a, b, acc) => {
                let (a_signed, b_signed) = kind.signed();
                let byte = |bits: u64, is_signed: bool| if is_signed { signed(bits, Elem::I8) } else { bits as i64 };
                if *kind == DotKind::S8Narrow && self.all(*b).contains(&0x80) {
                    return Err("a product with -128".to_string());
                }
                self.each_lane(v, |m, i| {
                    let product = |x, y| byte(m.get(*a, x), a_signed) * byte(m.get(*b, y), b_signed);
                    let sum: i64 = match inst {
                        Inst::Dot(..) => (4 * i..4 * i + 4).map(|j| product(j, j)).sum(),
                        _ => {
                            let (matrix, row, column) = (i / 4 * 16, i % 4 / 2 * 8, i % 2 * 8);
                            (matrix..matrix + 8).map(|j| product(j + row, j + column)).sum()
                        }
                    };
                    Ok(truncate(m.get(*acc, i).wrapping_add(sum as u64), Elem::I32))
                })
            }
            Inst::Cmp(op, a, b) => {
                let elem = self.ty(*a).elem;
                self.each_lane(v, |m, i| Ok(u64::from(compare(*op, elem, m.get(*a, i), m.get(*b, i)))))
            }
            Inst::Convert(a) | Inst::UConvert(a) => {
                let from = self.ty(*a).elem;
                let signed = matches!(inst, Inst::Convert(_));
                self.each_lane(v, |m, i| Ok(convert(m.get(*a, i), from, ty.elem, signed)))
            }
            Inst::FromHalf(a) => {
                self.each_lane(v, |m, i| Ok(half::f16::from_bits(m.get(*a, i) as u16).to_f32().to_bits().into()))
            }
            Inst::ToHalf(a) => {
                self.each_lane(v, |m, i| Ok(half::f16::from_f32(f32::from_bits(m.get(*a, i) as u32)).to_bits().into()))
            }
            Inst::Quantize(parts, zero, rounding) => {
                let width = self.ty(*zero).lanes as usize;
                self.each_lane(v, |m, i| {
                    let (part, lane) = (parts[i / width], i % width);
                    let byte = quantized(m.get(part, lane), m.get(*zero, lane), rounding.signed);
                    Ok(truncate(byte as u64, Elem::I8))
                })
            }
            Inst::Grid(x, zero, rounding) => self.each_lane(v, |m, i| {
                let byte = quantized(m.get(*x, i), m.get(*zero, i), rounding.signed);
                Ok(from_float(byte as f64, Elem::F32))
            }),
            _ => Err(format!("{inst:?} is not arithmetic")),
        }
    }

    /// Instructions that select and move lanes.
    fn rearrange(&mut self, v: Val, inst: &Inst, ty: Ty) -> Step {
        match inst {
            Inst::Select(mask, a, b) => {
                self.each_lane(v, |m, i| Ok(m.get(if m.get(*mask, i) != 0 { *a } else { *b }, i)))
            }
            Inst::MaskToInt(mask) => {
                self.assign(v, *mask);
                Ok(())
            }
            Inst::AnyTrue(mask) => {
                let any = self.all(*mask).iter().any(|&lane| lane != 0);
                self.set(v, 0, u64::from(any));
                Ok(())
            }
            Inst::Splat(a) => self.each_lane(v, |m, _| Ok(m.get(*a, 0))),
            Inst::Lane(a, lane) => {
                self.set(v, 0, self.get(*a, usize::from(*lane)));
                Ok(())
            }
            Inst::WithLane(a, scalar, lane) => {
                self.assign(v, *a);
                self.set(v, usize::from(*lane), self.get(*scalar, 0));
                Ok(())
            }
            Inst::Shuffle(a, b, pattern) => {
                let width = self.ty(*a).lanes as usize;
                self.each_lane(v, |m, i| {
                    let from = usize::from(pattern[i]);
                    Ok(if from < width { m.get(*a, from) } else { m.get(*b, from - width) })
                })
            }
            Inst::Permute(a, places) => self.each_lane(v, |m, i| {
                let place = m.get(*places, i) as usize % ty.lanes as usize;
                Ok(m.get(*a, place))
            }),
            Inst::Bitcast(a) => {
                let (old, new) = (self.ty(*a).elem.bytes() as usize, ty.elem.bytes() as usize);
                let bytes: Vec<u8> = self.all(*a).iter().flat_map(|bits| bits.to_le_bytes()[..old].to_vec()).collect();
                self.each_lane(v, |_, i| {
                    let mut bits = [0; 8];
                    bits[..new].copy_from_slice(&bytes[i * new..][..new]);
                    Ok(u64::from_le_bytes(bits))
                })
            }
            _ => Err(format!("{inst:?} moves no lanes")),
        }
    }

    fn fma(&self, elem: Elem, a: u64, b: u64, c: u64) -> u64 {
        if elem == Elem::F32 {
            let [a, b, c] = [a, b, c].map(|bits| f32::from_bits(bits as u32));
            return u64::from((if self.fused { a.mul_add(b, c) } else { a * b + c }).to_bits());
        }
        let [a, b, c] = [a, b, c].map(f64::from_bits);
        (if self.fused { a.mul_add(b, c) } else { a * b + c }).to_bits()
    }
}
