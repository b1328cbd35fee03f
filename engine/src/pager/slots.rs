//! Which expert of a layer is in which slot, and which one gives way if none is free: plain bookkeeping, used by the
//! pager and by replays of recorded routes.

/// Content of a slot: an expert, by its number in the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// No expert.
    Free,
    /// An expert whose bytes are on their way; it cannot be evicted.
    Loading(u32),
    /// An expert that kernels can use.
    Resident(u32),
    /// A resident expert that the batch needs which waits for others; it cannot be evicted.
    Pinned(u32),
}

/// The slots of one layer.
#[derive(Clone, Debug)]
pub struct LayerSlots {
    slot_of_expert: Vec<Option<u32>>,
    slots: Vec<Slot>,
}

/// A slot that was given to an expert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Number of the slot in the layer.
    pub slot: u32,
    /// The expert that was there before.
    pub evicted: Option<u32>,
}

impl LayerSlots {
    /// Slots without experts.
    pub fn new(experts: u32, slots: u32) -> Self {
        Self { slot_of_expert: vec![None; experts as usize], slots: vec![Slot::Free; slots as usize] }
    }

    /// Puts expert e into slot e.
    pub fn fill_in_order(&mut self) {
        for ((expert, place), slot) in (0..).zip(&mut self.slot_of_expert).zip(&mut self.slots) {
            *place = Some(expert);
            *slot = Slot::Resident(expert);
        }
    }

    /// Number of slots.
    pub fn count(&self) -> usize {
        self.slots.len()
    }

    /// Whether all experts are resident.
    pub fn is_complete(&self) -> bool {
        (0..self.slot_of_expert.len() as u32).all(|expert| self.resident_slot(expert).is_some())
    }

    /// Number of free slots.
    pub fn free(&self) -> usize {
        self.slots.iter().filter(|slot| **slot == Slot::Free).count()
    }

    /// Number of slots that are free or loading.
    pub fn not_yet_filled(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Free | Slot::Loading(_))).count()
    }

    /// Number of slots that could be claimed, because nobody needs their content at the moment.
    pub fn claimable(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Free | Slot::Resident(_))).count()
    }

    /// The slot of a resident expert.
    pub fn resident_slot(&self, expert: u32) -> Option<u32> {
        self.slot_of_expert[expert as usize].filter(|&slot| !matches!(self.slots[slot as usize], Slot::Loading(_)))
    }

    /// Experts that are neither resident nor loading, in ascending order.
    pub fn absent(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.slot_of_expert).filter(|(_, slot)| slot.is_none()).map(|(expert, _)| expert)
    }

    /// Gives the absent `expert` a slot, which is then loading: the first free one, otherwise that of the resident
    /// expert with the least `worth`, the first of equals. `None` if every slot is pinned or loading.
    pub fn claim(&mut self, expert: u32, worth: impl Fn(u32) -> u64) -> Option<Claim> {
        let least_worth = || {
            let residents = self.slots.iter().enumerate();
            let worths = residents.filter_map(|(slot, state)| match state {
                Slot::Resident(resident) => Some((worth(*resident), slot)),
                Slot::Free | Slot::Loading(_) | Slot::Pinned(_) => None,
            });
            worths.min().map(|(_, slot)| slot)
        };
        let slot = self.slots.iter().position(|slot| *slot == Slot::Free).or_else(least_worth)?;
        let evicted = match std::mem::replace(&mut self.slots[slot], Slot::Loading(expert)) {
            Slot::Resident(old) => Some(old),
            Slot::Free | Slot::Loading(_) | Slot::Pinned(_) => None,
        };
        if let Some(old) = evicted {
            self.slot_of_expert[old as usize] = None;
        }
        self.slot_of_expert[expert as usize] = Some(slot as u32);
        Some(Claim { slot: slot as u32, evicted })
    }

    /// Makes an expert that was loading resident; returns its slot.
    pub fn arrived(&mut self, expert: u32) -> u32 {
        let slot = self.slot_of_expert[expert as usize].expect("claimed before");
        self.slots[slot as usize] = Slot::Resident(expert);
        slot
    }

    /// Frees the slot of an expert that was loading and will not come.
    pub fn give_back(&mut self, expert: u32) {
        let slot = self.slot_of_expert[expert as usize].take().expect("claimed before");
        self.slots[slot as usize] = Slot::Free;
    }

    /// Pins the resident ones of these experts, and unpins all others.
    pub fn pin(&mut self, experts: &[u32]) {
        for slot in &mut self.slots {
            *slot = match *slot {
                Slot::Resident(expert) | Slot::Pinned(expert) if experts.contains(&expert) => Slot::Pinned(expert),
                Slot::Pinned(expert) => Slot::Resident(expert),
                other => other,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An expert is worth its number, so that the lowest goes first.
    fn worth(expert: u32) -> u64 {
        u64::from(expert)
    }

    #[test]
    fn the_one_that_is_worth_least_goes_unless_it_is_needed() {
        let mut slots = LayerSlots::new(6, 3);
        for expert in [4, 2, 3] {
            assert_eq!(slots.claim(expert, worth).expect("a free slot").evicted, None);
        }
        assert_eq!(slots.claim(0, worth), None, "all are on their way");
        assert_eq!((slots.resident_slot(4), slots.claimable(), slots.not_yet_filled()), (None, 0, 3));
        assert_eq!([4, 2, 3].map(|expert| slots.arrived(expert)), [0, 1, 2]);
        slots.pin(&[2, 5]);
        assert_eq!(slots.claim(5, worth), Some(Claim { slot: 2, evicted: Some(3) }), "2 is pinned");
        assert_eq!(slots.claim(1, worth), Some(Claim { slot: 0, evicted: Some(4) }), "5 is loading");
        assert_eq!(slots.claim(0, worth), None);
        slots.give_back(5);
        assert_eq!((slots.free(), slots.claimable(), slots.absent().collect::<Vec<_>>()), (1, 1, vec![0, 3, 4, 5]));
        slots.pin(&[]);
        slots.claim(0, worth).expect("the free one");
        assert_eq!(slots.claim(3, worth), Some(Claim { slot: 1, evicted: Some(2) }), "2 is not pinned any more");
    }

    #[test]
    fn what_is_there_from_the_start() {
        let mut slots = LayerSlots::new(3, 3);
        assert!(!slots.is_complete());
        slots.fill_in_order();
        assert!(slots.is_complete() && slots.resident_slot(2) == Some(2) && slots.absent().next().is_none());
    }
}
