//! What does not fit, in words: whoever starts a command is not asked to approve it, and is to know.

use gptoss_protocol::MemoryPlan;
use gptoss_protocol::units::bytes;

/// What of a model has no room, a line each; empty where all of it fits.
pub fn shortages(plan: &MemoryPlan) -> Vec<String> {
    let MemoryPlan { expert_slots_per_layer, experts_per_layer, expert_bytes, on_disk_bytes, .. } = plan;
    let paged = plan.paged.then(|| {
        format!(
            "GPU memory has room for {expert_slots_per_layer} of the {experts_per_layer} experts of each layer ({}); {} stay in the \
             file and are read when a token needs them",
            bytes(*expert_bytes),
            bytes(*on_disk_bytes)
        )
    });
    let shortened = plan
        .shortened_from_tokens
        .map(|usual| format!("memory has room for a context of {} tokens, not of {usual}", plan.kv_capacity_tokens));
    paged.into_iter().chain(shortened).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_said_and_nothing_else() {
        let whole = MemoryPlan { experts_per_layer: 8, expert_slots_per_layer: 8, ..MemoryPlan::default() };
        assert_eq!(shortages(&whole), Vec::<String>::new());
        let short = MemoryPlan {
            paged: true,
            expert_slots_per_layer: 3,
            expert_bytes: 3_000_000,
            on_disk_bytes: 5_000_000,
            kv_capacity_tokens: 512,
            shortened_from_tokens: Some(8192),
            ..whole
        };
        let [paged, shortened] = &shortages(&short)[..] else { panic!("two lines") };
        assert!(paged.contains("3 of the 8 experts") && paged.contains("5.00 MB stay"), "{paged}");
        assert!(shortened.contains("512 tokens, not of 8192"), "{shortened}");
    }
}
