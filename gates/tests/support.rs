//! Files, a host that remembers, and gates run to their end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use gptoss_gates::determinism::Opening;
use gptoss_gates::{GateError, GatedFile, Part, Reopen, Report, Wanted, slice};
use gptoss_gguf::Gguf;
use gptoss_kernels::{Gpu, GpuOptions};
use gptoss_model::{Host, Quiet, StageError, read_gguf};
use gptoss_protocol::{Event, GateReport, GateSlice, GateVerdict, GateWhole, SliceFigures};
use gptoss_source::{MemorySource, Source};
use sha2::{Digest, Sha256};

pub fn nano() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/nano/gpt-oss-nano.gguf")).expect("the demo model")
}

pub fn header(bytes: &[u8]) -> Gguf {
    let source = MemorySource::new("model.gguf", bytes.to_vec());
    pollster::block_on(read_gguf(&source, &Quiet)).expect("a header")
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Remembers events, and stops after some of them.
#[derive(Default)]
pub struct Memory {
    pub events: RefCell<Vec<Event>>,
    /// Events until somebody presses STOP; `None`: nobody does.
    pub patience: Cell<Option<usize>>,
}

impl Host for Memory {
    fn emit(&self, event: Event) {
        self.events.borrow_mut().push(event);
    }

    fn cancelled(&self) -> bool {
        self.patience.get().is_some_and(|events| self.events.borrow().len() >= events)
    }
}

impl Memory {
    pub fn reports(&self) -> Vec<GateReport> {
        let report = |event: &Event| match event {
            Event::GateReport { report } => Some(serde_json::from_value(report.clone()).expect("a report")),
            _ => None,
        };
        self.events.borrow().iter().filter_map(report).collect()
    }
}

/// A file that has these bytes whenever it is opened, and others from some opening on.
#[derive(Default)]
pub struct Opened {
    bytes: Vec<u8>,
    /// The number of an opening, and the bytes that there are from then on.
    changed: Option<(u32, Vec<u8>)>,
    openings: Cell<u32>,
}

impl Opened {
    pub fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), ..Self::default() }
    }

    /// A file that has other bytes from an opening on.
    pub fn changing(bytes: &[u8], from: u32, changed: Vec<u8>) -> Self {
        Self { changed: Some((from, changed)), ..Self::new(bytes) }
    }

    pub fn open(&self) -> Rc<dyn Source> {
        let opening = self.openings.get();
        self.openings.set(opening + 1);
        let changed = self.changed.as_ref().filter(|(from, _)| *from <= opening).map(|(_, bytes)| bytes);
        Rc::new(MemorySource::new("model.gguf", changed.unwrap_or(&self.bytes).clone()))
    }

    pub fn openings(&self) -> u32 {
        self.openings.get()
    }
}

impl Reopen for Opened {
    fn reopen<'a>(&'a self, _host: &'a dyn Host) -> Opening<'a> {
        Box::pin(async { Ok(self.open()) })
    }
}

/// What a `Command::Gate` comes to on a file.
pub fn run_on(
    file: &Opened,
    slice: Option<&GateSlice>,
    whole: Option<&GateWhole>,
    host: &Memory,
) -> Result<GateVerdict, StageError> {
    let wanted = Wanted { path: "model.gguf", slice, whole, again: file };
    pollster::block_on(gptoss_gates::run(file.open(), wanted, host))
}

/// What a `Command::Gate` comes to on a file of these bytes.
pub fn run(bytes: &[u8], slice: Option<&GateSlice>, host: &Memory) -> Result<GateVerdict, StageError> {
    run_on(&Opened::new(bytes), slice, None, host)
}

/// Verdict and reports of the gates on the whole model.
pub fn run_whole(file: &Opened, whole: &GateWhole) -> (GateVerdict, Vec<GateReport>) {
    let host = Memory::default();
    let verdict = run_on(file, None, Some(whole), &host).expect("nobody stopped it");
    (verdict, host.reports())
}

/// Verdict and reports of the gates on one slice.
pub fn run_slice(bytes: &[u8], asked: GateSlice) -> (GateVerdict, Vec<GateReport>) {
    let host = Memory::default();
    let verdict = run(bytes, Some(&asked), &host).expect("nobody stopped it");
    (verdict, host.reports())
}

pub fn gpu(options: &GpuOptions) -> Gpu {
    pollster::block_on(Gpu::open(options)).expect("a device")
}

/// Gate c alone, on a device that is there already.
pub fn gate_c(bytes: &[u8], gpu: &Gpu, asked: &GateSlice) -> Result<(GateReport, SliceFigures), GateError> {
    let gguf = header(bytes);
    let source = Opened::new(bytes).open();
    let parts = [Part { name: "model.gguf", gguf: &gguf }];
    let file = GatedFile { source: &source, gguf: &gguf, parts: &parts };
    let mut report = Report::new('c', slice::TITLE, "model.gguf".into());
    let chosen = slice::Slice::asked_for(&file, asked)?;
    let mut nobody = |_: u64, _: &[u8]| {};
    let checking = slice::check(&file, &chosen, gpu, slice::Tiers::Each, &mut report, &Quiet, &mut nobody);
    let figures = pollster::block_on(checking)?;
    Ok((report.finish(), figures))
}

pub fn of(tensor: &str) -> GateSlice {
    GateSlice { tensor: Some(tensor.into()), ..GateSlice::default() }
}
