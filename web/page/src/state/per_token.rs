//! What the last tokens cost: the counters are told before each token, so that the difference from one to the next is what that
//! token took.

use gptoss_protocol::{CacheCounters, WorkCounters};
use serde::{Deserialize, Serialize};

use super::inside::RECENT_TOKENS;

/// What the last tokens of the answer cost. The first one's cost is the prompt's, and not told apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PerToken {
    /// Experts that were missed, for each of the last tokens, newest last.
    pub misses: Vec<u32>,
    /// Work of the newest token; `None` before the second.
    pub work: Option<WorkCounters>,
    /// Counters at the token before.
    misses_before: Option<u64>,
    work_before: Option<WorkCounters>,
}

impl PerToken {
    /// Takes in a token and the counters that were told before it.
    pub(super) fn take(&mut self, index: u32, experts: Option<CacheCounters>, work: Option<WorkCounters>) {
        let misses = experts.map(|experts| experts.misses);
        let misses_before = std::mem::replace(&mut self.misses_before, misses);
        let work_before = std::mem::replace(&mut self.work_before, work);
        if index == 0 {
            self.misses.clear();
            self.work = None;
            return;
        }
        if let Some((before, now)) = misses_before.zip(misses) {
            if self.misses.len() >= RECENT_TOKENS {
                self.misses.remove(0);
            }
            self.misses.push(now.saturating_sub(before) as u32);
        }
        self.work = work_before.zip(work).map(|(before, now)| difference(&before, &now));
    }
}

fn difference(before: &WorkCounters, now: &WorkCounters) -> WorkCounters {
    let less = |of: fn(&WorkCounters) -> u64| of(now).saturating_sub(of(before));
    WorkCounters {
        submits: less(|work| work.submits),
        dispatches: less(|work| work.dispatches),
        buffers_created: less(|work| work.buffers_created),
        bind_groups_created: less(|work| work.bind_groups_created),
        pipelines_created: less(|work| work.pipelines_created),
        status_readback_bytes: less(|work| work.status_readback_bytes),
        sampling_readback_bytes: less(|work| work.sampling_readback_bytes),
        watched_readback_bytes: less(|work| work.watched_readback_bytes),
        weights_fetched_bytes: less(|work| work.weights_fetched_bytes),
        weights_used_bytes: less(|work| work.weights_used_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_costs_what_the_counters_grew_by() {
        let mut cost = PerToken::default();
        let at = |misses, submits| {
            let experts = CacheCounters { misses, ..CacheCounters::default() };
            let work = WorkCounters { submits, status_readback_bytes: 10 * submits, ..WorkCounters::default() };
            (Some(experts), Some(work))
        };
        for (index, (experts, work)) in [at(48, 7), at(48, 8), at(51, 12)].into_iter().enumerate() {
            cost.take(index as u32, experts, work);
        }
        assert_eq!(cost.misses, [0, 3], "the prompt's own misses are no token's");
        let work = cost.work.expect("there were three tokens");
        assert_eq!((work.submits, work.status_readback_bytes, work.dispatches), (4, 40, 0));
        // Another answer begins anew.
        let (experts, work) = at(90, 20);
        cost.take(0, experts, work);
        assert!(cost.misses.is_empty() && cost.work.is_none());
        cost.take(1, None, None);
        assert!(cost.misses.is_empty(), "nothing was told");
    }
}
