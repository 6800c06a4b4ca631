//! The `mcc` command.

mod cli;

#[global_allocator]
static ALLOCATOR: cli::last_resort::Allocator = cli::last_resort::Allocator;

fn main() -> std::process::ExitCode {
    cli::last_resort::guarded(cli::main)
}
