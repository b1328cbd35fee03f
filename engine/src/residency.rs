//! Which expert is in which slot, and who has to go.
//!
//! The page table is a GPU buffer that the kernels look experts up in; this is its owner on the host. Per layer, least
//! recently used: the GPU stamps every use, and the stamps come back when something was missed.

use std::rc::Rc;

use gptoss_kernels::router::MISS;
use gptoss_kernels::{Gpu, GpuBuffer};
use gptoss_telemetry::CacheCounters;

use crate::plan::MemoryPlan;
use crate::slots::{Claim, LayerSlots};

/// The slots of all layers.
pub struct Residency {
    experts: u32,
    layers: Vec<LayerSlots>,
    /// [layers, experts]: slot or [`MISS`].
    page_table: Rc<GpuBuffer>,
    counters: CacheCounters,
}

impl Residency {
    /// Starts with expert e in slot e, where all experts are loaded ahead, or with empty slots.
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
            page_table,
            counters: CacheCounters {
                slots: layers * slots,
                resident: if resident { layers * slots } else { 0 },
                ..CacheCounters::default()
            },
        }
    }

    pub fn slots_per_layer(&self) -> usize {
        self.layers.first().map_or(0, LayerSlots::slots)
    }

    /// Whether all experts are there, so that none can be missed.
    pub fn is_complete(&self) -> bool {
        self.layers.iter().all(LayerSlots::is_complete)
    }

    pub fn free_slots(&self, layer: usize) -> usize {
        self.layers[layer].free()
    }

    /// The first experts of a layer that have no slot: at most `most`, and no more than there are free slots.
    pub fn not_resident(&self, layer: usize, most: usize) -> Vec<u32> {
        let absent = (0..self.experts).filter(|&expert| !self.is_resident(layer, expert));
        absent.take(most.min(self.free_slots(layer))).collect()
    }

    pub fn is_resident(&self, layer: usize, expert: u32) -> bool {
        self.layers[layer].slot_of(expert).is_some()
    }

    /// Gives `expert` a slot: a free one, or that of the least recently used expert that is not in `keep`. The page table
    /// stops showing the old expert at once; the new one appears with [`Residency::publish`], after its bytes.
    ///
    /// `stamps`: the layer's last uses by expert. The caller asks for no more slots than there are beside `keep`.
    pub fn claim(&mut self, gpu: &Gpu, layer: usize, expert: u32, keep: &[u32], stamps: &[u32]) -> u32 {
        let last_use = |resident: u32| u64::from(stamps[resident as usize]);
        let Claim { slot, evicted } = self.layers[layer].claim(expert, keep, last_use);
        if let Some(old) = evicted {
            self.counters.evictions += 1;
            self.counters.resident -= 1;
            self.write_entry(gpu, layer, old, MISS);
        }
        self.counters.resident += 1;
        slot
    }

    /// Takes a claim back whose bytes never came: the slot is free again.
    pub fn abandon(&mut self, layer: usize, expert: u32) {
        if self.layers[layer].give_back(expert) {
            self.counters.resident -= 1;
        }
    }

    /// Shows a loaded expert to the kernels; queued after the bytes of its slot.
    pub fn publish(&mut self, gpu: &Gpu, layer: usize, expert: u32, loaded_bytes: u64) {
        let slot = self.layers[layer].slot_of(expert).expect("claimed before");
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
