//! The table: one row per figure, both servers side by side.

/// One figure: gguf-serve's value and nginx's in each round.
#[derive(Debug)]
pub struct Row {
    name: String,
    decimals: usize,
    rounds: Vec<[f64; 2]>,
}

impl Row {
    /// Takes one figure out of what was measured; `None` when it could not be measured in any round.
    pub fn of<T>(name: String, decimals: usize, rounds: &[[T; 2]], figure: impl Fn(&T) -> Option<f64>) -> Option<Self> {
        let rounds: Vec<_> =
            rounds.iter().filter_map(|[ours, theirs]| Some([figure(ours)?, figure(theirs)?])).collect();
        (!rounds.is_empty()).then_some(Self { name, decimals, rounds })
    }

    fn line(&self) -> String {
        let [ours, theirs] = [0, 1].map(|server| self.cell(server));
        format!("| {} | {ours} | {theirs} | {:.2} |", self.name, self.median_ratio())
    }

    /// `median (min–max)`, or the value when there is only one.
    fn cell(&self, server: usize) -> String {
        let values: Vec<_> = self.rounds.iter().map(|round| round[server]).collect();
        let shown = |value: f64| format!("{value:.*}", self.decimals);
        let median = shown(median(&values));
        if values.len() == 1 {
            return median;
        }
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        format!("{median} ({}–{})", shown(min), shown(max))
    }

    /// Of the ratios within the rounds: whatever slows the machine down for a while slows both servers down.
    fn median_ratio(&self) -> f64 {
        let ratios: Vec<_> = self.rounds.iter().map(|[ours, theirs]| ours / theirs).collect();
        median(&ratios)
    }
}

pub fn print(heading: &str, rows: &[Row]) {
    println!("{heading}\n{}", table(rows));
}

fn table(rows: &[Row]) -> String {
    let head = ["| | gguf-serve | nginx | gguf-serve / nginx |", "|---|---|---|---|"].map(str::to_owned);
    head.into_iter().chain(rows.iter().map(Row::line)).collect::<Vec<_>>().join("\n")
}

/// The middle value; of an even number, the mean of the two in the middle.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.as_slice() {
        [] => f64::NAN,
        sorted if sorted.len().is_multiple_of(2) => (sorted[middle - 1] + sorted[middle]) / 2.0,
        sorted => sorted[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_need_no_order() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_ratio_is_the_median_of_ratios() {
        // The medians are 4 and 4; the ratios of the rounds are 0.5, 0.8 and 2.
        let row = Row::of("x".to_owned(), 1, &[[1.0, 2.0], [4.0, 5.0], [8.0, 4.0]], |value| Some(*value));
        let row = row.expect("three rounds");
        assert_eq!(row.median_ratio(), 0.8);
        assert_eq!(row.line(), "| x | 4.0 (1.0–8.0) | 4.0 (2.0–5.0) | 0.80 |");
    }

    #[test]
    fn what_was_not_measured_is_no_row() {
        let positive = |value: &f64| (*value > 0.0).then_some(*value);
        let row = Row::of("x".to_owned(), 0, &[[1.0, 0.0], [3.0, 4.0]], positive).expect("one round");
        assert_eq!(table(&[row]).lines().last(), Some("| x | 3 | 4 | 0.75 |"));
        assert!(Row::of("x".to_owned(), 0, &[[1.0, 0.0]], positive).is_none());
    }
}
