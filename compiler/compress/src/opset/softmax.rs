//! Softmax and its relatives: until version 12 they work on a matrix, whose columns are the axes from one on; from 13 on,
//! along one axis.

use mcc_ir::Result;

use super::change::{Change, int};

/// The first version in which Reshape takes extents of 0 literally.
const LITERAL_ZEROS_SINCE: i64 = 14;

/// Softmax, LogSoftmax and Hardmax 13.
pub fn axis(c: &mut Change<'_, '_>) -> Result<()> {
    let axis = c.int("axis", 1)?;
    c.set(int("axis", -1));
    let x = c.input(0).to_string();
    let rank = c.rank(&x).or_else(|| c.rank(c.output(0)));
    if axis == -1 || rank.is_some_and(|rank| axis == rank as i64 - 1) {
        return Ok(());
    }
    let shape = c.compute("Shape", &[&x], vec![]);
    let matrix = c.compute("Flatten", &[&x], vec![int("axis", axis)]);
    c.set_input(0, matrix);
    let literal = if c.to() >= LITERAL_ZEROS_SINCE { vec![int("allowzero", 1)] } else { vec![] };
    c.follow("Reshape", &[&shape], literal);
    Ok(())
}
