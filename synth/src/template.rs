//! The chat template of synthetic files: the project's own, padded by a comment where the header's length matters.

/// Harmony without tools.
pub(crate) const CHAT_TEMPLATE: &str = include_str!("../data/chat_template.jinja");

const OPENING: &str = "{#- padding, so that tensor data begin where they were asked to: ";
const CLOSING: &str = " -#}\n";

/// `template` followed by a comment of exactly `bytes` bytes; `None` if a comment of that length cannot be written.
pub(crate) fn padded(template: &str, bytes: u64) -> Option<String> {
    if bytes == 0 {
        return Some(template.to_owned());
    }
    let dots = usize::try_from(bytes).ok()?.checked_sub(OPENING.len() + CLOSING.len())?;
    Some([template, OPENING, &".".repeat(dots), CLOSING].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_exact_or_refused() {
        for bytes in [0, 70, 71, 1000] {
            let template = padded(CHAT_TEMPLATE, bytes).expect("room for a comment");
            assert_eq!(template.len() as u64, CHAT_TEMPLATE.len() as u64 + bytes);
            assert!(template.starts_with(CHAT_TEMPLATE));
        }
        assert_eq!(padded(CHAT_TEMPLATE, 69), None);
    }
}
