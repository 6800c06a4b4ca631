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
        for Check { condition, text, after } in &self.requires {
            let after = after.map(|n| format!(" after {}", self.symbols[n].name)).unwrap_or_default();
            writeln!(f, "require {condition}{after} // {text}")?;
        }
        for (n, constant) in self.constants.iter().enumerate() {
            writeln!(f, "const{n}: {} bytes // {}", constant.data.len(), constant.label)?;
        }
        for (n, kernel) in self.kernels.iter().enumerate() {
            let symbols: Vec<&str> = kernel.symbols.iter().map(|s| &*s.0).collect();
            writeln!(f, "kernel{n} {}({} pointers; {})", kernel.name, kernel.pointers, symbols.join(", "))?;
        }
        for step in &self.steps {
            match step {
                Step::Call { kernel, args, label, shared, .. } => {
                    let args: Vec<String> = args.iter().map(place).collect();
                    let name = &self.kernels[*kernel].name;
                    let shared = shared.as_ref().map(|ns| format!(" shared({ns} ns)")).unwrap_or_default();
                    writeln!(f, "call kernel{kernel} {name}({}){shared} // {label}", args.join(", "))?;
                }
                Step::Bind { symbol, place: at } => {
                    writeln!(f, "bind {} = {}", self.symbols[*symbol].name, place(at))?;
                }
            }
        }
        writeln!(f, "arena {} bytes, {} live at once", self.arena_bytes, self.live_bytes)?;
        self.kernels.iter().enumerate().try_for_each(|(n, kernel)| write!(f, "\nkernel{n}: {kernel}"))
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
