//! One option for every item, so that the sum of values is least and the sum of weights within a cap: the multiple-choice
//! knapsack (Sinha and Zoltners 1979), exact by dynamic programming over weights in equal steps (Kellerer et al. 2004).
//!
//! Options are of classes, and where neighbouring items' options are of different classes, a border is paid: with the last
//! option's class in the state, the programme stays exact.

/// Steps that the cap is divided into.
const STEPS: usize = 4000;

/// Classes of options.
pub const CLASSES: usize = 2;

/// Values and weights.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Knapsack {
    /// The options of each item; at least one.
    pub items: Vec<Vec<Choice>>,
    /// The border before each item; that of the first is never paid.
    pub borders: Vec<Border>,
}

/// An option of an item.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// What is to be little.
    pub value: f64,
    /// What is limited; not negative.
    pub weight: f64,
    /// Its class, below [`CLASSES`].
    pub class: usize,
}

/// What neighbours of different classes cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Border {
    /// Added to the values.
    pub value: f64,
    /// Added to the weights; not negative.
    pub weight: f64,
}

/// How a state was reached: the item's option, and the class of the one before.
#[derive(Debug, Clone, Copy, Default)]
struct Step {
    option: u16,
    before: u16,
}

impl Knapsack {
    /// The option of each item; `None` if the lightest ones are heavier than the cap. Of equal values, the lighter
    /// options win, then the earlier ones.
    ///
    /// Weights are rounded to the nearest of 4000 steps of the cap, so the sum may be above it by the error of rounding.
    pub fn solve(&self, cap: f64) -> Option<Vec<usize>> {
        let step = cap / STEPS as f64;
        if self.items.is_empty() {
            return Some(Vec::new());
        }
        // A weight beyond the cap stays beyond it.
        let steps = |weight: f64| if step > 0.0 { (weight / step).round() } else { weight * f64::INFINITY };
        let steps = |weight: f64| if weight <= 0.0 { 0 } else { steps(weight).min((STEPS + 1) as f64) as usize };
        let mut best = vec![vec![f64::INFINITY; STEPS + 1]; CLASSES];
        let mut path: Vec<Vec<Vec<Step>>> = Vec::with_capacity(self.items.len());
        for (n, options) in self.items.iter().enumerate() {
            let border = self.borders.get(n).copied().unwrap_or_default();
            let mut next = vec![vec![f64::INFINITY; STEPS + 1]; CLASSES];
            let mut how = vec![vec![Step::default(); STEPS + 1]; CLASSES];
            for (number, option) in options.iter().enumerate() {
                if n == 0 {
                    let at = steps(option.weight);
                    if at <= STEPS && option.value < next[option.class][at] {
                        next[option.class][at] = option.value;
                        how[option.class][at] = Step { option: number as u16, before: 0 };
                    }
                    continue;
                }
                for before in 0..CLASSES {
                    let crossed = if before == option.class { Border::default() } else { border };
                    let (value, weight) = (option.value + crossed.value, steps(option.weight) + steps(crossed.weight));
                    for at in weight..=STEPS {
                        let sum = best[before][at - weight] + value;
                        if sum < next[option.class][at] {
                            next[option.class][at] = sum;
                            how[option.class][at] = Step { option: number as u16, before: before as u16 };
                        }
                    }
                }
            }
            path.push(how);
            best = next;
        }
        self.follow(&best, &path, &steps)
    }

    /// The options that lead to the best of the last states.
    fn follow(&self, best: &[Vec<f64>], path: &[Vec<Vec<Step>>], steps: &dyn Fn(f64) -> usize) -> Option<Vec<usize>> {
        let states = (0..=STEPS).flat_map(|at| (0..CLASSES).map(move |class| (class, at)));
        let last = states.filter(|&(class, at)| best[class][at].is_finite());
        let (mut class, mut at) = last.min_by(|a, b| best[a.0][a.1].total_cmp(&best[b.0][b.1]))?;
        let mut chosen = vec![0; self.items.len()];
        for n in (0..self.items.len()).rev() {
            let Step { option, before } = path[n][class][at];
            chosen[n] = usize::from(option);
            let before = usize::from(before);
            if n > 0 {
                let border = self.borders.get(n).copied().unwrap_or_default();
                let crossed = if before == class { 0 } else { steps(border.weight) };
                at -= steps(self.items[n][chosen[n]].weight) + crossed;
            }
            class = before;
        }
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use mcc_ir::Random;

    use super::*;

    /// Sums of values and weights.
    fn sums(knapsack: &Knapsack, chosen: &[usize]) -> Border {
        let mut sum = Border::default();
        let options: Vec<Choice> = chosen.iter().zip(&knapsack.items).map(|(&c, item)| item[c]).collect();
        for (n, option) in options.iter().enumerate() {
            sum.value += option.value;
            sum.weight += option.weight;
            if n > 0 && options[n - 1].class != option.class {
                sum.value += knapsack.borders[n].value;
                sum.weight += knapsack.borders[n].weight;
            }
        }
        sum
    }

    /// The least value within the cap, by trying everything.
    fn brute_force(knapsack: &Knapsack, cap: f64) -> Option<f64> {
        let mut all = vec![Vec::new()];
        for item in &knapsack.items {
            let longer =
                |head: &Vec<usize>| (0..item.len()).map(|c| [head.as_slice(), &[c]].concat()).collect::<Vec<_>>();
            all = all.iter().flat_map(longer).collect();
        }
        let within = all.iter().map(|chosen| sums(knapsack, chosen)).filter(|s| s.weight <= cap);
        within.map(|s| s.value).min_by(f64::total_cmp)
    }

    #[test]
    fn nothing_is_better_than_what_is_found() {
        let mut random = Random::new(7);
        let mut refused = 0;
        for _ in 0..300 {
            let mut knapsack = Knapsack::default();
            for _ in 0..1 + random.below(6) {
                let option = |random: &mut Random| Choice {
                    value: random.below(50) as f64,
                    weight: random.below(20) as f64,
                    class: random.below(CLASSES),
                };
                knapsack.items.push((0..1 + random.below(4)).map(|_| option(&mut random)).collect());
                knapsack.borders.push(Border { value: random.below(9) as f64, weight: random.below(9) as f64 });
            }
            // Every weight is a whole number of steps.
            let cap = [40.0, 80.0, 20.0, 8.0][random.below(4)];
            let found = knapsack.solve(cap);
            assert!(found.as_ref().is_none_or(|f| sums(&knapsack, f).weight <= cap), "{knapsack:?}");
            assert_eq!(found.map(|f| sums(&knapsack, &f).value), brute_force(&knapsack, cap), "{knapsack:?} {cap}");
            refused += usize::from(brute_force(&knapsack, cap).is_none());
        }
        assert!((1..150).contains(&refused), "{refused} of 300 are impossible");
    }

    #[test]
    fn of_equal_values_the_lighter_and_earlier_win() {
        let option = |weight| Choice { value: 1.0, weight, class: 0 };
        let knapsack = Knapsack { items: vec![vec![option(3.0), option(1.0), option(1.0)]; 2], borders: Vec::new() };
        assert_eq!(knapsack.solve(10.0), Some(vec![1, 1]));
        assert_eq!(knapsack.solve(1.0), None);
        assert_eq!(Knapsack::default().solve(1.0), Some(Vec::new()));
    }
}
