//! How tests get hold of devices that are opened deep inside: to make them fail, and to see what they still hold.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::gpu::Counts;

/// A replacement in a kernel's text before it is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShaderFault {
    /// Label of the pipelines.
    pub kernel: &'static str,
    /// Text to replace, which must occur in at least one of these pipelines.
    pub from: &'static str,
    /// Text to put there.
    pub to: &'static str,
}

/// Injects faults into every device that is opened with it in [`crate::GpuOptions`]; does nothing until told.
#[derive(Default)]
pub struct Testbed {
    memory_bytes: Cell<Option<u64>>,
    shader_fault: Cell<Option<ShaderFault>>,
    hidden: Cell<u32>,
    refused: Cell<u32>,
    hangs: Cell<bool>,
    patience: Cell<Option<Duration>>,
    devices: RefCell<Vec<Rc<Counts>>>,
    /// The latest device. Earlier ones are not kept: a device that nobody uses must be able to go.
    device: RefCell<Option<wgpu::Device>>,
}

impl Testbed {
    /// Makes probed allocations fail beyond this total, as on a GPU without more memory.
    pub fn limit_memory(&self, bytes: u64) {
        self.memory_bytes.set(Some(bytes));
    }

    /// Makes every later compilation use a wrong kernel, as a wrong compiler would.
    pub fn break_shader(&self, fault: ShaderFault) {
        self.shader_fault.set(Some(fault));
    }

    /// Loses the latest device.
    pub fn lose_device(&self) {
        if let Some(device) = &*self.device.borrow() {
            device.destroy();
        }
    }

    /// Hides all adapters from the next `times` requests.
    pub fn hide_adapters(&self, times: u32) {
        self.hidden.set(times);
    }

    /// Refuses the next `times` reads without a reason.
    pub fn refuse_reads(&self, times: u32) {
        self.refused.set(times);
    }

    /// Sets whether the GPU hangs, so that nothing that is awaited ever comes.
    pub fn hang(&self, hangs: bool) {
        self.hangs.set(hangs);
    }

    /// Sets the time limit of every wait for devices that are opened from now on.
    pub fn limit_patience(&self, patience: Duration) {
        self.patience.set(Some(patience));
    }

    /// Bytes of the existing buffers of all devices together.
    pub fn allocated_bytes(&self) -> u64 {
        self.devices.borrow().iter().map(|counts| counts.allocated_bytes()).sum()
    }

    /// How many devices were opened.
    pub fn devices_opened(&self) -> usize {
        self.devices.borrow().len()
    }

    pub(crate) fn opened(&self, device: &wgpu::Device, counts: &Rc<Counts>) {
        self.devices.borrow_mut().push(Rc::clone(counts));
        self.device.replace(Some(device.clone()));
    }

    pub(crate) fn hides_adapters(&self) -> bool {
        one_less(&self.hidden)
    }

    pub(crate) fn refuses_read(&self) -> bool {
        one_less(&self.refused)
    }

    pub(crate) fn hangs(&self) -> bool {
        self.hangs.get()
    }

    pub(crate) fn patience(&self) -> Option<Duration> {
        self.patience.get()
    }

    pub(crate) fn altered<'a>(&self, label: &str, source: &'a str) -> Cow<'a, str> {
        match self.shader_fault.get() {
            Some(fault) if fault.kernel == label => Cow::Owned(source.replace(fault.from, fault.to)),
            _ => Cow::Borrowed(source),
        }
    }

    pub(crate) fn refuses(&self, allocated_bytes: u64) -> bool {
        self.memory_bytes.get().is_some_and(|limit| allocated_bytes > limit)
    }
}

/// Whether the count was above zero; counts down.
fn one_less(times: &Cell<u32>) -> bool {
    let left = times.get();
    times.set(left.saturating_sub(1));
    left > 0
}

impl std::fmt::Debug for Testbed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Testbed").field("devices", &self.devices_opened()).finish_non_exhaustive()
    }
}
