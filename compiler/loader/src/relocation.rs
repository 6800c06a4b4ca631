//! The relocations that mcc's ELF objects contain.

use object::{Architecture, elf};

use mcc_ir::{Error, Result};

/// A place in code or data that holds an address.
#[derive(Debug, Clone, Copy)]
pub struct Relocation {
    /// The machine.
    pub arch: Architecture,
    /// How the address is encoded.
    pub r_type: elf::RelocationType,
    /// The address of the place itself.
    pub here: i64,
    /// The address to encode: the symbol's, and the addend.
    pub value: i64,
}

/// Writes the address to `bytes`, which begin at the place.
///
/// # Errors
/// When mcc does not emit such relocations, or the address is out of range.
pub fn apply(bytes: &mut [u8], relocation: &Relocation) -> Result<()> {
    let Relocation { arch, r_type, here, value } = *relocation;
    let distance = value.wrapping_sub(here);
    let far = || Error::internal("object file: a relocation is out of range".to_string());
    match (arch, r_type) {
        (Architecture::X86_64, elf::R_X86_64_64) | (Architecture::Aarch64, elf::R_AARCH64_ABS64) => {
            bytes[..8].copy_from_slice(&value.to_le_bytes());
        }
        (Architecture::X86_64, elf::R_X86_64_PC32 | elf::R_X86_64_PLT32)
        | (Architecture::Aarch64, elf::R_AARCH64_PREL32) => {
            let short = i32::try_from(distance).map_err(|_| far())?;
            bytes[..4].copy_from_slice(&short.to_le_bytes());
        }
        (Architecture::Aarch64, elf::R_AARCH64_CALL26 | elf::R_AARCH64_JUMP26) => {
            let short = i32::try_from(distance).ok().filter(|d| (-(1 << 27)..1 << 27).contains(d)).ok_or_else(far)?;
            patch(bytes, 0x03ff_ffff, (short >> 2) as u32);
        }
        (Architecture::Aarch64, elf::R_AARCH64_ADR_PREL_PG_HI21) => {
            let pages = (value >> 12) - (here >> 12);
            let pages = i32::try_from(pages).ok().filter(|p| (-(1 << 20)..1 << 20).contains(p)).ok_or_else(far)? as u32;
            patch(bytes, 0x60ff_ffe0, ((pages & 3) << 29) | ((pages >> 2 & 0x7_ffff) << 5));
        }
        (Architecture::Aarch64, elf::R_AARCH64_ADD_ABS_LO12_NC) => {
            patch(bytes, 0x003f_fc00, (value as u32 & 0xfff) << 10);
        }
        _ => return Err(Error::internal(format!("object file: relocation {r_type:?} of {arch:?}"))),
    }
    Ok(())
}

/// Replaces the bits of an instruction that `mask` selects.
fn patch(bytes: &mut [u8], mask: u32, bits: u32) {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[..4]);
    let word = (u32::from_le_bytes(word) & !mask) | (bits & mask);
    bytes[..4].copy_from_slice(&word.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_encoded_or_refused() {
        let of = |arch, r_type, here, value| {
            let mut bytes = [0; 8];
            apply(&mut bytes, &Relocation { arch, r_type, here, value }).ok().map(|()| u64::from_le_bytes(bytes))
        };
        let (x86, arm) = (Architecture::X86_64, Architecture::Aarch64);
        assert_eq!(of(x86, elf::R_X86_64_64, 0, -2), Some(u64::MAX - 1));
        assert_eq!(of(x86, elf::R_X86_64_PC32, 16, 12), Some(0xffff_fffc));
        assert_eq!(of(x86, elf::R_X86_64_PC32, 0, 1 << 31), None);
        assert_eq!(of(arm, elf::R_AARCH64_CALL26, 8, 4), Some(0x03ff_ffff));
        assert_eq!(of(arm, elf::R_AARCH64_CALL26, 0, 1 << 27), None);
        assert_eq!(of(arm, elf::R_AARCH64_ADR_PREL_PG_HI21, 0x1fff, 0x3001), Some(2 << 29));
        // Three pages back: 1 in the two low bits, -1 in the others.
        let back = of(arm, elf::R_AARCH64_ADR_PREL_PG_HI21, 0x5000, 0x2fff);
        assert_eq!(back, Some((1 << 29) | (0x7_ffff << 5)));
        assert_eq!(of(arm, elf::R_AARCH64_ADR_PREL_PG_HI21, 0, 1 << 32), None);
        assert_eq!(of(arm, elf::R_AARCH64_ADD_ABS_LO12_NC, 0, 0x1234), Some(0x234 << 10));
        assert_eq!(of(arm, elf::R_X86_64_64, 0, 0), None);
    }
}
