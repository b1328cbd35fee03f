//! Where and when figures were measured.

use time::OffsetDateTime;

/// Cores, processor and kernel, as far as the system tells.
pub fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processor = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| model_name(&text).map(str::to_owned));
    let processor = processor.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let system = format!("{} {}", std::env::consts::OS, kernel.trim());
    format!("{cores} core{} of {processor}, {}", if cores == 1 { "" } else { "s" }, system.trim())
}

fn model_name(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

/// Today's date in UTC.
pub fn today() -> String {
    OffsetDateTime::now_utc().date().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named() {
        let cpuinfo = "processor\t: 0\nmodel\t\t: 167\nmodel name\t: Some CPU @ 2.50GHz\n";
        assert_eq!(model_name(cpuinfo), Some("Some CPU @ 2.50GHz"));
        assert_eq!(model_name("processor\t: 0\n"), None);
    }
}
