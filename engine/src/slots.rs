//! Which expert of a layer is in which slot, and who goes where none is free: plain bookkeeping, used by the engine and by replays
//! of recorded routes.

/// The slots of one layer.
#[derive(Clone, Debug)]
pub struct LayerSlots {
    slot_of_expert: Vec<Option<u32>>,
    expert_of_slot: Vec<Option<u32>>,
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
        Self { slot_of_expert: vec![None; experts as usize], expert_of_slot: vec![None; slots as usize] }
    }

    /// Puts expert e into slot e.
    pub fn fill_in_order(&mut self) {
        for (expert, slot) in (0..).zip(&mut self.slot_of_expert).take(self.expert_of_slot.len()) {
            *slot = Some(expert);
            self.expert_of_slot[expert as usize] = Some(expert);
        }
    }

    pub fn slots(&self) -> usize {
        self.expert_of_slot.len()
    }

    /// Whether all experts are there.
    pub fn is_complete(&self) -> bool {
        self.slot_of_expert.iter().all(Option::is_some)
    }

    /// Slots that nothing is in.
    pub fn free(&self) -> usize {
        self.expert_of_slot.iter().filter(|expert| expert.is_none()).count()
    }

    pub fn slot_of(&self, expert: u32) -> Option<u32> {
        self.slot_of_expert[expert as usize]
    }

    /// Gives `expert` a slot: the first that is free, else that of the expert which is not in `keep` and for which `worth` is
    /// least, of equals in the first slot.
    ///
    /// # Panics
    /// All slots are of experts in `keep`.
    pub fn claim(&mut self, expert: u32, keep: &[u32], worth: impl Fn(u32) -> u64) -> Claim {
        let free = self.expert_of_slot.iter().position(Option::is_none);
        let least_worth = || {
            let residents = self.expert_of_slot.iter().enumerate();
            residents
                .filter_map(|(slot, resident)| resident.map(|resident| (slot, resident)))
                .filter(|(_, resident)| !keep.contains(resident))
                .min_by_key(|(slot, resident)| (worth(*resident), *slot))
                .map(|(slot, _)| slot)
                .expect("fewer experts are kept than there are slots")
        };
        let slot = free.unwrap_or_else(least_worth);
        let evicted = self.expert_of_slot[slot].replace(expert);
        if let Some(old) = evicted {
            self.slot_of_expert[old as usize] = None;
        }
        self.slot_of_expert[expert as usize] = Some(slot as u32);
        Claim { slot: slot as u32, evicted }
    }

    /// Frees the slot of an expert; `false` if it has none.
    pub fn give_back(&mut self, expert: u32) -> bool {
        let Some(slot) = self.slot_of_expert[expert as usize].take() else { return false };
        self.expert_of_slot[slot as usize] = None;
        true
    }
}
