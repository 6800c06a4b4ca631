//! Broadcasting: since version 7 shapes are aligned at their last axes, without being told to.

use mcc_ir::{Error, Result};

use super::change::{Change, ints};

/// Element-wise operators 7: the second operand was aligned with an axis of the first.
pub fn broadcast(c: &mut Change<'_, '_>) -> Result<()> {
    let aligned = c.int("broadcast", 0)? != 0 && c.attribute("axis").is_some();
    let axis = c.int("axis", 0)?;
    c.take("broadcast");
    c.take("axis");
    if !aligned {
        return Ok(());
    }
    let (Some(rank), Some(own)) = (c.rank(c.input(0)), c.rank(c.input(1))) else {
        return Err(unknown_rank("operands are aligned at an axis"));
    };
    let first = if axis < 0 { axis + rank as i64 } else { axis };
    let trailing = rank as i64 - first - own as i64;
    if trailing < 0 {
        return Err(Error::invalid(format!("axis {axis} for {own} axes, of {rank}")));
    }
    add_trailing(c, own, own + trailing as usize);
    Ok(())
}

/// PRelu 7: a slope per channel was a list.
pub fn prelu(c: &mut Change<'_, '_>) -> Result<()> {
    let (Some(rank), Some(own)) = (c.rank(c.input(0)), c.rank(c.input(1))) else {
        return Err(unknown_rank("slopes are aligned with channels"));
    };
    if own == 1 && rank > 2 {
        add_trailing(c, 1, rank - 1);
    }
    Ok(())
}

/// Gemm 7: the third operand is broadcast where it must be.
pub fn gemm(c: &mut Change<'_, '_>) -> Result<()> {
    c.take("broadcast");
    Ok(())
}

/// Gives the second operand, of `from` axes, axes of extent 1 at the end, up to `to`.
fn add_trailing(c: &mut Change<'_, '_>, from: usize, to: usize) {
    if from < to {
        let axes: Vec<i64> = (from as i64..to as i64).collect();
        let operand = c.input(1).to_string();
        let aligned = c.compute("Unsqueeze", &[&operand], vec![ints("axes", &axes)]);
        c.set_input(1, aligned);
    }
}

fn unknown_rank(why: &str) -> Error {
    Error::unsupported(format!("{why}, but how many axes they have is unknown"))
        .help("declare the shapes of the operands in the graph's value_info")
}
