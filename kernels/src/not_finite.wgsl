// Prepended to the kernels that look for values that are not finite; see not_finite.rs.

const NOT_FOUND = 0xffffffffu;
const PLACES = 4u;
const FOUND_PROJECTIONS = 0u;
const FOUND_CACHE = 1u;
const FOUND_ROUTER = 2u;
const FOUND_EXPERTS = 3u;

// Notes the place. The first one of a batch stays: what is found later follows from it. A layer after one that halted
// sees what an earlier batch left.
fn note(place: u32) {
    let is_stale = atomicLoad(&status[STATUS_HALT_LAYER]) < params.layer;
    if (!is_stale && atomicLoad(&status[STATUS_FIRST_NOT_FINITE]) == NOT_FOUND) {
        atomicMin(&status[STATUS_FIRST_NOT_FINITE], params.layer * PLACES + place);
    }
}

