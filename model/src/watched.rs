//! What backends tell of a batch to those who watch it.

use std::collections::BTreeMap;

use gptoss_protocol as protocol;

use crate::ops::router::Route;

/// The experts that some tokens chose in one layer, in ascending order: by how many tokens, and with which weights.
pub fn routes_of_layer(routes: &[Route]) -> Vec<protocol::Route> {
    let mut experts: BTreeMap<u32, (u32, f64)> = BTreeMap::new();
    for route in routes {
        let (tokens, weight) = experts.entry(route.expert).or_default();
        *tokens += 1;
        *weight += f64::from(route.weight);
    }
    let route = |(expert, (tokens, weight))| protocol::Route { expert, tokens, weight: weight as f32 };
    experts.into_iter().map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experts_are_counted_once_with_all_their_weight() {
        let routes = [(3, 0.75), (1, 0.25), (1, 0.5), (3, 0.5)].map(|(expert, weight)| Route { expert, weight });
        let told = |expert, tokens, weight| protocol::Route { expert, tokens, weight };
        assert_eq!(routes_of_layer(&routes), [told(1, 2, 0.75), told(3, 2, 1.25)]);
    }
}
