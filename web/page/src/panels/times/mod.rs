//! Time of each operation on the GPU, by the GPU's own clock.

use gptoss_protocol::OperationTime;

use crate::format;
use crate::view::{Node, element};

/// One line for each kernel, the slowest first.
pub fn lines(times: &[OperationTime]) -> Vec<Node> {
    let sum: f64 = times.iter().map(|time| time.elapsed_ms).sum();
    let mut sorted: Vec<&OperationTime> = times.iter().collect();
    sorted.sort_by(|a, b| b.elapsed_ms.total_cmp(&a.elapsed_ms));
    let line = |time: &OperationTime| {
        let share = if sum > 0.0 { time.elapsed_ms / sum } else { 0.0 };
        let name = element("dt").text(format!("{} × {}", time.operation, time.dispatches));
        let value = format!("{} · {}", format::milliseconds(Some(time.elapsed_ms)), format::percent(share));
        element("div").child(name).child(element("dd").text(value)).into()
    };
    sorted.into_iter().map(line).collect()
}

/// What the panel says beside its name.
pub fn line(times: &[OperationTime]) -> String {
    if times.is_empty() {
        return format::NOT_MEASURED.to_owned();
    }
    let sum: f64 = times.iter().map(|time| time.elapsed_ms).sum();
    format!("{} in the last batch", format::milliseconds(Some(sum)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_comes_first_with_its_share() {
        let time =
            |operation: &str, elapsed_ms| OperationTime { operation: operation.into(), dispatches: 2, elapsed_ms };
        let times = [time("rope", 1.0), time("experts", 3.0)];
        let html: String = lines(&times).iter().map(Node::to_html).collect();
        assert_eq!(
            html,
            "<div><dt>experts × 2</dt><dd>3.0 ms · 75.0 %</dd></div><div><dt>rope × 2</dt><dd>1.0 ms · 25.0 %</dd></div>"
        );
        assert_eq!((line(&times).as_str(), line(&[]).as_str()), ("4.0 ms in the last batch", "not measured"));
    }
}
