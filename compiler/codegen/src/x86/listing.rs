//! Machine code as text.

use iced_x86::{Decoder, DecoderOptions, FastFormatter, Instruction, Mnemonic};

/// The instructions of a function, one per line, with labels at jump targets. The constants after the code are omitted.
pub fn listing(code: &[u8]) -> String {
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let instructions: Vec<Instruction> =
        decoder.iter().take_while(|i| !i.is_invalid() && i.mnemonic() != Mnemonic::Int3).collect();
    let end = instructions.iter().position(|i| i.mnemonic() == Mnemonic::Ret).map_or(instructions.len(), |n| n + 1);
    let mut targets: Vec<u64> =
        instructions[..end].iter().map(Instruction::near_branch_target).filter(|&t| t != 0).collect();
    targets.sort_unstable();
    targets.dedup();
    let label = |ip: u64| targets.binary_search(&ip).ok().map(|n| format!("l{n}"));
    let mut formatter = FastFormatter::new();
    formatter.options_mut().set_space_after_operand_separator(true);
    let mut text = String::new();
    for instruction in &instructions[..end] {
        if let Some(label) = label(instruction.ip()) {
            text += &format!("{label}:\n");
        }
        let mut line = String::new();
        match label(instruction.near_branch_target()).filter(|_| instruction.near_branch_target() != 0) {
            Some(to) => line += &format!("{:?} {to}", instruction.mnemonic()).to_lowercase(),
            None => formatter.format(instruction, &mut line),
        }
        text += &format!("    {line}\n");
    }
    text
}
