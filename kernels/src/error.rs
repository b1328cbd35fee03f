//! What can go wrong between us and the GPU.

/// Every way in which the GPU can refuse or fail. `advice` says what a user can do.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum GpuError {
    #[error("no usable GPU adapter: {detail}")]
    NoAdapter { detail: String },
    #[error("the adapter {adapter} refused a device: {detail}")]
    NoDevice { adapter: String, detail: String },
    /// Found before a device is asked for; each shortage in words, see [`crate::needs::shortages`].
    #[error("this GPU {} ({adapter})", .shortages.join(". It "))]
    TooLimited { adapter: String, shortages: Vec<String> },
    #[error("GPU limit {limit} is {granted}, but {needed} is needed")]
    Limit { limit: &'static str, needed: u64, granted: u64 },
    #[error("not enough GPU memory for {what} ({bytes} bytes): {detail}")]
    OutOfMemory { what: String, bytes: u64, detail: String },
    #[error("the GPU rejected our work: {detail}")]
    Validation { detail: String },
    #[error("GPU internal error: {detail}")]
    Internal { detail: String },
    #[error("the GPU device was lost ({reason}): {detail}")]
    DeviceLost { reason: String, detail: String },
    #[error("{0}")]
    Wrong(Box<WrongResult>),
}

/// A kernel that does not compute what it must on this adapter.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
#[error(
    "the GPU {adapter} computes wrongly: {kernel} gives {got} as value {index} of its {what}, expected is {expected}"
)]
pub struct WrongResult {
    pub adapter: String,
    pub kernel: String,
    /// Which of the kernel's results.
    pub what: &'static str,
    pub index: usize,
    pub expected: String,
    pub got: String,
}

/// Text of a platform as part of a sentence. wgpu passes JavaScript errors on as wasm-bindgen's `Debug` writes them,
/// `JsValue(NAME: MESSAGE` and the stack: of those, name and message.
pub(crate) fn plain(text: &str) -> String {
    let (before, thrown) = text.split_once("JsValue(").unwrap_or((text, ""));
    let thrown = thrown.strip_suffix(')').unwrap_or(thrown).lines().next().unwrap_or_default().trim_matches('"');
    let words: Vec<&str> = before.split_whitespace().chain(thrown.split_whitespace()).collect();
    words.join(" ").trim_end_matches('.').to_owned()
}

impl GpuError {
    /// One sentence: what the user can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::TooLimited { .. } => {
                "Another GPU or browser may allow more: compatibility modes and settings against fingerprinting lower such limits. pylon, the native program, runs the model on the CPU, too."
            }
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
                "Nothing was run, since answers could not be trusted. Update the browser and the GPU driver, or use another GPU; please report it with the event log."
            }
            Self::Validation { .. } | Self::Internal { .. } => {
                "This is a fault of this program or of the GPU driver; please report it with the event log."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn javascript_errors_read_as_name_and_message() {
        for (debug, words) in [
            (
                "JsValue(OperationError: Required limit (8) is greater than the supported limit (4).\n  - While validating.\nundefined)",
                "OperationError: Required limit (8) is greater than the supported limit (4)",
            ),
            ("JsValue(TypeError: no\nTypeError: no\n    at f (x.js:1:2))", "TypeError: no"),
            ("JsValue(\"refused\")", "refused"),
            ("it said JsValue(Error: twice  two)", "it said Error: twice two"),
            ("Validation error:\n  too large", "Validation error: too large"),
        ] {
            assert_eq!(plain(debug), words);
        }
    }
}
