//! Regions become steps within a step. A region's inputs and outputs use the buffers of the outer graph, so only values
//! that it passes through are copied.

use super::{Buffer, Lowering, Planned, Ports};
use mcc_ir::{Error, Graph, If, NodeId, Result, Sym, Value};

impl<'a> Lowering<'a> {
    /// The steps of both branches.
    pub(super) fn branches(&mut self, node: NodeId, branches: &'a If) -> Result<()> {
        let graph = self.graph;
        let operands = graph.operands(node).into_iter().map(|v| self.whole(v)).collect::<Result<Vec<_>>>()?;
        let (&condition, operands) = operands.split_first().ok_or_else(|| Error::internal("no condition"))?;
        self.touch(condition);
        let mut results = Vec::new();
        for result in 0..graph.types(node).len() {
            let value = Value { node, result };
            results.push(self.new_result(value, graph.ty(value), None)?);
        }
        self.made.now += 1;
        let binds = branches.binds.iter().map(|s| self.symbol(s)).collect::<Result<Vec<_>>>()?;
        let mut steps = [Vec::new(), Vec::new()];
        for (n, region) in branches.branches().into_iter().enumerate() {
            let ports = Ports { inputs: operands.to_vec(), outputs: results.clone() };
            steps[n] = self.region(region, ports, graph.label(node))?;
            for (s, &symbol) in branches.binds.iter().zip(&binds) {
                let extents = branches.extents(s).ok_or_else(|| Error::internal(format!("{s} is no extent")))?;
                steps[n].push(Planned::Let { symbol, value: extents[n].clone() });
            }
        }
        let label = graph.label(node).to_string();
        self.steps.push(Planned::If { condition, branches: steps, binds: binds.clone(), label });
        binds.into_iter().for_each(|symbol| self.require_after(symbol));
        Ok(())
    }

    /// The steps of a region.
    fn region(&mut self, graph: &'a Graph, ports: Ports, label: &str) -> Result<Vec<Planned>> {
        let mut inner = Lowering::new(graph, self.config, ports)?;
        inner.made = std::mem::take(&mut self.made);
        let done = inner.all_steps(label);
        self.made = std::mem::take(&mut inner.made);
        done.map(|()| inner.steps)
    }

    /// The buffer that holds a value and nothing else, contiguously.
    fn whole(&mut self, value: Value) -> Result<Buffer> {
        let (base, view) = self.grouping.operand(self.graph, value, &self.placements)?;
        if !view.is_contiguous(&self.graph.ty(value).shape) {
            return Err(Error::internal("a region is given a part of a buffer"));
        }
        self.buffer(base)
    }

    /// The index of a symbol.
    pub(super) fn symbol(&self, name: &Sym) -> Result<usize> {
        let symbol = self.made.symbols.iter().position(|s| s.name == *name);
        symbol.ok_or_else(|| Error::internal(format!("dimension {name} has no symbol")))
    }

    /// Adds the checks on a symbol that was just bound.
    pub(super) fn require_after(&mut self, symbol: usize) {
        if let Some(checks) = self.required.remove(&symbol) {
            self.steps.push(Planned::Require(checks));
        }
    }
}
