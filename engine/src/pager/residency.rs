//! The page table, a GPU buffer in which kernels look up the slots of experts, and the choice of the expert that gives
//! way: the least recently used of its layer. The GPU stamps every use, and the stamps come back with a batch.

use std::rc::Rc;

use gptoss_kernels::router::MISS;
use gptoss_kernels::{Gpu, GpuBuffer};
use gptoss_protocol::CacheCounters;

use super::slots::{Claim, LayerSlots};
use crate::plan::MemoryPlan;

/// The slots of all layers.
pub struct Residency {
    experts: u32,
    layers: Vec<LayerSlots>,
    /// The batch that used each expert last, as far as it was read back, [layers, experts].
    stamps: Vec<u32>,
    /// Slot of each expert, or [`MISS`], [layers, experts].
    page_table: Rc<GpuBuffer>,
    counters: CacheCounters,
}

impl Residency {
    /// Starts with expert e in slot e if all experts are loaded ahead, otherwise with empty slots.
    pub fn new(gpu: &Gpu, plan: &MemoryPlan, experts: u32, page_table: Rc<GpuBuffer>) -> Self {
        let &MemoryPlan { layers, slots_per_layer: slots, experts_ahead: resident, .. } = plan;
        let mut slots_of_layer = LayerSlots::new(experts, slots);
        if resident {
            slots_of_layer.fill_in_order();
        }
        let entries: Vec<u32> =
            (0..layers.max(1) * experts).map(|i| if resident { i % experts } else { MISS }).collect();
        gpu.write(&page_table, 0, bytemuck::cast_slice(&entries));
        Self {
            experts,
            layers: vec![slots_of_layer; layers as usize],
            stamps: vec![0; (layers * experts) as usize],
            page_table,
            counters: CacheCounters {
                slots: layers * slots,
                resident: if resident { layers * slots } else { 0 },
                ..CacheCounters::default()
            },
        }
    }

    /// How many slots each layer has.
    pub fn slots_per_layer(&self) -> usize {
        self.layers.first().map_or(0, LayerSlots::count)
    }

    /// How many experts each layer has.
    pub fn experts(&self) -> u32 {
        self.experts
    }

    /// How many layers there are.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    pub fn layer(&self, layer: usize) -> &LayerSlots {
        &self.layers[layer]
    }

    /// Whether all experts are resident, so that none can be missed.
    pub fn is_complete(&self) -> bool {
        self.layers.iter().all(LayerSlots::is_complete)
    }

    pub fn is_resident(&self, layer: usize, expert: u32) -> bool {
        self.layers[layer].resident_slot(expert).is_some()
    }

    /// Records the last uses, [layers, experts].
    pub fn used(&mut self, stamps: &[u32]) {
        self.stamps.copy_from_slice(stamps);
    }

    /// The experts of a layer that the batch with this stamp chose, in ascending order.
    pub fn used_by(&self, layer: usize, stamp: u32) -> Vec<u32> {
        let stamps = self.stamps_of(layer);
        (0..self.experts).filter(|&expert| stamps[expert as usize] == stamp).collect()
    }

    fn stamps_of(&self, layer: usize) -> &[u32] {
        &self.stamps[layer * self.experts as usize..][..self.experts as usize]
    }

    /// Gives `expert` a slot: a free one, or that of the least recently used expert. The page table stops showing the
    /// old expert immediately; it shows the new one after [`Residency::publish`], once its bytes are there. `None` if
    /// no expert can go.
    pub fn claim(&mut self, gpu: &Gpu, layer: usize, expert: u32) -> Option<Claim> {
        let stamps = &self.stamps[layer * self.experts as usize..];
        let claim = self.layers[layer].claim(expert, |resident| u64::from(stamps[resident as usize]))?;
        if let Some(old) = claim.evicted {
            self.counters.evictions += 1;
            self.counters.resident -= 1;
            self.write_entry(gpu, layer, old, MISS);
        }
        Some(claim)
    }

    /// Frees a claimed slot whose bytes will not come.
    pub fn give_back(&mut self, layer: usize, expert: u32) {
        self.layers[layer].give_back(expert);
    }

    /// Shows a loaded expert to the kernels; queued after the bytes of its slot.
    pub fn publish(&mut self, gpu: &Gpu, layer: usize, expert: u32, loaded_bytes: u64) {
        let slot = self.layers[layer].arrived(expert);
        self.write_entry(gpu, layer, expert, slot);
        self.counters.resident += 1;
        self.counters.loaded_bytes += loaded_bytes;
    }

    /// Protects these experts of a layer, and no others, from eviction.
    pub fn pin(&mut self, layer: usize, experts: &[u32]) {
        self.layers[layer].pin(experts);
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
