//! What can go wrong between us and the GPU.

use gptoss_protocol::Tier;

/// Every way in which the GPU can refuse or fail. `advice` says what a user can do.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum GpuError {
    /// The browser or the driver offers no adapter.
    #[error("no usable GPU adapter: {detail}")]
    NoAdapter { detail: String },
    /// The adapter gave no device.
    #[error("the adapter {adapter} refused a device: {detail}")]
    NoDevice { adapter: String, detail: String },
    /// The adapter's limits are too low, as found before a device is asked for; each shortage is a sentence, see
    /// `gptoss_kernels::needs::shortages`.
    #[error("this GPU {} ({adapter})", .shortages.join(". It "))]
    TooLimited { adapter: String, shortages: Vec<String> },
    /// The adapter cannot run the kernel tier that was asked for.
    #[error("{adapter} cannot run the kernel tier {tier}: it lacks {missing}")]
    Tier { adapter: String, tier: Tier, missing: String },
    /// A limit of the device is too low for this model.
    #[error("GPU limit {limit} is {granted}, but {needed} is needed")]
    Limit { limit: &'static str, needed: u64, granted: u64 },
    /// An allocation failed.
    #[error("not enough GPU memory for {what} ({bytes} bytes): {detail}")]
    OutOfMemory { what: String, bytes: u64, detail: String },
    /// WebGPU refused an operation: a fault of this program.
    #[error("the GPU rejected our work: {detail}")]
    Validation { detail: String },
    /// The browser or the driver failed.
    #[error("GPU internal error: {detail}")]
    Internal { detail: String },
    /// The device is gone: reset, unplugged, or its process crashed.
    #[error("the GPU device was lost ({reason}): {detail}")]
    DeviceLost { reason: String, detail: String },
    /// The self-check found a wrong result.
    #[error("{0}")]
    Wrong(Box<WrongResult>),
}

/// A kernel that computes something wrong on this adapter.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
#[error(
    "the GPU {adapter} computes wrongly: {kernel} gives {got} as value {index} of its {what}, expected is {expected}"
)]
pub struct WrongResult {
    /// Name of the adapter.
    pub adapter: String,
    /// The kernel with its format.
    pub kernel: String,
    /// Which of the kernel's results.
    pub what: &'static str,
    /// Index of the first wrong value in that result.
    pub index: usize,
    /// The right value, with its tolerance.
    pub expected: String,
    /// The value that the kernel gave.
    pub got: String,
}

impl GpuError {
    /// What the user can do about it, in one sentence.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::TooLimited { .. } => {
                "Another GPU or browser may allow more: compatibility modes and settings against fingerprinting lower such limits. pylon, the native program, runs the model on the CPU, too."
            }
            Self::Tier { .. } => "Leave the tier out, or choose one that this GPU has: baseline runs on every GPU.",
            Self::NoDevice { .. } => {
                "Restart the browser or the program and load again; if it happens again, update the GPU driver."
            }
            Self::NoAdapter { .. } => {
                "Use a browser with WebGPU (Chrome or Edge 121 or newer) and hardware acceleration switched on; natively, install a Vulkan, Metal or DirectX 12 driver."
            }
            Self::Limit { .. } => "This GPU or driver cannot run the model with these settings; try a shorter context.",
            Self::OutOfMemory { .. } => {
                "Close other programs that use the GPU, choose a shorter context, or give the experts less memory so that they are paged."
            }
            Self::DeviceLost { .. } => "Load the model again. If it happens again, update the GPU driver.",
            Self::Wrong(_) => {
                "Nothing was run, since answers could not be trusted. Update the browser and the GPU driver, or use another GPU; `tier=baseline` in the page's address (`--tier baseline` of pylon) does with fewer features of it. Please report it with the event log."
            }
            Self::Validation { .. } | Self::Internal { .. } => {
                "This is a fault of this program or of the GPU driver; please report it with the event log."
            }
        }
    }
}
