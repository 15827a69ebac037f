//! Two sides measured in turns, so that what the machine does meanwhile falls on both.

use super::samples::median;
use crate::Result;

/// Both sides in turns; who begins changes, so that neither always has the warmer machine.
pub fn alternate<A, B>(
    turns: usize,
    mut floor: impl FnMut() -> Result<A>,
    mut ours: impl FnMut() -> Result<B>,
) -> Result<Vec<(A, B)>> {
    (0..turns)
        .map(|turn| {
            if turn % 2 == 0 {
                let floor = floor()?;
                Ok((floor, ours()?))
            } else {
                let ours = ours()?;
                Ok((floor()?, ours))
            }
        })
        .collect()
}

/// Measures a quantity of both sides in turns: the medians, and the median of the ratios.
pub fn compare(
    turns: usize,
    floor: impl FnMut() -> Result<f64>,
    ours: impl FnMut() -> Result<f64>,
) -> Result<((f64, f64), f64)> {
    Ok(medians(&alternate(turns, floor, ours)?))
}

/// The medians of both sides, and the median of the ratios of ours to the floor.
pub fn medians(pairs: &[(f64, f64)]) -> ((f64, f64), f64) {
    let sides = (
        median(pairs.iter().map(|pair| pair.0)),
        median(pairs.iter().map(|pair| pair.1)),
    );
    let ratios = pairs.iter().map(|(floor, ours)| ours / floor);
    (sides, median(ratios))
}

/// A name, and microseconds for one turn.
pub type Side<'a> = (&'a str, &'a dyn Fn() -> Result<f64>);

/// Microseconds of all sides in turns, each of them first as often as the others. `before` goes
/// before each, and is not measured.
pub fn in_turns(
    turns: usize,
    before: impl Fn() -> Result,
    sides: &[Side<'_>],
) -> Result<Vec<Vec<f64>>> {
    let mut taken = vec![Vec::new(); sides.len()];
    for turn in 0..turns {
        for place in 0..sides.len() {
            let at = (place + turn) % sides.len();
            before()?;
            taken[at].push(sides[at].1()?);
        }
    }
    Ok(taken)
}
