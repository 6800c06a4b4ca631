//! Instruction set extensions: an enum, a set type, and one table row per extension.

use std::fmt;

use crate::Arch;

/// A word of bits in which a CPU, or the operating system, reports extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CpuWord {
    /// `cpuid` leaf 1, `ecx`.
    Leaf1Ecx,
    /// `cpuid` leaf 7, `ebx`.
    Leaf7Ebx,
    /// `cpuid` leaf 7, `ecx`.
    Leaf7Ecx,
    /// `cpuid` leaf 7, subleaf 1, `eax`.
    Leaf7Sub1Eax,
    /// `cpuid` leaf 0x8000_0001, `ecx`.
    ExtendedEcx,
    /// `getauxval(AT_HWCAP)` of Linux on 64-bit Arm.
    Hwcap,
    /// `getauxval(AT_HWCAP2)`.
    Hwcap2,
}

/// The properties of an extension.
pub struct FeatureRow {
    /// The extension.
    pub feature: Feature,
    /// Name for `--cpu`, spelled as in the architecture's manuals and other compilers.
    pub name: &'static str,
    /// Family it belongs to.
    pub arch: Arch,
    /// The bit that reports it.
    pub bit: (CpuWord, u32),
    /// Bits of `XCR0` that the operating system sets if it saves the registers that the extension needs.
    pub xcr0: u32,
    /// Cranelift's flag for it; extensions without one are used by the x86 emitter only.
    pub cranelift: Option<&'static str>,
    /// Extensions that every CPU with this one has.
    pub implies: &'static [Feature],
}

/// No bits of `XCR0`: registers that every system saves.
const XMM: u32 = 0;
/// Bits of `XCR0` for 256-bit registers.
const YMM: u32 = 0x06;
/// Bits of `XCR0` for masks and 512-bit registers.
const ZMM: u32 = 0xe6;

/// Defines the enum, its table, and the detection of this machine's extensions by the standard library.
macro_rules! features {
    ($($arch:ident $built_for:tt $detects:ident {
        $($feature:ident $name:tt $word:ident $bit:literal $xcr0:ident $cranelift:expr, [$($implied:ident),*];)*
    })*) => {
        /// An instruction set extension.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)] // The table tells what each one is.
        pub enum Feature { $($($feature,)*)* }

        /// Every extension that `--cpu` can add or remove, in the order of [`Feature`].
        pub const FEATURES: &[FeatureRow] = &[$($(FeatureRow {
            feature: Feature::$feature,
            name: $name,
            arch: Arch::$arch,
            bit: (CpuWord::$word, $bit),
            xcr0: $xcr0,
            cranelift: $cranelift,
            implies: &[$(Feature::$implied),*],
        },)*)*];

        $(
            /// The extensions of this machine; one counts only if all that it implies are there too.
            #[cfg(target_arch = $built_for)]
            pub(crate) fn detected() -> FeatureSet {
                use std::arch::$detects as has;
                let found = [$((Feature::$feature, has!($name))),*];
                found.into_iter().filter(|f| f.1).fold(FeatureSet::EMPTY, |set, (feature, _)| {
                    let whole = feature.row().implies.iter().all(|&implied| set.contains(implied));
                    if whole { set.union(FeatureSet::of(&[feature])) } else { set }
                })
            }
        )*
    };
}

features! {
    // variant   name          the bit that tells   XCR0  Cranelift's flag      implies
    X86_64 "x86_64" is_x86_feature_detected {
        Sse3       "sse3"        Leaf1Ecx     0  XMM Some("has_sse3"),       [];
        Ssse3      "ssse3"       Leaf1Ecx     9  XMM Some("has_ssse3"),      [Sse3];
        Sse41      "sse4.1"      Leaf1Ecx     19 XMM Some("has_sse41"),      [Ssse3];
        Sse42      "sse4.2"      Leaf1Ecx     20 XMM Some("has_sse42"),      [Sse41];
        Popcnt     "popcnt"      Leaf1Ecx     23 XMM Some("has_popcnt"),     [];
        Cmpxchg16b "cmpxchg16b"  Leaf1Ecx     13 XMM Some("has_cmpxchg16b"), [];
        Avx        "avx"         Leaf1Ecx     28 YMM Some("has_avx"),        [Sse42];
        Avx2       "avx2"        Leaf7Ebx     5  YMM Some("has_avx2"),       [Avx];
        Fma        "fma"         Leaf1Ecx     12 YMM Some("has_fma"),        [Avx];
        Bmi1       "bmi1"        Leaf7Ebx     3  XMM Some("has_bmi1"),       [];
        Bmi2       "bmi2"        Leaf7Ebx     8  XMM Some("has_bmi2"),       [];
        Lzcnt      "lzcnt"       ExtendedEcx  5  XMM Some("has_lzcnt"),      [];
        F16c       "f16c"        Leaf1Ecx     29 YMM None,                   [Avx];
        Avx512f    "avx512f"     Leaf7Ebx     16 ZMM Some("has_avx512f"),    [Avx2, Fma, F16c];
        Avx512bw   "avx512bw"    Leaf7Ebx     30 ZMM None,                   [Avx512f];
        Avx512cd   "avx512cd"    Leaf7Ebx     28 ZMM None,                   [Avx512f];
        Avx512dq   "avx512dq"    Leaf7Ebx     17 ZMM Some("has_avx512dq"),   [Avx512f];
        Avx512vl   "avx512vl"    Leaf7Ebx     31 ZMM Some("has_avx512vl"),   [Avx512f];
        Avx512vbmi "avx512vbmi"  Leaf7Ecx     1  ZMM None,                   [Avx512bw];
        Avx512vbmi2 "avx512vbmi2" Leaf7Ecx    6  ZMM None,                   [Avx512bw];
        Avx512vnni "avx512vnni"  Leaf7Ecx     11 ZMM None,                   [Avx512f];
        Avxvnni    "avxvnni"     Leaf7Sub1Eax 4  YMM None,                   [Avx2];
    }
    Aarch64 "aarch64" is_aarch64_feature_detected {
        Lse        "lse"         Hwcap        8  XMM Some("has_lse"),        [];
        Fp16       "fp16"        Hwcap        10 XMM Some("has_fp16"),       [];
        Dotprod    "dotprod"     Hwcap        20 XMM Some("has_dotprod"),    [];
        I8mm       "i8mm"        Hwcap2       13 XMM Some("has_i8mm"),       [];
    }
}

/// The extensions of this machine.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn detected() -> FeatureSet {
    FeatureSet::EMPTY
}

impl Feature {
    /// Its row of the table.
    pub fn row(self) -> &'static FeatureRow {
        &FEATURES[self as usize]
    }

    /// Its name for `--cpu`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The extension with a name, of any family.
    pub fn of_name(name: &str) -> Option<Feature> {
        FEATURES.iter().find(|row| row.name == name).map(|row| row.feature)
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of extensions. It prints as names in alphabetical order, separated by spaces, as in descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FeatureSet(u64);

impl FeatureSet {
    /// No extension.
    pub const EMPTY: FeatureSet = FeatureSet(0);

    /// The set of the given extensions.
    pub const fn of(features: &[Feature]) -> FeatureSet {
        let (mut set, mut n) = (FeatureSet::EMPTY, 0);
        while n < features.len() {
            set.0 |= 1 << features[n] as u32;
            n += 1;
        }
        set
    }

    /// The union with another set.
    #[must_use]
    pub const fn union(self, other: FeatureSet) -> FeatureSet {
        FeatureSet(self.0 | other.0)
    }

    /// The extensions that the other set lacks.
    #[must_use]
    pub const fn difference(self, other: FeatureSet) -> FeatureSet {
        FeatureSet(self.0 & !other.0)
    }

    /// Whether an extension is in it.
    pub const fn contains(self, feature: Feature) -> bool {
        self.0 >> feature as u32 & 1 != 0
    }

    /// Whether it contains all extensions of the other set.
    pub const fn contains_all(self, other: FeatureSet) -> bool {
        other.0 & !self.0 == 0
    }

    /// Whether it is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The number of extensions.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Adds an extension and all that it implies.
    pub fn add(&mut self, feature: Feature) {
        self.0 |= 1 << feature as u32;
        feature.row().implies.iter().for_each(|&implied| self.add(implied));
    }

    /// Removes an extension and all that imply it.
    pub fn remove(&mut self, feature: Feature) {
        self.0 &= !(1 << feature as u32);
        let users = FEATURES.iter().filter(|row| row.implies.contains(&feature));
        users.for_each(|row| self.remove(row.feature));
    }

    /// Its extensions, in the table's order.
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        FEATURES.iter().map(|row| row.feature).filter(move |&f| self.contains(f))
    }

    /// The names of its extensions, in alphabetical order.
    pub fn names(self) -> Vec<&'static str> {
        let mut names: Vec<&str> = self.iter().map(Feature::name).collect();
        names.sort_unstable();
        names
    }
}

impl FromIterator<Feature> for FeatureSet {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> FeatureSet {
        features.into_iter().fold(FeatureSet::EMPTY, |set, f| set.union(FeatureSet::of(&[f])))
    }
}

impl fmt::Display for FeatureSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_a_feature() {
        assert!(FEATURES.len() <= 64, "a set has 64 bits");
        for (n, row) in FEATURES.iter().enumerate() {
            assert_eq!(row.feature as usize, n);
            assert_eq!(Feature::of_name(row.name), Some(row.feature), "{}", row.name);
            assert!(row.implies.iter().all(|f| f.row().arch == row.arch && *f < row.feature), "{}", row.name);
            let twins = FEATURES.iter().filter(|other| (other.arch, other.bit) == (row.arch, row.bit));
            assert_eq!(twins.count(), 1, "{}", row.name);
            assert!(row.cranelift.is_none_or(|flag| flag == format!("has_{}", row.name.replace('.', ""))));
        }
        assert_eq!(Feature::of_name("avx9"), None);
    }

    #[test]
    fn features_bring_and_take_others() {
        let mut set = FeatureSet::EMPTY;
        set.add(Feature::Avx512vbmi);
        assert!(set.contains(Feature::Avx512bw) && set.contains(Feature::Sse3) && !set.contains(Feature::Avx512vl));
        set.remove(Feature::Fma);
        assert_eq!(set.to_string(), "avx avx2 f16c sse3 sse4.1 sse4.2 ssse3");
        assert_eq!((set.len(), set.iter().next()), (7, Some(Feature::Sse3)));
        set.remove(Feature::Sse3);
        assert!(set.is_empty());
    }
}
