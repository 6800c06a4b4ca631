//! The instructions, as one table. A row has:
//!
//! - its name in this crate;
//! - its text. An upper-case letter stands for what depends on the instance: `V`, `Q`, `G`, `X`, `W`, `S`, `D`, `H` with
//!   a role (`d`, `n`, `m`, `a`) for a register (a vector, a scalar of the instance's [`Size`], a general one of it, and
//!   of fixed sizes); `.T`, `.L`, `.W`, `.E` for lanes of the size (all, half of them, of twice the size, one); `I`, `J`
//!   for immediates; `C` for a condition; `Z` for the size in the names of loads and stores;
//! - the bits that are the same in all instances;
//! - its [`Role`]s, in the order of the operands;
//! - its immediates' [`Field`]s;
//! - how the size is encoded, see [`Sized`].
//!
//! `table_tests.rs` compares every row with what `llvm-mc` makes of its text.

use super::fields::{Field, Role, Sized};
#[cfg(doc)]
use super::operand::Size;

/// A row.
#[derive(Debug)]
pub struct Form {
    pub text: &'static str,
    pub bits: u32,
    pub roles: &'static [Role],
    pub fields: &'static [Field],
    pub sized: Sized,
}

macro_rules! table {
    ($($name:ident $text:literal $bits:literal [$($role:ident)*] [$($field:ident)*] $sized:ident;)*) => {
        /// An instruction of the table.
        #[allow(dead_code, reason = "the table has whole families of instructions")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Row {
            $($name,)*
        }

        /// All instructions.
        #[cfg(test)]
        pub const ROWS: &[Row] = &[$(Row::$name),*];

        impl Row {
            pub const fn form(self) -> &'static Form {
                match self {
                    $(Row::$name => &Form {
                        text: $text,
                        bits: $bits,
                        roles: &[$(Role::$role),*],
                        fields: &[$(Field::$field),*],
                        sized: Sized::$sized,
                    },)*
                }
            }
        }
    };
}

table! {
    // Integers in general registers.
    Movz       "movz Gd, #I, lsl #J"               0x5280_0000 [D]       [Mov16 Half] Wide;
    Movn       "movn Gd, #I, lsl #J"               0x1280_0000 [D]       [Mov16 Half] Wide;
    Movk       "movk Gd, #I, lsl #J"               0x7280_0000 [Dm]      [Mov16 Half] Wide;
    Mov        "mov Gd, Gm"                        0x2a00_03e0 [D M]     []           Wide;
    Add        "add Gd, Gn, Gm"                    0x0b00_0000 [D N M]   []           Wide;
    AddShifted "add Gd, Gn, Gm, lsl #I"            0x0b00_0000 [D N M]   [Amount]     Wide;
    Sub        "sub Gd, Gn, Gm"                    0x4b00_0000 [D N M]   []           Wide;
    AddImm     "add Gd, Gn, #I"                    0x1100_0000 [D N]     [Add12]      Wide;
    AddImmHigh "add Gd, Gn, #I, lsl #12"           0x1140_0000 [D N]     [Add12]      Wide;
    SubImm     "sub Gd, Gn, #I"                    0x5100_0000 [D N]     [Add12]      Wide;
    SubImmHigh "sub Gd, Gn, #I, lsl #12"           0x5140_0000 [D N]     [Add12]      Wide;
    And        "and Gd, Gn, Gm"                    0x0a00_0000 [D N M]   []           Wide;
    Orr        "orr Gd, Gn, Gm"                    0x2a00_0000 [D N M]   []           Wide;
    Eor        "eor Gd, Gn, Gm"                    0x4a00_0000 [D N M]   []           Wide;
    AndImm     "and Gd, Gn, #I"                    0x1200_0000 [D N]     [Bitmask]    Wide;
    OrrImm     "orr Gd, Gn, #I"                    0x3200_0000 [D N]     [Bitmask]    Wide;
    EorImm     "eor Gd, Gn, #I"                    0x5200_0000 [D N]     [Bitmask]    Wide;
    Mvn        "mvn Gd, Gm"                        0x2a20_03e0 [D M]     []           Wide;
    Neg        "neg Gd, Gm"                        0x4b00_03e0 [D M]     []           Wide;
    Mul        "mul Gd, Gn, Gm"                    0x1b00_7c00 [D N M]   []           Wide;
    Madd       "madd Gd, Gn, Gm, Ga"               0x1b00_0000 [D N M A] []           Wide;
    Msub       "msub Gd, Gn, Gm, Ga"               0x1b00_8000 [D N M A] []           Wide;
    Sdiv       "sdiv Gd, Gn, Gm"                   0x1ac0_0c00 [D N M]   []           Wide;
    Udiv       "udiv Gd, Gn, Gm"                   0x1ac0_0800 [D N M]   []           Wide;
    Lsl        "lsl Gd, Gn, Gm"                    0x1ac0_2000 [D N M]   []           Wide;
    Lsr        "lsr Gd, Gn, Gm"                    0x1ac0_2400 [D N M]   []           Wide;
    Asr        "asr Gd, Gn, Gm"                    0x1ac0_2800 [D N M]   []           Wide;
    Ubfm       "ubfm Gd, Gn, #I, #J"               0x5300_0000 [D N]     [Immr Imms]  WideN;
    Sbfm       "sbfm Gd, Gn, #I, #J"               0x1300_0000 [D N]     [Immr Imms]  WideN;
    Cmp        "cmp Gn, Gm"                        0x6b00_001f [N M]     []           Wide;
    CmpImm     "cmp Gn, #I"                        0x7100_001f [N]       [Add12]      Wide;
    CmnImm     "cmn Gn, #I"                        0x3100_001f [N]       [Add12]      Wide;
    SubsImm    "subs Gd, Gn, #I"                   0x7100_0000 [D N]     [Add12]      Wide;
    Subs       "subs Gd, Gn, Gm"                   0x6b00_0000 [D N M]   []           Wide;
    Csel       "csel Gd, Gn, Gm, C"                0x1a80_0000 [D N M]   [Cond]       Wide;
    Csneg      "csneg Gd, Gn, Gm, C"               0x5a80_0400 [D N M]   [Cond]       Wide;
    Cset       "cset Gd, C"                        0x1a9f_07e0 [D]       [Opposite]   Wide;
    Csetm      "csetm Gd, C"                       0x5a9f_03e0 [D]       [Opposite]   Wide;
    // Loads and stores.
    LdrV       "ldr Qd, [Xn, #I]"                  0x3d40_0000 [D N]     [Scaled]     Transfer;
    StrV       "str Qd, [Xn, #I]"                  0x3d00_0000 [Dr N]    [Scaled]     Transfer;
    LdrG       "ldrZ Gd, [Xn, #I]"                 0x3940_0000 [D N]     [Scaled]     TransferG;
    StrG       "strZ Gd, [Xn, #I]"                 0x3900_0000 [Dr N]    [Scaled]     TransferG;
    LdurV      "ldur Qd, [Xn, #I]"                 0x3c40_0000 [D N]     [Nine]       Transfer;
    SturV      "stur Qd, [Xn, #I]"                 0x3c00_0000 [Dr N]    [Nine]       Transfer;
    LdurG      "ldurZ Gd, [Xn, #I]"                0x3840_0000 [D N]     [Nine]       TransferG;
    SturG      "sturZ Gd, [Xn, #I]"                0x3800_0000 [Dr N]    [Nine]       TransferG;
    LdrVPost   "ldr Qd, [Xn], #I"                  0x3c40_0400 [D Nm]    [Nine]       Transfer;
    StrVPost   "str Qd, [Xn], #I"                  0x3c00_0400 [Dr Nm]   [Nine]       Transfer;
    LdrGPost   "ldrZ Gd, [Xn], #I"                 0x3840_0400 [D Nm]    [Nine]       TransferG;
    StrGPost   "strZ Gd, [Xn], #I"                 0x3800_0400 [Dr Nm]   [Nine]       TransferG;
    LdrVReg    "ldr Qd, [Xn, Xm]"                  0x3c60_6800 [D N M]   []           Transfer;
    StrVReg    "str Qd, [Xn, Xm]"                  0x3c20_6800 [Dr N M]  []           Transfer;
    LdrGReg    "ldrZ Gd, [Xn, Xm]"                 0x3860_6800 [D N M]   []           TransferG;
    StrGReg    "strZ Gd, [Xn, Xm]"                 0x3820_6800 [Dr N M]  []           TransferG;
    LdrVIndex  "ldr Qd, [Xn, Xm, lsl #I]"          0x3c60_7800 [D N M]   [Implied]    Transfer;
    StrVIndex  "str Qd, [Xn, Xm, lsl #I]"          0x3c20_7800 [Dr N M]  [Implied]    Transfer;
    LdrGIndex  "ldrZ Gd, [Xn, Xm, lsl #I]"         0x3860_7800 [D N M]   [Implied]    TransferG;
    StrGIndex  "strZ Gd, [Xn, Xm, lsl #I]"         0x3820_7800 [Dr N M]  [Implied]    TransferG;
    LdpV       "ldp Qd, Qa, [Xn, #I]"              0x2d40_0000 [D Aw N]  [Seven]      Pair;
    StpV       "stp Qd, Qa, [Xn, #I]"              0x2d00_0000 [Dr A N]  [Seven]      Pair;
    LdpVPost   "ldp Qd, Qa, [Xn], #I"              0x2cc0_0000 [D Aw Nm] [Seven]      Pair;
    StpVPost   "stp Qd, Qa, [Xn], #I"              0x2c80_0000 [Dr A Nm] [Seven]      Pair;
    LdpX       "ldp Xd, Xa, [Xn, #I]"              0xa940_0000 [D Aw N]  [Eights]     One;
    StpX       "stp Xd, Xa, [Xn, #I]"              0xa900_0000 [Dr A N]  [Eights]     One;
    LdpXPost   "ldp Xd, Xa, [Xn], #I"              0xa8c0_0000 [D Aw Nm] [Eights]     One;
    StpXPre    "stp Xd, Xa, [Xn, #I]!"             0xa980_0000 [Dr A Nm] [Eights]     One;
    LdrPool    "ldr Qd, I"                         0x1c00_0000 [D]       [Pool]       Pair;
    Ld1r       "ld1r {Vd.T}, [Xn]"                 0x4d40_c000 [D N]     []           Ten;
    Ld1rPost   "ld1r {Vd.T}, [Xn], #I"             0x4ddf_c000 [D Nm]    [Implied]    Ten;
    Ld1Lane    "ld1 {Vd.E}[I], [Xn]"               0x0d40_0000 [Dm N]    [InMemory]   Lanes;
    St1Lane    "st1 {Vd.E}[I], [Xn]"               0x0d00_0000 [Dr N]    [InMemory]   Lanes;
    Prfm       "prfm pldl2keep, [Xn, #I]"          0xf980_0002 [N]       [Twelve8]    One;
    Prfum      "prfum pldl2keep, [Xn, #I]"         0xf880_0002 [N]       [Nine]       One;
    // Moves between general and vector registers, and of lanes.
    FmovToG    "fmov Gd, Qn"                       0x1e26_0000 [D N]     []           WideFloat;
    FmovToV    "fmov Qd, Gn"                       0x1e27_0000 [D N]     []           WideFloat;
    DupG       "dup Vd.T, Gn"                      0x4e00_0c00 [D N]     []           Five;
    DupLane    "dup Vd.T, Vn.E[I]"                 0x4e00_0400 [D N]     [Lane5]      Lanes;
    InsG       "ins Vd.E[I], Gn"                   0x4e00_1c00 [Dm N]    [Lane5]      Lanes;
    InsLane    "ins Vd.E[I], Vn.E[J]"              0x6e00_0400 [Dm N]    [Lane5 Lane4] Lanes;
    Umov       "umov Gd, Vn.E[I]"                  0x0e00_3c00 [D N]     [Lane5]      Long30;
    Zip1       "zip1 Vd.T, Vn.T, Vm.T"             0x4e00_3800 [D N M]   []           Size;
    Zip2       "zip2 Vd.T, Vn.T, Vm.T"             0x4e00_7800 [D N M]   []           Size;
    Uzp1       "uzp1 Vd.T, Vn.T, Vm.T"             0x4e00_1800 [D N M]   []           Size;
    Uzp2       "uzp2 Vd.T, Vn.T, Vm.T"             0x4e00_5800 [D N M]   []           Size;
    Trn1       "trn1 Vd.T, Vn.T, Vm.T"             0x4e00_2800 [D N M]   []           Size;
    Trn2       "trn2 Vd.T, Vn.T, Vm.T"             0x4e00_6800 [D N M]   []           Size;
    Ext        "ext Vd.16b, Vn.16b, Vm.16b, #I"    0x6e00_0000 [D N M]   [Four11]     One;
    Rev64      "rev64 Vd.T, Vn.T"                  0x4e20_0800 [D N]     []           SizeBHS;
    Tbl        "tbl Vd.16b, {Vn.16b}, Vm.16b"      0x4e00_0000 [D N M]   []           One;
    Tbx        "tbx Vd.16b, {Vn.16b}, Vm.16b"      0x4e00_1000 [Dm N M]  []           One;
    // Vectors of constants.
    MoviB      "movi Vd.16b, #I"                   0x4f00_e400 [D]       [Eight]      One;
    MoviH      "movi Vd.8h, #I, lsl #J"            0x4f00_8400 [D]       [Eight Shift8] One;
    MoviS      "movi Vd.4s, #I, lsl #J"            0x4f00_0400 [D]       [Eight Shift8] One;
    MvniS      "mvni Vd.4s, #I, lsl #J"            0x6f00_0400 [D]       [Eight Shift8] One;
    MoviD      "movi Vd.2d, #0"                    0x6f00_e400 [D]       []           One;
    FmovImm    "fmov Vd.T, #I"                     0x4f00_f400 [D]       [Float8]     Double29;
    // Vectors of integers.
    AddV       "add Vd.T, Vn.T, Vm.T"              0x4e20_8400 [D N M]   []           Size;
    SubV       "sub Vd.T, Vn.T, Vm.T"              0x6e20_8400 [D N M]   []           Size;
    MulV       "mul Vd.T, Vn.T, Vm.T"              0x4e20_9c00 [D N M]   []           SizeBHS;
    Mla        "mla Vd.T, Vn.T, Vm.T"              0x4e20_9400 [Dm N M]  []           SizeBHS;
    Smin       "smin Vd.T, Vn.T, Vm.T"             0x4e20_6c00 [D N M]   []           SizeBHS;
    Smax       "smax Vd.T, Vn.T, Vm.T"             0x4e20_6400 [D N M]   []           SizeBHS;
    Umin       "umin Vd.T, Vn.T, Vm.T"             0x6e20_6c00 [D N M]   []           SizeBHS;
    Umax       "umax Vd.T, Vn.T, Vm.T"             0x6e20_6400 [D N M]   []           SizeBHS;
    Sqadd      "sqadd Vd.T, Vn.T, Vm.T"            0x4e20_0c00 [D N M]   []           Size;
    AndV       "and Vd.16b, Vn.16b, Vm.16b"        0x4e20_1c00 [D N M]   []           One;
    BicV       "bic Vd.16b, Vn.16b, Vm.16b"        0x4e60_1c00 [D N M]   []           One;
    OrrV       "orr Vd.16b, Vn.16b, Vm.16b"        0x4ea0_1c00 [D N M]   []           One;
    EorV       "eor Vd.16b, Vn.16b, Vm.16b"        0x6e20_1c00 [D N M]   []           One;
    Bsl        "bsl Vd.16b, Vn.16b, Vm.16b"        0x6e60_1c00 [Dm N M]  []           One;
    NotV       "not Vd.16b, Vn.16b"                0x6e20_5800 [D N]     []           One;
    NegV       "neg Vd.T, Vn.T"                    0x6e20_b800 [D N]     []           Size;
    AbsV       "abs Vd.T, Vn.T"                    0x4e20_b800 [D N]     []           Size;
    Sshl       "sshl Vd.T, Vn.T, Vm.T"             0x4e20_4400 [D N M]   []           Size;
    Ushl       "ushl Vd.T, Vn.T, Vm.T"             0x6e20_4400 [D N M]   []           Size;
    ShlImm     "shl Vd.T, Vn.T, #I"                0x4f00_5400 [D N]     [Left]       Lanes;
    SshrImm    "sshr Vd.T, Vn.T, #I"               0x4f00_0400 [D N]     [Right]      Lanes;
    UshrImm    "ushr Vd.T, Vn.T, #I"               0x6f00_0400 [D N]     [Right]      Lanes;
    Cmeq       "cmeq Vd.T, Vn.T, Vm.T"             0x6e20_8c00 [D N M]   []           Size;
    Cmgt       "cmgt Vd.T, Vn.T, Vm.T"             0x4e20_3400 [D N M]   []           Size;
    Cmge       "cmge Vd.T, Vn.T, Vm.T"             0x4e20_3c00 [D N M]   []           Size;
    Cmhi       "cmhi Vd.T, Vn.T, Vm.T"             0x6e20_3400 [D N M]   []           Size;
    Cmhs       "cmhs Vd.T, Vn.T, Vm.T"             0x6e20_3c00 [D N M]   []           Size;
    Sshll      "sshll Vd.W, Vn.L, #I"              0x0f00_a400 [D N]     [Left]       Narrow;
    Sshll2     "sshll2 Vd.W, Vn.T, #I"             0x4f00_a400 [D N]     [Left]       Narrow;
    Ushll      "ushll Vd.W, Vn.L, #I"              0x2f00_a400 [D N]     [Left]       Narrow;
    Ushll2     "ushll2 Vd.W, Vn.T, #I"             0x6f00_a400 [D N]     [Left]       Narrow;
    Xtn        "xtn Vd.L, Vn.W"                    0x0e21_2800 [D N]     []           SizeBHS;
    Sqxtn      "sqxtn Vd.L, Vn.W"                  0x0e21_4800 [D N]     []           SizeBHS;
    Sqxtn2     "sqxtn2 Vd.T, Vn.W"                 0x4e21_4800 [Dm N]    []           SizeBHS;
    Sqxtun     "sqxtun Vd.L, Vn.W"                 0x2e21_2800 [D N]     []           SizeBHS;
    Sqxtun2    "sqxtun2 Vd.T, Vn.W"                0x6e21_2800 [Dm N]    []           SizeBHS;
    Uqxtn      "uqxtn Vd.L, Vn.W"                  0x2e21_4800 [D N]     []           SizeBHS;
    Uqxtn2     "uqxtn2 Vd.T, Vn.W"                 0x6e21_4800 [Dm N]    []           SizeBHS;
    Smull      "smull Vd.W, Vn.L, Vm.L"            0x0e20_c000 [D N M]   []           SizeBHS;
    Smull2     "smull2 Vd.W, Vn.T, Vm.T"           0x4e20_c000 [D N M]   []           SizeBHS;
    Umull      "umull Vd.W, Vn.L, Vm.L"            0x2e20_c000 [D N M]   []           SizeBHS;
    Umull2     "umull2 Vd.W, Vn.T, Vm.T"           0x6e20_c000 [D N M]   []           SizeBHS;
    Smlal      "smlal Vd.W, Vn.L, Vm.L"            0x0e20_8000 [Dm N M]  []           SizeBHS;
    Smlal2     "smlal2 Vd.W, Vn.T, Vm.T"           0x4e20_8000 [Dm N M]  []           SizeBHS;
    Umlal      "umlal Vd.W, Vn.L, Vm.L"            0x2e20_8000 [Dm N M]  []           SizeBHS;
    Umlal2     "umlal2 Vd.W, Vn.T, Vm.T"           0x6e20_8000 [Dm N M]  []           SizeBHS;
    Saddlp     "saddlp Vd.W, Vn.T"                 0x4e20_2800 [D N]     []           SizeBHS;
    Uaddlp     "uaddlp Vd.W, Vn.T"                 0x6e20_2800 [D N]     []           SizeBHS;
    Sadalp     "sadalp Vd.W, Vn.T"                 0x4e20_6800 [Dm N]    []           SizeBHS;
    Uadalp     "uadalp Vd.W, Vn.T"                 0x6e20_6800 [Dm N]    []           SizeBHS;
    Addp       "addp Vd.T, Vn.T, Vm.T"             0x4e20_bc00 [D N M]   []           Size;
    Addv       "addv Qd, Vn.T"                     0x4e31_b800 [D N]     []           SizeBHS;
    Umaxv      "umaxv Qd, Vn.T"                    0x6e30_a800 [D N]     []           SizeBHS;
    Cnt        "cnt Vd.16b, Vn.16b"                0x4e20_5800 [D N]     []           One;
    Uaddlv     "uaddlv Hd, Vn.16b"                 0x6e30_3800 [D N]     []           One;
    // Sums of byte products.
    Sdot       "sdot Vd.4s, Vn.16b, Vm.16b"        0x4e80_9400 [Dm N M]  []           One;
    Udot       "udot Vd.4s, Vn.16b, Vm.16b"        0x6e80_9400 [Dm N M]  []           One;
    Usdot      "usdot Vd.4s, Vn.16b, Vm.16b"       0x4e80_9c00 [Dm N M]  []           One;
    SdotLane   "sdot Vd.4s, Vn.16b, Vm.4b[I]"      0x4f80_e000 [Dm N M]  [LaneS]      One;
    UdotLane   "udot Vd.4s, Vn.16b, Vm.4b[I]"      0x6f80_e000 [Dm N M]  [LaneS]      One;
    UsdotLane  "usdot Vd.4s, Vn.16b, Vm.4b[I]"     0x4f80_f000 [Dm N M]  [LaneS]      One;
    SudotLane  "sudot Vd.4s, Vn.16b, Vm.4b[I]"     0x4f00_f000 [Dm N M]  [LaneS]      One;
    Smmla      "smmla Vd.4s, Vn.16b, Vm.16b"       0x4e80_a400 [Dm N M]  []           One;
    Ummla      "ummla Vd.4s, Vn.16b, Vm.16b"       0x6e80_a400 [Dm N M]  []           One;
    Usmmla     "usmmla Vd.4s, Vn.16b, Vm.16b"      0x4e80_ac00 [Dm N M]  []           One;
    // Vectors of floats.
    FaddV      "fadd Vd.T, Vn.T, Vm.T"             0x4e20_d400 [D N M]   []           Double;
    FsubV      "fsub Vd.T, Vn.T, Vm.T"             0x4ea0_d400 [D N M]   []           Double;
    FmulV      "fmul Vd.T, Vn.T, Vm.T"             0x6e20_dc00 [D N M]   []           Double;
    FdivV      "fdiv Vd.T, Vn.T, Vm.T"             0x6e20_fc00 [D N M]   []           Double;
    FmaxV      "fmax Vd.T, Vn.T, Vm.T"             0x4e20_f400 [D N M]   []           Double;
    FminV      "fmin Vd.T, Vn.T, Vm.T"             0x4ea0_f400 [D N M]   []           Double;
    FmlaV      "fmla Vd.T, Vn.T, Vm.T"             0x4e20_cc00 [Dm N M]  []           Double;
    FmlaLane   "fmla Vd.T, Vn.T, Vm.E[I]"          0x4f80_1000 [Dm N M]  [LaneF]      Double;
    FmulLane   "fmul Vd.T, Vn.T, Vm.E[I]"          0x4f80_9000 [D N M]   [LaneF]      Double;
    FnegV      "fneg Vd.T, Vn.T"                   0x6ea0_f800 [D N]     []           Double;
    FabsV      "fabs Vd.T, Vn.T"                   0x4ea0_f800 [D N]     []           Double;
    FsqrtV     "fsqrt Vd.T, Vn.T"                  0x6ea1_f800 [D N]     []           Double;
    FrintnV    "frintn Vd.T, Vn.T"                 0x4e21_8800 [D N]     []           Double;
    FrintmV    "frintm Vd.T, Vn.T"                 0x4e21_9800 [D N]     []           Double;
    FrintpV    "frintp Vd.T, Vn.T"                 0x4ea1_8800 [D N]     []           Double;
    FrintzV    "frintz Vd.T, Vn.T"                 0x4ea1_9800 [D N]     []           Double;
    Fcmeq      "fcmeq Vd.T, Vn.T, Vm.T"            0x4e20_e400 [D N M]   []           Double;
    Fcmgt      "fcmgt Vd.T, Vn.T, Vm.T"            0x6ea0_e400 [D N M]   []           Double;
    Fcmge      "fcmge Vd.T, Vn.T, Vm.T"            0x6e20_e400 [D N M]   []           Double;
    ScvtfV     "scvtf Vd.T, Vn.T"                  0x4e21_d800 [D N]     []           Double;
    UcvtfV     "ucvtf Vd.T, Vn.T"                  0x6e21_d800 [D N]     []           Double;
    FcvtzsV    "fcvtzs Vd.T, Vn.T"                 0x4ea1_b800 [D N]     []           Double;
    FcvtzuV    "fcvtzu Vd.T, Vn.T"                 0x6ea1_b800 [D N]     []           Double;
    FcvtnsV    "fcvtns Vd.T, Vn.T"                 0x4e21_a800 [D N]     []           Double;
    Fcvtl      "fcvtl Vd.2d, Vn.2s"                0x0e61_7800 [D N]     []           One;
    Fcvtl2     "fcvtl2 Vd.2d, Vn.4s"               0x4e61_7800 [D N]     []           One;
    Fcvtn      "fcvtn Vd.2s, Vn.2d"                0x0e61_6800 [D N]     []           One;
    Fcvtn2     "fcvtn2 Vd.4s, Vn.2d"               0x4e61_6800 [Dm N]    []           One;
    FcvtlH     "fcvtl Vd.4s, Vn.4h"                0x0e21_7800 [D N]     []           One;
    FcvtlH2    "fcvtl2 Vd.4s, Vn.8h"               0x4e21_7800 [D N]     []           One;
    FcvtnH     "fcvtn Vd.4h, Vn.4s"                0x0e21_6800 [D N]     []           One;
    FcvtnH2    "fcvtn2 Vd.8h, Vn.4s"               0x4e21_6800 [Dm N]    []           One;
    // Scalar floats.
    Fadd       "fadd Qd, Qn, Qm"                   0x1e20_2800 [D N M]   []           Double;
    Fsub       "fsub Qd, Qn, Qm"                   0x1e20_3800 [D N M]   []           Double;
    Fmul       "fmul Qd, Qn, Qm"                   0x1e20_0800 [D N M]   []           Double;
    Fdiv       "fdiv Qd, Qn, Qm"                   0x1e20_1800 [D N M]   []           Double;
    Fmax       "fmax Qd, Qn, Qm"                   0x1e20_4800 [D N M]   []           Double;
    Fmin       "fmin Qd, Qn, Qm"                   0x1e20_5800 [D N M]   []           Double;
    Fmadd      "fmadd Qd, Qn, Qm, Qa"              0x1f00_0000 [D N M A] []           Double;
    Fneg       "fneg Qd, Qn"                       0x1e21_4000 [D N]     []           Double;
    Fabs       "fabs Qd, Qn"                       0x1e20_c000 [D N]     []           Double;
    Fsqrt      "fsqrt Qd, Qn"                      0x1e21_c000 [D N]     []           Double;
    Frintn     "frintn Qd, Qn"                     0x1e24_4000 [D N]     []           Double;
    Frintp     "frintp Qd, Qn"                     0x1e24_c000 [D N]     []           Double;
    Frintm     "frintm Qd, Qn"                     0x1e25_4000 [D N]     []           Double;
    Frintz     "frintz Qd, Qn"                     0x1e25_c000 [D N]     []           Double;
    Fcmp       "fcmp Qn, Qm"                       0x1e20_2000 [N M]     []           Double;
    Fcsel      "fcsel Qd, Qn, Qm, C"               0x1e20_0c00 [D N M]   [Cond]       Double;
    FcvtToD    "fcvt Dd, Sn"                       0x1e22_c000 [D N]     []           One;
    FcvtToS    "fcvt Sd, Dn"                       0x1e62_4000 [D N]     []           One;
    ScvtfW     "scvtf Qd, Wn"                      0x1e22_0000 [D N]     []           Double;
    ScvtfX     "scvtf Qd, Xn"                      0x9e22_0000 [D N]     []           Double;
    UcvtfW     "ucvtf Qd, Wn"                      0x1e23_0000 [D N]     []           Double;
    UcvtfX     "ucvtf Qd, Xn"                      0x9e23_0000 [D N]     []           Double;
    FcvtzsW    "fcvtzs Wd, Qn"                     0x1e38_0000 [D N]     []           Double;
    FcvtzsX    "fcvtzs Xd, Qn"                     0x9e38_0000 [D N]     []           Double;
    FcvtzuW    "fcvtzu Wd, Qn"                     0x1e39_0000 [D N]     []           Double;
    FcvtzuX    "fcvtzu Xd, Qn"                     0x9e39_0000 [D N]     []           Double;
    // Jumps; the targets of the first two are blocks.
    B          "b "                                0x1400_0000 []        []           One;
    BCond      "b.C "                              0x5400_0000 []        [CondLow]    One;
    Ret        "ret"                               0xd65f_03c0 []        []           One;
    BtiC       "bti c"                             0xd503_245f []        []           One;
}
