//! Which expert is in which slot, and who has to go.
//!
//! The page table is a GPU buffer that the kernels look experts up in; this is its owner on the host. Per layer, least
//! recently used: the GPU stamps every use, and the stamps come back when something was missed.

use std::rc::Rc;

use gptoss_kernels::router::MISS;
use gptoss_kernels::{Gpu, GpuBuffer};
use gptoss_telemetry::CacheCounters;

use crate::plan::MemoryPlan;

/// The slots of all layers.
pub struct Residency {
    experts: u32,
    layers: Vec<LayerSlots>,
    /// [layers, experts]: slot or [`MISS`].
    page_table: Rc<GpuBuffer>,
    counters: CacheCounters,
}

#[derive(Clone, Debug)]
struct LayerSlots {
    slot_of_expert: Vec<Option<u32>>,
    expert_of_slot: Vec<Option<u32>>,
}

impl Residency {
    /// Starts with expert e in slot e, where all experts are loaded ahead, or with empty slots.
    pub fn new(gpu: &Gpu, plan: &MemoryPlan, experts: u32, page_table: Rc<GpuBuffer>) -> Self {
        let &MemoryPlan { layers, slots_per_layer: slots, experts_ahead: resident, .. } = plan;
        let numbers = |count: u32| (0..count).map(|i| resident.then_some(i)).collect::<Vec<_>>();
        let slots_of_layer = LayerSlots { slot_of_expert: numbers(experts), expert_of_slot: numbers(slots) };
        let entries: Vec<u32> =
            (0..layers.max(1) * experts).map(|i| if resident { i % experts } else { MISS }).collect();
        gpu.write(&page_table, 0, bytemuck::cast_slice(&entries));
        Self {
            experts,
            layers: vec![slots_of_layer; layers as usize],
            page_table,
            counters: CacheCounters {
                slots: layers * slots,
                resident: if resident { layers * slots } else { 0 },
                ..CacheCounters::default()
            },
        }
    }

    pub fn slots_per_layer(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.expert_of_slot.len())
    }

    /// Whether all experts are there, so that none can be missed.
    pub fn is_complete(&self) -> bool {
        self.layers.iter().all(|layer| layer.slot_of_expert.iter().all(Option::is_some))
    }

    pub fn free_slots(&self, layer: usize) -> usize {
        self.layers[layer].expert_of_slot.iter().filter(|expert| expert.is_none()).count()
    }

    /// The first experts of a layer that have no slot: at most `most`, and no more than there are free slots.
    pub fn not_resident(&self, layer: usize, most: usize) -> Vec<u32> {
        let absent = (0..self.experts).filter(|&expert| !self.is_resident(layer, expert));
        absent.take(most.min(self.free_slots(layer))).collect()
    }

    pub fn is_resident(&self, layer: usize, expert: u32) -> bool {
        self.layers[layer].slot_of_expert[expert as usize].is_some()
    }

    /// Gives `expert` a slot: a free one, or that of the least recently used expert that is not in `keep`. The page table
    /// stops showing the old expert at once; the new one appears with [`Residency::publish`], after its bytes.
    ///
    /// `stamps`: the layer's last uses by expert. The caller asks for no more slots than there are beside `keep`.
    pub fn claim(&mut self, gpu: &Gpu, layer: usize, expert: u32, keep: &[u32], stamps: &[u32]) -> u32 {
        let slots = &mut self.layers[layer];
        let slot = slots.expert_of_slot.iter().position(Option::is_none).unwrap_or_else(|| {
            slots
                .expert_of_slot
                .iter()
                .enumerate()
                .filter_map(|(slot, resident)| resident.map(|expert| (slot, expert)))
                .filter(|(_, resident)| !keep.contains(resident))
                .min_by_key(|(slot, resident)| (stamps[*resident as usize], *slot))
                .map(|(slot, _)| slot)
                .expect("fewer experts are kept than there are slots")
        });
        if let Some(old) = slots.expert_of_slot[slot].take() {
            slots.slot_of_expert[old as usize] = None;
            self.counters.evictions += 1;
            self.counters.resident -= 1;
            self.write_entry(gpu, layer, old, MISS);
        }
        let slots = &mut self.layers[layer];
        slots.expert_of_slot[slot] = Some(expert);
        slots.slot_of_expert[expert as usize] = Some(slot as u32);
        self.counters.resident += 1;
        slot as u32
    }

    /// Takes a claim back whose bytes never came: the slot is free again.
    pub fn abandon(&mut self, layer: usize, expert: u32) {
        let slots = &mut self.layers[layer];
        if let Some(slot) = slots.slot_of_expert[expert as usize].take() {
            slots.expert_of_slot[slot as usize] = None;
            self.counters.resident -= 1;
        }
    }

    /// Shows a loaded expert to the kernels; queued after the bytes of its slot.
    pub fn publish(&mut self, gpu: &Gpu, layer: usize, expert: u32, loaded_bytes: u64) {
        let slot = self.layers[layer].slot_of_expert[expert as usize].expect("claimed before");
        self.write_entry(gpu, layer, expert, slot);
        self.counters.loaded_bytes += loaded_bytes;
    }

    pub fn count_uses(&mut self, hits: u32, misses: u32) {
        self.counters.hits += u64::from(hits);
        self.counters.misses += u64::from(misses);
    }

    pub fn counters(&self) -> CacheCounters {
        self.counters
    }

    fn write_entry(&self, gpu: &Gpu, layer: usize, expert: u32, entry: u32) {
        let index = layer as u64 * u64::from(self.experts) + u64::from(expert);
        gpu.write(&self.page_table, index * 4, &entry.to_le_bytes());
    }
}
