//! Kernel IR to AArch64 machine code.
mod encode;
mod fields;
mod inst;
mod table;
#[cfg(test)]
mod table_tests;
