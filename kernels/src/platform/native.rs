use std::time::Duration;

use gptoss_protocol::Tier;
use gptoss_source::pause;

use crate::patience::TURN;
use crate::sources::ENABLE_SUBGROUPS;

/// Backends on which adapters are looked for.
pub(crate) fn backends() -> wgpu::Backends {
    wgpu::Backends::PRIMARY
}

/// Why there is no adapter, in words.
pub(crate) fn no_adapter(error: &wgpu::RequestAdapterError) -> String {
    error.to_string()
}

/// Runs the callbacks that are due: native ones (buffer mapping, work done, loss) only run while the device is polled.
pub(crate) fn run_callbacks(device: &wgpu::Device) {
    // The error says no more than that the device is unusable, which the device itself reports, too.
    let _polled = device.poll(wgpu::PollType::Poll);
}

/// Waits for `submission`, or for all submitted work, for at most [`TURN`], and runs the callbacks that are due.
/// `idle`: the last turn left nothing to do. Returns whether nothing is left to do.
pub(crate) async fn turn(
    device: &wgpu::Device,
    submission: Option<&wgpu::SubmissionIndex>,
    idle: bool,
) -> Result<bool, String> {
    if idle {
        pause(TURN).await;
    }
    match device.poll(wgpu::PollType::Wait { submission_index: submission.cloned(), timeout: Some(TURN) }) {
        Ok(_) => Ok(true),
        Err(wgpu::PollError::Timeout) => {
            // Lets other futures that are awaited at the same time run.
            pause(Duration::ZERO).await;
            Ok(false)
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Vendor, device and driver, in words.
pub(crate) fn adapter_details(_device: &wgpu::Device, info: &wgpu::AdapterInfo) -> String {
    let driver = [info.driver.as_str(), &info.driver_info].join(" ");
    format!("{:04x}:{:04x} {}", info.vendor, info.device, driver.trim())
}

/// Natively wgpu asks for subgroups itself.
pub(crate) struct WithSubgroups;

impl WithSubgroups {
    pub async fn new(_highest: Tier) -> Self {
        Self
    }
}

/// Whether the device has subgroups that wgpu does not know of.
pub(crate) fn has_subgroups(_device: &wgpu::Device) -> bool {
    false
}

/// The kernel's source for wgpu's own compiler.
pub(crate) fn wgsl(source: &str) -> &str {
    source.strip_prefix(ENABLE_SUBGROUPS).unwrap_or(source)
}
