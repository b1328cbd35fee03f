use std::time::Duration;

/// Backends to look for adapters on.
pub(crate) fn backends() -> wgpu::Backends {
    wgpu::Backends::PRIMARY
}

/// Why there is none, in words.
pub(crate) fn no_adapter(error: &wgpu::RequestAdapterError) -> String {
    error.to_string()
}

/// Native callbacks (buffer mapping, work done) only run while the device is polled: wait for all submitted work.
pub(crate) fn drive_callbacks(device: &wgpu::Device) -> Result<(), String> {
    device.poll(wgpu::PollType::wait_indefinitely()).map(|_| ()).map_err(|error| error.to_string())
}

/// Vendor, device and driver, in words.
pub(crate) fn adapter_details(_device: &wgpu::Device, info: &wgpu::AdapterInfo) -> String {
    let driver = [info.driver.as_str(), &info.driver_info].join(" ");
    format!("{:04x}:{:04x} {}", info.vendor, info.device, driver.trim())
}

/// Does nothing for so long. One engine, one thread: it may block.
pub(crate) async fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
