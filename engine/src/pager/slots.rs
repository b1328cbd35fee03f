//! Which expert of a layer is in which slot, and who goes where none is free: plain bookkeeping, used by the pager and by replays
//! of recorded routes.

/// What is in a slot: an expert, by its number in the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    Free,
    /// Bytes of it are on their way; nobody pushes it out.
    Loading(u32),
    Resident(u32),
    /// Resident, and needed by the batch that waits for others: nobody pushes it out.
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
    pub slot: u32,
    /// Who was there.
    pub evicted: Option<u32>,
}

impl LayerSlots {
    /// Empty slots.
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

    /// How many there are.
    pub fn count(&self) -> usize {
        self.slots.len()
    }

    /// Whether all experts are resident.
    pub fn is_complete(&self) -> bool {
        (0..self.slot_of_expert.len() as u32).all(|expert| self.resident_slot(expert).is_some())
    }

    /// Slots that nothing is in.
    pub fn free(&self) -> usize {
        self.slots.iter().filter(|slot| **slot == Slot::Free).count()
    }

    /// Slots that are free, or whose experts are on their way.
    pub fn not_yet_filled(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Free | Slot::Loading(_))).count()
    }

    /// Slots that could be claimed: nobody needs what is in them at the moment.
    pub fn claimable(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Free | Slot::Resident(_))).count()
    }

    /// The slot of an expert that is there.
    pub fn resident_slot(&self, expert: u32) -> Option<u32> {
        self.slot_of_expert[expert as usize].filter(|&slot| !matches!(self.slots[slot as usize], Slot::Loading(_)))
    }

    /// Experts that are neither there nor on their way, ascending.
    pub fn absent(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.slot_of_expert).filter(|(_, slot)| slot.is_none()).map(|(expert, _)| expert)
    }

    /// Gives `expert`, which is absent, a slot: the first that is free, else that of the resident expert for which `worth` is
    /// least, of equals the first. `None` where every slot is pinned or loading. It is loading then.
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

    /// An expert that was loading is resident; its slot.
    pub fn arrived(&mut self, expert: u32) -> u32 {
        let slot = self.slot_of_expert[expert as usize].expect("claimed before");
        self.slots[slot as usize] = Slot::Resident(expert);
        slot
    }

    /// Frees the slot of an expert that was loading, and will not come.
    pub fn give_back(&mut self, expert: u32) {
        let slot = self.slot_of_expert[expert as usize].take().expect("claimed before");
        self.slots[slot as usize] = Slot::Free;
    }

    /// These stay where they are, those of them that are resident; all others may go.
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

    /// By number: what is worth least goes.
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
