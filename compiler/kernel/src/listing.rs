//! A [`Program`] as text, for people: `mcc --emit program`.

use std::fmt;

use super::program::{Check, Place, Port, Program, Step, SymbolSource};

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "program {}", self.name)?;
        let ports = |f: &mut fmt::Formatter<'_>, side: &str, ports: &[Port]| {
            ports
                .iter()
                .enumerate()
                .try_for_each(|(n, p)| writeln!(f, "{side}{n} {}: {} // {}", p.c_name, p.ty, p.name))
        };
        ports(f, "in", &self.inputs)?;
        ports(f, "out", &self.outputs)?;
        for symbol in &self.symbols {
            write!(f, "symbol {} = ", symbol.name)?;
            match &symbol.source {
                SymbolSource::InputDim { input, axis } => writeln!(f, "dim {axis} of in{input}")?,
                SymbolSource::InputElement { input, index } => writeln!(f, "element {index} of in{input}")?,
                SymbolSource::Step { max } => writeln!(f, "from a step, at most {max}")?,
            }
        }
        self.requires.iter().try_for_each(|check| require(f, check))?;
        for (n, constant) in self.constants.iter().enumerate() {
            writeln!(f, "const{n}: {} bytes // {}", constant.data.len(), constant.label)?;
        }
        for (n, kernel) in self.kernels.iter().enumerate() {
            let symbols: Vec<&str> = kernel.symbols.iter().map(|s| &*s.0).collect();
            writeln!(f, "kernel{n} {}({} pointers; {})", kernel.name, kernel.pointers, symbols.join(", "))?;
        }
        self.steps.iter().try_for_each(|s| step(f, self, s, 0))?;
        writeln!(f, "arena {} bytes, {} live at once", self.arena_bytes, self.live_bytes)?;
        self.kernels.iter().enumerate().try_for_each(|(n, kernel)| write!(f, "\nkernel{n}: {kernel}"))
    }
}

fn require(f: &mut fmt::Formatter<'_>, Check { condition, text }: &Check) -> fmt::Result {
    writeln!(f, "require {condition} // {text}")
}

/// A step at a depth of the tree, with the steps within it.
fn step(f: &mut fmt::Formatter<'_>, program: &Program, step: &Step, depth: usize) -> fmt::Result {
    let indent = "  ".repeat(depth);
    let list = |f: &mut fmt::Formatter<'_>, steps: &[Step]| {
        steps.iter().try_for_each(|s| self::step(f, program, s, depth + 1))
    };
    match step {
        Step::Call { kernel, args, label, shared, .. } => {
            let args: Vec<String> = args.iter().map(place).collect();
            let name = &program.kernels[*kernel].name;
            let shared = shared.as_ref().map(|ns| format!(" shared({ns} ns)")).unwrap_or_default();
            writeln!(f, "{indent}call kernel{kernel} {name}({}){shared} // {label}", args.join(", "))
        }
        Step::Bind { symbol, place: at } => {
            writeln!(f, "{indent}bind {} = {}", program.symbols[*symbol].name, place(at))
        }
        Step::Let { symbol, value } => writeln!(f, "{indent}let {} = {value}", program.symbols[*symbol].name),
        Step::Require { checks } => checks.iter().try_for_each(|check| {
            f.write_str(&indent)?;
            require(f, check)
        }),
        Step::If { condition, then, otherwise, binds, label } => {
            let names: Vec<String> = binds.iter().map(|&s| program.symbols[s].name.to_string()).collect();
            let binds = if names.is_empty() { String::new() } else { format!(" binds {}", names.join(", ")) };
            writeln!(f, "{indent}if {}{binds} // {label}", place(condition))?;
            list(f, then)?;
            writeln!(f, "{indent}else")?;
            list(f, otherwise)?;
            writeln!(f, "{indent}end")
        }
    }
}

fn place(place: &Place) -> String {
    match place {
        Place::Input(n) => format!("in{n}"),
        Place::InputAt { input, offset } => format!("in{input}[{offset}]"),
        Place::Output(n) => format!("out{n}"),
        Place::Arena(offset) => format!("arena[{offset}]"),
        Place::Slot { offset, bytes } => format!("arena[{offset} + thread * {bytes}]"),
        Place::Constant(n) => format!("const{n}"),
    }
}
